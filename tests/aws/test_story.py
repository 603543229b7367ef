"""The whole story, as the pages tell it: every command of the tutorial on SageMaker and its guides, against moto.

Repository, push, CodeBuild, launch, sweep, compare and tune; the jobs run the real `train`. The commands of local mode
are for tests/local_mode.
"""

import json
import os
import time
from pathlib import Path
from string import Template

import boto3
import pandas as pd
import pytest

from deploy.__main__ import main
from tests.aws.builds import Stubs
from tests.aws.conftest import put_table
from tests.aws.stand_ins import StandIns
from tests.aws.training_jobs import Platform
from tests.documentation import blocks_of, lines
from tests.mlflow_server import SDK3
from tests.sdk3 import run_example

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HERE = "tests/aws/test_story.py::test_every_command"


@pytest.mark.timeout(900)
def test_every_command(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_ins = tmp_path / "bin"
    stand_ins.mkdir()
    StandIns(stand_ins, COMMIT)
    monkeypatch.setenv("PATH", f"{stand_ins}{os.pathsep}{os.environ['PATH']}")
    for bucket in ("my-bucket", "my-results"):
        boto3.client("s3").create_bucket(Bucket=bucket)
    for channel in ("training", "validation", "test"):
        put_table("my-bucket", f"cifar-10/{channel}")
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    for role in ("subset-trainer", "subset-trainer-codebuild"):
        boto3.client("iam").create_role(RoleName=role, AssumeRolePolicyDocument=trust)

    # The SDK 3 has IAM simulate the role's rights, which moto does not.
    monkeypatch.setenv("SAGEMAKER_VALIDATE_ROLE", "false")
    # Between two looks at the jobs.
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.2)))
    variables: dict[str, str] = {}
    ran: list[str] = []
    # The tutorial sets the variables that the guides use.
    told = sorted(blocks_of(HERE), key=lambda block: not block.page.startswith("docs/tutorials/"))
    # A tenth of the article's epochs: thirty jobs train as many batches of these few images as is needed to compare.
    for line in (line for block in told for line in lines(block.text.replace("epochs=100", "epochs=10"))):
        if line.words[0] == "pip":
            continue
        if line.words[0] == "python" and not line.is_ours:
            example = [Template(word).substitute(variables) for word in line.words]
            assert example[1] == "examples/model_trainer.py"
            if SDK3.exists():
                done = run_example(*example[2:], folder=tmp_path / "sdk3")
                assert done.returncode == 0, done.stdout
                ran.append("example")
            continue
        if line.variable and len(line.words) == 1:
            variables[line.variable] = line.words[0]
            continue
        capsys.readouterr()  # what was printed for the log of a failure is not the command's
        arguments = line.arguments(variables)
        with pytest.MonkeyPatch.context() as patch:
            if arguments[0] == "codebuild":
                stubs = Stubs(patch)
                stubs.project_exists()
                stubs.starts()
                stubs.succeeds()
                patch.setattr("deploy.aws.codebuild.resolve", lambda revision: COMMIT)
                patch.setattr("deploy.aws.codebuild.pack", lambda commit: b"")
            code = main(arguments)
        shown = capsys.readouterr()
        assert code == 0, f"{line.text}\n{shown.out}\n{shown.err}"
        if line.variable:
            variables[line.variable] = shown.out.strip()
        if line.file:
            Path(line.file).write_text(shown.out)
        ran.append(" ".join(arguments[:2]) if arguments[0] == "image" else arguments[0])
        print(line.text, shown.out, sep="\n")

    assert set(ran) == {
        *("policy", "image push", "image uri", "codebuild", "launch", "sweep", "compare", "tune"),
        *(["example"] if SDK3.exists() else []),
    }
    assert json.loads(Path("job-policy.json").read_text())["Statement"]
    # The digest goes through: from the push to every job.
    (pushed,) = boto3.client("ecr").describe_images(repositoryName="subset-trainer")["imageDetails"]
    assert variables["IMAGE"].endswith(f"/subset-trainer@{pushed['imageDigest']}")
    jobs = platform.jobs().values()
    assert {job.algorithm_specification["TrainingImage"] for job in jobs} == {variables["IMAGE"]}
    # Two launches; of four fractions, three of them with two baselines, by three seeds, those that the answer needs;
    # two tuning jobs; the SDK 3's.
    swept = len(jobs) - (2 + 6 + 2 + SDK3.exists())
    assert 3 * (1 + 3) <= swept <= 3 * (1 + 3 * 3) and swept % 3 == 0
    assert pd.read_csv("cifar-10.csv").shape[0] == pd.read_parquet("cifar-10.parquet").shape[0] == swept
    page = Path("cifar-10.html").read_text()
    assert "over 3 seeds" in page and "$" in page

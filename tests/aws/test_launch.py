import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from sagemaker.estimator import Estimator

import deploy
from deploy.__main__ import main
from deploy.aws import launch
from subset_trainer.errors import UserError
from subset_trainer.tracking.metrics import metric_definitions

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/subset-trainer@sha256:" + "0" * 64
ROLE = "arn:aws:iam::123456789012:role/trainer"
BUCKET = "results"
CHANNELS = {"training": "s3://data/training", "validation": "s3://data/validation"}


def launched() -> Mapping[str, Any]:
    client = boto3.client("sagemaker")
    (job,) = client.list_training_jobs()["TrainingJobSummaries"]
    described: Mapping[str, Any] = client.describe_training_job(TrainingJobName=job["TrainingJobName"])
    return described


def test_the_job_is_what_was_asked_for(bucket: str) -> None:
    session = launch.sagemaker_session(bucket=bucket)
    job = deploy.estimator(
        IMAGE,
        {"strategy": "glister", "fraction": 0.3, "epochs": 5},
        ROLE,
        session=session,
        max_run=3600,
        tags=[{"Key": "team", "Value": "vision"}],
    )
    assert isinstance(job, Estimator)
    # What moto describes as a job's metric definitions is made up, so this part is read off the request.
    requests: list[dict[str, Any]] = []
    session.sagemaker_client.meta.events.register(
        "provide-client-params.sagemaker.CreateTrainingJob", lambda params, **_: requests.append(params)
    )
    job.fit(CHANNELS, wait=False)
    assert requests[0]["AlgorithmSpecification"]["MetricDefinitions"] == metric_definitions()

    described = launched()
    assert described["AlgorithmSpecification"]["TrainingImage"] == IMAGE
    given = {name: value for name, value in described["HyperParameters"].items() if "sagemaker_" not in name}
    # Strings, each of which the image reads back as what it was.
    assert {name: value.strip('"') for name, value in given.items()} == {
        "strategy": "glister",
        "fraction": "0.3",
        "epochs": "5",
    }
    channels = {
        channel["ChannelName"]: channel["DataSource"]["S3DataSource"]["S3Uri"]
        for channel in described["InputDataConfig"]
    }
    assert channels == CHANNELS
    assert described["ResourceConfig"]["InstanceType"] == "ml.g5.xlarge"
    assert described["StoppingCondition"]["MaxRuntimeInSeconds"] == 3600
    assert described["OutputDataConfig"]["S3OutputPath"].startswith(f"s3://{bucket}")
    assert described["TrainingJobName"].startswith("subset-trainer-glister-0-3-")
    assert "DebugHookConfig" not in described


def test_what_was_launched_is_what_the_image_accepts(bucket: str) -> None:
    from subset_trainer.config import parse

    values = {"strategy": "rs2", "fraction": 0.1, "label_column": "species", "csv_header": True}
    deploy.estimator(IMAGE, values, ROLE, session=launch.sagemaker_session(bucket=bucket)).fit(
        CHANNELS, wait=False
    )
    assert parse(launched()["HyperParameters"]) == parse(values)


def test_a_bad_hyperparameter_is_refused_before_any_call(unreachable_aws: None) -> None:
    with pytest.raises(UserError, match=r"glistr.*glister") as raised:
        deploy.estimator(IMAGE, {"strategy": "glistr", "fraction": 1.5}, ROLE)
    assert "fraction" in str(raised.value)


def test_a_script_brings_hyperparameters_of_its_own(bucket: str) -> None:
    job = deploy.estimator(
        IMAGE,
        {"select_every": 20, "augment": 0},
        ROLE,
        session=launch.sagemaker_session(bucket=bucket),
        entry_point="train.py",
        source_dir="examples/article",
    )
    job.fit(CHANNELS, wait=False)
    described = launched()
    assert described["HyperParameters"]["augment"] == "0"
    assert "train.py" in described["HyperParameters"]["sagemaker_program"]
    assert described["HyperParameters"]["sagemaker_submit_directory"].strip('"').startswith(f"s3://{bucket}/")


def test_command(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["launch", "--image-uri", IMAGE, "--role", ROLE, "--training", "s3://data/training"]
    arguments += ["--bucket", bucket, "--instance-type", "ml.p3.2xlarge", "--output", "s3://results/here"]
    assert main([*arguments, "--set", "strategy=full", "epochs=3", "--set", "seed=7"]) == 0
    described = launched()
    assert described["TrainingJobName"] in capsys.readouterr().out
    assert described["HyperParameters"] == {"strategy": "full", "epochs": "3", "seed": "7"}
    assert described["ResourceConfig"]["InstanceType"] == "ml.p3.2xlarge"
    assert described["OutputDataConfig"]["S3OutputPath"] == "s3://results/here"


EVERYTHING = [
    *("--spot", "--max-run", "3600", "--max-wait", "7200", "--volume", "50"),
    *("--subnets", "subnet-1", "subnet-2", "--security-groups", "sg-1", "--isolated"),
    *("--instance-count", "2", "--encrypt-traffic"),
    *("--kms-key", "key-1", "--tags", "team=vision", "cost=low", "--env", "MLFLOW_EXPERIMENT_NAME=cifar"),
]


def test_a_dry_run_prints_the_request_and_starts_nothing(
    bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["launch", "--image-uri", IMAGE, "--role", ROLE, "--training", "s3://data/training"]
    assert main([*arguments, "--bucket", bucket, *EVERYTHING, "--dry-run", "--set", "fraction=0.1"]) == 0
    request = json.loads(capsys.readouterr().out)
    assert request["HyperParameters"]["fraction"] == "0.1"
    assert request["EnableManagedSpotTraining"] is request["EnableNetworkIsolation"] is True
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200}
    assert request["EnableInterContainerTrafficEncryption"] is True
    machine = request["ResourceConfig"]
    assert machine["InstanceCount"] == 2
    assert machine["VolumeSizeInGB"] == 50
    assert request["Environment"] == {"MLFLOW_EXPERIMENT_NAME": "cifar"}
    name = request["TrainingJobName"]
    assert request["CheckpointConfig"]["S3Uri"] == f"s3://{bucket}/subset-trainer/checkpoints/{name}"
    assert machine["VolumeKmsKeyId"] == request["OutputDataConfig"]["KmsKeyId"] == "key-1"
    assert request["VpcConfig"] == {"Subnets": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]}
    assert {tag["Key"]: tag["Value"] for tag in request["Tags"]} == {"team": "vision", "cost": "low"}
    assert not boto3.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]


def test_a_search_says_its_cost_before_it_is_paid(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["launch", "--image-uri", IMAGE, "--role", ROLE, "--training", "s3://data/training"]
    asked = ["fraction=auto", "question=label", "metric=macro_f1", "max_cost=1.1"]
    assert main([*arguments, "--bucket", bucket, "--dry-run", "--set", *asked]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["HyperParameters"]["fraction"] == "auto"
    assert (
        "fraction=auto: at most 8 trainings on 3.12 to 50% of the examples, which cost 1.09 trainings on all of them, "
        "until a fraction is within a point of all by the macro-F1 on the validation set and the training examples "
        "that no fraction sees" in shown.err
    )


@pytest.mark.parametrize("asked", ["true", "false"])
def test_tensorboards_files_leave_the_container_where_they_are_asked_for(
    bucket: str, asked: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["launch", "--image-uri", IMAGE, "--role", ROLE, "--training", "s3://data/training"]
    assert main([*arguments, "--bucket", bucket, "--dry-run", "--set", f"tensorboard={asked}"]) == 0
    request = json.loads(capsys.readouterr().out)
    found = request.get("TensorBoardOutputConfig", {}).get("S3OutputPath")
    assert found == ("s3://results/subset-trainer/tensorboard" if asked == "true" else None)


def test_the_same_without_a_dry_run_is_accepted(bucket: str) -> None:
    arguments = ["launch", "--image-uri", IMAGE, "--role", ROLE, "--training", "s3://data/training"]
    assert main([*arguments, "--bucket", bucket, *EVERYTHING]) == 0
    described = launched()
    assert described["EnableManagedSpotTraining"] is True
    assert described["VpcConfig"]["SecurityGroupIds"] == ["sg-1"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--max-wait", "10"], "--max-wait goes with --spot"),
        (["--spot", "--max-wait", "10"], "expected at least --max-run's 86400 seconds"),
        (["--subnets", "subnet-1"], "--subnets and --security-groups go together"),
        (["--volume", "0"], "expected a whole number of at least 1"),
        (["--tags", "team"], "NAME=VALUE"),
        (["--local", "--spot"], "only for jobs on SageMaker, not with --local"),
        (["--local", "--instance-type", "local"], "only for jobs on SageMaker, not with --local"),
        (["--local", "--output", "/etc/passwd"], "--output: '/etc/passwd' is a file; expected a folder"),
        (["--local", "--dry-run"], "only for jobs on SageMaker, not with --local"),
        (["--spot", "--keep-alive", "60"], "keeps no spot instances warm"),
    ],
)
def test_options_that_do_not_go_together(
    unreachable_aws: None, options: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = "/tmp" if "--local" in options else "s3://data/training"
    assert main(["launch", "--image-uri", IMAGE, "--role", ROLE, "--training", data, *options]) == 1
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--image-uri", "subset-trainer"], "--image-uri 'subset-trainer': expected the URI of an image in"),
        (
            ["--image-uri", IMAGE.replace("us-east-1", "eu-west-1")],
            "give --region eu-west-1, or push the image",
        ),
        (
            ["--role", "arn:aws:iam::123456789012:user/me"],
            "a role's ARN, arn:aws:iam::ACCOUNT:role/NAME, got that of a user",
        ),
        (["--role", "service-role/trainer"], "--role 'service-role/trainer': expected a role's name"),
        (
            ["--checkpoints", "/opt/ml/checkpoints"],
            "--checkpoints '/opt/ml/checkpoints': expected an s3:// URI",
        ),
        (["--output", "s3://"], "--output 's3://': expected s3://BUCKET/PREFIX"),
        (
            ["--bucket", "s3://results/here"],
            "--bucket 's3://results/here': expected the name of a bucket alone",
        ),
        (["--bucket", "results/here"], "did you mean 'results'?"),
        (["--training", "s3:///training"], "--training 's3:///training': expected s3://BUCKET/PREFIX"),
        (["--instance-type", "g5.xlarge"], "did you mean ml.g5.xlarge?"),
        (["--instance-type", "ml.g5.xlagre"], "did you mean ml.g5.xlarge?"),
        (
            ["--instance-type", "local"],
            "--instance-type local: expected a type such as ml.g5.xlarge; --local runs",
        ),
        (["--max-run", "2419201"], "--max-run 2419201: expected at most 2419200 seconds, 28 days"),
        (["--volume", "99999"], "--volume 99999: expected at most 16384 GB"),
        (["--keep-alive", "21601"], "--keep-alive 21601: expected at most 21600 seconds"),
        (["--experiment", "my_runs"], "--experiment 'my_runs': expected up to 120 characters"),
        (["--experiment", "a" * 121], "--experiment: 121 characters, at most 120"),
        (["--tags", *(f"t{n}=1" for n in range(51))], "--tags: 51 tags, at most 50"),
        (["--tags", "team=" + "a" * 257], "--tags 'team': expected up to 256 characters"),
        (["--env", "1A=b"], "--env '1A': expected up to 512 characters"),
        (["--kms-key", "a key"], "--kms-key 'a key': expected up to 2048 characters"),
        (["--set", f"label_column={'a' * 2501}"], "--set 'label_column': expected up to 2500 characters"),
        (["--subnets", "subnet_1", "--security-groups", "sg-1"], "--subnets 'subnet_1': expected"),
        (["--subnets", *(f"s{n}" for n in range(17)), "--security-groups", "sg-1"], "17 subnets, at most 16"),
        (["--role", "a/b", "--volume", "99999"], "without its path, or its ARN; --volume 99999"),
    ],
)
@pytest.mark.parametrize("dry", [True, False], ids=["dry", "real"])
def test_what_sagemaker_would_refuse_is_said_before_anything_is_sent(
    unreachable_aws: None, dry: bool, options: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["launch", "--image-uri", IMAGE, "--role", ROLE, "--training", "s3://data/training"]
    assert main([*arguments, *(["--dry-run"] if dry else []), *options]) == 1
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1


def test_a_mistake_is_said_without_the_sdk(tmp_path: Path) -> None:
    """It takes seconds to import."""
    program = (
        "import sys; from deploy.__main__ import main; code = main(sys.argv[1:]); "
        "print(code, [name for name in ('sagemaker', 'pandas', 'torch') if name in sys.modules])"
    )
    common = [
        "--image-uri",
        IMAGE,
        "--role",
        "a/b",
        "--training",
        "s3://data/training",
        "--region",
        "us-east-1",
    ]
    for command in (
        ["launch", "--dry-run"],
        ["sweep", "--name", "fractions"],
        ["tune", "--name", "fractions", "--tune", "fraction=0.1:0.3"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", program, *command, *common], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "1 []" and "--role 'a/b'" in done.stderr


@pytest.mark.parametrize("dry", [True, False], ids=["dry", "real"])
def test_a_channel_without_objects_is_refused(
    bucket: str, dry: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["launch", "--image-uri", IMAGE, "--role", ROLE, "--training", "s3://data/trainings"]
    assert main([*arguments, *(["--dry-run"] if dry else [])]) == 1
    assert capsys.readouterr().err == "error: --training: there are no objects below s3://data/trainings\n"
    assert not boto3.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]


def test_a_quoted_strategy_is_no_part_of_a_jobs_name(bucket: str) -> None:
    arguments = ["launch", "--image-uri", IMAGE, "--role", ROLE, "--training", "s3://data/training"]
    assert main([*arguments, "--bucket", bucket, "--set", 'strategy="GLISTER"', "fraction=0.30"]) == 0
    assert launched()["TrainingJobName"].startswith("subset-trainer-glister-0-3-")


def test_a_job_that_searches_its_fraction_is_called_so() -> None:
    assert launch.job_prefix({"fraction": "auto"}).endswith("-auto")


def docker(folder: Path, script: str) -> Path:
    program = folder / "docker"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (None, "the program `docker` is not on PATH"),
        (
            'echo "Cannot connect to the Docker daemon." >&2; exit 1',
            "no Docker engine answers (Cannot connect",
        ),
        ('test "$1" != compose', "needs Docker Compose v2; install it first"),
        (
            "case $1 in compose) echo v2.3;; image) exit 1;; esac",
            "--image-uri 'nothing:here': Docker has no such image on this machine",
        ),
    ],
)
def test_local_mode_without_an_engine_or_image_is_one_sentence(
    tmp_path: Path, script: str | None, expected: str
) -> None:
    (tmp_path / "bin").mkdir()
    if script is not None:
        docker(tmp_path / "bin", script)
    (tmp_path / "train.csv").write_text("label,x\n" + "a,1\nb,2\n" * 20)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "deploy", "launch", "--local"),
            *("--image-uri", "nothing:here", "--training", str(tmp_path / "train.csv")),
        ],
        env={"PATH": str(tmp_path / "bin"), "AWS_CONFIG_FILE": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert expected in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"--set": "fraction=0"}, "fraction"),
        ({"--set": "fraction"}, "NAME=VALUE"),
        ({"--training": "/nowhere"}, "there is no file or folder '/nowhere'"),
        ({"--output": "/tmp"}, "--local"),
        ({"--role": None}, "--role"),
    ],
)
def test_mistakes_cost_nothing(
    unreachable_aws: None,
    changed: dict[str, str | None],
    expected: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options: dict[str, str | None] = {
        "--image-uri": IMAGE,
        "--role": ROLE,
        "--training": "s3://data/training",
    }
    options |= changed
    arguments = [part for name, value in options.items() if value is not None for part in (name, value)]
    assert main(["launch", *arguments]) == 1
    error = capsys.readouterr().err
    assert expected in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_aws_out_of_reach_is_one_sentence(unreachable_aws: None, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["launch", "--image-uri", IMAGE, "--role", ROLE, "--training", "s3://data/training"]
    assert main([*arguments, "--output", "s3://results/here"]) == 2
    assert capsys.readouterr().err.startswith("error: AWS cannot be reached")


def test_cords_is_refused_on_several_instances(unreachable_aws: None) -> None:
    with pytest.raises(UserError, match="one process, on one instance"):
        launch.estimator(IMAGE, {"backend": "cords", "strategy": "glister"}, ROLE, instance_count=2)

"""What the environment holds in secret is neither in the log nor in what a job leaves, however the job ends."""

import json
import os
from pathlib import Path

import pytest

from tests.functional.conftest import Job, write_table

SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIASECRETOFTESTS",
    "AWS_SECRET_ACCESS_KEY": "secret-of-aws-0123",
    "AWS_SESSION_TOKEN": "secret-session-4567",
    "MLFLOW_TRACKING_USERNAME": "secret-user-77",
    "MLFLOW_TRACKING_PASSWORD": "secret-of-mlflow-89",
    "MLFLOW_TRACKING_TOKEN": "secret-bearer-55",
    "MLFLOW_TRACKING_URI": "http://someone:secret-in-uri-31@127.0.0.1:9",
    "SECRET_HF_TOKEN": "secret-token-abcd",
}
WORDS = [*list(SECRETS.values())[:6], "secret-in-uri-31", SECRETS["SECRET_HF_TOKEN"]]
BREAKING = """
import os
import subset_trainer.config
def parse(raw):
    environment = dict(os.environ)
    raise RuntimeError("broken")
subset_trainer.config.parse = parse
"""
FAILING = """
import os, sys
assert os.environ["AWS_SECRET_ACCESS_KEY"]  # it is there for the script
print("the script runs")
raise SystemExit(4)
"""


@pytest.fixture
def secretive(job: Job) -> Job:
    write_table(job.channel("training") / "train.csv")
    job.environment = dict(SECRETS)
    return job


def leaked(job: Job) -> list[str]:
    """The secrets that are in the log, or in a file that the job has left."""
    contents = [job.log.encode()]
    for part in ("model", "output", "checkpoints"):
        contents += [path.read_bytes() for path in (job.base / part).rglob("*") if path.is_file()]
    assert len(contents) > 1 and job.log
    return [word for word in WORDS if any(word.encode() in content for content in contents)]


def test_a_job_that_ends_well(secretive: Job) -> None:
    (secretive.base / "checkpoints").mkdir()
    secretive.run({"epochs": 1, "tensorboard": "true"})
    assert secretive.exit_code == 0, secretive.log
    assert "MLflow" in secretive.log  # it has been tried, and has failed
    assert leaked(secretive) == []


def test_a_job_with_an_internal_error(secretive: Job, tmp_path: Path) -> None:
    # Python imports this module at its start: there is no known input that breaks the program.
    (tmp_path / "start").mkdir()
    (tmp_path / "start/sitecustomize.py").write_text(BREAKING, encoding="utf-8")
    secretive.environment["PYTHONPATH"] = os.pathsep.join(
        [str(tmp_path / "start"), os.environ.get("PYTHONPATH", "")]
    )
    secretive.run({"epochs": 1})
    assert secretive.exit_code == 2, secretive.log
    assert "Traceback" in secretive.log
    assert "internal error, RuntimeError: broken" in str(secretive.failure)
    assert leaked(secretive) == []


def test_a_job_with_a_users_error(secretive: Job) -> None:
    secretive.run({"epochs": 0})
    assert secretive.exit_code == 1, secretive.log
    assert leaked(secretive) == []


def test_a_script_that_fails(secretive: Job, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/own.py").write_text(FAILING, encoding="utf-8")
    values = {"sagemaker_program": "own.py", "sagemaker_submit_directory": str(tmp_path / "source")}
    secretive.run({name: json.dumps(value) for name, value in values.items()})
    assert secretive.exit_code == 4, secretive.log
    assert "the script runs" in secretive.log
    assert (
        "Invoking script with the following command" in secretive.log
    )  # where the toolkit shows its environment
    assert leaked(secretive) == []

"""The SDK 3's `ModelTrainer` launches the image as the SDK 2's `Estimator` does: seen from AWS."""

import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.sagemaker.responses import SageMakerResponse

from subset_trainer.config import parse
from subset_trainer.tracking.metrics import metric_definitions
from tests.sdk3 import run_example

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/subset-trainer@sha256:" + "0" * 64
GIVEN = {
    "strategy": "glister",
    "fraction": 0.3,
    "epochs": 12,
    "test_time_flip": True,
    "tensorboard": False,
    "label_column": "0",
    "weight_decay": 1e-05,
}


def create_role() -> str:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "sagemaker.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
    role = boto3.client("iam").create_role(RoleName="trainer", AssumeRolePolicyDocument=json.dumps(trust))
    return str(role["Role"]["Arn"])


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What CreateTrainingJob is asked: moto's descriptions make up a part of their answer."""
    seen: list[dict[str, Any]] = []
    original = SageMakerResponse.create_training_job

    def create(self: Any) -> Any:
        seen.append(json.loads(self.body))
        return original(self)

    monkeypatch.setattr(SageMakerResponse, "create_training_job", create)
    return seen


def test_model_trainer_s_request(
    aws: str, requests: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The SDK asks IAM to simulate the role's rights, which moto does not.
    monkeypatch.setenv("SAGEMAKER_VALIDATE_ROLE", "false")
    for bucket in ("results", "data"):
        boto3.client("s3").create_bucket(Bucket=bucket)
    role = create_role()
    done = run_example(
        *("--image-uri", IMAGE, "--role", role, "--output", "s3://results/runs"),
        *("--training", "s3://data/training", "--test", "s3://data/test", "--instance-type", "ml.g5.xlarge"),
        *("--set", *(f"{name}={str(value).lower()}" for name, value in GIVEN.items())),
        folder=tmp_path / "work",
    )
    assert done.returncode == 0, done.stdout
    (job,) = requests
    # Neither entrypoint nor arguments: SageMaker runs the image's `train`.
    assert job["AlgorithmSpecification"].keys() == {"TrainingImage", "TrainingInputMode", "MetricDefinitions"}
    assert job["AlgorithmSpecification"]["TrainingImage"] == IMAGE
    assert job["AlgorithmSpecification"]["MetricDefinitions"] == metric_definitions()
    (known,) = boto3.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
    assert known["TrainingJobName"] == job["TrainingJobName"]
    assert job["RoleArn"] == role
    assert job["ResourceConfig"]["InstanceType"] == "ml.g5.xlarge"
    assert job["OutputDataConfig"]["S3OutputPath"] == "s3://results/runs"
    channels = {
        channel["ChannelName"]: channel["DataSource"]["S3DataSource"]["S3Uri"]
        for channel in job["InputDataConfig"]
    }
    assert channels == {"training": "s3://data/training", "test": "s3://data/test"}
    assert all(isinstance(value, str) for value in job["HyperParameters"].values())
    assert job["HyperParameters"]["test_time_flip"] == "true"
    assert parse(job["HyperParameters"]) == parse(GIVEN)
    assert parse(GIVEN).fraction == 0.3 and parse(GIVEN).test_time_flip is True

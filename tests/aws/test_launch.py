import json
from collections.abc import Mapping
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

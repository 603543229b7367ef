"""AWS's refusals: one clear sentence each, the exit code of whoever can mend it, and nothing half-made unreported.

The refusals are made on their way back by botocore's events, with the codes that AWS documents; what came before them,
moto answered.
"""

from typing import Any

import boto3
import botocore.client
import pytest
from botocore.exceptions import ClientError

from deploy.__main__ import main
from tests.aws.test_launch import BUCKET, IMAGE, ROLE
from tests.aws.test_sweep import command
from tests.aws.training_jobs import Platform

LAUNCH = [
    "launch",
    "--image-uri",
    IMAGE,
    "--role",
    ROLE,
    "--bucket",
    BUCKET,
    "--training",
    "s3://data/training",
]


class Refusals:
    """Operation → the code and the message of its refusal; how many calls of it succeed before."""

    def __init__(self) -> None:
        self.by_operation: dict[str, tuple[str, str]] = {}
        self.first_good: dict[str, int] = {}


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Refusals:
    refusals = Refusals()
    original = botocore.client.BaseClient._make_api_call

    def call(self: Any, operation: str, parameters: Any) -> Any:
        if operation in refusals.by_operation:
            left = refusals.first_good.get(operation, 0)
            refusals.first_good[operation] = left - 1
            if left <= 0:
                code, message = refusals.by_operation[operation]
                raise ClientError({"Error": {"Code": code, "Message": message}}, operation)
        return original(self, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", call)
    return refusals


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and error.strip().endswith(lines[0]), error
    return lines[0]


@pytest.mark.parametrize(
    ("code", "message", "exit_code", "advice"),
    [
        ("ThrottlingException", "Rate exceeded", 2, "try again in a while"),
        ("ExpiredTokenException", "The security token is expired", 1, "renew the credentials"),
        ("AccessDeniedException", "User is not authorized", 1, "python -m deploy policy launcher"),
        (
            "ResourceLimitExceeded",
            "ml.p4d.24xlarge for training job usage is 0 Instances.",
            1,
            "is 0 Instances",
        ),
        (
            "ValidationException",
            "Could not assume role\n arn:aws:iam::1:role/x.",
            1,
            "Could not assume role arn",
        ),
    ],
)
def test_a_refused_launch(
    bucket: str,
    refuse: Refusals,
    code: str,
    message: str,
    exit_code: int,
    advice: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    refuse.by_operation["CreateTrainingJob"] = (code, message)
    assert main(LAUNCH) == exit_code
    said = sentence(capsys)
    assert said.startswith(f"error: AWS refused CreateTrainingJob ({code}): ") and advice in said
    assert "created before" not in said


def test_a_role_that_is_missing(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*LAUNCH, "--role", "nobody"]) == 1
    said = sentence(capsys)
    assert "nobody" in said and "give --role the name or ARN of a role that is there" in said


def test_a_job_that_fails_gives_its_reason(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    platform.fail = {"subset-trainer-"}
    assert main([*LAUNCH, "--wait"]) == 1
    said = sentence(capsys)
    assert said.endswith(": Failed: AlgorithmError: training diverged in epoch 3")


def test_what_a_sweep_had_started_is_named(
    platform: Platform, refuse: Refusals, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.looks_until_done = 9
    refuse.by_operation["CreateTrainingJob"] = ("ResourceLimitExceeded", "the limit is 1 instance.")
    refuse.first_good["CreateTrainingJob"] = 1
    assert main(command("--fractions", "1,0.5", "--no-baselines")) == 1
    said = sentence(capsys)
    (started,) = platform.jobs()
    assert "the limit is 1 instance (created before that, and still there: " in said
    for made in (
        f"training-job/{started}",
        "experiment/fractions",
        "experiment-trial-component/fractions-full",
    ):
        assert made in said, made


def test_a_repository_that_is_made_before_the_push_fails_is_named(
    aws: str,
    refuse: Refusals,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import os

    from tests.aws.stand_ins import StandIns

    StandIns(tmp_path, "a" * 40)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    refuse.by_operation["GetAuthorizationToken"] = ("AccessDeniedException", "no")
    assert main(["image", "push"]) == 1
    assert "still there: arn:aws:ecr:us-east-1:123456789012:repository/subset-trainer)" in sentence(capsys)


def test_a_bucket_that_the_sdk_makes_is_named(
    bucket: str, refuse: Refusals, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse.by_operation["CreateTrainingJob"] = ("ValidationException", "no")
    arguments = [option for option in LAUNCH if option not in ("--bucket", BUCKET)]
    assert main([*arguments, "--bucket", "new-bucket"]) == 1
    said = sentence(capsys)
    assert "new-bucket" in said
    assert "new-bucket" in [b["Name"] for b in boto3.client("s3").list_buckets()["Buckets"]]


def test_an_interrupted_wait_says_what_runs_on(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from deploy.aws import launch

    def interrupt(session: Any, name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "follow", interrupt)
    assert main([*LAUNCH, "--wait"]) == 130
    (started,) = platform.jobs()
    error = capsys.readouterr().err
    assert "interrupted (created before that, and still there:" in error and started in error

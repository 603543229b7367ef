import base64
import json
import os
from pathlib import Path

import boto3
import pytest

from deploy import image
from deploy.__main__ import main
from subset_trainer.errors import UserError
from tests.aws.conftest import ACCOUNT, REGION
from tests.aws.stand_ins import StandIns

COMMIT = "0123456789abcdef0123456789abcdef01234567"
URI = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/subset-trainer"


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIns:
    stand_ins = StandIns(tmp_path, COMMIT)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return stand_ins


def settings(name: str) -> dict[str, object]:
    ecr = boto3.client("ecr")
    repository = ecr.describe_repositories(repositoryNames=[name])["repositories"][0]
    lifecycle = json.loads(ecr.get_lifecycle_policy(repositoryName=name)["lifecyclePolicyText"])
    return {
        "scan": repository["imageScanningConfiguration"]["scanOnPush"],
        "tags": repository["imageTagMutability"],
        "movable": [entry["filter"] for entry in repository["imageTagMutabilityExclusionFilters"]],
        "expired": lifecycle["rules"][0]["selection"]["tagStatus"],
    }


WANTED = {"scan": True, "tags": "IMMUTABLE_WITH_EXCLUSION", "movable": ["cache"], "expired": "untagged"}


def test_repository_is_created_once_and_with_its_settings(aws: str) -> None:
    assert image.create_repository("subset-trainer") == URI
    assert settings("subset-trainer") == WANTED
    assert image.create_repository("subset-trainer") == URI
    assert settings("subset-trainer") == WANTED


def test_a_repository_of_other_settings_is_brought_to_ours(aws: str) -> None:
    boto3.client("ecr").create_repository(repositoryName="subset-trainer")
    image.create_repository("subset-trainer")
    assert settings("subset-trainer") == WANTED


def test_push_prints_uri_and_digest_and_keeps_the_password_off_the_command_line(
    aws: str, docker: StandIns, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push"]) == 0
    tagged, by_digest = capsys.readouterr().out.split()[-2:]
    assert tagged == f"{URI}:{COMMIT}"
    digest = boto3.client("ecr").describe_images(repositoryName="subset-trainer")["imageDetails"][0][
        "imageDigest"
    ]
    assert by_digest == f"{URI}@{digest}"

    token = boto3.client("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
    user, password = base64.b64decode(token).decode().split(":", 1)
    (login,) = docker.named("login")
    assert login["stdin"] == password
    assert login["arguments"][:4] == ["login", "--username", user, "--password-stdin"]
    assert not any(password in argument for call in docker.calls for argument in call["arguments"])
    assert [call["arguments"] for call in docker.named("push")] == [["push", f"{URI}:{COMMIT}"]]


def test_a_commit_that_is_there_already_is_no_error_and_is_not_pushed_again(
    aws: str, docker: StandIns
) -> None:
    first = image.push("subset-trainer", "subset-trainer")
    assert image.push("subset-trainer", "subset-trainer") == first
    assert len(docker.named("push")) == 1


def test_a_missing_image_creates_nothing(
    aws: str, docker: StandIns, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", "--image", "subset-trianer"]) == 1
    error = capsys.readouterr().err
    assert "'subset-trianer'" in error
    assert "make image" in error
    assert boto3.client("ecr").describe_repositories()["repositories"] == []


def test_an_image_of_uncommitted_changes_needs_a_tag(
    aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    StandIns(tmp_path, f"{COMMIT}-modified")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(UserError, match=r"-modified.*--tag"):
        image.push("subset-trainer", "subset-trainer")
    assert image.push("subset-trainer", "subset-trainer", tag="trial-1")[0] == f"{URI}:trial-1"


def test_aws_out_of_reach_is_one_sentence(
    unreachable_aws: None, docker: StandIns, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: AWS cannot be reached")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("unset", "expected"),
    [("AWS_DEFAULT_REGION", "no AWS region"), ("AWS_ACCESS_KEY_ID", "no usable AWS credentials")],
)
def test_missing_configuration_is_named(
    aws: str,
    docker: StandIns,
    unset: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv(unset)
    assert main(["push"]) == 1
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1

import base64
import json
import os
from pathlib import Path

import boto3
import pytest

from deploy.__main__ import main
from deploy.aws import image
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


WANTED = {
    "scan": True,
    "tags": "IMMUTABLE_WITH_EXCLUSION",
    "movable": ["cache", "candidate"],
    "expired": "untagged",
}


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
    assert main(["image", "push"]) == 0
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
    assert [call["arguments"] for call in docker.named("push")] == [["push", f"{URI}:candidate"]]


def test_a_commit_that_is_there_already_is_no_error_and_is_not_pushed_again(
    aws: str, docker: StandIns
) -> None:
    first = image.push("subset-trainer", "subset-trainer")
    assert image.push("subset-trainer", "subset-trainer") == first
    assert len(docker.named("push")) == 1


def test_a_missing_image_creates_nothing(
    aws: str, docker: StandIns, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["image", "push", "--image", "subset-trianer"]) == 1
    error = capsys.readouterr().err
    assert "'subset-trianer'" in error
    assert "image build" in error
    assert boto3.client("ecr").describe_repositories()["repositories"] == []


def test_an_image_of_uncommitted_changes_needs_a_tag(
    aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    StandIns(tmp_path, f"{COMMIT}-modified")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(UserError, match=r"-modified.*--tag"):
        image.push("subset-trainer", "subset-trainer")
    assert image.push("subset-trainer", "subset-trainer", tag="trial-1")[0] == f"{URI}:trial-1"


def test_the_image_for_cuda_12_has_a_tag_of_its_own(
    aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, docker: StandIns
) -> None:
    for_13 = image.push("subset-trainer", "subset-trainer")
    StandIns(tmp_path, COMMIT, cuda="12")
    for_12 = image.push("subset-trainer", "subset-trainer")
    assert for_12[0] == f"{URI}:{COMMIT}-cuda12"
    assert for_12[1] != for_13[1]


def test_uri_names_the_pushed_image_by_digest(
    aws: str, docker: StandIns, capsys: pytest.CaptureFixture[str]
) -> None:
    _, by_digest = image.push("subset-trainer", "subset-trainer")
    _, trial = image.push("subset-trainer", "subset-trainer", tag="trial-1")
    capsys.readouterr()
    assert main(["image", "uri"]) == 0
    assert capsys.readouterr().out == f"{by_digest}\n"
    assert main(["image", "uri", "--tag", "trial-1"]) == 0
    assert capsys.readouterr().out == f"{trial}\n"


def test_uri_of_what_is_not_there_is_one_sentence(
    aws: str, docker: StandIns, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["image", "uri"]) == 1
    error = capsys.readouterr().err
    assert f"no ECR repository 'subset-trainer' in {REGION}" in error
    assert boto3.client("ecr").describe_repositories()["repositories"] == []
    image.create_repository("subset-trainer")
    assert main(["image", "uri", "--tag", "trial-2"]) == 1
    error = capsys.readouterr().err
    assert "has no image 'trial-2': push it with `python -m deploy image push`" in error
    assert error.count("\n") == 1
    # A tag that is given needs no local image, and a local image that is not there is named.
    assert main(["image", "uri", "--tag", "trial-2", "--image", "subset-trianer"]) == 1
    assert "'subset-trianer'" not in capsys.readouterr().err
    assert main(["image", "uri", "--image", "subset-trianer"]) == 1
    assert "'subset-trianer'" in capsys.readouterr().err


def test_build_hands_its_options_to_the_script(
    docker: StandIns, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("CUDA", "TAG", "BASE_IMAGE"):
        monkeypatch.delenv(name, raising=False)
    options = ["--cuda", "12", "--tag", "trainer:mine", "--base-image", "debian:trixie"]
    assert main(["image", "build", *options]) == 0
    (built,) = [call["arguments"] for call in docker.named("buildx") if "--tag" in call["arguments"]]
    arguments = [built[at + 1] for at, word in enumerate(built) if word == "--build-arg"]
    assert {"CUDA=12", "BASE_IMAGE=debian:trixie"} <= set(arguments)
    assert built[built.index("--tag") + 1] == "trainer:mine"

    # Without options the script's defaults hold.
    assert main(["image", "build"]) == 0
    *_, built = [call["arguments"] for call in docker.named("buildx") if "--tag" in call["arguments"]]
    assert built[built.index("--tag") + 1] == "subset-trainer"


def test_a_build_that_fails_and_a_missing_checkout_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(image, "CHECKOUT", tmp_path)
    assert main(["image", "build"]) == 1
    assert f"{tmp_path} is not a checkout of the project" in capfd.readouterr().err
    script = tmp_path / "docker/build.sh"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\necho No Docker engine answers >&2\nexit 1\n")
    script.chmod(0o755)
    assert main(["image", "build"]) == 1
    assert capfd.readouterr().err == (
        "No Docker engine answers\nerror: docker/build.sh could not build the image: see its message above\n"
    )


def test_aws_out_of_reach_is_one_sentence(
    unreachable_aws: None, docker: StandIns, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["image", "push"]) == 2
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
    assert main(["image", "push"]) == 1
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1

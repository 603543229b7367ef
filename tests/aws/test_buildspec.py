"""The phases of buildspec.yml that talk to AWS, run as CodeBuild runs them: in one shell, with moto as ECR."""

import json
import os
import subprocess
from pathlib import Path

import boto3
import pytest
import yaml

from deploy import image
from tests.aws.conftest import ACCOUNT, REGION
from tests.aws.stand_ins import StandIns

COMMIT = "0123456789abcdef0123456789abcdef01234567"
URI = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/subset-trainer"
SPEC = yaml.safe_load((Path(__file__).parents[2] / "buildspec.yml").read_text())


@pytest.fixture
def docker(tmp_path: Path) -> StandIns:
    return StandIns(tmp_path, COMMIT)


def run(docker: StandIns, succeeding: bool) -> "subprocess.CompletedProcess[str]":
    """The login and the last phase; what lies between needs a registry for its cache."""
    login = SPEC["phases"]["pre_build"]["commands"][-1]
    script = "\n".join([login, *SPEC["phases"]["post_build"]["commands"]])
    environment = {
        **os.environ,
        **{name: str(value) for name, value in SPEC["env"]["variables"].items()},
        "PATH": f"{docker.folder}{os.pathsep}{os.environ['PATH']}",
        "CODEBUILD_RESOLVED_SOURCE_VERSION": COMMIT,
        "CODEBUILD_BUILD_SUCCEEDING": "1" if succeeding else "0",
    }
    return subprocess.run(
        ["bash", "-c", script],
        cwd=docker.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_push_and_artefact(aws: str, docker: StandIns) -> None:
    image.create_repository("subset-trainer")
    done = run(docker, succeeding=True)
    assert done.returncode == 0, done.stderr
    assert [call["arguments"] for call in docker.named("push")] == [["push", f"{URI}:{COMMIT}"]]
    detail = json.loads((docker.folder / "imageDetail.json").read_text())
    (pushed,) = boto3.client("ecr").describe_images(repositoryName="subset-trainer")["imageDetails"]
    assert detail == {"ImageURI": f"{URI}@{pushed['imageDigest']}", "ImageDigest": pushed["imageDigest"]}
    (login,) = docker.named("login")
    assert login["arguments"] == ["login", "--username", "AWS", "--password-stdin", URI.split("/")[0]]
    assert login["stdin"].strip()

    # The same commit again: tags do not move, and that is no failure.
    again = run(docker, succeeding=True)
    assert again.returncode == 0, again.stderr
    assert len(docker.named("push")) == 1
    assert json.loads((docker.folder / "imageDetail.json").read_text()) == detail


def test_a_failed_build_pushes_nothing(aws: str, docker: StandIns) -> None:
    image.create_repository("subset-trainer")
    done = run(docker, succeeding=False)
    assert done.returncode == 1
    assert "nothing is pushed" in done.stdout
    assert docker.named("push") == []
    assert not (docker.folder / "imageDetail.json").exists()


def test_without_the_repository_it_stops_before_the_build(aws: str, docker: StandIns) -> None:
    done = run(docker, succeeding=True)
    assert done.returncode != 0
    assert "RepositoryNotFound" in done.stderr
    assert docker.calls == []

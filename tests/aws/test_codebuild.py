"""`deploy codebuild` beside moto, and beside botocore's Stubber where moto knows too little of CodeBuild."""

import io
import json
import stat
import subprocess
import time
import zipfile
from pathlib import Path
from typing import Any, NoReturn

import boto3
import botocore.client
import pytest
import yaml

from deploy.__main__ import main
from deploy.aws import codebuild, image
from tests.aws.builds import BUILD, Stubs
from tests.aws.conftest import ACCOUNT, REGION

ROOT = Path(__file__).parents[2]
BUCKET = f"sagemaker-{REGION}-{ACCOUNT}"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/service-role/builder"
URI = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/subset-trainer"
COMMAND = ["codebuild", "--role", ROLE]


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.com", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", folder, *who, *arguments],
        check=True,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, in the place of this one."""
    folder = tmp_path / "checkout"
    (folder / "docker").mkdir(parents=True)
    (folder / "buildspec.yml").write_text("version: 0.2\n")
    script = folder / "docker/build.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    monkeypatch.setattr(image, "CHECKOUT", folder)
    return folder


@pytest.fixture
def bucket(aws: str) -> str:
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    return BUCKET


@pytest.fixture
def stubs(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Stubs:
    return Stubs(monkeypatch)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Every call that boto3 makes."""
    seen: list[tuple[str, dict[str, Any]]] = []
    original = botocore.client.BaseClient._make_api_call

    def record(self: Any, operation: str, parameters: Any) -> Any:
        seen.append((operation, parameters))
        return original(self, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", record)
    return seen


def started(requests: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    (parameters,) = [parameters for operation, parameters in requests if operation == "StartBuild"]
    return parameters


def variables(request: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in request["environmentVariablesOverride"]}


def nothing_was_made() -> bool:
    return not (
        boto3.client("ecr").describe_repositories()["repositories"]
        or boto3.client("codebuild").list_projects()["projects"]
    )


def test_it_makes_what_a_build_needs_and_starts_it(
    bucket: str,
    checkout: Path,
    requests: list[tuple[str, dict[str, Any]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    assert main([*COMMAND, "--no-wait"]) == 0

    (repository,) = boto3.client("ecr").describe_repositories()["repositories"]
    assert repository["imageTagMutability"] == "IMMUTABLE_WITH_EXCLUSION"

    key = f"subset-trainer/source/{commit}.zip"
    packed = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert {"buildspec.yml", "docker/build.sh"} <= set(archive.namelist())
        assert archive.getinfo("docker/build.sh").external_attr >> 16 & stat.S_IXUSR

    (project,) = boto3.client("codebuild").batch_get_projects(names=["subset-trainer"])["projects"]
    assert project["serviceRole"] == ROLE
    assert project["source"] == {"type": "S3", "location": f"{bucket}/{key}", "buildspec": "buildspec.yml"}
    assert project["environment"]["privilegedMode"]
    assert project["environment"]["image"] == "aws/codebuild/amazonlinux-x86_64-standard:5.0"
    assert project["artifacts"]["location"] == bucket
    assert project["timeoutInMinutes"] >= 60

    request = started(requests)
    assert request["sourceLocationOverride"] == f"{bucket}/{key}"
    assert variables(request) == {
        "REVISION": commit,
        "IMAGE_TAG": commit,
        "REPOSITORY": "subset-trainer",
        "CUDA": "13",
        "SCAN_SEVERITY": "CRITICAL",
    }
    (build_id,) = boto3.client("codebuild").list_builds()["ids"]
    assert f"codebuild --region {REGION} --watch {build_id}" in capsys.readouterr().out


def test_its_options_reach_the_build(
    aws: str, checkout: Path, requests: list[tuple[str, dict[str, Any]]]
) -> None:
    boto3.client("s3").create_bucket(Bucket="mine")
    first = git(checkout, "rev-parse", "HEAD")
    git(checkout, "commit", "--quiet", "--allow-empty", "-m", "second")
    options = [
        "--cuda",
        "12",
        "--commit",
        "HEAD~1",
        "--repository",
        "images",
        "--bucket",
        "mine",
        "--project",
        "builds",
    ]
    options += ["--scan-severity", "HIGH", "--compute-type", "BUILD_GENERAL1_LARGE", "--no-wait"]
    assert main([*COMMAND, *options]) == 0
    request = started(requests)
    assert request["projectName"] == "builds"
    assert request["sourceLocationOverride"] == f"mine/subset-trainer/source/{first}.zip"
    assert variables(request) == {
        "REVISION": first,
        "IMAGE_TAG": f"{first}-cuda12",
        "REPOSITORY": "images",
        "CUDA": "12",
        "SCAN_SEVERITY": "HIGH",
    }
    (project,) = boto3.client("codebuild").batch_get_projects(names=["builds"])["projects"]
    assert project["environment"]["computeType"] == "BUILD_GENERAL1_LARGE"
    assert boto3.client("ecr").describe_repositories(repositoryNames=["images"])["repositories"]


def test_the_buildspec_knows_the_variables_that_it_is_given() -> None:
    spec = yaml.safe_load((ROOT / "buildspec.yml").read_text())
    commands = "\n".join(command for phase in spec["phases"].values() for command in phase["commands"])
    for name in ("REVISION", "IMAGE_TAG", "REPOSITORY", "CUDA", "SCAN_SEVERITY"):
        assert f"${name}" in commands or f"${{{name}:-" in commands


def test_a_project_that_is_there_is_updated(stubs: Stubs, checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    settings = codebuild._settings(codebuild.Project("subset-trainer", ROLE, BUCKET, commit))
    stubs.project_exists(settings)
    stubs.starts()
    assert main([*COMMAND, "--no-wait"]) == 0
    stubs.check()


def test_a_role_by_name_becomes_its_arn(bucket: str, checkout: Path) -> None:
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    boto3.client("iam").create_role(RoleName="builder", Path="/service-role/", AssumeRolePolicyDocument=trust)
    assert main(["codebuild", "--role", "builder", "--no-wait"]) == 0
    (project,) = boto3.client("codebuild").batch_get_projects(names=["subset-trainer"])["projects"]
    assert project["serviceRole"] == ROLE


def test_log_and_phases_are_shown_as_they_come(
    stubs: Stubs, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queued, installed = ("QUEUED", "SUCCEEDED", ""), ("INSTALL", "SUCCEEDED", "")
    stubs.project_exists()
    stubs.starts()
    stubs.look(("QUEUED", "", ""), log=False)
    stubs.look(queued, ("INSTALL", "", ""))  # its log is announced, but not there yet
    stubs.logs.add_client_error("get_log_events", "ResourceNotFoundException")
    stubs.look(queued, ("INSTALL", "", ""))
    stubs.lines(None, [(["one", "two"], "a"), (["three"], "b"), ([], "b")])
    stubs.look(queued, installed, ("BUILD", "", ""))
    stubs.lines("b", [([], "b")])
    exported = {"IMAGE_URI": f"{URI}:abc", "IMAGE_DIGEST": "sha256:123"}
    stubs.look(
        *(queued, installed, ("BUILD", "SUCCEEDED", ""), ("COMPLETED", "", "")),
        status="SUCCEEDED",
        exportedEnvironmentVariables=[{"name": name, "value": value} for name, value in exported.items()],
    )
    stubs.lines("b", [(["four"], "c"), ([], "c")])
    assert main(COMMAND) == 0
    stubs.check()
    assert capsys.readouterr().out.splitlines()[1:] == [
        "== queued: succeeded, 7 s",
        "one",
        "two",
        "three",
        "== install: succeeded, 7 s",
        "four",
        "== build: succeeded, 7 s",
        f"{URI}:abc",
        f"{URI}@sha256:123",
    ]


@pytest.mark.parametrize(
    ("status", "exit_code"), [("FAILED", 1), ("TIMED_OUT", 1), ("STOPPED", 1), ("FAULT", 2)]
)
def test_a_build_that_fails_says_where_and_why(
    stubs: Stubs, status: str, exit_code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    message = "Error while executing command: make lint.\nReason: exit status 2"
    stubs.look(
        ("INSTALL", "SUCCEEDED", ""),
        ("PRE_BUILD", status, message),
        ("POST_BUILD", status, "because of that"),
        status=status,
    )
    stubs.lines(None, [(["Found 1 error."], "a"), ([], "a")])
    assert main(["codebuild", "--watch", BUILD]) == exit_code
    stubs.check()
    written = capsys.readouterr()
    assert "Found 1 error." in written.out
    assert written.err == (
        f"error: the build {BUILD} ended as '{status.lower().replace('_', ' ')}' in its phase pre_build: "
        "Error while executing command: make lint. Reason: exit status 2\n"
    )


def test_an_interruption_leaves_the_build_running_and_says_so(
    stubs: Stubs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(seconds: float) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    stubs.look(("QUEUED", "", ""), log=False)
    assert main(["codebuild", "--watch", BUILD]) == 130
    error = capsys.readouterr().err
    assert f"python -m deploy codebuild --region {REGION} --watch {BUILD}" in error
    assert f"aws codebuild stop-build --region {REGION} --id {BUILD}" in error


def test_aws_that_refuses_during_the_build_leaves_its_id(
    stubs: Stubs, capsys: pytest.CaptureFixture[str]
) -> None:
    stubs.look(("INSTALL", "", ""))
    stubs.logs.add_client_error("get_log_events", "AccessDeniedException", "no right")
    assert main(["codebuild", "--watch", BUILD]) == 1
    error = capsys.readouterr().err
    assert f"--watch {BUILD}" in error
    assert "AWS refused GetLogEvents (AccessDeniedException): no right" in error


def test_motos_build_is_watched_to_its_end(
    bucket: str, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(codebuild, "PAUSE", 0.0)
    # Moto's builds push nothing, and so name no image.
    assert main(COMMAND) == 2
    written = capsys.readouterr()
    assert "== post_build: succeeded" in written.out
    assert "succeeded, but reported no image" in written.err


def test_uncommitted_changes_are_not_left_out_silently(
    bucket: str, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "forgotten.py").write_text("")
    assert main([*COMMAND, "--no-wait"]) == 1
    error = capsys.readouterr().err
    assert "forgotten.py" in error
    assert "--commit HEAD" in error
    assert nothing_was_made()
    assert main([*COMMAND, "--no-wait", "--commit", "HEAD"]) == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--role", ROLE, "--commit", "nowhere"], "nowhere"),
        (["--role", ROLE, "--bucket", "not-there"], "there is no bucket 'not-there'"),
        (["--role", "nobody"], "give --role the name or ARN of a role that is there"),
        (["--no-wait"], "--role: expected"),
        (["--watch", "subset-trainer:none"], "has no build 'subset-trainer:none'"),
    ],
    ids=["commit", "bucket", "role", "no role", "build"],
)
def test_a_mistake_is_one_sentence_and_makes_nothing(
    bucket: str, checkout: Path, options: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["codebuild", *options]) == 1
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert nothing_was_made()


def test_without_a_checkout_there_is_nothing_to_build(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(image, "CHECKOUT", tmp_path)
    assert main(COMMAND) == 1
    assert "is not a checkout of the project" in capsys.readouterr().err
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/build.sh").touch()
    assert main(COMMAND) == 1  # unpacked, and no repository of git's
    assert "git rev-parse" in capsys.readouterr().err
    assert nothing_was_made()

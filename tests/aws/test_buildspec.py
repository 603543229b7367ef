"""The phases of buildspec.yml, run as CodeBuild runs them: in one shell, with moto as ECR."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import boto3
import pytest
import yaml

from deploy.aws import image
from tests.aws.conftest import ACCOUNT, REGION
from tests.aws.stand_ins import StandIns

COMMIT = "0123456789abcdef0123456789abcdef01234567"
URI = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/subset-trainer"
ROOT = Path(__file__).parents[2]
SPEC = yaml.safe_load((ROOT / "buildspec.yml").read_text())
IMAGE_TEST = """\
import os
import subprocess


def test_of_the_image() -> None:
    image = os.environ["SUBSET_TRAINER_IMAGE"]
    assert subprocess.run(["docker", "run", "--rm", image, "image-size"], check=False).returncode == {code}
"""


@pytest.fixture
def docker(tmp_path: Path) -> StandIns:
    return StandIns(tmp_path, COMMIT)


def run(docker: StandIns, succeeding: bool, **variables: str) -> "subprocess.CompletedProcess[str]":
    """The build of the image, as far as docker is told of it, the login and the last phase."""
    (docker.folder / ".venv").unlink(missing_ok=True)
    (docker.folder / ".venv").symlink_to(sys.prefix)
    login = SPEC["phases"]["pre_build"]["commands"][-1]
    built = 'docker buildx build --tag "$IMAGE_URI" .'
    script = "\n".join([login, built, *SPEC["phases"]["post_build"]["commands"]])
    return bash(
        script,
        docker,
        docker.folder,
        {
            "CODEBUILD_RESOLVED_SOURCE_VERSION": COMMIT,
            "CODEBUILD_BUILD_SUCCEEDING": "1" if succeeding else "0",
            **variables,
        },
    )


def bash(
    script: str, docker: StandIns, folder: Path, variables: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    environment = {
        **os.environ,
        **{name: str(value) for name, value in SPEC["env"]["variables"].items()},
        "PATH": f"{docker.folder}{os.pathsep}{os.environ['PATH']}",
        # In a checkout `python -m deploy` finds deploy/ beside it.
        "PYTHONPATH": os.pathsep.join(
            [str(ROOT), str(ROOT / "container_src"), str(ROOT / "container_src/subset_selection")]
        ),
        **variables,
    }
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project under this one's Makefile, settings and scripts, as an archive without executable bits."""
    folder = tmp_path / "project"
    for name in (
        "Makefile",
        "Dockerfile",
        "pyproject.toml",
        "container_src/pyproject.toml",
        "container_src/subset_selection/pyproject.toml",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "docker", folder / "docker")
    for script in (folder / "docker").glob("*.sh"):
        script.chmod(0o644)
    for name in (
        "deploy",
        "container_src/subset_selection/subset_selection",
        "container_src/subset_trainer",
        "tests/unit",
        "tests/image",
        "examples",
        "benchmarks",
        "docs",
    ):
        (folder / name).mkdir(parents=True)
        (folder / name / "nothing.py").write_text('"""Nothing."""\n')
    (folder / "tests/unit/test_quick.py").write_text("def test_quick() -> None:\n    assert True\n")
    (folder / "tests/image/test_quick.py").write_text(IMAGE_TEST.format(code=0))
    # `make venv` finds it complete: what is locked is not what this is about.
    (folder / ".venv").mkdir()
    for entry in Path(sys.prefix).iterdir():
        if entry.name != ".complete":
            (folder / ".venv" / entry.name).symlink_to(entry)
    (folder / ".venv/.complete").touch()
    return folder


def build(docker: StandIns, project: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Every command of every phase."""
    commands = [command for phase in SPEC["phases"].values() for command in phase["commands"]]
    commands.append('echo "exported: $IMAGE_URI $IMAGE_DIGEST"')
    return bash("\n".join(commands), docker, project, {"CODEBUILD_BUILD_SUCCEEDING": "1", **variables})


def kinds(docker: StandIns) -> list[str]:
    """What docker was told, in order."""
    calls = [call["arguments"] for call in docker.calls]
    return [" ".join(call[: 1 + (call[0] in ("buildx", "image"))]) for call in calls]


def test_all_phases(aws: str, docker: StandIns, project: Path) -> None:
    image.create_repository("subset-trainer")
    done = build(docker, project, CODEBUILD_RESOLVED_SOURCE_VERSION=COMMIT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert kinds(docker) == [
        *("login", "buildx create", "buildx build", "run"),
        *("image inspect", "login", "image tag", "push", "image inspect"),
    ]
    for ran in (
        "ruff check",
        "ruff format --check",
        "bin/mypy",
        "tests/unit/test_quick.py",
        "tests/image/test_quick",
    ):
        assert ran in done.stdout
    _, _, built, tested, _, _, _, pushed, _ = (call["arguments"] for call in docker.calls)
    assert {f"REVISION={COMMIT}", "CUDA=13", "VERSION=0.1.0"} <= set(built)
    assert built[-3:] == ["--tag", f"{URI}:{COMMIT}", "."]
    assert tested[2:] == [f"{URI}:{COMMIT}", "image-size"]
    assert pushed == ["push", f"{URI}:candidate"]
    assert os.access(project / "docker/entrypoint.sh", os.X_OK)
    detail = json.loads((project / "imageDetail.json").read_text())
    assert detail["ImageURI"] == image.uri("subset-trainer", COMMIT)
    assert f"exported: {URI}:{COMMIT} {detail['ImageDigest']}" in done.stdout


def test_all_phases_for_cuda_12_from_an_archive(aws: str, docker: StandIns, project: Path) -> None:
    image.create_repository("another")
    # As deploy/codebuild.py starts it; what CodeBuild has resolved is a version of an object then.
    done = build(
        docker,
        project,
        CODEBUILD_RESOLVED_SOURCE_VERSION="arn:aws:s3:::bucket/subset-trainer/source/0.zip",
        REVISION=COMMIT,
        CUDA="12",
        REPOSITORY="another",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (call["arguments"] for call in docker.calls if "--tag" in call["arguments"])
    assert {f"REVISION={COMMIT}", "CUDA=12"} <= set(built)
    tag = image.tag_of(COMMIT, "12")
    assert docker.named("push")[0]["arguments"] == [
        "push",
        f"{URI.replace('subset-trainer', 'another')}:candidate",
    ]
    assert tags("another") == {"candidate", tag}
    assert not (project / ".venv-cuda12").exists()


@pytest.mark.parametrize(
    ("broken", "text", "says", "reached"),
    [
        ("deploy/nothing.py", "import os\n", "F401", []),
        ("deploy/nothing.py", 'x: int = ""\n', "Incompatible types", []),
        ("tests/unit/test_quick.py", "def test_quick() -> None:\n    assert [] == [1]\n", "1 failed", []),
        (
            "tests/image/test_quick.py",
            IMAGE_TEST.format(code=1),
            "1 failed",
            ["login", "buildx create", "buildx build", "run"],
        ),
    ],
    ids=["style", "types", "unit", "image"],
)
def test_what_fails_before_the_push_stops_it(
    aws: str, docker: StandIns, project: Path, broken: str, text: str, says: str, reached: list[str]
) -> None:
    image.create_repository("subset-trainer")
    (project / broken).write_text(text)
    done = build(docker, project, CODEBUILD_RESOLVED_SOURCE_VERSION=COMMIT)
    assert done.returncode != 0
    assert says in done.stdout
    assert kinds(docker) == reached, done.stdout + done.stderr
    assert not (project / "imageDetail.json").exists()


def test_push_and_artefact(aws: str, docker: StandIns) -> None:
    image.create_repository("subset-trainer")
    done = run(docker, succeeding=True)
    assert done.returncode == 0, done.stderr
    assert [call["arguments"] for call in docker.named("push")] == [["push", f"{URI}:candidate"]]
    assert tags("subset-trainer") == {"candidate", COMMIT}
    detail = json.loads((docker.folder / "imageDetail.json").read_text())
    (pushed,) = boto3.client("ecr").describe_images(repositoryName="subset-trainer")["imageDetails"]
    assert detail == {"ImageURI": f"{URI}@{pushed['imageDigest']}", "ImageDigest": pushed["imageDigest"]}
    login, again = docker.named("login")  # for the cache, and by what pushes
    assert again["stdin"] == login["stdin"].strip()
    assert login["arguments"] == ["login", "--username", "AWS", "--password-stdin", URI.split("/")[0]]
    assert login["stdin"].strip()

    # The same commit again: tags do not move, and that is no failure.
    repeated = run(docker, succeeding=True)
    assert repeated.returncode == 0, repeated.stderr
    assert len(docker.named("push")) == 1
    assert json.loads((docker.folder / "imageDetail.json").read_text()) == detail


def test_findings_keep_the_image_from_its_tag(aws: str, docker: StandIns) -> None:
    image.create_repository("subset-trainer")
    done = run(docker, succeeding=True, SCAN_SEVERITY="HIGH")
    assert done.returncode != 0
    assert "1 HIGH: CVE-9999-9999 (moto_fake 9.9.9, HIGH); it gets no tag but 'candidate'" in done.stderr
    assert tags("subset-trainer") == {"candidate"}
    assert not (docker.folder / "imageDetail.json").exists()


def tags(repository: str) -> set[str]:
    images = boto3.client("ecr").describe_images(repositoryName=repository)["imageDetails"]
    return {tag for found in images for tag in found.get("imageTags", ())}


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

"""docker/space.sh, and the scripts that ask it before they fill a disk."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(
    *command: object, tools: Path | None = None, **environment: str
) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join(filter(None, (str(tools) if tools else "", os.environ["PATH"])))
    return subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder before others on PATH, with a `df` that says of every place: a disk with 3 GB left."""
    folder = tmp_path / "tools"
    folder.mkdir()
    program(folder, "df", disk(3))
    return folder


def disk(gigabytes: int) -> str:
    """A `df` that says so many are free."""
    free = gigabytes * 10**9 // 1024
    return (
        'echo "Filesystem 1024-blocks Used Available Capacity Mounted on"\n'
        f'echo "/dev/small disk   {free + 17070313} 17070313   {free}      85% /mnt/a b"'
    )


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_what_has_room_is_allowed_without_a_word(tmp_path: Path) -> None:
    done = run("docker/space.sh", "Making it", tmp_path / "not/yet", 1, tmp_path, 1)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_has_no_room_is_refused_with_what_it_takes_and_what_is_free(tmp_path: Path) -> None:
    stat = os.statvfs(tmp_path)
    free = stat.f_bavail * stat.f_frsize / 1e9
    done = run("docker/space.sh", "Making it", tmp_path / "not/yet", 10**9)
    assert done.returncode == 1
    said = done.stderr.split()
    assert done.stderr.startswith(f"Making it takes 1000000.0 GB on the disk of {tmp_path}/not/yet, and ")
    assert float(said[said.index("and") + 1]) == pytest.approx(free, abs=1.0)


def test_places_on_one_disk_are_counted_together(tools: Path, tmp_path: Path) -> None:
    for megabytes, code in ((1400, 0), (1600, 1)):
        done = run(
            "docker/space.sh", "Making it", tmp_path / "a", megabytes, tmp_path, megabytes, tools=tools
        )
        assert done.returncode == code, done.stderr
    assert "takes 3.2 GB" in done.stderr and "3.0 GB are free" in done.stderr


@pytest.mark.parametrize("lock", ["13", "12"])
def test_an_environment_that_finds_no_room_is_not_begun(tools: Path, tmp_path: Path, lock: str) -> None:
    done = run("docker/venv.sh", tmp_path / "venv", lock, tools=tools)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Making {tmp_path}/venv takes 1") and "3.0 GB are free" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize(("cache", "code"), [("0B", 1), ("1.2GB", 1), ("13.5GB", 0), ("900MB", 1)])
def test_an_image_that_finds_no_room_is_not_begun(tools: Path, tmp_path: Path, cache: str, code: int) -> None:
    program(
        tools,
        "docker",
        f"""case "$*" in
*DockerRootDir*) echo {tmp_path} ;;
"system df"*) echo "Images 6.8GB"; echo "Build Cache {cache}" ;;
*" --help") ;;
"buildx build"*) touch {tmp_path}/begun ;;
esac""",
    )
    done = run("docker/build.sh", tools=tools, BASE_IMAGE="base", DOCKER_HOST="", TAG="trainer")
    assert done.returncode == code, done.stderr
    assert (tmp_path / "begun").exists() == (code == 0)
    if code:
        assert done.stderr.startswith("Building trainer takes 1") and "3.0 GB are free" in done.stderr


def test_cuda_12_has_its_environment_without_the_other() -> None:
    done = run("make", "--dry-run", "--always-make", "CUDA=12", "venv")
    assert "docker/venv.sh .venv-cuda12 12" in done.stdout
    assert "docker/venv.sh .venv " not in done.stdout


@pytest.mark.parametrize("gigabytes", [20, 40])
def test_the_checks_have_one_environment_with_torch_at_a_time_on_a_small_disk(
    tmp_path: Path, gigabytes: int
) -> None:
    """The script itself, with a `make` that notes its targets, and makes and looks for CUDA 12's environment."""
    made = tmp_path / "made"
    for folder in (".ci", "docker", "tools"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    shutil.copy(ROOT / "docker/space.sh", tmp_path / "docker/space.sh")
    program(tmp_path / "tools", "df", disk(gigabytes))
    program(
        tmp_path / "tools",
        "make",
        f"""case "$*" in *CUDA=12*|test-cuda12) mkdir -p .venv-cuda12 ;; esac
echo "$*" "$(ls -d .venv-cuda12 2>/dev/null)" >>{made}""",
    )
    done = run(tmp_path / ".ci/run", tools=tmp_path / "tools")
    assert done.returncode == 0, done.stderr
    targets = made.read_text().splitlines()
    assert targets[-1] == "test " and not (tmp_path / ".venv-cuda12").exists()
    if gigabytes == 20:
        assert targets[0] == "test-cuda12 .venv-cuda12"
        assert sorted(targets[1:-1]) == ["lint ", "venv ", "venv-sdk3 "]
    else:
        assert targets[0] == "venv " and targets[-2] == "test-cuda12 .venv-cuda12"
        assert "CUDA=12 venv .venv-cuda12" in targets

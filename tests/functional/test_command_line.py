"""Who asks a program what it is gets an answer, and starts nothing."""

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from deploy import __main__ as deploy
from subset_trainer import __version__
from tests.functional.conftest import Job, write_table


@pytest.mark.parametrize("program", ["train", "serve"])
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_programs_answer_and_start_nothing(program: str, option: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name(program), option],
        env={"SAGEMAKER_BASE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    expected = rf"usage: {program} \[--help\]" if option == "--help" else rf"subset-trainer {__version__}\n$"
    assert re.match(expected, done.stdout)
    assert not any(tmp_path.iterdir())


def started(program: str, base: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        env={"SAGEMAKER_BASE_DIR": str(base)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("program", ["train", "serve"])
@pytest.mark.parametrize("arguments", [["--epochs", "3"], ["train"], ["-v"], [""]], ids=" ".join)
def test_any_other_argument_is_refused_and_starts_nothing(
    program: str, arguments: list[str], tmp_path: Path
) -> None:
    done = started(program, tmp_path, *arguments)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"{program} was started with {' '.join(arguments)!r}; expected no arguments" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert not any(tmp_path.iterdir())


def test_an_argument_of_a_job_is_the_reason_of_its_failure_and_starts_nothing(job: Job) -> None:
    write_table(job.channel("training") / "train.csv")
    job.run({"epochs": 1})
    assert job.exit_code == 0, job.log
    before = {path: path.stat().st_mtime_ns for path in job.base.rglob("*") if path.is_file()}
    done = started("train", job.base, "--epochs", "2")
    assert done.returncode == 1
    assert str(job.failure).startswith("train was started with '--epochs 2'")
    (job.base / "output/failure").unlink()
    assert {path: path.stat().st_mtime_ns for path in job.base.rglob("*") if path.is_file()} == before


def test_the_installed_command_is_the_host_side(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (installed,) = entry_points(group="console_scripts", name="subset-trainer")
    assert installed.load() is deploy.main
    monkeypatch.setattr(sys, "argv", ["/usr/bin/subset-trainer"])
    assert installed.load()(["--version"]) == 0
    assert capsys.readouterr().out == f"subset-trainer {__version__}\n"
    assert installed.load()(["--help"]) == 0
    assert "Usage: subset-trainer [OPTIONS] COMMAND" in capsys.readouterr().out

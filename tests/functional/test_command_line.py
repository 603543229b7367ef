"""Who asks a program what it is gets an answer, and starts nothing."""

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from deploy import __main__ as deploy
from subset_trainer import __version__


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


def test_the_installed_command_is_the_host_side(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (installed,) = entry_points(group="console_scripts", name="subset-trainer")
    assert installed.load() is deploy.main
    monkeypatch.setattr(sys, "argv", ["/usr/bin/subset-trainer"])
    with pytest.raises(SystemExit):
        installed.load()(["--version"])
    assert capsys.readouterr().out == f"subset-trainer {__version__}\n"
    with pytest.raises(SystemExit):
        installed.load()(["--help"])
    assert capsys.readouterr().out.startswith("usage: subset-trainer [-h]")

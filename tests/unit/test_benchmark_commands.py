"""A mistake in a benchmark's command line is one sentence and exit code 1."""

import re
from importlib import import_module
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
COMMANDS = sorted(
    path.stem
    for path in FOLDER.glob("*.py")
    if re.search("^@(command|resumable)$", path.read_text("utf-8"), re.MULTILINE)
)


def test_most_benchmarks_are_commands() -> None:
    assert len(COMMANDS) >= 19


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_is_one_sentence(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert import_module(f"benchmarks.{name}").main(["--no-such-option"]) == 1
    said = capsys.readouterr()
    (line,) = said.err.strip().splitlines()
    assert line.startswith("error: ") and "(see --help)" in line
    assert not said.out

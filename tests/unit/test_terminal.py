"""What the commands print goes to any terminal, any pipe and any path, or is refused in a sentence."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploy.__main__ import main
from tests.unit.test_compare import write_run


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    shapes = {"full": ("full", 1.0, 10), "rs2-0.5": ("rs2", 0.5, 10), "full-at-0.5": ("full", 1.0, 5)}
    return [str(write_run(tmp_path / name, *shape, seconds=4.0)) for name, shape in shapes.items()]


def program(*arguments: str) -> Sequence[str]:
    return [sys.executable, "-m", "deploy", *arguments]


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
)
def test_an_ascii_terminal_gets_plain_characters(environment: dict[str, str], runs: list[str]) -> None:
    done = subprocess.run(
        program("compare", *runs),
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"----" in done.stdout and b"\\u" not in done.stdout and done.stdout.isascii()


def test_letters_that_an_ascii_terminal_lacks_are_escaped(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "größe", "full", 1.0, 2, 1.0)
    done = subprocess.run(
        program("compare", str(folder)),
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"gr\xf6\xdfe" in done.stdout


@pytest.mark.parametrize("closed", ["before", "after the first line"])
def test_a_closed_pipe_ends_a_command_quietly(closed: str, runs: list[str]) -> None:
    process = subprocess.Popen(
        program("compare", *runs), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    if closed != "before":
        process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    # A short output is in the pipe before it is closed.
    assert process.wait(60) in ((141,) if closed == "before" else (0, 141))


def test_a_closed_pipe_ends_help_in_the_same_way() -> None:
    process = subprocess.Popen(
        program("launch", "--help"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert (process.stderr.read(), process.wait(60)) == ("", 141)


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "RUN", "--output", "FILE"],
        ["compare", "RUN", "--output", "FILE/below"],
        ["compare", "--training", "FOLDER", "--output", "FILE"],
        ["demo", "--output", "FILE"],
        ["compare", "RUN", "--html", "FOLDER"],
        ["compare", "RUN", "--csv", "FOLDER.csv"],
        ["compare", "RUN", "--html", "FILE/page.html"],
    ],
    ids=" ".join,
)
def test_a_path_that_cannot_be_written_is_refused_first(
    arguments: list[str], runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "FILE").write_text("precious")
    for name in ("FOLDER", "FOLDER.csv"):
        (tmp_path / name).mkdir()
    places = {"RUN": runs[0]}
    given = [
        places.get(word, str(tmp_path / word) if word.startswith(("FILE", "FOLDER")) else word)
        for word in arguments
    ]
    assert main(given) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert "is a file; expected a folder" in captured.err or "expected the name of a file" in captured.err
    assert (tmp_path / "FILE").read_text() == "precious"


def test_a_file_that_turns_up_later_is_a_sentence_too(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out/comparison.png").mkdir(parents=True)
    assert main(["compare", *runs, "--output", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "comparison.png': Is a directory" in error and error.count("\n") == 1


def test_comparing_finished_runs_writes_nothing_unasked(
    runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["compare", *runs]) == 0
    assert "full-at-0.5" in capsys.readouterr().out
    assert not any(Path().iterdir())
    assert main(["compare", *runs, "--html", "page.html"]) == 0
    assert [path.name for path in Path().iterdir()] == ["page.html"]

"""How far runs are: live in a terminal, plain lines elsewhere, and steps where epochs are long."""

import io
import os
import pty
import re
import subprocess
import sys

import pytest

from deploy.grid import program
from deploy.progress import Board

SCRIPT = """
import time
from deploy.progress import Board

board = Board(lines={lines})
runs = [board.start(f"[{{n}}/9] rs2-0.5-seed-{{n}}", 4, "3 min") for n in (1, 2)]
for run in runs:
    run.update({{"epoch": 3.0, "step": 5.0, "steps": 10.0}})
time.sleep(0.3)
print("left: 2 runs")
for run in runs:
    run.update({{"epoch": 4.0, "validation:accuracy": 0.91}})
    time.sleep(0.3)
    run.close()
print("the end")
"""


def in_a_terminal(script: str, **environment: str) -> str:
    """What a script prints to a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    variables = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **environment}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=theirs, stderr=theirs, env=variables
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65_536)
            except OSError:  # so a terminal ends
                break
            if not part:
                break
            shown += part
        assert process.wait() == 0
    os.close(ours)
    return shown.decode()


def test_a_terminal_has_one_display_of_all_runs_at_work() -> None:
    shown = in_a_terminal(SCRIPT.format(lines=False), NO_COLOR="1")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "\n")
    assert re.search(r"\[1/9\] rs2-0\.5-seed-1 .* epoch 3/4 step 5/10 \(all: 3 min\)", plain)
    assert re.search(r"\[2/9\] rs2-0\.5-seed-2 .* epoch 4/4 91\.00%", plain)
    assert max(map(len, plain.splitlines())) <= 80
    # Other lines stand above the display, and it is gone at the end.
    assert "\nleft: 2 runs\n" in plain
    assert shown.rstrip().endswith("the end")
    assert not re.search(r"\x1b\[[0-9;]*3\dm", shown)


def test_a_pipe_has_a_line_at_the_start_and_the_end_of_each_run(capsys: pytest.CaptureFixture[str]) -> None:
    run = Board().start("[1/9] full", 10)
    run.update({"epoch": 9.0, "step": 5.0, "steps": 10.0})
    run.update({"epoch": 9.0, "validation:accuracy": 0.875})
    run.update({"epoch": 9.0, "train:loss": 0.1})
    run.close()
    assert capsys.readouterr().out.splitlines() == [
        "[1/9] full starting",
        "[1/9] full epoch  9/10, validation accuracy 87.50%, 0 s",
    ]
    Board(lines=False).start("[1/9] full", 10).close()
    assert capsys.readouterr().out == ""


def test_steps_are_read_from_the_log_of_a_run() -> None:
    lines = ["12:00:01 epoch 3 of 20: step 7 of 40\n", "epoch=3 validation:accuracy=0.5\n", "step 8 of 40\n"]
    found: list[dict[str, float]] = []
    program._read(io.StringIO("".join(lines)), io.StringIO(), found.append)
    assert found == [
        {"epoch": 3.0, "step": 7.0, "steps": 40.0},
        {"epoch": 3.0, "validation:accuracy": 0.5},
    ]


def test_a_run_that_was_cut_off_does_not_end_as_if_it_were_starting_or_done(
    capsys: pytest.CaptureFixture[str],
) -> None:
    board = Board()
    for done in (0, 1):
        run = board.start("[1/9] full", 10)
        if done:
            run.update({"epoch": 3.0, "validation:accuracy": 0.5})
        run.cut("interrupted")
        run.close()
    lines = [line for line in capsys.readouterr().out.splitlines() if "interrupted" in line]
    assert lines == [
        "[1/9] full interrupted, 0 s",
        "[1/9] full interrupted after epoch  3/10, validation accuracy 50.00%, 0 s",
    ]

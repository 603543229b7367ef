"""The host side over the real `train` program: several runs, a failing one, and an interrupt."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.grid import program
from deploy.grid.agenda import Agenda
from deploy.grid.backend import work
from deploy.grid.here import Here
from deploy.grid.plan import Grid, plan
from deploy.results import compare
from subset_trainer.errors import UserError

QUICK = {"model": "mlp", "augmentation": "none", "epochs": 4, "batch_size": 64, "learning_rate": 0.05}


def run(channels: dict[str, Path], output: Path, fractions: tuple[float, ...]) -> list[compare.Run]:
    cells = plan(Grid({"glister": {"strategy": "glister"}}, fractions, (0,), QUICK)).cells
    agenda = Agenda(cells)
    work(Here(output, channels, stop_at_failure=True, progress=True), agenda)
    runs, lost = agenda.results()
    assert not lost
    return runs


def test_fractions_and_their_baselines(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = run({"training": digits / "training", "test": digits / "test"}, tmp_path, (1.0, 0.5))
    assert [run.name for run in runs] == ["full", "glister-0.5", "rs2-0.5", "full-at-0.5"]
    full, glister, rs2, equal = compare.rows(runs)
    assert full.samples_visited == 4 * runs[0].summary["examples"]["training"]
    assert equal.epochs == 2
    assert equal.samples_visited == pytest.approx(glister.samples_visited, rel=0.01)
    assert rs2.samples_visited == glister.samples_visited
    assert all(row.test_accuracy is not None for row in (full, glister, equal, rs2))
    shown = capsys.readouterr().out
    assert "[3/4] rs2-0.5" in shown
    assert "epoch 4/4" in shown
    # What SageMaker would have delivered: strings, and links instead of copies.
    assert (
        '"fraction": "0.5"' in (tmp_path / "glister-0.5-seed-0/input/config/hyperparameters.json").read_text()
    )
    assert (tmp_path / "full-seed-0/input/data/training").resolve() == (digits / "training").resolve()


def test_a_failing_run_is_named_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"run 'full'.*training"):
        run({"training": tmp_path / "empty"}, tmp_path / "out", (1.0,))


def test_a_folder_that_is_no_run_is_left_alone(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="no earlier run"):
        program.train(tmp_path, {"training": digits / "training"}, QUICK)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_the_training_in_order(
    number: signal.Signals, digits: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "deploy", "compare", "--training", str(digits / "training")]
    command += ["--fractions", "1", "--output", str(tmp_path), "--set", "epochs=100000", "model=mlp"]
    process = subprocess.Popen(
        command,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that were themselves started in the background inherit that SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    log = tmp_path / "runs/full-seed-0/train.log"
    deadline = time.monotonic() + 120
    while not (log.exists() and "epoch=2 " in log.read_text()):
        assert time.monotonic() < deadline, "the training did not start"
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    os.kill(process.pid, number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.strip() == (
        "interrupted: 0 of up to 3 runs are finished; the same command resumes where this one stopped"
    )
    assert "Traceback" not in error
    run = compare.read_run(tmp_path / "runs/full-seed-0")
    assert run.summary["status"] == "stopped"
    assert (tmp_path / "runs/full-seed-0/model/model.safetensors").exists()

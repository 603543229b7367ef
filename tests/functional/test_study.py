"""The study over the real `train` program: it runs, resumes, survives a failing run, and stops in order."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import evidence, study
from benchmarks.evidence import Preset
from tests.functional.conftest import write_table

ROOT = Path(__file__).parents[2]
QUICK = ["--set", "model=mlp", "batch_size=32", "select_every=2"]


@pytest.fixture
def tables(tmp_path: Path) -> list[str]:
    """Options that name a small table's channels."""
    for seed, name in enumerate(("training", "test")):
        (tmp_path / name).mkdir()
        write_table(tmp_path / name / "data.csv", 300 - 150 * seed, seed)
    return ["--training", str(tmp_path / "training"), "--test", str(tmp_path / "test")]


def rows(out: Path) -> dict[str, Any]:
    return {entry["strategy"]: entry for entry in json.loads((out / "study.json").read_text())}


def test_a_grid_at_equal_visits_that_is_run_once(
    tables: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = [*tables, *QUICK, "--fractions", "0.5", "--seeds", "0,1", "--epochs", "4", "--noise", "0.3"]
    command += ["--out", str(out), "--jobs", "2", "--strategies"]
    assert study.main([*command, "gradmatch:scope=per-class,lam=0.1"]) == 0
    shown = capsys.readouterr().out
    assert "noise-0.3: 6 runs, 0 of them finished before" in shown
    assert "[6/6]" in shown
    assert "left: 0" in shown
    found = rows(out)
    assert set(found) == {"full", "rs2", "gradmatch:scope=per-class,lam=0.1"}
    assert found["full"]["epochs"] == 2
    visits = [count for row in found.values() for count in row["samples_visited"]]
    assert len(visits) == 6
    assert max(visits) - min(visits) <= 4  # one for each epoch's rounding
    # 270 training examples in batches of 32: four epochs of five steps on half of them, two of nine on all.
    assert {name: row["updates"][0] for name, row in found.items() if ":" not in name} == {
        "full": 18,
        "rs2": 20,
    }
    assert found["gradmatch:scope=per-class,lam=0.1"]["selection_seconds"][0] > 0
    assert all(row["seeds"] == [0, 1] and row["test_accuracy"] > 0.4 for row in found.values())
    assert "30% of the training labels replaced by another class" in (out / "study.md").read_text()
    (run,) = (out / "noise-0.3/runs").glob("gradmatch*-seed-1")
    written = json.loads((run / "output/data/summary.json").read_text())["hyperparameters"]
    assert (written["scope"], written["lam"], written["seed"]) == ("per-class", 0.1, 1)

    # Again, with one strategy more: only that is run. What was stopped or is broken is run anew.
    log = (out / "noise-0.3/runs/full-at-0.5-seed-0/train.log").stat().st_mtime_ns
    broken = out / "noise-0.3/runs/rs2-at-0.5-seed-1/output/data/summary.json"
    broken.write_text('{"status": "stopped"}')
    assert study.main([*command, "random"]) == 0
    shown = capsys.readouterr().out
    assert "6 runs, 3 of them finished before" in shown
    assert set(rows(out)) == {"full", "rs2", "random", "gradmatch:scope=per-class,lam=0.1"}
    assert (out / "noise-0.3/runs/full-at-0.5-seed-0/train.log").stat().st_mtime_ns == log
    assert json.loads(broken.read_text())["status"] == "completed"


def test_a_run_that_fails_does_not_end_the_study(
    tables: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = [*tables, *QUICK, "--fractions", "0.5", "--seeds", "0", "--epochs", "2", "--out", str(out)]
    assert study.main([*command, "--strategies", "random:learning_rate=1e30,adaptive-random"]) == 2
    found = rows(out)
    assert found["random:learning_rate=1e30"]["test_accuracy"] is None
    assert "diverged" in found["random:learning_rate=1e30"]["failures"]["0"]
    assert found["adaptive-random"]["seeds"] == [0]
    assert "failed: " in capsys.readouterr().out


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_interrupt_stops_the_runs_and_the_command_goes_on_later(
    jobs: str, tables: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "benchmarks/study.py", *tables, *QUICK, "--fractions", "0.5", "--seeds", "0"]
    command += ["--out", str(out), "--jobs", jobs, "--epochs", "100000"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    runs = out / "clean/runs"
    _wait_for(lambda: _epochs(runs) >= int(jobs), process)
    os.kill(process.pid, signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted" in error
    assert "Traceback" not in error
    summaries = [json.loads(path.read_text()) for path in runs.glob("*/output/data/summary.json")]
    assert [summary["status"] for summary in summaries] == ["stopped"] * int(jobs)
    assert not (out / "study.json").exists()


def _epochs(runs: Path) -> int:
    """Runs that have reached their second epoch."""
    return sum("epoch=2 " in log.read_text() for log in runs.glob("*/train.log"))


def _wait_for(ready: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not ready():
        assert time.monotonic() < deadline, "the trainings did not start"
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)


def test_the_evidence_is_one_command_that_goes_on_where_it_was(
    tables: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = Preset(
        settings={"model": "mlp", "batch_size": "32"},
        epochs=4,
        fractions=(0.5, 0.25),
        strategies=("glister",),
        at_the_smallest=("glister:backend=cords,select_every=2",),
        levels=(0.4, 1.0),
    )
    monkeypatch.setitem(evidence.PRESETS, "tiny", preset)
    page = tmp_path / "docs/evidence.md"
    command = [
        *tables,
        "--preset",
        "tiny",
        "--seeds",
        "0",
        "--out",
        str(tmp_path / "out"),
        "--docs",
        str(page),
    ]
    assert evidence.main(command) == 0
    assert capsys.readouterr().out.count("0 of them finished before") == 3
    text = page.read_text(encoding="utf-8")
    for line in (
        "| glister:backend=cords,select_every=2 | 0.25 |",
        "| **full** | 1 | 4 |",
        "| 40% |",
        "| 100% | none",
    ):
        assert line in text, text
    assert page.with_suffix(".png").stat().st_size > 10_000
    assert evidence.main(command) == 0
    again = capsys.readouterr().out
    assert re.search(r"\b(\d+) runs, \1 of them finished before", again) and "0 of them" not in again
    assert page.read_text(encoding="utf-8") == text

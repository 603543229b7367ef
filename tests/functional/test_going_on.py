"""A comparison that is killed resumes where it was, deletes nothing of others, and ends as one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

PROJECT = Path(__file__).parents[2]
SETTINGS = ["model=mlp", "augmentation=none", "batch_size=64", "learning_rate=0.05", "report=false"]


def start(digits: Path, output: Path, *options: str, epochs: int = 60) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "deploy", "compare", "--training", str(digits / "training")]
    command += ["--test", str(digits / "test"), "--fractions", "1", "--seeds", "0,1", "--output", str(output)]
    return subprocess.Popen(
        [*command, *options, "--set", f"epochs={epochs}", *SETTINGS],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(process: "subprocess.Popen[str]") -> str:
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    return said


def wait_for(process: "subprocess.Popen[str]", log: Path, text: str) -> None:
    deadline = time.monotonic() + 120
    while not (log.exists() and text in log.read_text()):
        assert time.monotonic() < deadline, "it did not come"
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def trainer_of(process: "subprocess.Popen[str]") -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (child,) = [int(child) for child in children]
    return child


def outcome(base: Path) -> dict[str, Any]:
    """All of a run but how long it took, and its place."""
    rows = [json.loads(line) for line in (base / "output/data/history.jsonl").read_text().splitlines()]
    summary = json.loads((base / "output/data/summary.json").read_text())
    del summary["seconds"]
    weights = load_file(base / "model/model.safetensors")
    return {
        "history": [{n: v for n, v in row.items() if "seconds" not in n} for row in rows],
        "summary": summary,
        "weights": {name: value.tobytes() for name, value in weights.items()},
    }


@pytest.fixture(scope="module")
def unbroken(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("unbroken")
    finish(start(digits, output))
    return output


@pytest.mark.parametrize("whom", ["the comparison", "the comparison and its run"])
def test_a_killed_comparison_goes_on_within_the_run_and_ends_as_an_unbroken_one(
    whom: str, unbroken: Path, digits: Path, tmp_path: Path
) -> None:
    output = tmp_path / "killed"
    process = start(digits, output)
    second = output / "runs/full-seed-1"
    wait_for(process, second / "train.log", "epoch=20 ")
    victims = [process.pid] + ([trainer_of(process)] if whom != "the comparison" else [])
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    process.wait()
    first = output / "runs/full-seed-0/output/data/summary.json"
    written = first.stat().st_mtime_ns

    said = finish(start(digits, output))
    assert "1 of 2 runs are finished" in said
    assert first.stat().st_mtime_ns == written, "a finished run was trained again"
    log = (second / "train.log").read_text()
    assert "resum" in log
    assert log.count("epoch=1 ") == 1, "it began anew"
    assert not (second / "checkpoints").exists()
    for name in ("full-seed-0", "full-seed-1"):
        assert outcome(output / "runs" / name) == outcome(unbroken / "runs" / name)


def test_what_is_finished_is_used_again_and_other_settings_go_elsewhere(unbroken: Path, digits: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in unbroken.glob("runs/*/output/data/summary.json")}
    assert len(before) == 2
    said = finish(start(digits, unbroken))
    assert "2 of 2 runs are finished" in said
    finish(start(digits, unbroken, epochs=2))
    (other,) = unbroken.glob("*-*/runs/full-seed-0")
    assert json.loads((other / "output/data/summary.json").read_text())["epochs"] == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_overwriting_trains_again(digits: Path, tmp_path: Path) -> None:
    finish(start(digits, tmp_path / "runs", epochs=2))
    first = {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/runs/*/output/data/summary.json")}
    (tmp_path / "runs/notes.txt").write_text("mine")
    said = finish(start(digits, tmp_path / "runs", "--overwrite", epochs=2))
    assert "used again" not in said
    assert all(path.stat().st_mtime_ns > before for path, before in first.items())
    assert (tmp_path / "runs/notes.txt").read_text() == "mine"


def test_folders_of_runs_of_studies_and_both_are_compared(
    unbroken: Path, digits: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    finish(start(digits, other, epochs=2))

    def compared(*folders: Path) -> tuple[list[str], str]:
        command = [sys.executable, "-m", "deploy", "compare", *map(str, folders), "--output", str(tmp_path)]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return [row["run"] for row in json.loads((tmp_path / "comparison.json").read_text())], done.stdout

    assert compared(unbroken / "runs/full-seed-0")[0] == ["full-seed-0"]
    assert compared(unbroken)[0] == ["full-seed-0", "full-seed-1"]
    names, said = compared(unbroken, other / "runs/full-seed-1", unbroken / "runs/full-seed-0")
    assert names == [f"{unbroken.name}/full-seed-0", f"{unbroken.name}/full-seed-1", "other/full-seed-1"]
    assert "different data" not in said
    # A run that was stopped early on has no results, and the others are compared.
    (other / "runs/full-seed-1/output/data/summary.json").unlink()
    names, said = compared(other)
    assert names == ["full-seed-0"]
    assert "full-seed-1: it has no summary.json" in said

"""Recipes compared over the real `train` program, and beside the peer: once, and again without a run."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import recipe, time_to_accuracy

CLASSES = 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Bright, dark and grey images of 16 × 16 pixels."""
    generator = np.random.default_rng(0)
    for channel, count in (("training", 90), ("test", 30)):
        labels = np.arange(count) % CLASSES
        images = generator.integers(60, size=(count, 3, 16, 16)) + 80 * labels[:, None, None, None]
        (tmp_path / "shades" / channel).mkdir(parents=True)
        np.savez(tmp_path / "shades" / channel / "data.npz", x=images.astype(np.uint8), y=labels)
    return tmp_path


def test_recipes_are_compared_by_one_command_that_goes_on_where_it_was(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, figures = folder / "recipe.md", folder / "recipe.json"
    command = ["--data", str(folder), "--seeds", "0", "--out", str(folder / "out"), "--docs", str(page)]
    command += ["--json", str(figures), "--held-out", "shades:model=cnn,epochs=4,fraction=0.5,batch_size=16"]
    assert recipe.main(command) == 0
    rows = {row["recipe"]: row for row in json.loads(figures.read_text())}
    assert set(rows) == {"old", "new"}
    assert all(row["held_out"] and row["processor_seconds"][0] > 0 for row in rows.values())
    assert rows["old"]["samples_visited"] == rows["new"]["samples_visited"]
    used = [
        json.loads(path.read_text())["hyperparameters"]["optimizer"]
        for path in sorted((folder / "out").rglob("summary.json"))
    ]
    assert sorted(used) == ["muon", "sgd"]
    assert "## Data that it was not chosen on" in page.read_text()
    written = figures.read_text()
    capsys.readouterr()
    assert recipe.main(command) == 0
    assert capsys.readouterr().out.count("1 runs, 1 of them finished before") == 2
    assert figures.read_text() == written


def test_the_time_to_accuracy_has_its_sides_in_one_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = folder / "time.json"
    command = ["--training", str(folder / "shades/training"), "--test", str(folder / "shades/test")]
    command += ["--out", str(folder / "out"), "--json", str(figures), "--epochs", "2", "--seeds", "0"]
    sides = ["old", "airbench-cnn", "airbench"]
    command += ["--levels", "0.1", "--batch", "16", "--sides", *sides]
    assert time_to_accuracy.main(command) == 0
    found = json.loads(figures.read_text())
    assert [run["side"] for run in found["runs"]] == sides
    for run in found["runs"]:
        assert run["test_accuracy"] >= 1 / CLASSES
        assert run["seconds"] > 0
        assert run["processor_seconds"] > 0
    assert all(not each["exact"] for each in found["seconds_to"])
    shown = capsys.readouterr().out
    assert shown.count("≤ ") == 2 * len(sides)
    assert time_to_accuracy.main(command) == 0
    assert json.loads(figures.read_text())["runs"] == found["runs"]

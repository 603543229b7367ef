"""What is left out before training, and that it is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.functional.conftest import Job
from tests.kills import lose_the_machine, outcome

ROWS = 900
WRONG = range(0, ROWS, 20)
COPIES = 10
SETTINGS: dict[str, Any] = {
    "model": "mlp",
    "epochs": 6,
    "batch_size": 16,
    "device": "cpu",
    "strategy": "full",
    "validation_fraction": 0.25,
    "report": True,
}


def write(path: Path) -> None:
    """Three classes far apart, some labels of which are wrong, and at the end copies of the first correct rows."""
    lines = []
    for row in range(ROWS):
        label, angle = row % 3, row * 0.7
        given = (label + 1) % 3 if row in WRONG else label
        lines.append(
            f"{given},{6 * (label == 0) + angle % 1:.4f},{6 * (label == 1) + angle % 0.9:.4f},{angle:.3f}"
        )
    copied = [line for row, line in enumerate(lines) if row not in WRONG][:COPIES]
    path.write_text("\n".join(["label,a,b,c", *lines, *copied]) + "\n")


def rows(job: Job) -> dict[int, dict[str, Any]]:
    """By row of the table, from 0."""
    found = pq.read_table(job.base / "output/data/examples.parquet").to_pylist()
    return {int(row["id"].removeprefix("train.csv:")) - 2: row for row in found}


@pytest.mark.parametrize("check", ["training-signals", "cross-validation"])
def test_wrong_labels_and_copies_are_left_out(check: str, make_job: Callable[[str], Job]) -> None:
    job = make_job("cleaned")
    write(job.channel("training") / "train.csv")
    (job.base / "checkpoints").mkdir()
    values = {**SETTINGS, "label_check": check, "drop_noisy": True, "drop_redundant": True}
    job.run(values)
    assert job.exit_code == 0, job.log
    found, summary = rows(job), job.summary
    noisy = {row for row, example in found.items() if example["removed"] == "noisy"}
    redundant = {row for row, example in found.items() if example["removed"] == "redundant"}
    there = set(WRONG) & set(found)
    assert len(noisy & there) >= 0.7 * len(there) and len(noisy - there) <= len(there) / 2
    originals = {
        row: ROWS + at for at, row in enumerate([row for row in range(ROWS) if row not in WRONG][:COPIES])
    }
    assert (
        redundant == {copy for row, copy in originals.items() if {row, copy} <= set(found) - noisy} != set()
    )
    assert summary["removed"] == {"noisy": len(noisy), "redundant": len(redundant)}
    assert summary["examples"]["training"] == len(found) - len(noisy | redundant)
    assert summary["seconds"]["cleaning"] > 0
    for row, example in found.items():
        assert example["selected"] == (0 if row in noisy | redundant else 6)
        assert (example["probable_label"] is None) is (row in noisy | redundant)
        assert example["label"] == str((row % 3 + (row in WRONG)) % 3) or row >= ROWS
    assert f"{len(noisy)} of {len(found)} training examples are left out: noisy (drop_noisy)" in job.log

    # A run that goes on looks no second time, and ends alike.
    once = ("training once", "training 3 models")["cross" in check]
    assert once in job.log
    before = outcome(job)
    lose_the_machine(job)
    for checkpoint in (job.base / "checkpoints").glob("checkpoint-*"):
        checkpoint.unlink()
    job.run(values)
    assert job.exit_code == 0 and once not in job.log
    assert outcome(job) == before


def test_the_fraction_is_of_what_was_given(make_job: Callable[[str], Job]) -> None:
    """Runs with and without what looks wrong or redundant compare at equal visits."""
    jobs = {}
    for drop in (False, True):
        job = make_job(f"drop-{drop}")
        write(job.channel("training") / "train.csv")
        job.run({**SETTINGS, "strategy": "rs2", "fraction": 0.3, "drop_redundant": drop})
        assert job.exit_code == 0, job.log
        jobs[drop] = job.summary
    assert jobs[True]["removed"]["redundant"] > 0
    assert jobs[True]["samples_visited"] == jobs[False]["samples_visited"]
    assert jobs[True]["fraction"] == jobs[False]["fraction"] == pytest.approx(0.3, abs=0.01)


def test_nothing_is_left_out_unless_asked_for(job: Job) -> None:
    write(job.channel("training") / "train.csv")
    job.run({**SETTINGS, "epochs": 3})
    assert job.summary["removed"] == {"noisy": 0, "redundant": 0}
    assert {example["removed"] for example in rows(job).values()} == {None}
    copies = [example["duplicate_group"] for row, example in rows(job).items() if row >= ROWS]
    assert copies and max(copies) >= 0

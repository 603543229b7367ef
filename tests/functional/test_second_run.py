"""A second run in the same folder leaves nothing of the first: what is there afterwards is its own."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from subset_trainer import outputs
from tests.functional.conftest import Job
from tests.kills import outcome

QUICK = {"model": "mlp", "epochs": 3, "fraction": 0.5, "device": "cpu", "select_every": 1}
EVERYTHING = {**QUICK, "strategy": "glister", "report": True, "explain": 1, "tensorboard": True}
OWNED = {
    "model/model.json",
    "model/model.safetensors",
    *(
        f"output/data/{name}"
        for name in ("history.jsonl", "summary.json", "report.html", "examples.parquet", "explanations.json")
    ),
    *(f"output/data/subsets/epoch-000{epoch}.npz" for epoch in (1, 2, 3)),
}
"""What the first run leaves, but for its event files."""


def files(job: Job, *folders: str) -> set[str]:
    return {
        str(path.relative_to(job.base))
        for folder in folders or ("model", "output")
        for path in (job.base / folder).rglob("*")
        if path.is_file() and path.name != "understanding.json"
    }


def scalars(job: Job) -> list[int]:
    events = EventAccumulator(str(job.base / "output" / "tensorboard"))
    events.Reload()
    return [scalar.step for scalar in events.Scalars("train/loss")]


@pytest.fixture
def first(table: Job) -> Job:
    """A table, on which a run has left all that a run can leave."""
    table.run(EVERYTHING)
    assert table.exit_code == 0, table.log
    left = files(table)
    assert {name for name in left if "tfevents" not in name} == OWNED
    assert len(left) == len(OWNED) + 1
    return table


def test_nothing_of_the_first_run_passes_for_the_second_ones(first: Job) -> None:
    before = {name: (first.base / name).read_bytes() for name in files(first)}
    first.run({**QUICK, "strategy": "full", "epochs": 2})
    assert first.exit_code == 0, first.log
    expected = {"model/model.json", "model/model.safetensors"}
    names = ("history.jsonl", "summary.json", "subsets/epoch-0001.npz")  # `full` has one subset: everything
    expected |= {f"output/data/{name}" for name in names}
    assert files(first) == expected
    assert all((first.base / name).read_bytes() != before[name] for name in expected)
    assert len(first.history) == 2


@pytest.mark.parametrize(
    "values", [{"epochs": "many"}, {"model": "resnet18"}, {"learning_rate": "1e30"}], ids=str
)
def test_a_second_run_that_fails_leaves_its_reason_and_nothing_else(
    first: Job, values: dict[str, Any]
) -> None:
    first.run({**EVERYTHING, **values})
    assert first.exit_code == 1, first.log
    left = files(first)
    assert "output/failure" in left
    # Of a training that diverged there may be a history and subsets, its own.
    own = {"output/data/history.jsonl", "output/data/subsets/epoch-0001.npz"}
    assert not left & OWNED - (own if "learning_rate" in values else set())
    assert not (first.base / "output/data/subsets/epoch-0003.npz").exists()


def test_files_that_no_run_has_made_are_kept(first: Job) -> None:
    mine = {
        "model/notes.txt",
        "model/code/helper.py",
        "output/data/mine.json",
        "output/data/subsets/mine.npz",
        "output/tensorboard/other/events.out.tfevents.1.other",
    }
    for name in mine:
        (first.base / name).parent.mkdir(parents=True, exist_ok=True)
        (first.base / name).write_text("mine")
    first.run({**QUICK, "strategy": "full"})
    assert first.exit_code == 0, first.log
    assert all((first.base / name).read_text() == "mine" for name in mine)
    assert mine < files(first) and "output/data/subsets/epoch-0002.npz" not in files(first)


def test_what_a_kill_left_half_written_goes_too(table: Job) -> None:
    for name in (*outputs.RESULTS, "subsets/epoch-0007.npz"):
        path = table.base / "output/data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".{path.name}.tmp").write_text("half")
    table.run({**QUICK, "strategy": "full"})
    assert table.exit_code == 0, table.log
    assert not [name for name in files(table) if name.endswith(".tmp")]


def test_a_resumed_run_keeps_what_its_checkpoint_vouches_for(table: Job) -> None:
    (table.base / "checkpoints").mkdir()
    values = {**EVERYTHING, "epochs": 6, "checkpoints_kept": 20}
    table.run(values)
    assert table.exit_code == 0, table.log
    whole = outcome(table)
    for checkpoint in sorted((table.base / "checkpoints").glob("checkpoint-*.pt"))[3:]:
        checkpoint.unlink()
    table.run(values)
    assert table.exit_code == 0 and "resuming from a checkpoint" in table.log, table.log
    assert outcome(table) == whole
    assert set(scalars(table)) == {1, 2, 3, 4, 5, 6}


def test_a_run_anew_leaves_no_subset_among_the_checkpoints(table: Job) -> None:
    (table.base / "checkpoints").mkdir()
    table.run({**EVERYTHING, "epochs": 6})
    assert len(files(table, "checkpoints/subsets")) == 6
    table.run({**EVERYTHING, "resume": "never", "select_every": 3})
    assert table.exit_code == 0, table.log
    assert files(table, "checkpoints/subsets") == {"checkpoints/subsets/epoch-0001.npz"}
    assert scalars(table) == [1, 2, 3]
    # A later run that resumes is given its own subsets alone.
    table.run({**EVERYTHING, "select_every": 3})
    assert list(table.subsets()) == [1]


def test_a_script_keeps_files_of_its_own_under_these_names(first: Job, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "own.py").write_text("print('mine')")
    values = {"sagemaker_program": "own.py", "sagemaker_submit_directory": str(source)}
    first.run(values)
    assert first.exit_code == 0, first.log
    # Of the built-in trainer's run nothing passes for the script's.
    assert not files(first) & OWNED
    shutil.rmtree(first.base / "code")
    own = ("model/model.safetensors", "output/data/report.html", "output/data/summary.json")
    for name in own:
        (first.base / name).write_text('{"mine": true}')
    first.run(values)
    assert first.exit_code == 0 and set(own) <= files(first), first.log


def test_the_listed_names_are_all_that_a_run_leaves(first: Job) -> None:
    """A file that a run comes to write must be listed, or a later run would not remove it."""
    left = {Path(name).name for name in files(first) if "subsets" not in name and "tfevents" not in name}
    assert left <= {*outputs.MODEL, *outputs.RESULTS}
    assert pq.read_metadata(first.base / "output/data/examples.parquet").num_rows

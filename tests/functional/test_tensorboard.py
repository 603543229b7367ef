"""TensorBoard's files of whole jobs, read back as TensorBoard reads them."""

from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from subset_trainer.contract import Contract
from tests.functional.conftest import Job, write_table

QUICK = {"model": "mlp", "epochs": 3, "fraction": 0.5, "strategy": "glister", "device": "cpu"}


def read(job: Job) -> EventAccumulator:
    events = EventAccumulator(str(job.base / "output" / "tensorboard"))
    events.Reload()
    return events


def test_every_metric_of_every_epoch_is_written(table: Job) -> None:
    write_table(table.channel("test") / "test.csv", rows=60, seed=1)
    table.run({**QUICK, "tensorboard": "True"})
    assert table.exit_code == 0, table.log
    events = read(table)
    assert set(events.Tags()["scalars"]) == {
        *(
            "train/loss",
            "train/accuracy",
            "validation/loss",
            "validation/accuracy",
            "test/loss",
            "test/accuracy",
        ),
        *(f"{part}/{name}" for part in ("validation", "test") for name in ("macro_f1", "balanced_accuracy")),
        *("epoch/seconds", "selection/seconds", "samples/visited"),
    }
    for name in ("train/loss", "validation/accuracy", "samples/visited"):
        scalars = events.Scalars(name)
        assert [scalar.step for scalar in scalars] == [1, 2, 3]
        written = [row[name.replace("/", ":")] for row in table.history]
        assert [scalar.value for scalar in scalars] == pytest.approx(written, rel=1e-6)
    (test,) = events.Scalars("test/accuracy")
    assert (test.step, test.value) == (3, pytest.approx(table.summary["test"]["accuracy"]))
    (text,) = events.Tensors("hyperparameters/text_summary")
    assert "| strategy | glister |" in text.tensor_proto.string_val[0].decode()
    assert "TensorBoard" not in table.log


def test_nothing_is_written_unless_it_is_asked_for(table: Job) -> None:
    table.run(QUICK)
    assert table.exit_code == 0, table.log
    assert not (table.base / "output" / "tensorboard").exists()


def test_a_folder_that_cannot_be_written_is_said_once(table: Job) -> None:
    # A file in its place stops root as well.
    (table.base / "output").mkdir()
    (table.base / "output" / "tensorboard").write_text("in the way")
    table.run({**QUICK, "tensorboard": "true"})
    assert table.exit_code == 0, table.log
    assert table.summary["status"] == "completed" and len(table.history) == 3
    assert table.log.count("TensorBoard: ") == 1
    assert "in the way" not in table.log and "output/tensorboard" in table.log


def test_a_stopped_job_has_what_there_was(table: Job) -> None:
    table.terminate_when({**QUICK, "epochs": 100_000, "tensorboard": "true"}, "epoch=3 ")
    assert table.exit_code == 0, table.log
    steps = [scalar.step for scalar in read(table).Scalars("train/loss")]
    assert steps == [row["epoch"] for row in table.history] and len(steps) >= 3


def test_the_folder_is_sagemaker_s(tmp_path: Any) -> None:
    contract = Contract(tmp_path, {}, {}, ("localhost",), "localhost", None, None)
    assert contract.tensorboard == tmp_path / "output" / "tensorboard"

"""SIGTERM ends a job within seconds, whatever it is at, in good order: with its model, its results and a checkpoint."""

import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.functional.conftest import Job, write_table
from tests.kills import Running, newest, outcome
from tests.soak.variants import halting

EXIT_SECONDS = 30
COMMON = {"precision": "float32", "device": "cpu", "num_workers": 0, "epochs": 3}
ON_IMAGES = {**COMMON, "model": "cnn", "checkpoint_minutes": 1e-6}


def table(job: Job, rows: int = 6000) -> None:
    write_table(job.channel("training") / "train.csv", rows)


def long_table(job: Job) -> None:
    """One and a half million rows."""
    table(job)
    path = job.base / "input/data/training/train.csv"
    header, body = path.read_text().split("\n", 1)
    path.write_text(header + "\n" + 250 * body)


def pixels(job: Job, channel: str, examples: int) -> None:
    draw = np.random.default_rng(examples)
    images = draw.integers(256, size=(examples, 32, 32, 3), dtype=np.uint8)
    np.savez(job.channel(channel) / "data.npz", x=images, y=np.arange(examples) % 4)


def evaluated_for_long(job: Job) -> None:
    pixels(job, "training", 64)
    pixels(job, "validation", 8000)


def with_a_long_test(job: Job) -> None:
    pixels(job, "training", 64)
    pixels(job, "validation", 64)
    pixels(job, "test", 16000)


@dataclass(frozen=True)
class Moment:
    """What the job is at, and how one knows."""

    prepare: Callable[[Job], None]
    values: dict[str, Any]
    reached: Callable[[Running], bool]
    after: float = 0.0
    """Seconds from there."""
    signals: int = 1
    trains: bool = True
    """Whether there is something to save by then."""
    status: str = "stopped"
    halt: dict[str, Any] | None = None
    """Where it waits, where that is too short to be met by chance; see within/sitecustomize.py."""


def says(text: str) -> Callable[[Running], bool]:
    return lambda running: running.wait_for(text)


def reads(running: Running) -> bool:
    def opened() -> bool:
        for file in Path(f"/proc/{running.process.pid}/fd").iterdir():
            try:
                if file.readlink().name == "train.csv":
                    return True
            except OSError:  # closed by now
                continue
        return False

    return running.wait_until(opened)


def evaluates(running: Running) -> bool:
    return running.wait_until(lambda: newest(running.job)[1] > 0)


def writes(running: Running) -> bool:
    folder = running.job.base / "checkpoints"
    return running.wait_for("epoch=1 ") and running.wait_until(lambda: any(folder.glob(".checkpoint-*.tmp")))


MOMENTS = {
    "importing": Moment(table, COMMON, says("subset-trainer "), trains=False),
    "reading-data": Moment(long_table, COMMON, reads, 0.2, trains=False),
    "choosing": Moment(
        table,
        {**COMMON, "strategy": "craig", "scope": "supervised", "fraction": 0.5},
        says("soak: in selection at stage 0"),
        halt={"moment": "selection", "line": 1, "hold": 0.5},
    ),
    "training-on-held-out": Moment(
        evaluated_for_long,
        {**ON_IMAGES, "strategy": "rho-loss", "fraction": 0.3},
        says("training a model"),
        0.5,
    ),
    "training": Moment(
        table, {**COMMON, "strategy": "full", "epochs": 1000, "batch_size": 8}, says("epoch=1 "), 0.3
    ),
    "evaluating": Moment(evaluated_for_long, {**ON_IMAGES, "strategy": "full"}, evaluates, 0.1),
    "writing": Moment(
        with_a_long_test,
        {**ON_IMAGES, "model": "resnet18", "strategy": "full", "epochs": 100, "batch_size": 16},
        writes,
    ),
    "training-twice": Moment(
        table, {**COMMON, "strategy": "full", "epochs": 1000}, says("epoch=1 "), 0.1, signals=5
    ),
    "saving-the-model": Moment(
        with_a_long_test,
        {**ON_IMAGES, "strategy": "full"},
        says("soak: in outputs at stage 1"),
        halt={"moment": "outputs", "stage": 1, "line": 1, "hold": 0.5},
    ),
    "testing": Moment(with_a_long_test, {**ON_IMAGES, "strategy": "full"}, says("epoch=3 "), 0.3),
    "reporting": Moment(
        table,
        {**COMMON, "strategy": "full", "report": True},
        says("soak: in report at stage 3"),
        halt={"moment": "report", "stage": 3, "line": 1, "hold": 0.5},
    ),
    "ending": Moment(table, {**COMMON, "strategy": "full"}, says("completed:"), status="completed"),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_sigterm(
    name: str, make_job: Callable[[str], Job], record_property: Callable[[str, object], None]
) -> None:
    moment = MOMENTS[name]
    job = make_job("stopped")
    job.cold = job.cold or name == "importing"
    moment.prepare(job)
    (job.base / "checkpoints").mkdir()
    if moment.halt:
        job.cold, job.environment = False, halting(**moment.halt)
    running = Running(job, moment.values)
    try:
        assert moment.reached(running), "".join(running.lines)
        running.wait(moment.after)
        assert running.process.poll() is None, "".join(running.lines)
        for _ in range(moment.signals - 1):
            running.process.send_signal(signal.SIGTERM)
            time.sleep(0.01)
        seconds = running.end(signal.SIGTERM)
    finally:
        running.process.kill()
    record_property("seconds_from_sigterm_to_exit", seconds)
    print(f"{name}: {seconds:.2f} s from SIGTERM to exit")
    assert seconds < EXIT_SECONDS
    assert (job.exit_code, job.failure) == (0, None), job.log
    assert "Traceback" not in job.log
    if not moment.trains:
        assert "stopped" in job.last_line and not (job.base / "model").exists()
        return
    assert job.summary["status"] == moment.status
    assert (job.base / "model/model.safetensors").stat().st_size > 0
    assert list((job.base / "checkpoints").glob("checkpoint-*.pt"))
    assert not list((job.base / "checkpoints").glob(".*"))


def test_a_run_that_was_stopped_while_testing_goes_on_with_that(make_job: Callable[[str], Job]) -> None:
    moment = MOMENTS["testing"]
    whole, job = make_job("whole"), make_job("stopped")
    for each in (whole, job):
        moment.prepare(each)
        (each.base / "checkpoints").mkdir()
    whole.run(moment.values)
    running = Running(job, moment.values)
    assert moment.reached(running)
    running.end(signal.SIGTERM)
    assert job.summary["status"] == "stopped" and job.summary["epochs"] == 3
    shutil.rmtree(job.base / "output")
    job.run(moment.values)
    assert outcome(job) == outcome(whole)

"""Real runs killed again and again, at moments that are aimed at, end as those that were not: bit for bit on a CPU.

Each run is killed once at each moment: in an update, in a selection, in the writing of a checkpoint and of outputs, in
the explanation and in the report; every fifth kill is by SIGTERM. A kill counts where a checkpoint was there and the
run had gone further than when it was killed before. within/sitecustomize.py says in the job when it is there.

`make test` kills one run of each shape. With SOAK_MINUTES=60 there are more, on other data, with other strategies and
in two processes, until an hour is over; with SOAK_KILLS=20 until each moment of each shape has had so many SIGKILLs.
SOAK_SEED is the first run's, SOAK_PROCESSES, 1 or 2, that of all. SOAK_RECORD names a file that each kill is added to,
and that earlier ones are read from.
"""

import dataclasses
import itertools
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import psutil
import pytest

from tests.functional.conftest import Job
from tests.kills import Running, lose_the_machine, newest, outcome
from tests.soak.record import Kill, Position, Record
from tests.soak.variants import MOMENTS, SHAPES, Variant, halting, variants

SEED = int(os.environ.get("SOAK_SEED") or 0)
KILLS = int(os.environ.get("SOAK_KILLS") or 0)
PROCESSES = int(os.environ.get("SOAK_PROCESSES") or 0)
EVERY_FIFTH = 5
EXIT_SECONDS = 30
"""What SIGTERM may take at any moment."""
PROCESSORS = sorted(os.sched_getaffinity(0))
HALTED = re.compile(r"soak: in .* at stage (\d), (\S+)")
GONE_ON = "soak: gone on"
Jobs = Callable[[str], Job]


@dataclass(frozen=True)
class Aim:
    """One kill, as it was drawn."""

    moment: str
    stage: int
    how: int
    rank: int | None
    """Of the one process of several that is killed; None: all."""
    halt: Mapping[str, Any]
    """See within/sitecustomize.py."""

    @classmethod
    def draw(cls, draw: random.Random, moment: str, stage: int, processes: int, lines: list[int]) -> "Aim":
        """lines: of the project's code in the calls of the moment, in a run that is not killed."""
        how = signal.SIGTERM if draw.randrange(EVERY_FIFTH) == 0 else signal.SIGKILL
        one = processes > 1 and how == signal.SIGKILL and draw.random() < 0.25
        often = stage == 0 and moment != "selection"
        halt = {
            "moment": moment,
            "stage": stage,
            "checkpoints": int(stage == 0),
            "calls": draw.randrange(3) if often else 0,
            "line": draw.randint(1, draw.choice(lines)),
            "hold": 0 if one or draw.random() < 0.3 else 60 if how == signal.SIGKILL else 0.3,
        }
        return cls(moment, stage, how, draw.randrange(processes) if one else None, halt)


@dataclass
class Campaign:
    """One variant's run, killed once at each moment, and compared."""

    seed: int
    variant: Variant
    moments: tuple[str, ...]
    whole: "Whole"
    make_job: Jobs
    kills: list[Kill] = field(default_factory=list)

    def run(self) -> list[Kill]:
        draw, variant = random.Random(self.seed), self.variant
        job = variant.job(self.make_job(f"killed-{self.seed}/ml"))
        ahead = sorted((draw.choice(MOMENTS[moment]), draw.random(), moment) for moment in self.moments)
        for stage, _, moment in ahead:
            aim = Aim.draw(draw, moment, stage, variant.processes, self.whole.lines[moment])
            if not self._kill(job, aim):
                break
            if draw.random() < 0.7:
                lose_the_machine(job)
        job.environment = {}
        job.run(variant.values)
        assert job.exit_code == 0, job.log
        assert not self.kills or "resuming from a checkpoint" in job.log, job.log
        found = result(job)
        different = [name for name, value in self.whole.result.items() if found[name] != value]
        assert not different, f"{different} differ after {self.kills}, in {job.base}: {job.log}"
        shutil.rmtree(job.base)
        return self.kills

    def _kill(self, job: Job, aim: Aim) -> bool:
        """Whether it was killed before its end."""
        job.environment = halting(self.variant.processes > 1, **aim.halt)
        running = Running(job, self.variant.values)
        seconds, seen = 0.0, 0
        try:
            if running.wait_for("soak: in "):
                seen = len(running.lines)
                seconds = end(running, aim.how, aim.rank)
            else:
                running.end()
        finally:
            running.process.kill()
        # What is said after SIGTERM, or by a process that goes on, does not tell where it was.
        alone = aim.how == signal.SIGKILL and aim.rank is None
        said = "".join(running.lines if alone else running.lines[:seen])
        if job.exit_code == 0 and aim.how == signal.SIGTERM:
            assert (job.base / "output/data/summary.json").exists(), f"{aim}: {job.log}"
        if job.exit_code == 0 and job.summary["status"] == "completed":
            return False
        self._check(job, aim, seconds)
        self.kills.append(self._told(job, aim, said, seconds))
        return True

    def _check(self, job: Job, aim: Aim, seconds: float) -> None:
        """That it ended as it should."""
        assert "Traceback" not in job.log, job.log
        if aim.rank is not None:
            assert job.exit_code == 2 and "was ended by SIGKILL" in str(job.failure), job.log
        elif aim.how == signal.SIGKILL:
            assert job.exit_code == -signal.SIGKILL and job.failure is None, job.log
        else:
            assert seconds < EXIT_SECONDS and job.failure is None, job.log
            assert job.exit_code == 0 and job.summary["status"] == "stopped", job.log
            assert list((job.base / "checkpoints").glob("checkpoint-*.pt")), job.log

    def _told(self, job: Job, aim: Aim, said: str, seconds: float) -> Kill:
        halted = HALTED.search(said)
        assert halted is not None, job.log
        position: Position = (*newest(job), int(halted[1]))
        reached = max((kill.position for kill in self.kills), default=(0, 0, 0))
        return Kill(
            seed=self.seed,
            shape=self.variant.shape,
            strategy=str(self.variant.values["strategy"]),
            kind=self.variant.kind,
            processes=self.variant.processes,
            how=signal.Signals(aim.how).name,
            moment="elsewhere" if GONE_ON in said else aim.moment,
            where=halted[2],
            position=position,
            counts=any((job.base / "checkpoints").glob("checkpoint-*.pt")) and position > reached,
            seconds=seconds,
        )


def end(running: Running, how: int, rank: int | None) -> float:
    """Send the signal: SIGKILL to all processes, as where a container is killed, or to the one of this rank; SIGTERM to
    the first. Returns the seconds until all have ended."""
    began = time.monotonic()
    workers = psutil.Process(running.process.pid).children(recursive=True) if how == signal.SIGKILL else []
    if rank is not None:
        next(each for each in workers if each.environ().get("RANK") == str(rank)).kill()
        running.end()
    else:
        running.process.send_signal(how)
        for each in workers:
            each.kill()
        running.end()
    assert psutil.wait_procs(workers, timeout=EXIT_SECONDS)[1] == []
    return time.monotonic() - began


def result(job: Job) -> dict[str, Any]:
    """All that must be the same: what is in the files, and which there are."""
    files = [file for name in ("model", "output") for file in (job.base / name).rglob("*") if file.is_file()]
    with np.load(job.base / "output/data/test_predictions.npz") as file:
        predictions = {name: file[name].tobytes() for name in file}
    return {
        **outcome(job),
        "files": sorted(str(file.relative_to(job.base)) for file in files),
        "predictions": predictions,
        "model": (job.base / "model/model.json").read_bytes(),
        "explanations": (job.base / "output/data/explanations.json").read_bytes(),
        "report": (job.base / "output/data/report.html").read_bytes(),
    }


@dataclass(frozen=True)
class Whole:
    """A variant's run that is not killed."""

    variant: Variant
    make_job: Jobs

    @cached_property
    def _job(self) -> Job:
        name = "-".join(str(value) for value in dataclasses.astuple(self.variant)).replace(" ", "-")
        job = self.variant.job(self.make_job(f"whole-{name}/ml"))
        job.environment = halting(self.variant.processes > 1)
        job.run(self.variant.values)
        assert job.exit_code == 0 and "Warning:" not in job.log, job.log
        return job

    @cached_property
    def result(self) -> dict[str, Any]:
        return result(self._job)

    @cached_property
    def lines(self) -> Mapping[str, list[int]]:
        """Moment → lines of the project's code in each of its calls."""
        found: dict[str, list[int]] = {}
        for count, moment in re.findall(r"soak: (\d+) lines of (\w+)", self._job.log):
            found.setdefault(moment, []).append(int(count))
        return found


def take_one(processors: list[int]) -> None:
    """For this thread, and what it starts."""
    os.sched_setaffinity(0, {processors.pop()})


@pytest.mark.timeout(0)
def test_runs_that_are_killed_end_as_those_that_are_not(
    make_job: Jobs, minutes: float, record_property: Callable[[str, object], None], capsys: Any
) -> None:
    began = time.monotonic()
    record = Record.of(os.environ.get("SOAK_RECORD"))
    before = len(record.kills)
    wholes: dict[Variant, Whole] = {}
    coming = variants(max([SEED, *(kill.seed + 1 for kill in record.kills)]), PROCESSES)

    def run(at: tuple[int, Variant]) -> None:
        seed, variant = at
        moments = record.lacking(variant.shape, KILLS) if KILLS else tuple(MOMENTS)
        if moments:
            whole = wholes.setdefault(variant, Whole(variant, make_job))
            record.add(Campaign(seed, variant, moments, whole, make_job).run())

    def enough() -> bool:
        if KILLS:
            return not any(record.lacking(shape, KILLS) for shape in SHAPES)
        return time.monotonic() - began >= 60 * minutes

    with ThreadPoolExecutor(len(PROCESSORS), initializer=take_one, initargs=(list(PROCESSORS),)) as pool:
        while True:
            for _ in pool.map(run, itertools.islice(coming, len(SHAPES))):
                pass
            with capsys.disabled():
                print(f"\n{record.table()}")
            if enough():
                break
    record_property("report", record.table())
    killed = [kill for kill in record.kills[before:] if kill.counts]
    assert KILLS or {kill.shape for kill in killed} == set(SHAPES)
    assert KILLS or {kill.moment for kill in killed if kill.how == "SIGKILL"} >= set(MOMENTS)

"""Real runs killed again and again, at moments that are aimed at, end as those that were not: bit for bit on a CPU.

Each run is killed once at each moment: in an update, in a selection, in the writing of a checkpoint and of outputs, in
the explanation and in the report; every fifth kill is by SIGTERM. A kill counts where a checkpoint was there and the
run had gone further than when it was killed before. within/sitecustomize.py says in the job when it is there.

`make test` kills one run of each shape. With SOAK_MINUTES=60 there are more, on other data, with other strategies and
in two processes, until an hour is over; with SOAK_KILLS=20 until each moment of each shape has had so many SIGKILLs.
SOAK_SEED is the first run's. SOAK_RECORD names a file that each kill is added to, and that earlier ones are read from.
"""

import dataclasses
import itertools
import json
import os
import random
import re
import shutil
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.functional.conftest import Job, write_table
from tests.kills import Running, lose_the_machine, newest, outcome
from tests.warm import FIRST

WITHIN = Path(__file__).parent / "within/sitecustomize.py"
SEED = int(os.environ.get("SOAK_SEED") or 0)
KILLS = int(os.environ.get("SOAK_KILLS") or 0)
EVERY_FIFTH = 5
EXIT_SECONDS = 30
"""What SIGTERM may take at any moment."""
PROCESSORS = sorted(os.sched_getaffinity(0))
COMMON: dict[str, Any] = {
    **{"precision": "float32", "device": "cpu", "num_workers": 0, "checkpoint_minutes": 1e-6},
    **{"epochs": 8, "batch_size": 16, "report": True, "explain": 2, "ema_decay": 0.9},
}
SHAPES: dict[str, list[dict[str, Any]]] = {
    "now and then": [
        {"strategy": "glister", "fraction": 0.3, "select_every": 2},
        {"strategy": "forgetting", "fraction": 0.4, "select_every": 2, "mislabelled": "drop"},
        {"strategy": "rs2", "fraction": 0.3, "balance": "class"},
        {"strategy": "craig", "fraction": 0.3, "select_every": 1},
    ],
    "own size": [{"strategy": "infobatch", "final_share": 0.2}],
    "within batches": [
        {"strategy": "loss-filter", "fraction": 0.3},
        {"strategy": "rho-loss", "fraction": 0.3, "validation_fraction": 0.3},
    ],
    "warm start": [
        {"strategy": "gradmatch-pb", "fraction": 0.4, "select_every": 1, "warm_fraction": 0.5},
        {"strategy": "glister", "fraction": 0.4, "select_every": 1, "warm_fraction": 0.4},
    ],
}
STAGES = {
    "training": (0,),
    "selection": (0,),
    "checkpoint": (0,),
    "outputs": (0, 1, 4),
    "explanation": (2,),
    "report": (3,),
}
"""Moment → the stages of a job in which it is aimed at; see within/sitecustomize.py."""
Jobs = Callable[[str], Job]


def images(job: Job) -> None:
    for channel, examples in (("training", 240), ("test", 60)):
        draw = np.random.default_rng(examples)
        labels = draw.integers(3, size=examples)
        pixels = draw.integers(180, size=(examples, 8, 8, 3)) + 12 * labels[:, None, None, None]
        np.savez(job.channel(channel) / "data.npz", x=pixels.astype(np.uint8), y=labels)


def tables(job: Job) -> None:
    write_table(job.channel("training") / "train.csv", 300)
    write_table(job.channel("test") / "test.csv", 60, seed=1)


def texts(job: Job) -> None:
    for channel, examples in (("training", 300), ("test", 60)):
        draw = random.Random(examples)
        lines = ["label,text"]
        for _ in range(examples):
            label = draw.randrange(3)
            words = [f"word{draw.randrange(40 * (draw.random() < 0.6) + 10 * label + 20)}" for _ in range(8)]
            lines.append(f"{label},{' '.join(words)}")
        (job.channel(channel) / "texts.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


KINDS: dict[str, tuple[Callable[[Job], None], dict[str, Any]]] = {
    "images": (images, {"model": "cnn", "augmentation": "flip-crop"}),
    "tables": (tables, {"model": "mlp"}),
    "texts": (texts, {"model": "ngrams"}),
}


@dataclass(frozen=True)
class Variant:
    """What is run."""

    shape: str
    number: int
    """Which of the shape's settings."""
    kind: str
    processes: int

    @property
    def values(self) -> dict[str, Any]:
        own = {"batch_size": COMMON["batch_size"] // self.processes, "processes_per_host": self.processes}
        return {**COMMON, **SHAPES[self.shape][self.number], **KINDS[self.kind][1], **own}

    def job(self, job: Job) -> Job:
        KINDS[self.kind][0](job)
        (job.base / "checkpoints").mkdir(parents=True)
        return job

    def halting(self, job: Job, **at: Any) -> Job:
        """The job, told where to halt."""
        several = self.processes > 1
        job.environment = {FIRST: str(WITHIN), "HALT": json.dumps({"several": several, "at": at})}
        return job


@dataclass(frozen=True)
class Kill:
    """A kill, by what the job left behind."""

    seed: int
    shape: str
    strategy: str
    kind: str
    processes: int
    how: str
    moment: str
    """``elsewhere``: it had gone on before it was killed."""
    where: str
    """The line at which it was, or which it had passed."""
    position: tuple[int, int, int]
    """Epoch and step of the newest checkpoint, and the stage after the last."""
    counts: bool
    seconds: float
    """Until it had ended."""


@dataclass
class Campaign:
    """One variant's run, killed once at each moment, and compared."""

    seed: int
    variant: Variant
    moments: tuple[str, ...]
    whole: "Whole"
    make_job: Jobs
    kills: list[Kill] = field(default_factory=list)

    def run(self) -> "Campaign":
        draw = random.Random(self.seed)
        job = self.variant.job(self.make_job(f"killed-{self.seed}/ml"))
        aims = [(draw.choice(STAGES[moment]), draw.random(), moment) for moment in self.moments]
        reached = (0, 0, 0)
        for stage, _, moment in sorted(aims):
            how = signal.SIGTERM if draw.randrange(EVERY_FIFTH) == 0 else signal.SIGKILL
            kill = self._kill(job, moment, stage, how, draw, reached)
            if kill is None:
                break
            reached = max(reached, kill.position)
            self.kills.append(kill)
            if draw.random() < 0.7:
                lose_the_machine(job)
        job.environment = {}
        job.run(self.variant.values)
        assert job.exit_code == 0, job.log
        assert not self.kills or "resuming from a checkpoint" in job.log, job.log
        found = result(job)
        different = [name for name, value in self.whole.result.items() if found[name] != value]
        assert not different, (
            f"{', '.join(different)} differ, seed {self.seed}: {self.kills}; {job.base}; {job.log}"
        )
        shutil.rmtree(job.base)
        return self

    def _kill(
        self, job: Job, moment: str, stage: int, how: int, draw: random.Random, reached: tuple[int, int, int]
    ) -> Kill | None:
        """None where it was done before."""
        several = self.variant.processes > 1
        one = several and how == signal.SIGKILL and draw.random() < 0.25
        self.variant.halting(
            job,
            moment=moment,
            stage=stage,
            checkpoints=int(stage == 0),
            calls=draw.randrange(3) if moment in ("training", "checkpoint", "outputs") and stage == 0 else 0,
            line=draw.randint(1, draw.choice(self.whole.lines[moment])),
            hold=how == signal.SIGKILL and not one and draw.random() < 0.7,
        )
        running = Running(job, self.variant.values)
        try:
            if not running.wait_for("soak: in "):
                running.end()
                assert job.exit_code == 0 and job.summary["status"] == "completed", job.log
                return None
            seen = len(running.lines)
            seconds = end(running, how, draw.randrange(self.variant.processes) if one else None)
        finally:
            running.process.kill()
        done = job.exit_code == 0 and (job.base / "output/data/summary.json").exists()
        if done and job.summary["status"] == "completed":
            return None
        self._check(job, how, one, seconds)
        at, where = re.search(r"soak: in .* at stage (\d), (\S+)", job.log).groups()  # type: ignore[union-attr]
        position = (*newest(job), int(at))
        # What is said after SIGTERM, or by a process that goes on, does not tell where the job was.
        said = job.log.splitlines() if how == signal.SIGKILL and not one else running.lines[:seen]
        there = any((job.base / "checkpoints").glob("checkpoint-*.pt"))
        return Kill(
            self.seed,
            self.variant.shape,
            str(self.variant.values["strategy"]),
            self.variant.kind,
            self.variant.processes,
            signal.Signals(how).name,
            "elsewhere" if any("soak: gone on" in line for line in said) else moment,
            where,
            position,
            there and position > reached,
            seconds,
        )

    def _check(self, job: Job, how: int, one: bool, seconds: float) -> None:
        """That it ended as it should."""
        assert "Traceback" not in job.log, job.log
        if one:
            assert job.exit_code == 2 and "was ended by SIGKILL" in str(job.failure), job.log
        elif how == signal.SIGKILL:
            assert job.exit_code == -signal.SIGKILL and job.failure is None, job.log
        else:
            assert seconds < EXIT_SECONDS and job.failure is None, job.log
            assert job.exit_code == 0 and job.summary["status"] == "stopped", job.log
            assert list((job.base / "checkpoints").glob("checkpoint-*.pt")), job.log


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
        job = self.variant.halting(self.variant.job(self.make_job(f"whole-{name}/ml")))
        job.run(self.variant.values)
        assert job.exit_code == 0, job.log
        return job

    @cached_property
    def result(self) -> dict[str, Any]:
        return result(self._job)

    @cached_property
    def lines(self) -> Mapping[str, list[int]]:
        """Moment → lines of the project's code in each call."""
        found: dict[str, list[int]] = {}
        for count, moment in re.findall(r"soak: (\d+) lines of (\w+)", self._job.log):
            found.setdefault(moment, []).append(int(count))
        return found


@dataclass(frozen=True)
class Record:
    """The kills so far, of this test and of earlier ones that wrote to the same file."""

    file: Path | None
    kills: list[Kill] = field(default_factory=list)

    @classmethod
    def of(cls, path: str | None) -> "Record":
        file = Path(path) if path else None
        lines = file.read_text(encoding="utf-8").splitlines() if file and file.exists() else []
        return cls(
            file,
            [Kill(**{**json.loads(line), "position": (*json.loads(line)["position"],)}) for line in lines],
        )

    def add(self, kills: list[Kill]) -> None:
        self.kills.extend(kills)
        if self.file:
            with self.file.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(dataclasses.asdict(kill)) + "\n" for kill in kills)

    def counted(self, **wanted: Any) -> int:
        return sum(
            kill.counts and all(getattr(kill, name) == value for name, value in wanted.items())
            for kill in self.kills
        )

    def lacking(self, shape: str, enough: int) -> tuple[str, ...]:
        return tuple(
            moment for moment in STAGES if self.counted(shape=shape, moment=moment, how="SIGKILL") < enough
        )

    def table(self) -> str:
        """Of the kills that count, by shape and moment, with those by SIGTERM behind a plus sign."""
        columns = (
            "shape",
            *STAGES,
            "elsewhere",
            "tables",
            "images",
            "texts",
            "1 process",
            "2 processes",
            "all",
        )
        rows = [f"| {' | '.join(columns)} |", f"| --- |{' ---: |' * (len(columns) - 1)}"]
        for shape in (*SHAPES, None):
            where: dict[str, Any] = {} if shape is None else {"shape": shape}
            cells = [{"moment": moment} for moment in (*STAGES, "elsewhere")]
            margins = [
                {"kind": "tables"},
                {"kind": "images"},
                {"kind": "texts"},
                {"processes": 1},
                {"processes": 2},
                {},
            ]
            counts = [
                f"{self.counted(**where, **cell, how='SIGKILL')} + {self.counted(**where, **cell, how='SIGTERM')}"
                for cell in (*cells, *margins)
            ]
            rows.append(f"| {shape or 'all'} | {' | '.join(counts)} |")
        exits = [kill.seconds for kill in self.kills if kill.how == "SIGTERM"] or [0.0]
        runs = len({kill.seed for kill in self.kills})
        return "\n".join(
            [
                f"{self.counted()} kills that count, of {len(self.kills)}, in {runs} runs that ended as if they had "
                f"not been killed; from SIGTERM to exit {statistics.median(exits):.2f} s in the median, "
                f"{max(exits):.2f} s at worst (SIGKILL + SIGTERM):",
                *rows,
            ]
        )


def variants(seed: int) -> Iterator[tuple[int, Variant]]:
    """A run of each shape, again and again, on other data, with other settings, every fifth in two processes."""
    for run in itertools.count():
        for place, (shape, settings) in enumerate(SHAPES.items()):
            processes = 1 + ((run + place) % 5 == 4)
            kind = [*KINDS][(run + place) % len(KINDS)]
            yield seed, Variant(shape, run % len(settings), kind, processes)
            seed += 1


def take_one(processors: list[int]) -> None:
    """For this thread, and what it starts."""
    os.sched_setaffinity(0, {processors.pop()})


@pytest.mark.timeout(0)
def test_runs_that_are_killed_end_as_those_that_are_not(
    make_job: Jobs, minutes: float, record_property: Callable[[str, object], None], capsys: Any
) -> None:
    began = time.monotonic()
    record = Record.of(os.environ.get("SOAK_RECORD"))
    wholes: dict[Variant, Whole] = {}
    coming = variants(max([SEED, *(kill.seed + 1 for kill in record.kills)]))
    enough = KILLS or (10**6 if minutes else 0)

    def run(at: tuple[int, Variant]) -> list[Kill]:
        seed, variant = at
        moments = record.lacking(variant.shape, enough) if enough else tuple(STAGES)
        if not moments:
            return []
        whole = wholes.setdefault(variant, Whole(variant, make_job))
        return Campaign(seed, variant, moments, whole, make_job).run().kills

    with ThreadPoolExecutor(len(PROCESSORS), initializer=take_one, initargs=(list(PROCESSORS),)) as pool:
        while True:
            for kills in pool.map(run, itertools.islice(coming, len(SHAPES))):
                record.add(kills)
            with capsys.disabled():
                print(f"\n{record.table()}")
            if not any(record.lacking(shape, enough) for shape in SHAPES):
                break
            if not KILLS and time.monotonic() - began >= 60 * minutes:
                break
    record_property("report", record.table())
    assert all(record.counted(shape=shape) >= 4 for shape in SHAPES), record.table()

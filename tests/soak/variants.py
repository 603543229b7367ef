"""What is killed: runs of each shape of selection, on small images, tables and texts, in one process and two."""

import itertools
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.functional.conftest import Job, write_table
from tests.warm import FIRST

WITHIN = Path(__file__).parent / "within/sitecustomize.py"
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


MOMENTS = {
    "training": (0,),
    "selection": (0,),
    "checkpoint": (0,),
    "outputs": (0, 1, 4),
    "explanation": (2,),
    "report": (3,),
}
"""Moment → the stages of a job in which it is aimed at; see within/sitecustomize.py."""
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
        job.cold = False  # what halts it runs in a fork
        (job.base / "checkpoints").mkdir(parents=True)
        return job


def halting(several: bool = False, **at: Any) -> dict[str, str]:
    """A job's environment in which it halts; see within/sitecustomize.py.

    several: whether it trains in several processes.
    """
    return {FIRST: str(WITHIN), "HALT": json.dumps({"several": several, "at": at})}


def variants(seed: int, processes: int = 0) -> Iterator[tuple[int, Variant]]:
    """A run of each shape, again and again, on other data, with other settings.

    processes: of each run; 0: one, and two in every fifth.
    """
    for run in itertools.count():
        for place, (shape, settings) in enumerate(SHAPES.items()):
            several = processes or 1 + ((run + place) % 5 == 4)
            kind = [*KINDS][(run + place) % len(KINDS)]
            yield seed, Variant(shape, run % len(settings), kind, several)
            seed += 1

"""Measures the first steps of a comparison's runs, with one thread and with all."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.grid import program
from deploy.grid.duration import Pace

WORTH_IT = 1.05
"""How many times faster all threads must be than one: what one thread computes is the same on every machine."""
GIVEN = "OMP_NUM_THREADS"
LARGE, SMALL = "resnet18", "cnn"
"""The default model for images, and the one for machines without a GPU."""


@dataclass(frozen=True)
class Measured:
    """The pace, and the threads that make it."""

    pace: Pace
    threads: int | None
    """None where the user, or a GPU, decides."""
    epochs: Mapping[int, float]
    """Number of threads → seconds of an epoch."""
    slow: str | None = None
    """The model, where nobody chose it and there is a smaller one for a machine without a GPU."""

    @property
    def hint(self) -> str | None:
        """A sentence on what would make the runs faster."""
        if self.slow is None:
            return None
        return f"{self.slow}, the default for images, is slow without a GPU; --set model={SMALL} trains a small network"

    def __str__(self) -> str:
        one, *others = sorted(self.epochs)
        if self.threads is None or not others:
            return ""
        most, speed = others[-1], self.epochs[one] / self.epochs[others[-1]]
        times = f"{max(speed, 1 / speed):.{0 if max(speed, 1 / speed) >= 10 else 1}f} times as fast as"
        said = f"{most} threads are {times} one" if speed >= 1 else f"one thread is {times} {most} threads"
        return f"{said}: runs use {self.threads} thread{'s' * (self.threads > 1)}"


def measure(
    folder: Path, channels: Mapping[str, Path], values: Mapping[str, Any], threads: int | None = None
) -> Measured | None:
    """Take a run's first steps; return None where the run itself will say why it cannot.

    Args:
        folder: where a folder for the measurement is made, and removed.
        channels: name → local folder or file.
        values: hyperparameters of a run on all of the data.
        threads: the number of threads, where several runs share the processors; None measures which is faster.
    """
    base = folder / ".pace"
    program.prepare(base, channels, values)
    began = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "subset_trainer.job.pace"],
            env=os.environ
            | {"SAGEMAKER_BASE_DIR": str(base.resolve())}
            | ({} if threads is None else {GIVEN: str(threads)}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    finally:
        shutil.rmtree(base, ignore_errors=True)
    if done.returncode != 0:
        return None
    found = json.loads(done.stdout.splitlines()[-1])
    epochs = {int(count): seconds for count, seconds in found["epoch"].items()}
    threads = threads or chosen(epochs)
    # What was not reading and not evaluating: the program's start, and two blocks of steps for each number of threads.
    boot = time.monotonic() - began - found["reading"] - found["evaluation"] - found["steps"]
    pace = Pace(max(0.0, boot), found["reading"], min(epochs.values()), found["evaluation"])
    given = GIVEN in os.environ or found["device"] != "cpu"
    by_default = values.get("model", "auto") == "auto" and found["model"] == LARGE
    slow = LARGE if by_default and found["device"] == "cpu" else None
    return Measured(pace, None if given else threads, epochs, slow)


def chosen(epochs: Mapping[int, float]) -> int:
    """Return the number of threads to use. epochs: number → seconds of an epoch."""
    least, most = min(epochs), max(epochs)
    return most if epochs[least] > WORTH_IT * epochs[most] else least

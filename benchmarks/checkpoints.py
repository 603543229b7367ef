"""What checkpoints cost: epochs with one, written beside training or in its way, next to epochs without.

    python benchmarks/checkpoints.py --json build/checkpoints.json

One training (``loop.train`` on synthetic data, strategy ``full``) takes turns epoch by epoch, so that whatever else the
machine does falls on all sides alike; each round of three epochs has them in an order of its own.

- **none**: no checkpoint is made before the epoch.
- **beside**: as in a job: one is made, and written while the epoch trains. Where the epoch is over first, the rest of
  the writing counts as the epoch's.
- **waiting**: training waits until it is on the disk.

An epoch has as many examples as take about ``--seconds``; its time is that from one report to the next, with the
evaluation of a few examples and the saving. What ``none`` spends on gathering a state is taken off. ``overhead`` is the
median over the rounds of beside ÷ none − 1, with its quartiles; ``overhead_waiting`` is the same figure for waiting.
``blocked_milliseconds`` is how long the loop is blocked by a checkpoint that is written beside it,
``waiting_milliseconds`` for one that is waited for, in the median; ``megabytes`` the size of its file.
"""

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import Parser, command, processor, write_text
from subset_selection.uniform import Full
from subset_trainer import models
from subset_trainer.config import Hyperparameters
from subset_trainer.config.resolved import as_trained
from subset_trainer.data import MemoryDataset
from subset_trainer.training import devices, loop
from subset_trainer.training.checkpoints import Checkpoints
from subset_trainer.training.devices import Machine
from subset_trainer.training.place import Place
from subset_trainer.training.plan import Plan
from subset_trainer.training.reports import EpochReport
from subset_trainer.training.rounds import Data, NativeSelector
from subset_trainer.training.trainee import Trainee

CLASSES, FEATURES, SIZE, VALIDATION = 10, 64, 32, 64
BATCH = {"resnet18": 16, "mlp": 128}
SIDES = ("none", "beside", "waiting")
TARGET = 0.02
NEVER = 1e9
"""Minutes until one is due within an epoch."""

Row = dict[str, Any]
"""One line of the table, as JSON."""


class TurnTaking(Checkpoints):
    """Makes some of the checkpoints it is asked for, and notes how long that took."""

    def __init__(self, directory: Path, sides: Sequence[str]) -> None:
        super().__init__(directory, {}, NEVER)
        self._sides = sides
        self._reported = 0.0
        self.reports: list[float] = []
        """When each epoch was over."""
        self.blocked: list[float] = []
        """Seconds that the loop then spent on its checkpoint."""

    def side(self, epoch: int) -> str:
        """Of an epoch, from 1; the first one and what is saved after the last count for nothing."""
        return self._sides[epoch - 2] if 2 <= epoch < len(self._sides) + 2 else "none"

    def report(self, report: EpochReport) -> None:
        if self._writing is not None and self.side(report.epoch.number) == "beside":
            self._writing.result()
        self._reported = time.perf_counter()
        self.reports.append(self._reported)

    def save(self, epoch: int, step: int, state: Mapping[str, Any], last: bool = False) -> None:
        side = self.side(epoch)
        if side != "none":
            super().save(epoch, step, state, last=side == "waiting")
        self.blocked.append(time.perf_counter() - self._reported)

    def seconds(self, side: str) -> list[float]:
        """Of its epochs, in their order; without what gathering a state takes where none is written."""
        return [
            self.reports[epoch - 1]
            - self.reports[epoch - 2]
            - (self.blocked[epoch - 2] if side == "none" else 0)
            for epoch in range(2, len(self._sides) + 2)
            if self.side(epoch) == side
        ]

    def milliseconds_blocked(self, side: str) -> float:
        spent = [seconds for epoch, seconds in enumerate(self.blocked, 2) if self.side(epoch) == side]
        return 1000 * statistics.median(spent)


def synthesise(model: str, examples: int) -> MemoryDataset:
    """Noise: the time of a step does not depend on what is in the examples."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(examples) % CLASSES
    if model == "mlp":
        return MemoryDataset(torch.randn(examples, FEATURES, generator=draw), labels)
    return MemoryDataset(
        torch.randint(256, (examples, 3, SIZE, SIZE), dtype=torch.uint8, generator=draw), labels
    )


def train(model: str, examples: int, epochs: int, machine: Machine, checkpoints: TurnTaking) -> None:
    torch.manual_seed(0)
    if model == "mlp":
        classifier = models.build(model, (FEATURES,), CLASSES)
    else:
        classifier = models.build(model, (3, SIZE, SIZE), CLASSES, (0.5,) * 3, (0.25,) * 3)
        classifier.place(machine.device, machine.memory_format((SIZE, SIZE)))
    given = Hyperparameters(strategy="full", epochs=epochs, batch_size=BATCH[model])
    hp = as_trained(given, "table" if model == "mlp" else "image", model)
    training, validation = synthesise(model, examples), synthesise(model, VALIDATION)
    data, plan, place = Data(training, validation), Plan.of(hp, examples), Place(machine)
    selector = NativeSelector(Full(), classifier, data, plan.budget, place)
    loop.train(
        Trainee(classifier, hp, plan, place),
        data,
        selector,
        plan,
        checkpoints.report,
        checkpoints=checkpoints,
    )


def examples_for(model: str, seconds: float, machine: Machine) -> int:
    """As many as an epoch of about that length has: grown until one lasts a good part of it."""
    examples = 8 * BATCH[model]
    while True:
        with tempfile.TemporaryDirectory() as folder:
            trial = TurnTaking(Path(folder), ["none"])
            train(model, examples, 2, machine, trial)
        lasted = trial.seconds("none")[0]
        scaled = max(examples, round(examples * seconds / lasted / BATCH[model]) * BATCH[model])
        if lasted > seconds / 4:
            return scaled
        examples = min(scaled, 8 * examples)


def measure(model: str, seconds: float, rounds: int, folder: Path, machine: Machine) -> Row:
    examples = examples_for(model, seconds, machine)
    draw = random.Random(0)  # noqa: S311 - an order of turns
    sides = [side for _ in range(rounds) for side in draw.sample(SIDES, len(SIDES))]
    with tempfile.TemporaryDirectory(dir=folder) as directory:
        checkpoints = TurnTaking(Path(directory), sides)
        train(model, examples, len(sides) + 1, machine, checkpoints)
        size = max(file.stat().st_size for file in Path(directory).glob("*.pt"))
    none, beside, waiting = (checkpoints.seconds(side) for side in SIDES)
    return {
        "device": machine.describe(),
        "model": model,
        "examples": examples,
        "rounds": rounds,
        "megabytes": size / 1e6,
        "epoch_seconds": statistics.median(none),
        "epoch_seconds_beside": statistics.median(beside),
        "epoch_seconds_waiting": statistics.median(waiting),
        **_overheads("overhead", beside, none),
        **_overheads("overhead_waiting", waiting, none),
        "blocked_milliseconds": checkpoints.milliseconds_blocked("beside"),
        "waiting_milliseconds": checkpoints.milliseconds_blocked("waiting"),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def _overheads(name: str, with_it: Sequence[float], without: Sequence[float]) -> Row:
    """Median and quartiles, over pairs of one round."""
    shares = [more / less - 1 for more, less in zip(with_it, without, strict=True)]
    low, median, high = statistics.quantiles(shares, n=4, method="inclusive")
    return {name: median, f"{name}_low": low, f"{name}_high": high}


COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("device", "device", ""),
    ("model", "model", ""),
    ("checkpoint, MB", "megabytes", ".1f"),
    ("epoch without, s", "epoch_seconds", ".3f"),
    ("written beside, s", "epoch_seconds_beside", ".3f"),
    ("overhead", "overhead", "+.1%"),
    ("lower quartile", "overhead_low", "+.1%"),
    ("upper quartile", "overhead_high", "+.1%"),
    ("training stands still, ms", "blocked_milliseconds", ".1f"),
    ("waited for, s", "epoch_seconds_waiting", ".3f"),
    ("overhead of waiting", "overhead_waiting", "+.1%"),
    ("stands still, ms", "waiting_milliseconds", ".1f"),
)
"""Heading, key of the row, format."""


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    rule = ["---" if not form else "---:" for *_, form in COLUMNS]
    cells = [[format(row[key], form) for _, key, form in COLUMNS] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in ([name for name, *_ in COLUMNS], rule, *cells))


def verdict(row: Row) -> str:
    met = "met" if row["overhead"] < TARGET else "NOT met"
    return f"{row['model']}: overhead {row['overhead']:.1%} < {TARGET:.0%}: {met}"


def parser() -> argparse.ArgumentParser:
    line = Parser(description=__doc__)
    line.add_argument("--models", default="resnet18,mlp", help=f"of {', '.join(BATCH)}")
    line.add_argument("--seconds", type=float, default=1.2, help="of an epoch (%(default)s)")
    line.add_argument("--rounds", type=int, default=30, help="of three epochs (%(default)s), at least 2")
    line.add_argument(
        "--folder", type=Path, help="where checkpoints are written (the system's for such files)"
    )
    line.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    line.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    return line


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 1 for options that cannot be served."""
    options = parser().parse_args(arguments)
    names = options.models.split(",")
    if not set(names) <= BATCH.keys() or options.rounds < 2 or options.seconds <= 0:
        parser().error(f"expected --models of {', '.join(BATCH)}, --rounds from 2, --seconds above 0")
    machine = devices.prepare(options.device, "auto", images="mlp" not in names)
    folder = options.folder or Path(tempfile.gettempdir())
    print(
        f"{machine.describe()}, {processor()}, {torch.get_num_threads()} threads, load average "
        f"{os.getloadavg()[0]:.1f}, Python {platform.python_version()}, torch {torch.__version__}; "
        f"{options.rounds} rounds of three epochs, checkpoints in {folder}",
        flush=True,
    )
    rows = []
    for name in names:
        machine = devices.prepare(options.device, "auto", images=name != "mlp")
        rows.append(measure(name, options.seconds, options.rounds, folder, machine))
        print(verdict(rows[-1]), flush=True)
    print(f"\n{table(rows)}\n")
    if options.json:
        write_text(options.json, json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

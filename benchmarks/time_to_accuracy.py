"""How long until 70, 75 and 80% of the test images are right? The old recipe, the new one, and the public one.

    python -m benchmarks.time_to_accuracy --training DIR --test DIR --out DIR --json FILE

A recipe that anneals its learning rate has an accuracy at its end alone, so each point is a whole run: of the recipe's
`--epochs` passes over all data. The seconds to a level are those of the shortest whole run whose mean test accuracy
over seeds reaches it, between it and the next shorter one interpolated linearly.

`old` and `new` are runs of the image's own `train`, of the network `cnn`; `airbench` and `airbench-cnn` of
`benchmarks.airbench`, with the paper's network and with `cnn`. Sides take turns, the first of them another each time;
one thread each. Seconds are those of training, without reading and evaluation. The processor's are of the whole
process, start, reading and evaluation included: to read where other programs disturb the clock. A finished run is not
made again, so that the same command resumes.
"""

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import scenarios, study
from benchmarks.common import Parser, processor, resumable, write_text
from benchmarks.recipe import SHARED, add_recipes, recipes, spoken
from benchmarks.scenarios import Scenario
from deploy.grid.here import Here
from deploy.grid.plan import Cell
from subset_trainer.errors import AlgorithmError

ROOT = Path(__file__).resolve().parents[1]
LEVELS = (0.70, 0.75, 0.80)
EPOCHS = (1, 2, 3, 4, 6, 9, 13)
PEERS = {"airbench": "airbench", "airbench-cnn": "cnn"}
"""Side → network."""
SIDES = {
    "old": "`cnn`, old recipe",
    "new": "`cnn`, new recipe",
    "airbench-cnn": "`cnn`, airbench's techniques",
    "airbench": "airbench's network at a quarter of its channels, its techniques",
}


@dataclass(frozen=True)
class Whole:
    """A whole run: its accuracy is a share 0…1, its seconds those of training and the processor's of the process."""

    side: str
    epochs: int
    seed: int
    test_accuracy: float
    seconds: float
    processor_seconds: float


Measure = Callable[[Whole], float]
CLOCKS: dict[str, Measure] = {
    "seconds of training": lambda run: run.seconds,
    "processor's seconds of the process": lambda run: run.processor_seconds,
}


@dataclass(frozen=True)
class Bench:
    """Where the runs are, and what they are given."""

    out: Path
    channels: Mapping[str, Path]
    recipes: Mapping[str, Mapping[str, str]]
    batch: int
    threads: int

    def run(self, side: str, epochs: int, seed: int) -> Whole:
        """A whole run, unless it is there."""
        made = self._peer if side in PEERS else self._own
        return made(side, epochs, seed)

    def _own(self, side: str, epochs: int, seed: int) -> Whole:
        values = {**SHARED, **self.recipes[side], "model": "cnn", "strategy": "full"}
        values |= {"epochs": str(epochs), "seed": str(seed)}
        cell = Cell(f"{side}-{epochs}-seed-{seed}", side, 1.0, seed, values)
        outcome = study.run([cell], Here(self.out / "runs", self.channels, threads=self.threads), "whole run")
        if cell in outcome.failures:
            raise AlgorithmError(f"{cell.name}: {outcome.failures[cell]}")
        made = outcome.runs[cell]
        assert made.processor_seconds is not None
        seconds = made.summary["seconds"]["training"]
        return Whole(side, epochs, seed, made.summary["test"]["accuracy"], seconds, made.processor_seconds)

    def _peer(self, side: str, epochs: int, seed: int) -> Whole:
        file = self.out / "peers" / f"{side}-{epochs}-batch-{self.batch}-seed-{seed}.json"
        if not file.exists():
            made = file.with_suffix(".unfinished")
            options = {"channels": self.channels["training"].parent, "network": PEERS[side], "epochs": epochs}
            options |= {"batch": self.batch, "seed": seed, "threads": self.threads, "out": made}
            given = [text for name, value in options.items() for text in (f"--{name}", str(value))]
            used = _of_children()
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.airbench", *given], cwd=ROOT, check=False
            )
            if done.returncode != 0:
                raise AlgorithmError(f"{file.stem} ended with {done.returncode}")
            found = json.loads(made.read_text()) | {"processor_seconds": _of_children() - used}
            write_text(file, json.dumps(found) + "\n")
            made.unlink()
            print(f"{file.stem}: test accuracy {found['test_accuracy']:.2%}", flush=True)
        found = json.loads(file.read_text())
        numbers = (found["test_accuracy"], found["seconds"], found["processor_seconds"])
        return Whole(side, epochs, seed, *numbers)


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def order(sides: Sequence[str], epochs: Sequence[int], seeds: Sequence[int]) -> list[tuple[str, int, int]]:
    """Side, epochs and seed of each run: all of one seed, then of the next; each time another side begins."""
    turns = [(seed, count) for seed in seeds for count in epochs]
    return [
        (side, count, seed)
        for turn, (seed, count) in enumerate(turns)
        for side in (*sides[turn % len(sides) :], *sides[: turn % len(sides)])
    ]


def reached(runs: Sequence[Whole], level: float, measure: Measure) -> tuple[float, bool] | None:
    """When one side's runs reach a level, and whether that is exact: where the shortest run reaches it, it is at most
    so; None where none does."""
    points = []
    for epochs in sorted({run.epochs for run in runs}):
        own = [run for run in runs if run.epochs == epochs]
        points.append((mean(map(measure, own)), mean(run.test_accuracy for run in own)))
    for place, (seconds, accuracy) in enumerate(points):
        if accuracy >= level:
            if place == 0:
                return seconds, False
            before, below = points[place - 1]
            return before + (seconds - before) * (level - below) / (accuracy - below), True
    return None


def levels_table(runs: Sequence[Whole], levels: Sequence[float], measure: Measure) -> str:
    """A line for each side: when it reaches each level, and as a share of the first side's."""
    sides = list(dict.fromkeys(run.side for run in sorted(runs, key=lambda run: list(SIDES).index(run.side))))
    lines = [
        "| | " + " | ".join(f"{level:.0%}" for level in levels) + " |",
        "| --- |" + " ---: |" * len(levels),
    ]
    found = {
        side: [reached([run for run in runs if run.side == side], level, measure) for level in levels]
        for side in sides
    }
    for side in sides:
        cells = []
        for own, first in zip(found[side], found[sides[0]], strict=True):
            if own is None:
                cells.append("not reached")
                continue
            text = f"{'' if own[1] else '≤ '}{own[0]:.1f}"
            both_exact = own[1] and first is not None and first[1]
            ratio = f" ({own[0] / first[0]:.2f}×)" if side != sides[0] and both_exact and first else ""
            cells.append(text + ratio)
        lines.append(f"| {SIDES[side]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def runs_table(runs: Sequence[Whole]) -> str:
    """A line for each number of passes: test accuracy and both clocks of every side."""
    sides = [side for side in SIDES if any(run.side == side for run in runs)]
    lines = [
        "| passes | " + " | ".join(map(SIDES.__getitem__, sides)) + " |",
        "| ---: |" + " ---: |" * len(sides),
    ]
    for epochs in sorted({run.epochs for run in runs}):
        cells = []
        for side in sides:
            own = [run for run in runs if (run.side, run.epochs) == (side, epochs)]
            accuracies = [100 * run.test_accuracy for run in own]
            spread = f" ± {stdev(accuracies):.1f}" if len(own) > 1 else ""
            clocks = ", ".join(f"{mean(map(measure, own)):.1f}" for measure in CLOCKS.values()) if own else ""
            cells.append(f"{mean(accuracies):.1f}{spread} ({clocks})" if own else "")
        lines.append(f"| {epochs} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def document(runs: Sequence[Whole], levels: Sequence[float], header: str) -> str:
    """The tables, under what the runs have in common."""
    parts = [header]
    for title, measure in CLOCKS.items():
        parts.append(
            f"**{title.capitalize()}** to a mean test accuracy:\n\n{levels_table(runs, levels, measure)}"
        )
    parts.append(
        "Whole runs: test accuracy in percent, mean ± sample deviation over seeds (seconds of training, the "
        f"processor's seconds of the process):\n\n{runs_table(runs)}"
    )
    return "\n\n".join(parts) + "\n"


@resumable
def main(arguments: Sequence[str] | None = None) -> int:
    """Make the runs, print the tables, and write the file."""
    options = _parser().parse_args(arguments)
    given = {name: getattr(options, name) for name in ("training", "validation", "test")}
    sources: dict[str, Path] = {name: path for name, path in given.items() if path is not None}
    folder = options.out / "clean"
    channels = scenarios.prepare(folder / "channels", sources, Scenario(per_class=options.per_class))
    bench = Bench(folder, channels, recipes(options), options.batch, options.threads)
    runs = [bench.run(*each) for each in order(options.sides, options.epochs, options.seeds)]
    description = scenarios.read_description(folder / "channels")
    assert description is not None
    examples = ", ".join(f"{count:,} {name}" for name, count in description["examples"].items())
    header = (
        f"{options.title or options.training}: {examples} examples; seeds {', '.join(map(str, options.seeds))}; "
        f"{options.threads} thread(s), {processor()}; airbench's techniques in batches of {options.batch}; "
        + "; ".join(f"{name} recipe: {spoken(own)}" for name, own in recipes(options).items())
        + "."
    )
    print(document(runs, options.levels, header))
    if options.json:
        content: dict[str, Any] = {"header": header, "recipes": recipes(options)}
        content["seconds_to"] = _found(runs, options.levels)
        content["runs"] = [asdict(run) for run in runs]
        write_text(options.json, json.dumps(content, indent=1) + "\n")
    return 0


def _found(runs: Sequence[Whole], levels: Sequence[float]) -> list[dict[str, Any]]:
    found = []
    for side in dict.fromkeys(run.side for run in runs):
        own = [run for run in runs if run.side == side]
        for level in levels:
            for clock, measure in CLOCKS.items():
                if (at := reached(own, level, measure)) is not None:
                    row = {
                        "side": side,
                        "test_accuracy": level,
                        "clock": clock,
                        "seconds": at[0],
                        "exact": at[1],
                    }
                    found.append(row)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = Parser("python -m benchmarks.time_to_accuracy", __doc__)
    add = parser.add_argument
    for name in ("training", "validation", "test"):
        add(
            f"--{name}",
            type=Path,
            required=name != "validation",
            metavar="PATH",
            help="images, as the trainer reads",
        )
    add(
        "--sides",
        nargs="+",
        choices=SIDES,
        default=list(SIDES),
        metavar="SIDE",
        help=f"of {', '.join(SIDES)}",
    )
    add_recipes(parser)
    lists: dict[str, tuple[type, tuple[float, ...]]] = {"epochs": (int, EPOCHS), "seeds": (int, (0, 1, 2))}
    for name, (kind, default) in (lists | {"levels": (float, LEVELS)}).items():
        shown = ",".join(f"{value:g}" for value in default)
        add(f"--{name}", type=study.numbers(kind), default=default, metavar="LIST", help=f"default: {shown}")
    add("--per-class", type=int, metavar="N", help="draw so many of each class of the training data")
    add(
        "--batch",
        type=int,
        default=128,
        metavar="N",
        help="examples of a step of airbench's techniques (default: 128)",
    )
    add("--threads", type=int, default=1)
    add("--title", help="what to call the data")
    add("--out", type=Path, default=Path("build/time-to-accuracy"), metavar="DIR")
    add("--json", type=Path, metavar="FILE", help="write the runs there")
    return parser


if __name__ == "__main__":
    sys.exit(main())

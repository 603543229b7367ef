"""Consolidation of simulated crowds: Dawid and Skene's model beside the majority, and how far its confidence is true.

    python -m benchmarks.crowds [--items 300] [--seeds 20] [--json FILE]

Each crowd is of five workers who answer every item, of three classes. Of an honest worker a share of the answers is
right on purpose and the others are anything, so that of three classes a third of those are right as well. An adversary
gives the next class for the right one in 95% of its answers.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.common import Parser, command, write_text
from deploy import text
from deploy.labels import consolidation
from deploy.labels.ground_truth import Answer, Item, Label
from subset_trainer.errors import UserError

CLASSES = ("a", "b", "c")
WORKERS = 5
CROWDS = ((0.9, 0), (0.7, 0), (0.9, 1), (0.7, 1), (0.5, 1))
"""The share of answers that honest workers give on purpose, and how many of the five are adversaries."""


@dataclass(frozen=True)
class Row:
    """One method on one kind of crowd, over the seeds. Shares 0..1."""

    honest: float
    """Of an honest worker's answers those that are right."""
    adversaries: int
    method: str
    accuracy: float
    deviation: float
    """Of the accuracy, over the seeds."""
    confidence: float
    """The mean of what the labels carry."""


def crowd(
    seed: int, purpose: float = 0.7, adversaries: int = 1, count: int = 300
) -> tuple[list[Item], list[str]]:
    """The items with their answers, and their true classes; the last workers are the adversaries."""
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, len(CLASSES), count)
    votes = []
    for worker in range(WORKERS):
        hostile = worker >= WORKERS - adversaries
        said = (truth + 1) % len(CLASSES) if hostile else truth
        meant = draw.random(count) < (0.95 if hostile else purpose)
        votes.append(np.where(meant, said, draw.integers(0, len(CLASSES), count)))
    items = [
        Item(
            {"source": str(number)},
            tuple(Answer(f"w{worker}", CLASSES[own[number]]) for worker, own in enumerate(votes)),
        )
        for number in range(count)
    ]
    return items, [CLASSES[index] for index in truth]


def accuracy(labels: Sequence[Label | None], truth: Sequence[str]) -> float:
    """The share of labels that are right."""
    pairs = zip(labels, truth, strict=True)
    return float(np.mean([label is not None and label.name == name for label, name in pairs]))


def measure(purpose: float, adversaries: int, count: int, seeds: int) -> list[Row]:
    """Both methods on the same crowds."""
    found: dict[str, list[tuple[float, float]]] = {method: [] for method in consolidation.METHODS}
    for seed in range(seeds):
        items, truth = crowd(seed, purpose, adversaries, count)
        for method, results in found.items():
            labels, _ = consolidation.consolidate(items, CLASSES, method)
            results.append(
                (accuracy(labels, truth), float(np.mean([label.confidence for label in labels if label])))
            )
    return [
        Row(
            purpose + (1 - purpose) / len(CLASSES),
            adversaries,
            method,
            float(np.mean([right for right, _ in results])),
            float(np.std([right for right, _ in results], ddof=1)),
            float(np.mean([confidence for _, confidence in results])),
        )
        for method, results in found.items()
    ]


def table(rows: Sequence[Row]) -> str:
    """For a terminal."""
    return text.table(
        [["honest workers are right", "adversaries of 5", "method", "labels right", "mean confidence"]],
        [
            [
                f"{row.honest:.0%}",
                str(row.adversaries),
                row.method,
                f"{row.accuracy:.1%} ± {row.deviation:.1%}",
                f"{row.confidence:.3f}",
            ]
            for row in rows
        ],
        left=(2,),
    )


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return the exit code."""
    # crowd-kit's, about what pandas 4 will not have.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    given = _parser().parse_args(arguments)
    if given.items < 1 or given.seeds < 2:
        raise UserError("expected --items of at least 1 and --seeds of at least 2")
    rows = [
        row
        for purpose, adversaries in CROWDS
        for row in measure(purpose, adversaries, given.items, given.seeds)
    ]
    print(table(rows))
    if given.json is not None:
        write_text(given.json, json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__)
    parser.add_argument("--items", type=int, default=300, help="of each crowd")
    parser.add_argument("--seeds", type=int, default=20, help="crowds of each kind")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also the rows as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())

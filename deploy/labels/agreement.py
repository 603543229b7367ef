"""Measures how far workers agree: overall, by class and by worker, and on which items and classes they disagree.

Agreement is the share of pairs of answers to the same item that are equal. For a class it is the specific agreement:
the probability that the second answer of a pair is the class, given that the first one is. Krippendorff's alpha
corrects the agreement for chance: 1 is perfect agreement, 0 is chance. Krippendorff recommends at least 0.8, and at
least 0.667 for tentative conclusions.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from deploy.labels import consolidation
from deploy.labels.ground_truth import Item, Label


@dataclass(frozen=True)
class OfClass:
    """One class. `labels`: items whose consolidated label it is. `agreement`: None if it is in no pair of answers."""

    name: str
    answers: int
    labels: int
    agreement: float | None


@dataclass(frozen=True)
class OfWorker:
    """One worker. Shares of the worker's answers that agree.

    `agreement`: with other answers to the same items, None if there are none. `consolidated`: with the consolidated
    labels.
    """

    worker: str
    answers: int
    agreement: float | None
    consolidated: float


@dataclass(frozen=True)
class Disputed:
    """An item with different answers."""

    item: int
    source: str
    label: str
    confidence: float
    answers: dict[str, int]
    """Class → number of answers, most frequent first."""


@dataclass(frozen=True)
class Confused:
    """Two classes that were given to the same items.

    `pairs`: number of pairs of answers with these two classes. `share`: their share of all pairs that disagree.
    """

    classes: tuple[str, str]
    pairs: int
    share: float


@dataclass(frozen=True)
class Audit:
    """The whole result. `answered`: items with an answer. `method`: of consolidation."""

    items: int
    answered: int
    answers: int
    workers: int
    method: str
    agreement: float | None
    """Share of pairs of answers that agree; None if no item has two answers."""
    alpha: float | None
    """Krippendorff's alpha; None if no item has two answers."""
    by_class: list[OfClass]
    """In the order of the classes."""
    by_worker: list[OfWorker]
    """Least agreement with the consolidated labels first."""
    disputed: list[Disputed]
    """Most evenly split first."""
    confused: list[Confused]
    """Most frequent first."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def audit(items: Sequence[Item], classes: Sequence[str], method: str, most: int) -> Audit:
    """Measure the agreement between the workers' answers.

    Args:
        items: all answers must be among the classes, and there must be at least one answer.
        classes: names of the classes.
        method: method of consolidation.
        most: largest number of disputed items to list.
    """
    labels, _ = consolidation.consolidate(items, classes, method)
    index = {name: number for number, name in enumerate(classes)}
    pairs = np.zeros((len(classes), len(classes)), np.int64)
    """[C, C]: number of pairs of answers with these two classes; each pair is counted in both orders."""
    of_workers = {answer.worker: _Record() for item in items for answer in item.answers}
    for item, label in zip(items, labels, strict=True):
        for answer in item.answers:
            record = of_workers[answer.worker]
            record.answers += 1
            record.consolidated += label is not None and answer.label == label.name
        counts = Counter(answer.label for answer in item.answers)
        for name, count in counts.items():
            for other, others in counts.items():
                pairs[index[name], index[other]] += count * (others - (name == other))
        for answer in item.answers:
            of_workers[answer.worker].pairs += len(item.answers) - 1
            of_workers[answer.worker].agreeing += counts[answer.label] - 1
    total, agreeing = int(pairs.sum()), int(np.trace(pairs))
    said = Counter(answer.label for item in items for answer in item.answers)
    given = Counter(label.name for label in labels if label is not None)
    return Audit(
        items=len(items),
        answered=sum(label is not None for label in labels),
        answers=sum(said.values()),
        workers=len(of_workers),
        method=method,
        agreement=agreeing / total if total else None,
        alpha=_alpha(items, classes) if total else None,
        by_class=[
            OfClass(name, said[name], given[name], _share(int(pairs[n, n]), int(pairs[n].sum())))
            for n, name in enumerate(classes)
        ],
        by_worker=sorted(
            (
                OfWorker(worker, of.answers, _share(of.agreeing, of.pairs), of.consolidated / of.answers)
                for worker, of in of_workers.items()
            ),
            key=lambda one: (one.consolidated, one.worker),
        ),
        disputed=_disputed(items, labels)[:most],
        confused=_confused(pairs, classes),
    )


@dataclass
class _Record:
    """Counts of one worker's answers, and of the pairs that they form with other answers."""

    answers: int = 0
    consolidated: int = 0
    pairs: int = 0
    agreeing: int = 0


def _alpha(items: Sequence[Item], classes: Sequence[str]) -> float:
    from crowdkit.metrics.data import alpha_krippendorff

    return float(alpha_krippendorff(consolidation.frame(items, classes)))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _disputed(items: Sequence[Item], labels: Sequence[Label | None]) -> list[Disputed]:
    found = []
    for number, (item, label) in enumerate(zip(items, labels, strict=True)):
        counts = Counter(answer.label for answer in item.answers)
        if label is not None and len(counts) > 1:
            ordered = dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))
            found.append(Disputed(number, item.source, label.name, round(label.confidence, 4), ordered))
    return sorted(found, key=lambda one: (_majority(one), one.confidence, one.item))


def _majority(one: Disputed) -> float:
    # Dawid and Skene's probabilities alone would not order the items: almost all of them are near 1.
    return max(one.answers.values()) / sum(one.answers.values())


def _confused(pairs: np.ndarray, classes: Sequence[str]) -> list[Confused]:
    disagreeing = int(pairs.sum() - np.trace(pairs)) // 2
    found = [
        Confused((classes[one], classes[other]), int(pairs[one, other]), int(pairs[one, other]) / disagreeing)
        for one, other in combinations(range(len(classes)), 2)
        if pairs[one, other]
    ]
    return sorted(found, key=lambda one: (-one.pairs, one.classes))

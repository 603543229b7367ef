"""How far those who labelled agree: over all, class by class, worker by worker, and where they do not.

Agreement is counted in pairs of answers to one item. Of a class it is how often the second of a pair says it where the
first does (specific agreement). Krippendorff's alpha corrects it for what chance would give: 1 is perfect, 0 is chance;
he asks for 0.8, and for 0.667 where conclusions are tentative.
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
    """`labels`: items that consolidation gives it; `agreement` is None where no item has two answers."""

    name: str
    answers: int
    labels: int
    agreement: float | None


@dataclass(frozen=True)
class OfWorker:
    """`agreement`: with the other answers to the same items, `consolidated`: with the labels that came of all."""

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
    """Class → how many said it, most first."""


@dataclass(frozen=True)
class Confused:
    """Two classes given to one item, in pairs of answers. `share`: of all pairs that disagree."""

    classes: tuple[str, str]
    pairs: int
    share: float


@dataclass(frozen=True)
class Audit:
    """All of it."""

    items: int
    answered: int
    answers: int
    workers: int
    method: str
    agreement: float | None
    """The share of pairs of answers that agree; None where no item has two answers, as for alpha."""
    alpha: float | None
    by_class: list[OfClass]
    """In the classes' order."""
    by_worker: list[OfWorker]
    """Those who agree least with the consolidated labels first."""
    disputed: list[Disputed]
    """The most evenly split first."""
    confused: list[Confused]
    """The most frequent first."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def audit(items: Sequence[Item], classes: Sequence[str], method: str, most: int) -> Audit:
    """Count. `method`: of consolidation; `most`: how many disputed items to list.

    The answers are among the classes, and there is one at least.
    """
    labels, _ = consolidation.consolidate(items, classes, method)
    index = {name: number for number, name in enumerate(classes)}
    pairs = np.zeros((len(classes), len(classes)), np.int64)
    """How often a pair of answers was of these classes; each pair is counted both ways."""
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
    """Of one worker."""

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
    # Dawid and Skene's probabilities alone order little: they are near 1 for all but a few.
    return max(one.answers.values()) / sum(one.answers.values())


def _confused(pairs: np.ndarray, classes: Sequence[str]) -> list[Confused]:
    disagreeing = int(pairs.sum() - np.trace(pairs)) // 2
    found = [
        Confused((classes[one], classes[other]), int(pairs[one, other]), int(pairs[one, other]) / disagreeing)
        for one, other in combinations(range(len(classes)), 2)
        if pairs[one, other]
    ]
    return sorted(found, key=lambda one: (-one.pairs, one.classes))

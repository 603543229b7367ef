"""Consolidates several workers' answers to an item into one label with a confidence, using crowd-kit.

`majority`: the class with the most answers; the confidence is their share. `dawid-skene`: weights a worker's answers by
the worker's confusion matrix, which expectation-maximisation estimates together with the labels (Dawid & Skene, Applied
Statistics 28, 1979); the confidence is the label's posterior probability. Ground Truth's own consolidation of classes
is of this kind.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from deploy.labels.ground_truth import Item, Label

if TYPE_CHECKING:
    import pandas as pd

METHODS = ("dawid-skene", "majority")
ITERATIONS = 100
"""Upper limit. crowd-kit stops when the likelihood no longer grows, usually after a few iterations."""
EQUAL = 1e-6
"""Probabilities whose difference is at most this are a tie."""


def frame(items: Sequence[Item], classes: Sequence[str]) -> "pd.DataFrame":
    """Return the answers in crowd-kit's form: columns `task` (index of the item), `worker`, `label` (class index)."""
    import pandas as pd

    index = {name: number for number, name in enumerate(classes)}
    rows = [
        (number, answer.worker, index[answer.label])
        for number, item in enumerate(items)
        for answer in item.answers
    ]
    return pd.DataFrame(rows, columns=["task", "worker", "label"])


def probabilities(items: Sequence[Item], classes: Sequence[str], method: str) -> np.ndarray:
    """Return [N, C]: the probability of each class for each item; NaN for items without an answer.

    Args:
        items: N items; all answers must be among the classes, and there must be at least one answer.
        classes: C names.
        method: one of METHODS.
    """
    # Imported here because it takes two seconds.
    from crowdkit.aggregation import DawidSkene, MajorityVote

    answers = frame(items, classes)
    aggregator = MajorityVote() if method == "majority" else DawidSkene(n_iter=ITERATIONS)
    found = aggregator.fit(answers).probas_
    assert found is not None
    every = found.reindex(index=range(len(items)), columns=range(len(classes)))
    given = every.index.isin(found.index)
    values = every.to_numpy(np.float64, copy=True)
    values[given] = np.nan_to_num(values[given])
    # crowd-kit keeps probabilities above 1e-10, so a row's sum can be slightly above 1.
    return np.clip(values / values.sum(axis=1, keepdims=True), 0.0, 1.0)


def consolidate(
    items: Sequence[Item], classes: Sequence[str], method: str
) -> tuple[list[Label | None], list[int]]:
    """Return a label for each item (None without an answer), and the indices of items with a tie.

    A tie gets the first of its classes. A label from a single answer has confidence 0, as in Ground Truth's output,
    unless Dawid and Skene's model has estimated the worker from items that other workers answered too.
    """
    probable = probabilities(items, classes, method)
    met = {answer.worker for item in items if len(item.answers) > 1 for answer in item.answers}
    labels: list[Label | None] = []
    ties = []
    for number, (item, row) in enumerate(zip(items, probable, strict=True)):
        if not item.answers:
            labels.append(None)
            continue
        best = float(row.max())
        first = int(np.argmax(row >= best - EQUAL))
        known = len(item.answers) > 1 or (method != "majority" and item.answers[0].worker in met)
        labels.append(Label(first, classes[first], float(row[first]) if known else 0.0))
        if int((row >= best - EQUAL).sum()) > 1:
            ties.append(number)
    return labels, ties

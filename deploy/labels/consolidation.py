"""Several workers' answers to an item become one label with a confidence, by crowd-kit.

`majority`: the class with most answers; its confidence is their share. `dawid-skene`: a worker's answers count by the
worker's own confusion matrix, which expectation-maximisation estimates together with the labels (Dawid & Skene, Applied
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
"""At most; crowd-kit stops where the likelihood does not grow any more, mostly after a few."""
EQUAL = 1e-6
"""Two probabilities whose difference is below are a tie."""


def frame(items: Sequence[Item], classes: Sequence[str]) -> "pd.DataFrame":
    """The answers as crowd-kit takes them: `task` (the item's number), `worker`, `label` (the class's index)."""
    import pandas as pd

    index = {name: number for number, name in enumerate(classes)}
    rows = [
        (number, answer.worker, index[answer.label])
        for number, item in enumerate(items)
        for answer in item.answers
    ]
    return pd.DataFrame(rows, columns=["task", "worker", "label"])


def probabilities(items: Sequence[Item], classes: Sequence[str], method: str) -> np.ndarray:
    """[N, C]: how probable each class is of each item; NaN for items without an answer.

    Args:
        items: N of them; their answers are among the classes, and there is one at least.
        classes: C names.
        method: one of METHODS.
    """
    # Its import takes two seconds.
    from crowdkit.aggregation import DawidSkene, MajorityVote

    answers = frame(items, classes)
    aggregator = MajorityVote() if method == "majority" else DawidSkene(n_iter=ITERATIONS)
    found = aggregator.fit(answers).probas_
    assert found is not None
    every = found.reindex(index=range(len(items)), columns=range(len(classes)))
    given = every.index.isin(found.index)
    values = every.to_numpy(np.float64, copy=True)
    values[given] = np.nan_to_num(values[given])
    # crowd-kit keeps probabilities above 1e-10, and so a row's sum a little above 1.
    return np.clip(values / values.sum(axis=1, keepdims=True), 0.0, 1.0)


def consolidate(
    items: Sequence[Item], classes: Sequence[str], method: str
) -> tuple[list[Label | None], list[int]]:
    """A label for each item, None for those without an answer; and which items are ties.

    A tie gets the first of its classes. What has one answer alone has confidence 0, as Ground Truth writes it, unless
    Dawid and Skene's model knows the worker from items that others answered as well.
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

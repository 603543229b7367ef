"""What runs predicted for each test example, and what the choice of the test examples does to a comparison."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from subset_trainer.errors import UserError

FILE = "test_predictions.npz"


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions of one run for N test examples, in the order of the test set."""

    labels: np.ndarray
    """[N] int, the position of the label among the classes."""
    predicted: np.ndarray
    """[N] int."""
    scores: np.ndarray
    """[N] float: the score of the second of two classes; [0] for other numbers of classes."""

    def contributions(self, metric: str) -> np.ndarray:
        """Return [N] what each example contributes to a measure: their mean is the measure, and the deviation of the
        mean is that of the measure, to first order (its influence function).

        Raises KeyError for a measure that is none of the trainer's.
        """
        return {
            "accuracy": self._accuracy,
            "balanced_accuracy": self._balanced_accuracy,
            "macro_f1": self._macro_f1,
            "auc": self._auc,
        }[metric]()

    def _accuracy(self) -> np.ndarray:
        return (self.labels == self.predicted).astype(float)

    def _balanced_accuracy(self) -> np.ndarray:
        present, place = np.unique(self.labels, return_inverse=True)
        right, sizes = self._accuracy(), np.bincount(place)
        recalls = np.bincount(place, right) / sizes
        weight = len(right) / (len(present) * sizes[place])
        return np.asarray(recalls.mean() + weight * (right - recalls[place]))

    def _macro_f1(self) -> np.ndarray:
        present = np.union1d(self.labels, self.predicted)
        total = np.zeros(len(self.labels))
        for one in present:
            labelled, predicted = self.labels == one, self.predicted == one
            either = labelled.astype(float) + predicted
            f1 = 2 * (labelled & predicted).sum() / either.sum()
            total += f1 + len(either) / either.sum() * (2.0 * (labelled & predicted) - f1 * either)
        return total / len(present)

    def _auc(self) -> np.ndarray:
        """DeLong et al., 1988: each example's rank among those of the other class."""
        positive = self.labels == 1
        count, positives = len(positive), int(positive.sum())
        if not 0 < positives < count or len(self.scores) != count:
            return np.full(count, np.nan)
        found = np.empty(count)
        for own, other, sign in ((positive, ~positive, 1), (~positive, positive, -1)):
            values = np.sort(sign * self.scores[other])
            below = np.searchsorted(values, sign * self.scores[own], "left")
            upto = np.searchsorted(values, sign * self.scores[own], "right")
            found[own] = (below + upto) / (2 * len(values))
        area = found[positive].mean()
        sizes = np.where(positive, positives, count - positives)
        return np.asarray(area + count / sizes * (found - area))


@dataclass(frozen=True)
class OfTest:
    """What the choice of the test examples does to the mean difference of two rows of runs, as variances."""

    shared: float
    """The part that more seeds do not reduce."""
    alone: float
    """The part that more seeds reduce: two runs that differ in the seed are wrong on different examples."""


def of_test(metric: str, own: Sequence[Predictions], full: Sequence[Predictions]) -> OfTest | None:
    """Pair the test examples of runs seed by seed; None if they were tested on different examples.

    Args:
        metric: the measure.
        own, full: the runs of the shared seeds, in the same order, at least one of each.
    """
    labels = full[0].labels
    if any(not np.array_equal(one.labels, labels) for one in (*own, *full)):
        return None
    # [S, N]
    differences = np.stack(
        [a.contributions(metric) - b.contributions(metric) for a, b in zip(own, full, strict=True)]
    )
    seeds, count = differences.shape
    if count < 2 or not np.isfinite(differences).all():
        return None
    average = differences.mean(0)
    whole = float(average.var(ddof=1)) / count
    alone = 0.0
    if seeds > 1:
        residual = differences - average - differences.mean(1)[:, None] + average.mean()
        alone = float((residual**2).sum()) / ((seeds - 1) * (count - 1)) / (seeds * count)
    # As if two further examples differed, one for each: runs that agree everywhere may differ on the next example.
    return OfTest(max(0.0, whole - alone) + 2 / count**2, alone)


def read(path: Path) -> Predictions | None:
    """Read a run's predictions; None if the run wrote none.

    Raises UserError if the file cannot be read.
    """
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as held:
            return Predictions(held["labels"], held["predicted"], held["scores"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{str(path)!r} does not hold predictions of test examples: {error}") from error

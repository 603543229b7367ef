"""How well a model classifies: the loss, and the measures beside accuracy that uneven classes call for."""

from dataclasses import dataclass

import torch
from torch import Tensor

from subset_trainer.training.parallel.ranks import Ranks


@dataclass(frozen=True)
class Score:
    """The measures of one data set. None: not measured, or not defined for this data."""

    loss: float
    """Mean cross-entropy in nats."""
    accuracy: float
    """Fraction of the examples that are classified as labelled."""
    macro_f1: float | None = None
    """Mean over the classes of the harmonic mean of precision and recall; classes that are neither labelled nor
    predicted do not count."""
    balanced_accuracy: float | None = None
    """Mean over the labelled classes of the fraction that is classified as labelled."""
    auc: float | None = None
    """Two classes: the probability that an example of the second class has a larger score for it than one of the
    first; ties count half."""

    def measures(self) -> dict[str, float]:
        """Name → value of what is defined."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Predictions:
    """What a model predicts for each of N examples, in data order, on the CPU."""

    labels: Tensor
    """[N] int64."""
    predicted: Tensor
    """[N] int64."""
    scores: Tensor
    """[N] float32: logit of the second of two classes minus that of the first; [0] for other numbers of classes."""


class Tally:
    """What an evaluation has seen, batch by batch. Everything stays on the device until the end.

    Args:
        classes: number of classes C.
    """

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._labels: list[Tensor] = []
        self._predicted: list[Tensor] = []
        self._scores: list[Tensor] = []

    def add(self, logits_BC: Tensor, labels_B: Tensor) -> None:
        self._labels.append(labels_B)
        self._predicted.append(logits_BC.argmax(1))
        if self._classes == 2:
            # Of probabilities many would be equal to 1.
            self._scores.append(logits_BC[:, 1].float() - logits_BC[:, 0].float())

    def score(self, loss: float, accuracy: float, ranks: Ranks, device: torch.device) -> Score:
        """The measures over all processes; each of them calls it."""
        none = [torch.empty(0, dtype=torch.int64, device=device)]
        labels, predicted = torch.cat(self._labels or none), torch.cat(self._predicted or none)
        right = labels[labels == predicted]
        counts_3C = torch.stack(
            [torch.bincount(rows, minlength=self._classes) for rows in (labels, predicted, right)]
        )
        macro_f1, balanced = of_counts(ranks.total(counts_3C).cpu())
        area = None
        if self._classes == 2:
            own = (labels.cpu(), torch.cat(self._scores).cpu() if self._scores else torch.empty(0))
            everyones = ranks.everyones(own)
            area = area_under_curve(*(torch.cat(column) for column in zip(*everyones, strict=True)))
        return Score(loss, accuracy, macro_f1, balanced, area)

    def predictions(self, ranks: Ranks, order: list[Tensor]) -> Predictions:
        """The predictions of all processes; each of them calls it.

        Args:
            order: this process's batches, as indices.
        """
        none = [torch.empty(0, dtype=torch.int64)]
        columns = [torch.cat(self._labels or none).cpu(), torch.cat(self._predicted or none).cpu()]
        if self._classes == 2:
            columns.append(torch.cat(self._scores or [torch.empty(0)]).cpu())
        labels, predicted, *scores = ranks.in_order(tuple(columns), order)
        return Predictions(labels, predicted, scores[0] if scores else torch.empty(0))


def of_counts(counts_3C: Tensor) -> tuple[float, float]:
    """Macro-F1 and balanced accuracy, as scikit-learn defines them.

    Args:
        counts_3C: int64, for each class the examples labelled, predicted, and both.
    """
    labelled_C, predicted_C, right_C = counts_3C.double()
    some_C = labelled_C + predicted_C
    f1_C = 2 * right_C / some_C
    return float(f1_C[some_C > 0].mean()), float((right_C / labelled_C)[labelled_C > 0].mean())


def area_under_curve(labels_N: Tensor, scores_N: Tensor) -> float | None:
    """Area under the receiver operating characteristic; None if a class is missing.

    Args:
        labels_N: int64, 0 or 1.
        scores_N: larger for class 1.
    """
    below, above = scores_N[labels_N == 0].sort().values, scores_N[labels_N == 1]
    if not len(below) or not len(above):
        return None
    less = torch.searchsorted(below, above)
    not_more = torch.searchsorted(below, above, right=True)
    return float((less + not_more).double().mean() / (2 * len(below)))

"""Estimates which training examples are mislabelled, and how many.

**Which:** those with the largest losses in training, averaged over the epochs, because a model learns wrong labels
later than right ones. **How many:** :func:`judge`, from the validation set and from the early epochs. A number is only
given if the model is good enough to judge labels. ``benchmarks/flags.py`` measures both.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

FOLDS = 3
METHOD = "confident_learning"
"""Cleanlab's default method counts more examples, above all with a weak model."""
LEAST_ACCURACY = 0.78
"""Labels are not judged by a model whose estimated accuracy on correctly labelled examples is lower."""
MOST_MISSED = 0.4
"""Labels are not judged by a model that missed a larger fraction of the training examples in most early epochs."""
MISSED = 0.5
"""Early hit rates below it: the model chose another class in most early epochs."""


@dataclass(frozen=True)
class Verdict:
    """Which labels of N training examples are suspect."""

    suspect: Tensor
    """[N] bool: counted as mislabelled."""
    accuracy: float
    """Validation accuracy, from the labels as given."""
    known: bool
    """Whether the number can be estimated; if not, no example is suspect, and only the ranking is meaningful."""


def judge(
    excess_N: Tensor,
    early_hit_rates_N: Tensor,
    surest_missed: tuple[float, float],
    labelled_N: Tensor,
    validation_labels_M: Tensor,
    validation_probabilities_MC: Tensor,
) -> Verdict:
    """Estimate which labels are wrong.

    A model learns wrong labels late, and at the end may have memorised all of them. Therefore its choices in the first
    half of the epochs count. Only examples for which it chose another class in most of these epochs are ever suspect.
    Their number is an upper bound, because hard examples are among them. Of the examples of whose class it was surest
    at that time, hardly any are hard: where it chose another class than labelled, the label is wrong, and the other
    examples have as many wrong labels. (Where a model is sure, it differs from the labels as often as these are
    wrong: the idea of anchor points, Liu and Tao, TPAMI 2016.) If it was then worse than at the end, by more than a
    standard error of the accuracy, the difference is taken off. Confident learning on the validation set, which the
    model was not trained on, is a second estimate. It is rougher, as the set is small, and counts hard examples of
    classes that overlap; so where it is the larger one, the number is half way between them.

    Args:
        excess_N: by how much each example's loss is larger than others', see :func:`excess`.
        early_hit_rates_N: see :meth:`~subset_trainer.training.record.Record.early_hit_rates`.
        surest_missed: see :meth:`~subset_trainer.training.record.Record.surest_missed`.
        labelled_N: bool, whether the final model classifies the example as labelled; it decides for examples that the
            early epochs did not use.
        validation_labels_M: int64.
        validation_probabilities_MC: predictions of the final model.
    """
    unseen = labelled_N.float()
    rates_N = torch.where(early_hit_rates_N.isnan(), unseen, early_hit_rates_N)
    missed_N = rates_N < MISSED
    most = float(missed_N.double().mean())
    accuracy = float((validation_probabilities_MC.argmax(1) == validation_labels_M).double().mean())
    share = wrong_share(validation_labels_M, validation_probabilities_MC)
    if most > MOST_MISSED or accuracy < LEAST_ACCURACY * (1 - min(share, most)):
        return Verdict(torch.zeros_like(missed_N), accuracy, known=False)
    missed, accuracy_then = surest_missed
    if not math.isnan(missed):
        error = math.sqrt(accuracy * (1 - accuracy) / len(validation_labels_M))
        early = max(0.0, missed - max(0.0, accuracy - accuracy_then - error))
        share = max(early, (early + share) / 2)
    number = round(min(share, most) * len(excess_N))
    order = excess_N.where(missed_N, -torch.inf).sort(descending=True, stable=True).indices[:number]
    suspect_N = torch.zeros_like(missed_N).scatter_(0, order, True)
    return Verdict(suspect_N & missed_N, accuracy, known=True)


def wrong_share(labels_M: Tensor, probabilities_MC: Tensor) -> float:
    """Share of examples whose label is wrong, by confident learning (Northcutt et al., JAIR 2021).

    Args:
        probabilities_MC: out of sample, that is of a model that was not trained on these examples.
    """
    if not _any_doubt(labels_M, probabilities_MC):
        return 0.0
    # Takes a second or two to import, which jobs without doubtful labels need not wait for.
    from cleanlab.filter import find_label_issues

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on classes of few examples
        issues = find_label_issues(
            labels_M.numpy(), probabilities_MC.numpy().astype(np.float64), filter_by=METHOD, n_jobs=1
        )
    return float(issues.mean())


def folds(labels_N: Tensor, seed: int) -> list[Tensor]:
    """Positions of ``FOLDS`` parts that have as many of each class, as far as it goes."""
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(labels_N), generator=generator)
    by_class = shuffled[labels_N[shuffled].sort(stable=True).indices]
    return [by_class[first::FOLDS].sort().values for first in range(FOLDS)]


def cross_checked(labels_N: Tensor, probabilities_NC: Tensor) -> tuple[Tensor, Tensor]:
    """Of each example how suspect its label is, float32 from 0 to 1, and whether cleanlab counts it as wrong.

    Args:
        probabilities_NC: out of sample.
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    given, probabilities = labels_N.numpy(), probabilities_NC.numpy().astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on classes of few examples
        issues = find_label_issues(given, probabilities, filter_by=METHOD, n_jobs=1)
    quality = get_label_quality_scores(given, probabilities)
    return torch.from_numpy(1 - quality).float(), torch.from_numpy(issues)


def _any_doubt(labels_M: Tensor, probabilities_MC: Tensor) -> bool:
    """Whether any example is taken for another class, as surely as that class's own examples are on average: what
    cleanlab counts."""
    own_MC = torch.zeros_like(probabilities_MC, dtype=torch.bool).scatter_(1, labels_M[:, None], True)
    counts_C = own_MC.sum(0)
    sure_C = (probabilities_MC.double() * own_MC).sum(0) / counts_C
    confident_MC = probabilities_MC >= sure_C.where(counts_C > 0, torch.inf) - 1e-6
    return int((counts_C > 0).sum()) > 1 and bool((confident_MC & ~own_MC).any())


def excess(visited_N: Tensor, last_N: Tensor) -> Tensor:
    """float32 [N]: how much larger an example's loss is than others', in nats.

    Args:
        visited_N: over the epochs that trained on it, against the same epochs' other examples; NaN: none did.
        last_N: loss by the model at the end, which speaks for those alone that it was never trained on.
    """
    never_N = visited_N.isnan()
    return torch.where(never_N, last_N - last_N[never_N].mean(), visited_N)


def suspects(excess_N: Tensor, share: float) -> Tensor:
    """bool [N]: the share of the largest; of equals the first."""
    order = excess_N.sort(descending=True, stable=True).indices[: round(share * len(excess_N))]
    return torch.zeros(len(excess_N), dtype=torch.bool).scatter_(0, order, True)

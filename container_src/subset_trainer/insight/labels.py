"""Which examples look mislabelled.

Two questions, answered apart. How many: by cleanlab, from what the model makes of the validation set, which it was not
trained on. Which: those of the largest losses in training, on average over the epochs, since a model learns wrong
labels later than right ones. See benchmarks/flags.py for what each is worth.
"""

import warnings

import numpy as np
import torch
from torch import Tensor

FOLDS = 3
METHOD = "confident_learning"
"""Cleanlab's own default counts more, most of all where the model is weak."""


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

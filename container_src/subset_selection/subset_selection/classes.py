"""Division of a budget over classes, and selection within each class."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from subset_selection.settings import Balance
from subset_selection.types import Pool, Subset


def quotas(sizes: Tensor, budget: int, balance: Balance = "none") -> Tensor:
    """The number of examples to select from each class.

    Args:
        sizes: [C] int64, the number of examples of each class.
        budget: K, at most the sum of ``sizes``.
        balance: ``none``: in proportion to the sizes; ``class``: equal numbers, or all of a class that has fewer.

    Returns:
        [C] int64 with sum K, each entry at most the size of its class. Examples left over by rounding go to the
        largest remainders; ties go to the lower class.
    """
    sizes = sizes.cpu()
    if balance == "none":
        return _largest_remainders(sizes.double() * budget / sizes.sum(), sizes, budget)
    quota = torch.zeros_like(sizes)
    left = budget
    while left:
        open_classes = (quota < sizes).nonzero().flatten()
        share = max(1, left // len(open_classes))
        # If less than one example per class is left, the first classes get one each.
        taken = torch.minimum(sizes[open_classes] - quota[open_classes], torch.tensor(share))[:left]
        quota[open_classes[: len(taken)]] += taken
        left -= int(taken.sum())
    return quota


def _largest_remainders(shares: Tensor, sizes: Tensor, budget: int) -> Tensor:
    quota = shares.floor().long()
    remainders = (shares - quota).masked_fill(quota >= sizes, -1)
    order = remainders.sort(descending=True, stable=True).indices
    quota[order[: budget - int(quota.sum())]] += 1
    return quota


def members(labels: Tensor, classes: int) -> list[Tensor]:
    """The positions of each class's examples, in order."""
    order = labels.sort(stable=True).indices
    return list(order.split(torch.bincount(labels, minlength=classes).tolist()))


def by_class(
    train: Pool, budget: int, balance: Balance, choose: Callable[[int, Tensor, int], Subset]
) -> Subset:
    """Select within each class, and join the results.

    Args:
        train: the examples.
        budget: K, divided over the classes by :func:`quotas`.
        balance: how :func:`quotas` divides the budget.
        choose: (class, the indices of its examples on the pool's device, its quota ≥ 1) → a subset with indices into
            the whole pool.
    """
    indices_by_class = members(train.labels, train.classes)
    sizes = torch.tensor([len(indices) for indices in indices_by_class])
    parts = [
        choose(label, indices_by_class[label], quota)
        for label, quota in enumerate(quotas(sizes, budget, balance).tolist())
        if quota
    ]
    return joined(parts)


def joined(parts: Sequence[Subset]) -> Subset:
    """One subset of several, in order; each note is said once."""
    notes = dict.fromkeys(part.note for part in parts if part.note)
    return Subset(
        torch.cat([part.indices for part in parts]),
        torch.cat([part.weights for part in parts]),
        "; ".join(notes),
    )

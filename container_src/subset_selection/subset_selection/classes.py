"""Dividing a budget over classes, and choosing within each."""

from collections.abc import Callable

import torch
from torch import Tensor

from subset_selection.settings import Balance
from subset_selection.types import Pool, Subset


def quotas(sizes: Tensor, budget: int, balance: Balance = "none") -> Tensor:
    """How many examples each class gives.

    Args:
        sizes: [C] int64, the examples of each class.
        budget: K, at most their sum.
        balance: ``none``: in proportion to the sizes; ``class``: equal numbers, as far as a class has so many.

    Returns:
        [C] int64 with sum K and no entry above its size. What rounding leaves over goes to the largest remainders,
        then to the lower class.
    """
    sizes = sizes.cpu()
    if balance == "none":
        return _largest_remainders(sizes.double() * budget / sizes.sum(), sizes, budget)
    quota = torch.zeros_like(sizes)
    left = budget
    while left:
        open_classes = (quota < sizes).nonzero().flatten()
        share = max(1, left // len(open_classes))
        # Fewer than one each: the first classes get it.
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
    """For each class the positions of its examples, in order."""
    order = labels.sort(stable=True).indices
    return list(order.split(torch.bincount(labels, minlength=classes).tolist()))


def by_class(
    train: Pool, budget: int, balance: Balance, choose: Callable[[int, Tensor, int], Subset]
) -> Subset:
    """Choose within each class, and put the choices together.

    Args:
        train: the examples.
        budget: K, divided by :func:`quotas`.
        balance: how.
        choose: (class, its examples' indices on the pool's device, its quota ≥ 1) → the choice, as indices into the
            whole pool.
    """
    indices_by_class = members(train.labels, train.classes)
    sizes = torch.tensor([len(indices) for indices in indices_by_class])
    parts = [
        choose(label, indices_by_class[label], quota)
        for label, quota in enumerate(quotas(sizes, budget, balance).tolist())
        if quota
    ]
    notes = dict.fromkeys(part.note for part in parts if part.note)
    return Subset(
        torch.cat([part.indices for part in parts]),
        torch.cat([part.weights for part in parts]),
        "; ".join(notes),
    )

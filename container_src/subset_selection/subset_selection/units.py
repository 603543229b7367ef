"""The units that a greedy search picks: single examples or mini-batches."""

import math

import torch
from torch import Tensor

from subset_selection.types import ROWS_AT_ONCE, Pool

ROWS_IN_CACHE = 1 << 10


class Units:
    """U groups of examples, each picked as a whole. A unit's gradient is the mean over its members.

    Args:
        members_UB: indices into the pool, [U, B].
        shares_UB: each member's weight in its unit's mean, [U, B], zero for padding. None: units of single examples.
    """

    def __init__(self, members_UB: Tensor, shares_UB: Tensor | None) -> None:
        self._members_UB = members_UB
        self._shares_UB = shares_UB
        self._are_the_pool = False

    @classmethod
    def singles(cls, indices: Tensor) -> "Units":
        return cls(indices[:, None], None)

    @classmethod
    def of_all(cls, pool: Pool) -> "Units":
        """Create one unit per example of the pool, in order."""
        units = cls.singles(torch.arange(len(pool), device=pool.device))
        units._are_the_pool = True
        return units

    @classmethod
    def batches(cls, order: Tensor, size: int) -> "Units":
        """Split the examples in this order into consecutive batches; the last may be short."""
        count = math.ceil(len(order) / size)
        members_UB = order.new_zeros(count * size)
        shares_UB = torch.zeros(count * size, device=order.device)
        members_UB[: len(order)] = order
        shares_UB[: len(order)] = 1
        shares_UB = shares_UB.view(count, size)
        return cls(members_UB.view(count, size), shares_UB / shares_UB.sum(dim=1, keepdim=True))

    @classmethod
    def random_batches(
        cls, examples: int, size: int, generator: torch.Generator, device: torch.device
    ) -> "Units":
        """Partition the examples into random batches. Consecutive examples often have the same class, for example in
        class folders."""
        order = torch.randperm(examples, generator=generator).to(device)
        return cls.batches(order, min(size, examples))

    def __len__(self) -> int:
        return len(self._members_UB)

    @property
    def width(self) -> int:
        """B, the number of examples of a unit."""
        return self._members_UB.shape[1]

    @property
    def block(self) -> int:
        """Number of units whose rows are read at a time, to bound memory."""
        return max(1, ROWS_AT_ONCE // self.width)

    def needed(self, budget: int) -> int:
        """The number of units that contain at least ``budget`` examples, whichever units are picked. A short unit
        requires one more."""
        short = self._shares_UB is not None and bool((self._shares_UB[-1] == 0).any())
        return min(len(self), math.ceil(budget / self.width) + short)

    def members(self, units_S: Tensor) -> Tensor:
        """The indices of the examples of some units, in order, without padding."""
        members = self._members_UB[units_S].flatten()
        return members if self._shares_UB is None else members[self._shares_UB[units_S].flatten() > 0]

    def rows(self, pool: Pool, units_S: Tensor) -> tuple[Tensor, Tensor]:
        """Residuals [S·B, C] and features [S·B, D] of the members, padding included."""
        members = self._members_UB.index_select(0, units_S).view(-1)
        residuals, features = pool.rows(members)
        if self._shares_UB is not None:
            shares = self._shares_UB.index_select(0, units_S).view(-1, 1)
            residuals = residuals * shares.to(residuals.dtype)
        return residuals, features

    def all_rows(self, pool: Pool) -> tuple[Tensor, Tensor]:
        """The rows of all units, without a copy if the units are the whole pool."""
        if self._are_the_pool:
            return pool.all_rows()
        return self.rows(pool, torch.arange(len(self), device=pool.device))

    def mean(self, values: Tensor) -> Tensor:
        """Reduce values of rows, [S·B], to one value per unit, [S]. The rows are already multiplied by their
        weights."""
        return values if self._shares_UB is None else values.view(-1, self.width).sum(dim=1)

    def share(self, residuals: Tensor, features: Tensor, position_1: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of the unit at this position among the rows of some units."""
        if self._shares_UB is None:
            return residuals.index_select(0, position_1), features.index_select(0, position_1)
        rows = (position_1 * self.width) + torch.arange(self.width, device=position_1.device)
        return residuals.index_select(0, rows), features.index_select(0, rows)

    @property
    def sizes(self) -> Tensor:
        """The number of examples of each unit, [U] int64."""
        if self._shares_UB is None:
            return torch.ones(len(self), dtype=torch.int64, device=self._members_UB.device)
        return (self._shares_UB > 0).sum(dim=1)


def gram_of_means(pool: Pool, units: Units, guide: Pool | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Inner products of the units' mean gradients, computed for a few classes of the last layer at a time.

    Args:
        pool: the examples.
        units: U groups of them.
        guide: the pool whose summed gradient is the target; None: ``pool`` itself.

    Returns:
        the Gram matrix [U, U], the inner products with the target [U], and the target's squared norm [].
    """
    count = len(units)
    # The rows of a few units fit in the processor's cache, and no copy of all features is made.
    blocks = torch.arange(count, device=pool.device).split(max(1, ROWS_IN_CACHE // units.width))
    guide_rows = None if guide is None else guide.all_rows()
    sizes_U = units.sizes
    classes, depth = pool.classes, pool.depth
    step = max(1, (1 << 26) // (count * (depth + 1)))
    like = _means(units, pool, blocks[0][:1], slice(0, 1))
    gram_UU, products_U, squares = (like.new_zeros(shape) for shape in ((count, count), (count,), ()))
    for start in range(0, classes, step):
        part = slice(start, start + step)
        means_U = torch.cat([_means(units, pool, block, part) for block in blocks])
        if guide_rows is None:
            target = sizes_U.to(means_U.dtype) @ means_U
        else:
            residuals, features = guide_rows[0][:, part], guide_rows[1]
            target = torch.cat([(residuals.T @ features).flatten(), residuals.sum(dim=0)])
        gram_UU.addmm_(means_U, means_U.T)
        products_U += means_U @ target
        squares += target.square().sum()
    return gram_UU, products_U, squares


def _means(units: Units, pool: Pool, block: Tensor, part: slice) -> Tensor:
    """Mean gradients of some units with respect to the weights, then the biases, of some classes."""
    residuals, features = units.rows(pool, block)
    residuals = residuals.view(len(block), units.width, -1)[:, :, part]
    features = features.view(len(block), units.width, -1)
    return torch.cat([torch.bmm(residuals.mT, features).flatten(1), residuals.sum(dim=1)], dim=1)

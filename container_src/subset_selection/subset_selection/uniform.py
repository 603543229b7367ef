"""Strategies that need no model: all of the data, and random subsets."""

import torch
from torch import Tensor

from subset_selection.settings import DEFAULTS, Settings
from subset_selection.stateful import Stateful
from subset_selection.types import Pool, Refresh, Subset


class Full:
    """Selects all examples, whatever the budget: the full-data reference."""

    needs_last_layer = False
    needs_validation = False
    refresh: Refresh = "once"

    def __init__(self, settings: Settings = DEFAULTS) -> None:
        """It has no settings."""

    def select(self, train: Pool, validation: Pool, budget: int, generator: torch.Generator) -> Subset:
        return Subset.of(torch.arange(len(train)))


class Random:
    """A uniform sample, one for the whole run."""

    needs_last_layer = False
    needs_validation = False
    refresh: Refresh = "once"

    def __init__(self, settings: Settings = DEFAULTS) -> None:
        """It has no settings."""

    def select(self, train: Pool, validation: Pool, budget: int, generator: torch.Generator) -> Subset:
        return Subset.of(torch.randperm(len(train), generator=generator)[:budget])


class AdaptiveRandom(Random):
    """A fresh uniform sample at every selection."""

    refresh: Refresh = "periodically"


class RandomEveryEpoch(Random):
    """A fresh uniform sample every epoch. It may repeat examples of earlier epochs."""

    refresh: Refresh = "every epoch"


class RepeatedSampling(Stateful):
    """RS2 without replacement: each epoch takes the next examples of a shuffled order, so that all are used equally
    often.

    If the order ends within an epoch, the epoch takes the rest from a new order and skips examples that it already has.

    Source: Okanovic et al., "Repeated Random Sampling for Minimizing the Time-to-Accuracy of Learning", ICLR 2024,
    section 3.
    """

    needs_last_layer = False
    needs_validation = False
    refresh: Refresh = "every epoch"
    STATE = ("_upcoming",)

    def __init__(self, settings: Settings = DEFAULTS) -> None:
        self._upcoming = torch.empty(0, dtype=torch.int64)

    def select(self, train: Pool, validation: Pool, budget: int, generator: torch.Generator) -> Subset:
        # The pool may have become smaller since the order was drawn.
        upcoming = _positions_in(train, self._upcoming)
        picks, upcoming = upcoming[:budget].clone(), upcoming[budget:]
        if missing := budget - len(picks):
            order = torch.randperm(len(train), generator=generator)
            fresh = _without(order, picks)[:missing]
            picks = torch.cat([picks, fresh])
            # Examples that this epoch took from the old order stay in the new order, for a later epoch.
            upcoming = _without(order, fresh)
        self._upcoming = upcoming if train.part_of is None else train.part_of.cpu()[upcoming]
        return Subset.of(picks)


def _positions_in(pool: Pool, values: Tensor) -> Tensor:
    """The pool's positions of those values that are among its ids, in the values' order."""
    if pool.part_of is None:
        return values[values < len(pool)] if len(values) and int(values.max()) >= len(pool) else values
    ids = pool.part_of.cpu()
    # The table is written at the pool's ids alone, and what else it holds is found out by the comparison. So a small
    # part of much data costs what the part does.
    position_of = torch.empty(int(ids.max()) + 1, dtype=torch.int64)
    position_of[ids] = torch.arange(len(ids))
    values = values[values < len(position_of)]
    positions = position_of[values].clamp_(0, len(ids) - 1)
    return positions[ids[positions] == values]


def _without(order: Tensor, taken: Tensor) -> Tensor:
    """A permutation without some of its elements."""
    if not len(taken):
        return order
    left = torch.ones(len(order), dtype=torch.bool)
    left[taken] = False
    return order[left[order]]

"""Strategies that need no model: all of the data, and random subsets."""

import torch
from torch import Tensor

from subset_selection.settings import DEFAULTS, Settings
from subset_selection.stateful import Stateful
from subset_selection.types import Pool, Refresh, Subset


class Full:
    """All of the data: the reference. It sets its own size; the loop passes a budget of N."""

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
    """A fresh uniform sample every epoch: what earlier epochs had may come again."""

    refresh: Refresh = "every epoch"


class RepeatedSampling(Stateful):
    """RS2 without replacement: each epoch takes the next examples of a shuffled order; all are seen equally often.

    Where an order ends within an epoch, the rest comes from the next one, less what the epoch has already.

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
        ids = train.ids.cpu()
        self._upcoming = self._upcoming[torch.isin(self._upcoming, ids)]  # the pool may have lost some
        picks, self._upcoming = self._upcoming[:budget], self._upcoming[budget:]
        if missing := budget - len(picks):
            order = ids[torch.randperm(len(ids), generator=generator)]
            fresh = _without(order, picks)[:missing]
            picks = torch.cat([picks, fresh])
            # What this epoch has from the old order keeps its place in the new one: its turn comes again there.
            self._upcoming = _without(order, fresh)
        position_of = torch.empty(int(ids.max()) + 1, dtype=torch.int64)
        position_of[ids] = torch.arange(len(ids))
        return Subset.of(position_of[picks])


def _without(order: Tensor, taken: Tensor) -> Tensor:
    return order[~torch.isin(order, taken)]

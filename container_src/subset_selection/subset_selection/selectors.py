"""Selectors: what each epoch of a run trains on.

They evaluate the model if the strategy needs it, select, and check the result.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from subset_selection.catalogue import Refresh
from subset_selection.schedule import Epoch
from subset_selection.stateful import load_state, state_of
from subset_selection.types import BatchFilter, Pool, SoftPruning, Strategy, Subset
from subset_selection.uniform import RepeatedSampling

logger = logging.getLogger(__name__)
LEAST_VALIDATION = 1_000
"""Minimum number of validation examples that are used in a selection among few candidates, if there are that many."""


class InvalidSubsetError(RuntimeError):
    """A strategy broke its promise: its subset has another size, duplicates, or unusable weights."""


@dataclass(frozen=True)
class Choice:
    """The examples that an epoch trains on."""

    subset: Subset
    """The examples that the epoch reads."""
    filter: BatchFilter | None = None
    """Selects the examples of each batch that the training step uses; None: all."""
    kept: int = 0
    """Number of samples that the filter keeps over the epoch."""

    @property
    def size(self) -> int:
        """Number of samples that the epoch trains on."""
        return self.kept if self.filter else len(self.subset.indices)


class Selector(Protocol):
    """Selects the examples of each epoch that does not use all of them."""

    def choose(self, epoch: Epoch, generator: torch.Generator) -> Choice | None:
        """Select the examples that the run trains on from this epoch on; None: the last selection stays.

        Args:
            epoch: the epoch.
            generator: the source of randomness.

        Raises:
            NotFiniteError: the model's outputs are not finite.
            InvalidSubsetError: the strategy returned an invalid subset.
        """
        ...

    def choice_of(self, subset: Subset) -> Choice:
        """Restore the choice whose subset was stored in a checkpoint."""
        ...

    def observe(self, indices_K: Tensor, losses_K: Tensor) -> None:
        """Record the examples that an epoch trained on and their losses, both on the CPU."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """A copy of the state from earlier selections: dicts, tensors on the CPU, numbers and None."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that ``state_dict`` returned."""
        ...


class Asking:
    """Base class of selectors: it selects when a selection is due.

    Args:
        strategy: the strategy of one run; its state is the selector's state.
        refresh: when it selects.
        budget: K, for a strategy with a given budget.
    """

    def __init__(self, strategy: object, refresh: Refresh, budget: int) -> None:
        self.refresh = refresh
        self.budget = budget
        self._remembering = strategy

    def choose(self, epoch: Epoch, generator: torch.Generator) -> Choice | None:
        """See :class:`Selector`."""
        if not epoch.is_due(self.refresh):
            return None
        if self.refresh != "every epoch":
            logger.info("%s: choosing %d examples", epoch, self.budget)
        look = epoch.first_on_subset or epoch.selection_due
        subset = self.select(generator, look)
        if subset.note and look:
            logger.info("%s: %s", epoch, subset.note)
        return self.choice_of(subset)

    def select(self, generator: torch.Generator, look: bool = True) -> Subset:
        """Run the strategy.

        Args:
            generator: the source of randomness.
            look: whether to evaluate the model on the data now. A strategy that selects every epoch does so only every
                ``select_every`` epochs.
        """
        raise NotImplementedError

    def choice_of(self, subset: Subset) -> Choice:
        """See :class:`Selector`."""
        return Choice(subset)

    def observe(self, indices_K: Tensor, losses_K: Tensor) -> None:
        """See :class:`Selector`."""

    def state_dict(self) -> dict[str, Any]:
        """See :class:`Selector`."""
        return state_of(self._remembering)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`Selector`."""
        load_state(self._remembering, state)


class Source(Protocol):
    """A data set with the model that is evaluated on it."""

    def __len__(self) -> int:
        """The number of examples, over all processes."""
        ...

    def pool(self, positions: Tensor | None, look: bool) -> tuple[Pool, Tensor]:
        """This process's part of the examples at these positions as a pool.

        Args:
            positions: [K] int64, ascending; None: all examples.
            look: whether to evaluate the model, for logits and features.

        Returns:
            the pool, and its examples' indices among the positions, int64.
        """
        ...


Shard = tuple[Pool, Tensor]
"""This process's part of the examples, and their indices."""
Choose = Callable[[Strategy, Shard, Shard, int, torch.Generator], Subset]
"""(strategy, training shard, validation shard, budget, generator) → the subset, the same in every process."""


def alone(
    strategy: Strategy, train: Shard, validation: Shard, budget: int, generator: torch.Generator
) -> Subset:
    """Run the strategy in a single process, whose shards are the whole data."""
    return strategy.select(train[0], validation[0], budget, generator)


class PoolSelector(Asking):
    """Runs a strategy on the model's current outputs.

    Args:
        strategy: the strategy of one run.
        train: the examples to select from.
        validation: the validation examples; may be empty for a strategy that does not need them.
        budget: K.
        candidates_per_pick: number of candidates per pick, drawn again for each selection. The same fraction of the
            validation examples is used, but at least ``LEAST_VALIDATION``. None: all examples are candidates.
        choose: runs the strategy, in one process or several.
    """

    def __init__(
        self,
        strategy: Strategy,
        train: Source,
        validation: Source,
        budget: int,
        candidates_per_pick: float | None = None,
        choose: Choose = alone,
    ) -> None:
        super().__init__(strategy, strategy.refresh, budget)
        self._strategy = strategy
        self._train = train
        self._validation = validation
        self._candidates_per_pick = candidates_per_pick
        self._choose = choose

    def select(self, generator: torch.Generator, look: bool = True) -> Subset:
        """See :class:`Asking`."""
        drawn = drawn_validation = None
        examples = len(self._train)
        if self._candidates_per_pick is not None and look:
            size = min(examples, round(self._candidates_per_pick * self.budget))
            drawn = _draw(examples, size, generator)
            guides = len(self._validation)
            least = min(guides, LEAST_VALIDATION)
            drawn_validation = _draw(guides, max(least, round(size / examples * guides)), generator)
        train = self._train.pool(drawn, look and self._strategy.needs_last_layer)
        validation = self._validation.pool(drawn_validation, look and self._strategy.needs_validation)
        subset = self._choose(self._strategy, train, validation, self.budget, generator)
        if drawn is not None:
            subset = replace(subset, indices=drawn[subset.indices])
        return checked(subset, examples, self.budget)


class SoftPruningSelector(Asking):
    """Runs a strategy that sets the size of each epoch itself."""

    def __init__(self, strategy: SoftPruning, labels: Tensor) -> None:
        super().__init__(strategy, "every epoch", len(labels))
        self._strategy = strategy
        self._labels = labels

    def select(self, generator: torch.Generator, look: bool = True) -> Subset:
        """See :class:`Asking`."""
        subset = self._strategy.select(self._labels, generator)
        return checked(subset, len(self._labels), len(subset.indices))

    def observe(self, indices_K: Tensor, losses_K: Tensor) -> None:
        """See :class:`Selector`."""
        self._strategy.observe(indices_K, losses_K)


class FilterSelector(Asking):
    """Draws random candidates for a filter within batches.

    Args:
        make_filter: creates the filter before the first epoch; its time counts as selection time. Its argument is the
            filter's saved state, so that a resumed run does not repeat expensive work, or an empty mapping.
        examples: N.
        budget: K, the number of examples that the filter keeps over an epoch.
    """

    def __init__(
        self, make_filter: Callable[[Mapping[str, Any]], BatchFilter], examples: int, budget: int
    ) -> None:
        self._sampling = RepeatedSampling()
        super().__init__(self._sampling, "every epoch", budget)
        self._make_filter = make_filter
        self._examples = examples
        self._filter: BatchFilter | None = None

    def select(self, generator: torch.Generator, look: bool = True) -> Subset:
        """Select the epoch's candidates."""
        if self._filter is None:
            self._filter = self._make_filter({})
        count = min(self._examples, round(self.budget * self._filter.candidates_per_pick))
        pool = Pool(torch.zeros(self._examples, dtype=torch.int64))
        return self._sampling.select(pool, pool, count, generator)

    def choice_of(self, subset: Subset) -> Choice:
        """See :class:`Selector`."""
        return Choice(subset, self._filter, self.budget)

    def state_dict(self) -> dict[str, Any]:
        """See :class:`Selector`."""
        of_filter = None if self._filter is None else state_of(self._filter)
        return {"filter": of_filter, "sampling": super().state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`Selector`."""
        super().load_state_dict(state["sampling"])
        if state["filter"] is not None:
            self._filter = self._make_filter(state["filter"])


def _draw(examples: int, count: int, generator: torch.Generator) -> Tensor:
    """Positions of ``count`` random examples, in ascending order, so that ties are broken as without sampling."""
    return torch.randperm(examples, generator=generator)[:count].sort().values


def everything(examples: int) -> Subset:
    """The subset of all examples, each with weight 1."""
    return Subset.of(torch.arange(examples))


def checked(subset: Subset, examples: int, budget: int) -> Subset:
    """Return the subset if it has exactly ``budget`` different indices below ``examples`` and valid weights.

    Raises:
        InvalidSubsetError: the subset is invalid.
    """
    indices, weights = subset.indices, subset.weights
    if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < examples:
        raise InvalidSubsetError(f"the strategy returned an index outside 0…{examples - 1}")
    # A table finds duplicates in the time of reading it; sorting the indices takes longer than the epoch's selection.
    different = int(torch.zeros(examples, dtype=torch.bool).index_fill_(0, indices, True).sum())
    if len(indices) != budget or different != budget or len(weights) != budget:
        raise InvalidSubsetError(
            f"the strategy returned {len(indices)} indices ({different} different) and "
            f"{len(weights)} weights; expected {budget} different ones"
        )
    if not (bool(weights.isfinite().all()) and bool((weights >= 0).all()) and float(weights.sum()) > 0):
        raise InvalidSubsetError("the strategy returned weights that are negative, not finite, or all zero")
    return subset

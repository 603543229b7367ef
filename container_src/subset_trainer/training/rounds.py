"""One round of selection: look at the data if the strategy needs it, ask, and hold the answer to the rules."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from subset_selection import (
    BatchFilter,
    NotFiniteError,
    Pool,
    Refresh,
    SoftPruning,
    Strategy,
    Subset,
    distributed,
    load_state,
    state_of,
)
from subset_selection.uniform import RepeatedSampling
from subset_trainer.data import Dataset
from subset_trainer.errors import AlgorithmError, UserError
from subset_trainer.models import Classifier
from subset_trainer.training.devices import Machine
from subset_trainer.training.embeddings import allocate
from subset_trainer.training.evaluation import look_at
from subset_trainer.training.ranks import Ranks

LEAST_VALIDATION = 1_000
"""Validation examples that steer a choice among few candidates, where there are so many."""


class Selector(Protocol):
    """What the loop asks for subsets."""

    refresh: Refresh

    def select(self, budget: int, generator: torch.Generator, look: bool) -> Subset:
        """The examples to visit from now on.

        Args:
            budget: K.
            generator: for random choices.
            look: whether the time has come to look at the data, for a strategy that is asked every epoch.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """What it remembers of earlier rounds: a copy, of dicts, tensors on the CPU, numbers and None."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what ``state_dict`` returned."""
        ...


class NativeSelector:
    """Runs a strategy of :mod:`subset_selection` on what the model makes of the data now.

    Args:
        strategy: of one run.
        classifier, train, validation, machine: what it looks at, and where.
        ranks: the processes that look together; the first one chooses for all, and remembers.
        candidates_per_pick: how many examples it looks at for each that it takes, drawn anew each time, with as large a
            share of the validation examples (but at least ``LEAST_VALIDATION``); None: all.
    """

    def __init__(
        self,
        strategy: Strategy,
        classifier: Classifier,
        train: Dataset,
        validation: Dataset,
        machine: Machine,
        ranks: Ranks,
        candidates_per_pick: float | None = None,
    ) -> None:
        self.refresh = strategy.refresh
        self._candidates_per_pick = candidates_per_pick
        self._strategy = strategy
        self._classifier = classifier
        self._train = train
        self._validation = validation
        self._machine = machine
        self._ranks = ranks
        if strategy.needs_last_layer:
            classifier.head  # noqa: B018 - a network without a last linear layer is refused before training

    def select(self, budget: int, generator: torch.Generator, look: bool = True) -> Subset:
        """Raises UserError where the model's outputs are not finite, AlgorithmError where the strategy's answer breaks
        the rules, Terminated on every process where SIGTERM has reached one of several."""
        candidates, validation = self._train, self._validation
        drawn = None
        if self._candidates_per_pick is not None and look:
            size = min(len(candidates), round(self._candidates_per_pick * budget))
            drawn = _draw(len(candidates), size, generator)
            share = size / len(candidates)
            least = min(len(validation), LEAST_VALIDATION)
            validation = validation.subset(
                _draw(len(validation), max(least, round(share * len(validation))), generator)
            )
            candidates = candidates.subset(drawn)
        train_pool, own = self._pool(candidates, look and self._strategy.needs_last_layer)
        validation_pool, own_validation = self._pool(validation, look and self._strategy.needs_validation)
        try:
            if self._ranks.size == 1:
                subset = self._strategy.select(train_pool, validation_pool, budget, generator)
            else:
                subset = distributed.select(
                    self._strategy,
                    train_pool,
                    own,
                    validation_pool,
                    own_validation,
                    budget,
                    generator,
                    self._ranks.from_first,
                    partial(allocate, processes=self._ranks.local_size),
                )
        except NotFiniteError as error:
            raise UserError(f"training diverged: {error}; learning_rate is likely too high") from error
        if drawn is not None:
            subset = replace(subset, indices=drawn[subset.indices])
        return checked(subset, len(self._train), budget)

    def state_dict(self) -> dict[str, Any]:
        """See :class:`Selector`."""
        return state_of(self._strategy)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`Selector`."""
        load_state(self._strategy, state)

    def _pool(self, dataset: Dataset, look: bool) -> tuple[Pool, Tensor]:
        """This process's part of it, and which that is."""
        if look:
            return look_at(self._classifier, dataset, self._machine, self._ranks)
        own = torch.arange(len(dataset))[self._ranks.places(len(dataset), dataset.owners)]
        return Pool(dataset.labels[own]), own


class SoftPruningSelector:
    """Asks a strategy that sets each epoch's size by itself."""

    refresh: Refresh = "every epoch"

    def __init__(self, strategy: SoftPruning, labels: Tensor) -> None:
        self.final_share = strategy.final_share
        self.observe = strategy.observe
        self._strategy = strategy
        self._labels = labels

    def select(self, budget: int, generator: torch.Generator, look: bool = True) -> Subset:
        """The budget is not used."""
        subset = self._strategy.select(self._labels, generator)
        return checked(subset, len(self._labels), len(subset.indices))

    def state_dict(self) -> dict[str, Any]:
        """See :class:`Selector`."""
        return state_of(self._strategy)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`Selector`."""
        load_state(self._strategy, state)


class FilterSelector:
    """Candidates for a filter within batches: random ones, as many for each that is kept as the filter says.

    Args:
        make_filter: called before the first epoch; its time counts as selection. It gets what an earlier one of this
            run remembered, so that what took long is not done again, or nothing.
        examples: N.
    """

    refresh: Refresh = "every epoch"

    def __init__(self, make_filter: Callable[[Mapping[str, Any]], BatchFilter], examples: int) -> None:
        self._make_filter = make_filter
        self._sampling = RepeatedSampling()
        self._examples = examples
        self.filter: BatchFilter | None = None

    def select(self, budget: int, generator: torch.Generator, look: bool = True) -> Subset:
        """The epoch's candidates."""
        if self.filter is None:
            self.filter = self._make_filter({})
        count = min(self._examples, round(budget * self.filter.candidates_per_pick))
        pool = Pool(torch.zeros(self._examples, dtype=torch.int64))
        return self._sampling.select(pool, pool, count, generator)

    def state_dict(self) -> dict[str, Any]:
        """See :class:`Selector`."""
        of_filter = None if self.filter is None else state_of(self.filter)
        return {"filter": of_filter, "sampling": state_of(self._sampling)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`Selector`."""
        load_state(self._sampling, state["sampling"])
        if state["filter"] is not None:
            self.filter = self._make_filter(state["filter"])


def _draw(examples: int, count: int, generator: torch.Generator) -> Tensor:
    """Positions of so many examples, in order, so that equal candidates are ranked as they are without a draw."""
    return torch.randperm(examples, generator=generator)[:count].sort().values


def everything(examples: int) -> Subset:
    return Subset.of(torch.arange(examples))


def checked(subset: Subset, examples: int, budget: int) -> Subset:
    """The subset, if it has exactly ``budget`` different indices of ``examples`` and usable weights.

    Raises:
        AlgorithmError: it has not.
    """
    indices, weights = subset.indices, subset.weights
    if len(indices) != budget or len(indices.unique()) != budget or len(weights) != budget:
        raise AlgorithmError(
            f"the strategy returned {len(indices)} indices ({len(indices.unique())} different) and "
            f"{len(weights)} weights; expected {budget} different ones"
        )
    if int(indices.min()) < 0 or int(indices.max()) >= examples:
        raise AlgorithmError(f"the strategy returned an index outside 0…{examples - 1}")
    if not (bool(weights.isfinite().all()) and bool((weights >= 0).all()) and float(weights.sum()) > 0):
        raise AlgorithmError("the strategy returned weights that are negative, not finite, or all zero")
    return subset

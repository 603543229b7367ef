"""One round of selection: look at the data if the strategy needs it, ask, and hold the answer to the rules."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from subset_trainer.data import Dataset
from subset_trainer.errors import AlgorithmError, UserError
from subset_trainer.models import Classifier
from subset_trainer.selection import (
    BatchFilter,
    NotFiniteError,
    Pool,
    Refresh,
    SoftPruning,
    Strategy,
    Subset,
)
from subset_trainer.selection.uniform import RepeatedSampling
from subset_trainer.training.devices import Machine
from subset_trainer.training.evaluation import look_at


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


class NativeSelector:
    """Runs a strategy of :mod:`subset_trainer.selection` on what the model makes of the data now.

    Args:
        strategy: of one run.
        classifier, train, validation, machine: what it looks at, and where.
        pool_fraction: share of the training examples that it chooses from, drawn anew each time, at least the budget.
    """

    def __init__(
        self,
        strategy: Strategy,
        classifier: Classifier,
        train: Dataset,
        validation: Dataset,
        machine: Machine,
        pool_fraction: float = 1.0,
    ) -> None:
        self.refresh = strategy.refresh
        self._pool_fraction = pool_fraction
        self._strategy = strategy
        self._classifier = classifier
        self._train = train
        self._validation = validation
        self._machine = machine
        if strategy.needs_last_layer:
            classifier.head  # noqa: B018 - a network without a last linear layer is refused before training

    def select(self, budget: int, generator: torch.Generator, look: bool = True) -> Subset:
        """Raises UserError where the model's outputs are not finite, AlgorithmError where the strategy's answer breaks
        the rules."""
        drawn = None
        candidates = self._train
        if self._pool_fraction < 1:
            size = max(budget, round(self._pool_fraction * len(self._train)))
            # In the data's order, so that equal candidates are ranked as they are without a draw.
            drawn = torch.randperm(len(self._train), generator=generator)[:size].sort().values
            candidates = self._train.subset(drawn)
        try:
            subset = self._strategy.select(
                self._pool(candidates, look and self._strategy.needs_last_layer),
                self._pool(self._validation, look and self._strategy.needs_validation),
                budget,
                generator,
            )
        except NotFiniteError as error:
            raise UserError(f"training diverged: {error}; learning_rate is likely too high") from error
        if drawn is not None:
            subset = replace(subset, indices=drawn[subset.indices])
        return checked(subset, len(self._train), budget)

    def _pool(self, dataset: Dataset, look: bool) -> Pool:
        return look_at(self._classifier, dataset, self._machine) if look else Pool(dataset.labels)


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


class FilterSelector:
    """Candidates for a filter within batches: random ones, as many for each that is kept as the filter says.

    Args:
        make_filter: called before the first epoch; its time counts as selection.
        examples: N.
    """

    refresh: Refresh = "every epoch"

    def __init__(self, make_filter: Callable[[], BatchFilter], examples: int) -> None:
        self._make_filter = make_filter
        self._sampling = RepeatedSampling()
        self._examples = examples
        self.filter: BatchFilter | None = None

    def select(self, budget: int, generator: torch.Generator, look: bool = True) -> Subset:
        """The epoch's candidates."""
        if self.filter is None:
            self.filter = self._make_filter()
        count = min(self._examples, round(budget * self.filter.candidates_per_pick))
        pool = Pool(torch.zeros(self._examples, dtype=torch.int64))
        return self._sampling.select(pool, pool, count, generator)


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

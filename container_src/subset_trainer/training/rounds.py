"""One selection: evaluate the model on the data if the strategy needs it, select, and check the result."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
from subset_trainer.training.embeddings import allocate
from subset_trainer.training.evaluation import look_at
from subset_trainer.training.place import Place
from subset_trainer.training.plan import Epoch

logger = logging.getLogger(__name__)
LEAST_VALIDATION = 1_000
"""Minimum number of validation examples that are used in a selection among few candidates, if there are that many."""


@dataclass(frozen=True)
class Data:
    """The data sets of a training."""

    train: Dataset
    validation: Dataset
    weights: Tensor | None = None
    """[N] float32: a factor for each training example's loss, in addition to the weight from selection; None: all 1."""


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
            UserError: the model's outputs are not finite.
            AlgorithmError: the strategy returned an invalid subset.
            Terminated: on every process, if SIGTERM has reached one of several.
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


class NativeSelector(Asking):
    """Runs a strategy of :mod:`subset_selection` on the model's current outputs.

    If there are several processes, the first one selects for all and holds the strategy's state.

    Args:
        strategy: the strategy of one run.
        classifier: the model whose outputs the strategy uses.
        data: the examples to select from.
        budget: K.
        place: the device and the processes.
        candidates_per_pick: number of candidates per pick, drawn again for each selection. The same fraction of the
            validation examples is used, but at least ``LEAST_VALIDATION``. None: all examples are candidates.
    """

    def __init__(
        self,
        strategy: Strategy,
        classifier: Classifier,
        data: Data,
        budget: int,
        place: Place,
        candidates_per_pick: float | None = None,
    ) -> None:
        super().__init__(strategy, strategy.refresh, budget)
        self._candidates_per_pick = candidates_per_pick
        self._strategy = strategy
        self._classifier = classifier
        self._data = data
        self._place = place
        if strategy.needs_last_layer:
            classifier.head  # noqa: B018 - raises before training if the network has no last linear layer

    def select(self, generator: torch.Generator, look: bool = True) -> Subset:
        """See :class:`Asking`."""
        candidates, validation, ranks = self._data.train, self._data.validation, self._place.ranks
        drawn = None
        if self._candidates_per_pick is not None and look:
            size = min(len(candidates), round(self._candidates_per_pick * self.budget))
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
            if ranks.size == 1:
                subset = self._strategy.select(train_pool, validation_pool, self.budget, generator)
            else:
                subset = distributed.select(
                    self._strategy,
                    train_pool,
                    own,
                    validation_pool,
                    own_validation,
                    self.budget,
                    generator,
                    ranks.from_first,
                    partial(allocate, processes=ranks.local_size),
                )
        except NotFiniteError as error:
            raise UserError(f"training diverged: {error}; learning_rate is likely too high") from error
        if drawn is not None:
            subset = replace(subset, indices=drawn[subset.indices])
        return checked(subset, len(self._data.train), self.budget)

    def _pool(self, dataset: Dataset, look: bool) -> tuple[Pool, Tensor]:
        """This process's part of a data set as a pool, and the indices of its examples."""
        if look:
            return look_at(self._classifier, dataset, self._place)
        own = torch.arange(len(dataset))[self._place.ranks.places(len(dataset), dataset.owners)]
        return Pool(dataset.labels[own]), own


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
    return Subset.of(torch.arange(examples))


def checked(subset: Subset, examples: int, budget: int) -> Subset:
    """Return the subset if it has exactly ``budget`` different indices below ``examples`` and valid weights.

    Raises:
        AlgorithmError: the subset is invalid.
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

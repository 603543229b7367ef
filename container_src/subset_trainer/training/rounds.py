"""One round of selection: look at the data if the strategy needs it, ask, and hold the answer to the rules."""

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
"""Validation examples that steer a choice among few candidates, where there are so many."""


@dataclass(frozen=True)
class Data:
    """What a training reads."""

    train: Dataset
    validation: Dataset
    weights: Tensor | None = None
    """[N] float32: what each training example's loss counts besides the weight that selection gives it; None: all
    alike."""


@dataclass(frozen=True)
class Choice:
    """What an epoch trains on."""

    subset: Subset
    """The examples that it reads."""
    filter: BatchFilter | None = None
    """Chooses among each batch's examples those that the step is taken on; None: all are."""
    kept: int = 0
    """How many samples the filter keeps, over the epoch."""

    @property
    def size(self) -> int:
        """Samples that the epoch trains on."""
        return self.kept if self.filter else len(self.subset.indices)


class Selector(Protocol):
    """What the loop asks for the examples of each epoch that does not see everything."""

    def choose(self, epoch: Epoch, generator: torch.Generator) -> Choice | None:
        """What the run trains on from this epoch on; None: what was chosen last stays.

        Args:
            generator: for random choices.

        Raises:
            UserError: the model's outputs are not finite.
            AlgorithmError: the strategy's answer breaks the rules.
            Terminated: on every process, where SIGTERM has reached one of several.
        """
        ...

    def choice_of(self, subset: Subset) -> Choice:
        """The choice of which a checkpoint has kept this subset."""
        ...

    def observe(self, indices_K: Tensor, losses_K: Tensor) -> None:
        """The examples that an epoch trained on, and their losses in it; both on the CPU."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What it remembers of earlier rounds: a copy, of dicts, tensors on the CPU, numbers and None."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what ``state_dict`` returned."""
        ...


class Asking:
    """What selectors have in common: they ask when it is time, and hold the answer to the rules.

    Args:
        strategy: of one run, whose state is the selector's.
        refresh: when it is asked.
        budget: K, of a strategy that is given one.
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
        """Ask the strategy.

        Args:
            look: whether the time has come to look at the data, for a strategy that is asked every epoch.
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
    """Runs a strategy of :mod:`subset_selection` on what the model makes of the data now.

    Args:
        strategy: of one run.
        classifier, data, place: what it looks at, and where. Of several processes the first one chooses for all, and
            remembers.
        budget: K.
        candidates_per_pick: how many examples it looks at for each that it takes, drawn anew each time, with as large a
            share of the validation examples (but at least ``LEAST_VALIDATION``); None: all.
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
            classifier.head  # noqa: B018 - a network without a last linear layer is refused before training

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
        """This process's part of it, and which that is."""
        if look:
            return look_at(self._classifier, dataset, self._place)
        own = torch.arange(len(dataset))[self._place.ranks.places(len(dataset), dataset.owners)]
        return Pool(dataset.labels[own]), own


class SoftPruningSelector(Asking):
    """Asks a strategy that sets each epoch's size by itself."""

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
    """Candidates for a filter within batches: random ones, as many for each that is kept as the filter says.

    Args:
        make_filter: called before the first epoch; its time counts as selection. It gets the state of an earlier one of
            this run, so that what took long is not done again, or nothing.
        examples: N.
        budget: K, how many the filter keeps over an epoch.
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
        """The epoch's candidates."""
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

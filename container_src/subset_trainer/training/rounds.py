"""One round of selection: look at the data if the strategy needs it, ask, and hold the answer to the rules."""

from typing import Protocol

import torch

from subset_trainer.data import Dataset
from subset_trainer.errors import AlgorithmError
from subset_trainer.models import Classifier
from subset_trainer.selection import Pool, Refresh, Strategy, Subset
from subset_trainer.training.devices import Machine
from subset_trainer.training.evaluation import look_at


class Selector(Protocol):
    """What the loop asks for subsets."""

    refresh: Refresh

    def select(self, budget: int, generator: torch.Generator) -> Subset: ...


class NativeSelector:
    """Runs a strategy of :mod:`subset_trainer.selection` on what the model makes of the data now."""

    def __init__(
        self,
        strategy: Strategy,
        classifier: Classifier,
        train: Dataset,
        validation: Dataset,
        machine: Machine,
    ) -> None:
        self.refresh = strategy.refresh
        self._strategy = strategy
        self._classifier = classifier
        self._train = train
        self._validation = validation
        self._machine = machine
        if strategy.needs_last_layer:
            classifier.head  # noqa: B018 - a network without a last linear layer is refused before training

    def select(self, budget: int, generator: torch.Generator) -> Subset:
        """Raises AlgorithmError where the strategy's answer breaks the rules."""
        if self._strategy.needs_last_layer:
            train, validation = self._pool(self._train), self._pool(self._validation)
        else:
            train, validation = Pool(self._train.labels), Pool(self._validation.labels)
        return checked(self._strategy.select(train, validation, budget, generator), len(self._train), budget)

    def _pool(self, dataset: Dataset) -> Pool:
        return look_at(self._classifier, dataset, self._machine)


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

"""Applies any strategy class by class."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from subset_selection.classes import by_class
from subset_selection.stateful import Stateful, load_state, state_of
from subset_selection.types import Pool, Refresh, Scoring, Strategy, Subset


class Balanced(Stateful):
    """Selects the same number of examples from each class, or all of a class that has fewer.

    Each class has its own instance of the strategy.

    Args:
        create: creates the strategy of one class.
    """

    def __init__(self, create: Callable[[], Strategy]) -> None:
        self._create = create
        self._of_class: dict[int, Strategy] = {}
        example = create()
        self.needs_last_layer = example.needs_last_layer
        self.needs_validation = example.needs_validation
        self.refresh: Refresh = example.refresh
        if isinstance(example, Scoring):
            self.scores = example.scores

    def state_dict(self) -> dict[str, Any]:
        """See :class:`~subset_selection.stateful.Stateful`."""
        return {str(label): state_of(strategy) for label, strategy in self._of_class.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`~subset_selection.stateful.Stateful`."""
        self._of_class = {int(label): self._create() for label in state}
        for label, strategy in self._of_class.items():
            load_state(strategy, state[str(label)])

    def select(self, train: Pool, validation: Pool, budget: int, generator: torch.Generator) -> Subset:
        """See :class:`~subset_selection.types.Strategy`."""

        def choose(label: int, indices: Tensor, quota: int) -> Subset:
            strategy = self._of_class.setdefault(label, self._create())
            subset = strategy.select(train.at(indices), validation, quota, generator)
            return Subset(indices.cpu()[subset.indices], subset.weights, subset.note)

        return by_class(train, budget, "class", choose)

"""Searches that fall into parts which do not see each other, so that several processes can divide them."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from subset_selection.classes import joined, members, quotas
from subset_selection.settings import Balance
from subset_selection.types import Pool, Refresh, Subset

ANY = -1
"""In place of a class: the problem has examples of all classes."""


@dataclass(frozen=True)
class Problem:
    """A part of a selection: it reads its own examples, and the validation examples of its class."""

    label: int
    """The class; or ``ANY``."""
    indices: Tensor
    """[n] int64, ascending: its examples."""
    quota: int
    """The number of examples to pick, from 1 to n."""


Group = Sequence[Problem]
"""Problems that are solved together."""


class Divided(ABC):
    """A strategy whose search is divided into groups of problems. It has no state.

    A group's search reads the rows of its own examples alone, so several processes solve a group each. What one process
    finds does not depend on which other groups it has.
    """

    READS: ClassVar[tuple[str, ...]] = ("logits", "features")
    """The columns of the pools that a search reads."""
    needs_last_layer = True
    needs_validation = False
    refresh: Refresh = "periodically"

    def guides(self, validation: int, generator: torch.Generator) -> Tensor | None:
        """The indices, ascending, of the validation examples that the selection uses; None: all of them."""
        return None

    @abstractmethod
    def problems(
        self, labels_N: Tensor, classes: int, width: int, budget: int, generator: torch.Generator
    ) -> list[Group]:
        """The groups, in the order in which one process solves them.

        Args:
            labels_N: the labels of all examples.
            classes: C.
            width: number of elements of an example's row, C + D.
            budget: K, the sum of the quotas.
            generator: the source of randomness.
        """
        ...

    @abstractmethod
    def solve(self, train: Pool, validation: Pool, group: Group, generator: torch.Generator) -> list[Subset]:
        """The solution of each problem, with indices into ``train``."""
        ...

    def skip(self, group: Group, generator: torch.Generator) -> None:  # noqa: B027 - most draw nothing
        """Advance the generator as :meth:`solve` does."""

    def joined(
        self, groups: Sequence[Group], found: Sequence[Sequence[Subset]], generator: torch.Generator
    ) -> Subset:
        """The selection, from the solutions of all groups."""
        return joined([subset for of_group in found for subset in of_group])

    def watched(self, groups: Sequence[Group]) -> Iterable[Group]:
        """The groups, with a report of progress if the searches make none."""
        return groups

    @torch.no_grad()
    def select(self, train: Pool, validation: Pool, budget: int, generator: torch.Generator) -> Subset:
        """See :class:`~subset_selection.types.Strategy`."""
        drawn = self.guides(len(validation), generator)
        if drawn is not None:
            validation = validation.at(drawn.to(validation.device))
        width = sum(column.shape[1] for column in (train.logits, train.features) if column is not None)
        groups = self.problems(train.labels, train.classes, width, budget, generator)
        found = [self.solve(train, validation, group, generator) for group in self.watched(groups)]
        return self.joined(groups, found, generator)


class ByClass(Divided):
    """A strategy that searches each class by itself, or all examples as one class."""

    def __init__(self, balance: Balance, whole: bool = False) -> None:
        self._balance: Balance = balance
        self._whole = whole

    def problems(
        self, labels_N: Tensor, classes: int, width: int, budget: int, generator: torch.Generator
    ) -> list[Group]:
        """See :class:`Divided`."""
        if self._whole:
            return [[Problem(ANY, torch.arange(len(labels_N), device=labels_N.device), budget)]]
        of_class = members(labels_N, classes)
        sizes = torch.tensor([len(indices) for indices in of_class])
        shares = quotas(sizes, budget, self._balance).tolist()
        return [
            [Problem(label, indices, quota)]
            for label, (indices, quota) in enumerate(zip(of_class, shares, strict=True))
            if quota
        ]

    def solve(self, train: Pool, validation: Pool, group: Group, generator: torch.Generator) -> list[Subset]:
        """See :class:`Divided`."""
        return [self.within(train, validation, problem, generator) for problem in group]

    @abstractmethod
    def within(self, train: Pool, validation: Pool, problem: Problem, generator: torch.Generator) -> Subset:
        """Select within a class. Returns indices into ``train``."""
        ...


def of_class(validation: Pool, label: int) -> Pool:
    """The validation examples of a class, or all of them if the class has none."""
    indices = guides_of(validation.labels, label)
    return validation if len(indices) == len(validation) else validation.at(indices)


def guides_of(labels_M: Tensor, label: int) -> Tensor:
    """The indices of the validation examples that guide the search in a class: its own, or all if it has none."""
    indices = (labels_M == label).nonzero().flatten()
    return indices if len(indices) else torch.arange(len(labels_M), device=labels_M.device)

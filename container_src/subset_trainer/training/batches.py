"""An epoch's batches: their random order, and the part of each batch that this process reads."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from subset_selection import BatchFilter, Subset
from subset_trainer.training.augmentation import Augmentation
from subset_trainer.training.parallel.ranks import Ranks
from subset_trainer.training.parallel.shares import Share
from subset_trainer.training.place import Place
from subset_trainer.training.plan import Plan
from subset_trainer.training.rounds import Choice, Data


@dataclass(frozen=True)
class Batch:
    """The examples of a step, B over all processes; on the device."""

    inputs: Tensor
    """[own, …]: raw inputs of this process's share, including padding examples."""
    ids: Tensor
    """[B] int64: indices of the training examples. Every process has the ids, labels and weights of the whole batch."""
    labels: Tensor
    """[B] int64."""
    weights: Tensor
    """[B] float32."""
    share: Share
    own: slice | Tensor
    """Positions of this process's examples among the B."""
    chances: Tensor | None = None
    """[B, 5] float32: random numbers that determine how images are augmented."""

    @cached_property
    def total(self) -> Tensor:
        """The sum of the whole batch's weights."""
        return self.weights.sum()

    def filled(self, values: Tensor) -> Tensor:
        """This process's share of values, [B, …] → [own, …], with zeros for padding examples."""
        return self.share.filled_up(values[self.own])

    def augmented(self, augmentation: Augmentation | None) -> "Batch":
        if augmentation is None or self.chances is None:
            return self
        inputs = augmentation.apply(self.inputs, self.filled(self.chances))
        return replace(self, inputs=inputs, chances=None)

    def filtered(self, by: BatchFilter, own_losses: Tensor, count: int, ranks: Ranks) -> "Batch":
        """A batch of the examples that the filter keeps, divided again among the processes.

        Args:
            by: the filter.
            own_losses: [own] the losses of this process's share.
            count: number of examples to keep.
            ranks: the processes.
        """
        losses = ranks.whole(self.share.counted(own_losses), self.own, len(self.ids))
        kept = by.keep(losses, self.ids, count)
        places = ranks.share(len(kept))
        return Batch(
            ranks.shared_anew(self.share.counted(self.inputs), self.own, len(self.ids), kept),
            self.ids[kept],
            self.labels[kept],
            self.weights[kept],
            Share(self.ids[:0], places),
            places,
        )


class Batches:
    """The batches of one epoch.

    Args:
        choice: the examples that the epoch trains on.
        data: the data sets.
        plan: the plan of the run.
        place: the device and the processes.
        generators: the random generators ``order`` (of the examples) and ``augmentation``.
        augmentation: how images are augmented; None: the inputs are not images.
        visits_N: [N] how often the run trained on each example before this epoch.
    """

    def __init__(
        self,
        choice: Choice,
        data: Data,
        plan: Plan,
        place: Place,
        generators: Mapping[str, torch.Generator],
        augmentation: Augmentation | None,
        visits_N: Tensor,
    ) -> None:
        subset, self._train, self._place = choice.subset, data.train, place
        self.steps = plan.steps_for(choice.size)
        self.sizes = [len(part) for part in torch.arange(choice.size).tensor_split(self.steps)]
        """Number of examples that each step trains on, after a filter within batches."""
        self.starts = [0, *accumulate(self.sizes)]
        order = torch.randperm(len(subset.indices), generator=generators["order"])
        if data.train.owners is not None:
            # Otherwise a process could have many examples of one batch and few of the next.
            order = order[spread_evenly(data.train.owners[subset.indices[order]])]
        self.read = Subset(subset.indices[order], subset.weights[order])
        """The epoch's examples in reading order."""
        self._weights = self.read.weights
        if data.weights is not None:
            self._weights = self._weights * data.weights[self.read.indices]
        self._chances: Tensor | None = None
        if augmentation:
            drawn = augmentation.draw(len(order), generators["augmentation"])
            self._chances = augmentation.alternated(drawn, self.read.indices, visits_N)

    def after(self, step: int) -> Iterator[Batch]:
        """Iterate over the batches that remain after this many steps.

        Raises:
            UserError: this process has none of a sharded data set's examples.
        """
        device, indices = self._place.device, self.read.indices
        shares = [Share.of(part, self._train, self._place.ranks) for part in self._left(indices, step)]
        # To the device once an epoch: a transfer in every step would wait for the step before.
        columns = [
            self._left(column.to(device), step)
            for column in (indices, self._train.labels[indices], self._weights)
        ]
        chances: Sequence[Tensor | None] = [None] * len(shares)
        if self._chances is not None:
            chances = self._left(self._chances.to(device), step)
        inputs = self._train.batches([share.indices for share in shares], device)
        for read, share, ids, labels, weights, chance in zip(inputs, shares, *columns, chances, strict=True):
            yield Batch(read, ids, labels, weights, share, share.on(device), chance)

    def _left(self, column: Tensor, step: int) -> Sequence[Tensor]:
        return column.tensor_split(self.steps)[step:]


def spread_evenly(owners: Tensor) -> Tensor:
    """An order of the examples, [K] int64, that distributes each owner's examples evenly.

    In every section of the order, each owner's number of examples is proportional to its total, up to one or two. The
    examples of one owner keep their relative order.

    Args:
        owners: [K] integers, the owner of each example.
    """
    at = torch.empty(len(owners), dtype=torch.float64)
    for owner in owners.unique():
        own = (owners == owner).nonzero().flatten()
        at[own] = (torch.arange(len(own), dtype=torch.float64) + 0.5) / len(own)
    return at.argsort(stable=True)

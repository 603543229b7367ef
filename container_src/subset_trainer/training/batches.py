"""An epoch's batches: the order that is drawn for it, and of each batch what this process reads."""

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
    """A step's examples, B over all processes; on the device."""

    inputs: Tensor
    """[own, …]: raw inputs of this process's share, those that fill it up included."""
    ids: Tensor
    """[B] int64: which training examples they are. Every process knows the ids, labels and weights of all."""
    labels: Tensor
    """[B] int64."""
    weights: Tensor
    """[B] float32."""
    share: Share
    own: slice | Tensor
    """Which of the B are this process's."""
    chances: Tensor | None = None
    """[B, 5] float32: how images are augmented."""

    @cached_property
    def total(self) -> Tensor:
        """The whole batch's weight."""
        return self.weights.sum()

    def filled(self, values: Tensor) -> Tensor:
        """[B, …] → [own, …], with zeros for what fills up this process's share."""
        return self.share.filled_up(values[self.own])

    def augmented(self, augmentation: Augmentation | None) -> "Batch":
        if augmentation is None or self.chances is None:
            return self
        inputs = augmentation.apply(self.inputs, self.filled(self.chances))
        return replace(self, inputs=inputs, chances=None)

    def filtered(self, by: BatchFilter, own_losses: Tensor, count: int, ranks: Ranks) -> "Batch":
        """The examples that the filter keeps, shared anew among the processes.

        Args:
            own_losses: [own] the losses of this process's share.
            count: how many are kept.
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
        choice: what the epoch trains on.
        generators: of the examples' ``order`` and of ``augmentation``.
        augmentation: None: the inputs are no images.
    """

    def __init__(
        self,
        choice: Choice,
        data: Data,
        plan: Plan,
        place: Place,
        generators: Mapping[str, torch.Generator],
        augmentation: Augmentation | None,
    ) -> None:
        subset, self._train, self._place = choice.subset, data.train, place
        self.steps = plan.steps_for(choice.size)
        self.sizes = [len(part) for part in torch.arange(choice.size).tensor_split(self.steps)]
        """Examples that each step trains on: of a filter's candidates, those that are kept."""
        self.starts = [0, *accumulate(self.sizes)]
        order = torch.randperm(len(subset.indices), generator=generators["order"])
        if data.train.owners is not None:
            # Else a process would have many of one batch's examples and few of the next one's.
            order = order[spread_evenly(data.train.owners[subset.indices[order]])]
        self.read = Subset(subset.indices[order], subset.weights[order])
        """The epoch's examples in the order in which they are read."""
        self._weights = self.read.weights
        if data.weights is not None:
            self._weights = self._weights * data.weights[self.read.indices]
        self._chances: Tensor | None = None
        if augmentation:
            self._chances = augmentation.draw(len(order), generators["augmentation"])

    def after(self, step: int) -> Iterator[Batch]:
        """The batches that are left after so many steps.

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
    """An order, [K] int64, in which every stretch has of each owner's examples as many as is its share of all, but for
    one or two; each owner's keep their order among themselves.

    Args:
        owners: [K] integers.
    """
    at = torch.empty(len(owners), dtype=torch.float64)
    for owner in owners.unique():
        own = (owners == owner).nonzero().flatten()
        at[own] = (torch.arange(len(own), dtype=torch.float64) + 0.5) / len(own)
    return at.argsort(stable=True)

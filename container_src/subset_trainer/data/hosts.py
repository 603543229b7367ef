"""Channels of which each host has other files (``ShardedByS3Key``): one data set, whose inputs lie on several hosts.

The shards' examples are numbered one shard after the other, in the hosts' order. Every process knows all labels, and
has the inputs of its host's shard; of these each process of the host owns an equal part, which it is to read.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from subset_trainer.data.datasets import Dataset
from subset_trainer.data.ids import Ids
from subset_trainer.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Shards:
    """The hosts that have the shards, and a way to tell all what each knows of its own.

    gather: what each process brings → all of it, in the order of their ranks; to be called by all at one place.
    hosts: of each rank, the name of its host; rank: this process's; channels: those that are sharded.
    """

    gather: Callable[[Any], list[Any]]
    hosts: tuple[str, ...]
    rank: int
    channels: frozenset[str]

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts, each once: their shards' order."""
        return tuple(dict.fromkeys(self.hosts))

    @property
    def own(self) -> int:
        """The position of this host's shard."""
        return self.names.index(self.hosts[self.rank])

    def of_each(self, value: T) -> list[T]:
        """What each shard's host brings; its processes all bring the same."""
        everyones = self.gather(value)
        return [everyones[self.hosts.index(name)] for name in self.names]

    def error(self, error: UserError) -> UserError:
        """What is wrong with a shard, for somebody who knows the whole channel."""
        return UserError(
            f"{error} (Host {self.names[self.own]} has its part of the channel's files alone: "
            "S3DistributionType=ShardedByS3Key.)"
        )


@dataclass(frozen=True)
class Shard:
    """This host's part of a channel. counts: examples of each shard."""

    shards: Shards
    counts: tuple[int, ...]

    @property
    def span(self) -> slice:
        """Which of all examples are this host's."""
        start = sum(self.counts[: self.shards.own])
        return slice(start, start + self.counts[self.shards.own])

    def owners(self) -> torch.Tensor:
        """[N] int16: the rank that reads each example."""
        owners = []
        for name, count in zip(self.shards.names, self.counts, strict=True):
            ranks = [rank for rank, host in enumerate(self.shards.hosts) if host == name]
            # As even as can be, each a stretch: the processes' parts follow one another as the examples do.
            owners.append(torch.arange(count) * len(ranks) // max(1, count) + ranks[0])
        return torch.cat(owners).to(torch.int16)

    def own(self, rows: np.ndarray) -> np.ndarray:
        """Of rows [K] of the whole, those of this shard, numbered as there."""
        return rows[(rows >= self.span.start) & (rows < self.span.stop)] - self.span.start

    def whole(self, own: np.ndarray) -> np.ndarray:
        """[N, …] of all shards, of what each has of its own examples."""
        return np.concatenate(self.shards.of_each(own))

    def dataset(self, own: Dataset | None, labels: np.ndarray) -> "ShardedDataset":
        """own: this shard's, None where it is empty. labels [N]."""
        rows = torch.full((len(labels),), -1)
        rows[self.span] = torch.arange(self.counts[self.shards.own])
        return ShardedDataset(own, torch.from_numpy(labels), self.owners(), rows)

    def note(self, channel: str) -> str:
        parts = ", ".join(
            f"{name} {count:,}" for name, count in zip(self.shards.names, self.counts, strict=True)
        )
        return f"{channel} channel: sharded, {sum(self.counts):,} examples on {len(self.counts)} hosts ({parts})."


class ShardedDataset:
    """The labels of all examples, and the inputs of those that this host has.

    own: these, None where there are none; labels [N] int64; owners [N] int16: the rank that is to read each; rows [N]
    int64: the example's position in `own`, -1 where it is another host's.
    """

    def __init__(
        self, own: Dataset | None, labels: torch.Tensor, owners: torch.Tensor, rows: torch.Tensor
    ) -> None:
        self.labels = labels
        self.owners: torch.Tensor | None = owners
        self._own = own
        self._rows = rows

    def __len__(self) -> int:
        return len(self.labels)

    def place(self, device: torch.device) -> bool:
        return self._own is not None and self._own.place(device)

    def batches(self, order: Sequence[torch.Tensor], device: torch.device) -> Iterator[torch.Tensor]:
        """As any data set's. ValueError where an input is asked for that another host has."""
        rows = [self._rows[indices] for indices in order]
        if any(bool((part < 0).any()) for part in rows):
            raise ValueError("the inputs of examples that another host has were asked for")
        return iter(()) if self._own is None else self._own.batches(rows, device)

    def subset(self, indices: torch.Tensor) -> "ShardedDataset":
        assert self.owners is not None
        return ShardedDataset(self._own, self.labels[indices], self.owners[indices], self._rows[indices])


class Names:
    """What the examples of all shards are called; those of other hosts from :meth:`tell` on.

    own: this shard's.
    """

    def __init__(self, own: Ids, shard: Shard) -> None:
        self._own, self._shard = own, shard
        self._told: list[Sequence[str] | UserError] = []

    def tell(self) -> None:
        """To be called by all processes at one place. A shard whose names cannot be read says so to who asks."""
        mine: Sequence[str] | UserError
        try:
            mine = list(self._own)
        except UserError as error:
            mine = error
        self._told = self._shard.shards.of_each(mine)

    def ids(self) -> Ids:
        starts = np.array([0, *np.cumsum(self._shard.counts)])

        def name(row: int) -> str:
            shard = int(np.searchsorted(starts, row, "right")) - 1
            if not self._told and shard == self._shard.shards.own:
                return self._own[row - int(starts[shard])]
            names = self._told[shard]
            if isinstance(names, UserError):
                raise names
            return names[row - int(starts[shard])]

        return Ids(name, np.arange(starts[-1]))

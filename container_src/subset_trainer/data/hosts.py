"""Channels sharded over hosts (``ShardedByS3Key``): one data set whose inputs lie on several hosts.

Examples are numbered shard after shard, in the order of the hosts. Every process knows all labels and can read the
inputs of its own host's shard. Each process of a host owns an equal part of that shard and reads only this part.
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
    """The hosts that hold the shards, and a collective operation among their processes.

    `gather`: collects one value from every process, in rank order; all processes must call it together.
    `hosts`: the host name of each rank. `rank`: this process's rank. `channels`: the sharded channels.
    """

    gather: Callable[[Any], list[Any]]
    hosts: tuple[str, ...]
    rank: int
    channels: frozenset[str]

    @property
    def names(self) -> tuple[str, ...]:
        """The distinct hosts, in the order of their shards."""
        return tuple(dict.fromkeys(self.hosts))

    @property
    def own(self) -> int:
        """The position of this host's shard."""
        return self.names.index(self.hosts[self.rank])

    def of_each(self, value: T) -> list[T]:
        """One value per shard; all processes of a host must pass the same value."""
        everyones = self.gather(value)
        return [everyones[self.hosts.index(name)] for name in self.names]

    def error(self, error: UserError) -> UserError:
        """The error, with a note that it concerns one host's shard only."""
        return UserError(
            f"{error} (Host {self.names[self.own]} has only its own part of the channel's files: "
            "S3DistributionType=ShardedByS3Key.)"
        )


@dataclass(frozen=True)
class Shard:
    """This host's part of a channel. `counts`: the number of examples in each shard."""

    shards: Shards
    counts: tuple[int, ...]

    @property
    def span(self) -> slice:
        """The positions of this host's examples among all examples."""
        start = sum(self.counts[: self.shards.own])
        return slice(start, start + self.counts[self.shards.own])

    def owners(self) -> torch.Tensor:
        """[N] int16: the rank that reads each example."""
        owners = []
        for name, count in zip(self.shards.names, self.counts, strict=True):
            ranks = [rank for rank, host in enumerate(self.shards.hosts) if host == name]
            # Contiguous parts, as equal as possible, in the order of the ranks.
            owners.append(torch.arange(count) * len(ranks) // max(1, count) + ranks[0])
        return torch.cat(owners).to(torch.int16)

    def own(self, rows: np.ndarray) -> np.ndarray:
        """Those of the global positions `rows` [K] that lie in this shard, as positions within it."""
        return rows[(rows >= self.span.start) & (rows < self.span.stop)] - self.span.start

    def whole(self, own: np.ndarray) -> np.ndarray:
        """[N, …] over all shards, assembled from the values that each host has for its own examples."""
        return np.concatenate(self.shards.of_each(own))

    def dataset(self, own: Dataset | None, labels: np.ndarray) -> "ShardedDataset":
        """The data set over all shards. `own`: this shard's inputs, None if it is empty. `labels`: [N]."""
        rows = torch.full((len(labels),), -1)
        rows[self.span] = torch.arange(self.counts[self.shards.own])
        return ShardedDataset(own, torch.from_numpy(labels), self.owners(), rows)

    def note(self, channel: str) -> str:
        parts = ", ".join(
            f"{name} {count:,}" for name, count in zip(self.shards.names, self.counts, strict=True)
        )
        return f"{channel} channel: sharded, {sum(self.counts):,} examples on {len(self.counts)} hosts ({parts})."


class ShardedDataset:
    """The labels of all examples, and the inputs of the examples on this host.

    `own`: the inputs of this host's examples, None if there are none. `labels`: [N] int64. `owners`: [N] int16, the
    rank that reads each example. `rows`: [N] int64, each example's position in `own`, or -1 if it is on another host.
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
        """As for any data set. Raises ValueError if `order` contains an example of another host."""
        rows = [self._rows[indices] for indices in order]
        if any(bool((part < 0).any()) for part in rows):
            raise ValueError("the inputs of examples that another host has were asked for")
        return iter(()) if self._own is None else self._own.batches(rows, device)

    def original_sizes(self, indices: torch.Tensor) -> torch.Tensor | None:
        return None if self._own is None else self._own.original_sizes(self._rows[indices])

    def subset(self, indices: torch.Tensor) -> "ShardedDataset":
        assert self.owners is not None
        return ShardedDataset(self._own, self.labels[indices], self.owners[indices], self._rows[indices])


class Names:
    """The names of the examples in all shards; those of other hosts are known once :meth:`tell` has been called.

    `own`: the names in this shard.
    """

    def __init__(self, own: Ids, shard: Shard) -> None:
        self._own, self._shard = own, shard
        self._told: list[Sequence[str] | UserError] = []

    def tell(self) -> None:
        """Exchange the names; all processes must call it together.

        If a shard's names cannot be read, reading one of them later raises that error.
        """
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

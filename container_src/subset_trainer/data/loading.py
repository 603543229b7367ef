"""What reading has in common for all channels, and learning from the training examples for all kinds of data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from subset_trainer.data.channels import Channel
from subset_trainer.data.datasets import MOST_WORKERS
from subset_trainer.data.hosts import Shard, Shards
from subset_trainer.data.machine import cpu_count, memory_available
from subset_trainer.data.texts.tokens import Tokens

T = TypeVar("T")


@dataclass
class Loading:
    """The workers, the memory that is left, and the notes so far. tokens: what becomes of texts; None: n-grams."""

    workers: int | None
    memory: int
    notes: list[str] = field(default_factory=list)
    available: int = field(default_factory=memory_available)
    """Bytes that the machine has left for what a file unpacks to."""
    content_types: Mapping[str, str] = field(default_factory=dict)
    tokens: Tokens | None = None
    shards: Shards | None = None

    def shards_of(self, channel: str) -> Shards | None:
        """None: this host has all of the channel."""
        return self.shards if self.shards is not None and channel in self.shards.channels else None

    @property
    def decoders(self) -> int:
        return min(cpu_count(), MOST_WORKERS) if self.workers is None else self.workers

    def take(self, channel: Channel, needed: int) -> None:
        """Set bytes of memory apart. UserError where so many are not left."""
        if needed > self.memory:
            raise channel.error(
                f"the data takes {needed / 1e9:.1f} GB in memory, of which {max(0, self.memory) / 1e9:.1f} GB are "
                "left; expected less data, or an instance with more memory."
            )
        self.memory -= needed


@dataclass(frozen=True)
class Fitting:
    """What a kind learns from. rows [K] int64: the training examples among all of the channel, of `count`. shard: this
    host's part of it, None: all. image_size: that is wanted, None: the images' own. seed: of what is drawn."""

    rows: np.ndarray
    count: int
    shard: Shard | None
    image_size: int | None
    seed: int
    loading: Loading

    def own(self, rows: np.ndarray) -> np.ndarray:
        """Of rows of the whole, those of this host, numbered as there."""
        return rows if self.shard is None else self.shard.own(rows)

    def of_each(self, value: T) -> list[T]:
        """What each host brings, given what this one does."""
        return [value] if self.shard is None else self.shard.shards.of_each(value)

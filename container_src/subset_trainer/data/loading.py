"""Resources shared by the reading of all channels, and what a kind of data is fitted on."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from subset_trainer.config.data import MOST_IMAGE_PIXELS
from subset_trainer.data.channels import Channel
from subset_trainer.data.datasets import MOST_WORKERS
from subset_trainer.data.formats.format import Found
from subset_trainer.data.hosts import Shard, Shards
from subset_trainer.data.images.labelled import LabelledImages
from subset_trainer.data.images.unreadable import LeftOut, without_damaged
from subset_trainer.data.machine import cpu_count, memory_available
from subset_trainer.data.texts.tokens import Tokens
from subset_trainer.data.understanding import Decision, Understanding

T = TypeVar("T")


@dataclass
class Loading:
    """The number of workers, the memory left and the notes so far. `tokens`: the tokenizer for texts; None: n-grams."""

    workers: int | None
    memory: int
    notes: list[str] = field(default_factory=list)
    understandings: list[Understanding] = field(default_factory=list)
    available: int = field(default_factory=memory_available)
    """Bytes of memory left for the unpacked content of files."""
    content_types: Mapping[str, str] = field(default_factory=dict)
    tokens: Tokens | None = None
    shards: Shards | None = None
    unreadable_limit: float | None = None
    """The largest share of a channel's images that are left out because they are damaged; None: a single one is an
    error."""
    most_pixels: int = MOST_IMAGE_PIXELS
    """The largest image that is decoded."""
    left_out: list[LeftOut] = field(default_factory=list)

    def shards_of(self, channel: str) -> Shards | None:
        """The shards of the channel; None if this host has all of it."""
        return self.shards if self.shards is not None and channel in self.shards.channels else None

    @property
    def decoders(self) -> int:
        return min(cpu_count(), MOST_WORKERS) if self.workers is None else self.workers

    def readable(self, channel: str, found: Found | None) -> Found | None:
        """Without the damaged images, which `left_out` has then; of other data the same. The images know from then on
        how large they may be. If the channel is sharded, all processes must call this together. `found`: None if this
        host has no part of the channel.

        Raises:
            UserError: more images are damaged than the limit allows.
        """
        source = found.source if found and isinstance(found.source, LabelledImages) else None
        if source is not None:
            source.images.most_pixels = self.most_pixels
        if self.unreadable_limit is None:
            return found
        kept, out = without_damaged(channel, source, self.decoders, self.shards_of(channel))
        if out.errors:
            out.check(self.unreadable_limit)
            self.left_out.append(out)
            self.notes.append(out.note)
        if found is None or kept is None or not out.errors:
            return found
        return replace(found, source=kept, decisions=(*found.decisions, out.decision))

    def decide(self, channel: Channel, decision: Decision) -> None:
        """Append a decision to what the channel was taken to be."""
        for position, one in enumerate(self.understandings):
            if one.channel == channel.name:
                self.understandings[position] = replace(one, decisions=(*one.decisions, decision))

    def take(self, channel: Channel, needed: int) -> None:
        """Reserve memory.

        Raises:
            UserError: less than `needed` bytes are left.
        """
        if needed > self.memory:
            raise channel.error(
                f"the data takes {needed / 1e9:.1f} GB in memory, of which {max(0, self.memory) / 1e9:.1f} GB are "
                "left; expected less data, or an instance with more memory."
            )
        self.memory -= needed


@dataclass(frozen=True)
class Fitting:
    """What a kind is fitted on.

    `rows` [K] int64: the training examples among the `count` examples of the channel. `shard`: this host's part of the
    channel, None if it has all. `image_size`: the requested size, None for the images' own. `seed`: for random draws.
    """

    rows: np.ndarray
    count: int
    shard: Shard | None
    image_size: int | None
    seed: int
    loading: Loading

    def own(self, rows: np.ndarray) -> np.ndarray:
        """Those of the global positions `rows` that are on this host, as positions within its shard."""
        return rows if self.shard is None else self.shard.own(rows)

    def of_each(self, value: T) -> list[T]:
        """The values of all hosts, given this host's."""
        return [value] if self.shard is None else self.shard.shards.of_each(value)

"""Leaves damaged images out of a channel, before it is split."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from subset_trainer.data.channels import Channel
from subset_trainer.data.hosts import Shards
from subset_trainer.data.images.decoding import SKIP, DamagedImageError, damaged_images, listed
from subset_trainer.data.images.labelled import LabelledImages
from subset_trainer.data.understanding import Decision
from subset_trainer.errors import UserError


@dataclass(frozen=True)
class LeftOut:
    """The damaged images of a channel, over all hosts. `total`: the number of its images, these included.

    `errors`: what is wrong with each. `ids`: their names as examples. `classes`: the name of each one's class.
    """

    channel: str
    total: int
    errors: tuple[DamagedImageError, ...] = ()
    ids: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.errors)

    @classmethod
    def of_all(cls, parts: Sequence["LeftOut"]) -> "LeftOut":
        """The parts of the hosts, in their order."""
        return cls(
            parts[0].channel,
            sum(part.total for part in parts),
            *(
                tuple(one for part in parts for one in getattr(part, name))
                for name in ("errors", "ids", "classes")
            ),
        )

    @property
    def decision(self) -> Decision:
        """For the channel's understanding."""
        reason = f"{self._share()} cannot be read; {SKIP} leaves them out"
        return Decision("left out", _images(len(self)), reason, "given", examples=self.ids[:10])

    @property
    def note(self) -> str:
        """A sentence for the log."""
        return (
            f"{self.channel} channel: {self._share()} cannot be read and are left out: {listed(self.errors)}."
        )

    def check(self, limit: float) -> None:
        """Raise UserError if this is more than the share `limit` of the channel."""
        if len(self) > limit * self.total:
            raise UserError(
                f"{self.channel} channel: {self._share()} cannot be read, more than unreadable_limit={limit:g} allows: "
                f"{listed(self.errors)}; expected intact image files, or a larger unreadable_limit."
            )

    def check_classes(self, channel: Channel, present: set[str]) -> None:
        """Raise UserError if a class lost its last image. `present`: the classes that have some."""
        if lost := sorted(set(self.classes) - present):
            raise channel.error(
                f"no image of class {lost[0]!r} can be read: {listed(self.errors)}; expected some of each class."
            )

    def _share(self) -> str:
        return f"{len(self):,} of {_images(self.total)} ({len(self) / max(1, self.total):.2g})"


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"


def without_damaged(
    channel: str, source: LabelledImages | None, workers: int, shards: Shards | None
) -> tuple[LabelledImages | None, LeftOut]:
    """Decode every image of this host, and leave out what is damaged.

    Args:
        source: None: this host has no image of the channel.
        workers: processes that decode.
        shards: of a sharded channel; all processes must then call this together.
    """
    out = LeftOut(channel, 0)
    if source is not None:
        found = damaged_images(source.images, workers)
        rows = np.array([row for row, _ in found], np.int64)
        out = LeftOut(
            channel,
            len(source),
            tuple(error for _, error in found),
            tuple(source.ids.subset(rows)),
            tuple(source.classes[label] for label in source.labels[rows].tolist()),
        )
        if found:
            source = source.subset(np.setdiff1d(np.arange(len(source)), rows))
    return source, out if shards is None else LeftOut.of_all(shards.of_each(out))

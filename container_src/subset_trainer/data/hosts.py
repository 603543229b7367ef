"""Channels of which each host has other files (``ShardedByS3Key``): one data set, whose inputs lie on several hosts.

The shards' examples are numbered one shard after the other, in the hosts' order. Every process knows all labels, and
has the inputs of its host's shard; of these each process of the host owns an equal part, which it is to read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import numpy as np
import torch

from subset_trainer.data.channels import Channel
from subset_trainer.data.classes import natural_order
from subset_trainer.data.datasets import Dataset
from subset_trainer.data.formats.format import Format, Found
from subset_trainer.data.formats.reading import kind
from subset_trainer.data.ids import Ids
from subset_trainer.data.images.labelled import ImageArray
from subset_trainer.data.kinds.preprocessing import Column, Preprocessing
from subset_trainer.data.tables.table import Table, is_number
from subset_trainer.data.texts.labelled import Texts
from subset_trainer.errors import UserError, shown

T = TypeVar("T")
Kind = Literal["numeric", "categorical", "date"]


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


# Making one of what each host has read


@dataclass(frozen=True)
class _Form:
    """What a host's shard looks like. columns: a table's, with what each becomes, None where it holds no value."""

    format: str
    kind: str
    classes: tuple[str, ...]
    columns: Mapping[str, Kind | None] = field(default_factory=dict)
    header: bool = False
    label: str | None = None
    label_index: int = 0
    text_column: str | None = None
    white: int = 255

    @classmethod
    def of(cls, found: Found) -> "_Form":
        source = found.source
        form = cls(found.format.name, kind(source), source.classes)
        if isinstance(source, ImageArray):
            return replace(form, white=source.white)
        if isinstance(source, Table):
            columns = dict(zip(source.names, map(_becomes, source.columns), strict=True))
            form = replace(form, columns=columns)
        if isinstance(source, Table | Texts):
            form = replace(
                form, header=source.header, label=source.label_column, label_index=source.label_index
            )
        return replace(form, text_column=source.column) if isinstance(source, Texts) else form


def _becomes(values: np.ndarray) -> Kind | None:
    kinds: dict[str, Kind] = {"O": "categorical", "M": "date"}
    becomes = kinds.get(values.dtype.kind, "numeric")
    # What is not a number, and not a time, is no equal of itself.
    missing = values == "" if becomes == "categorical" else values != values
    return None if bool(np.all(missing)) else becomes


def agreed(
    channel: Channel, found: Found, shards: Shards, again: Callable[[Preprocessing], Found]
) -> tuple[Found, tuple[str, ...]]:
    """What this host has found, in the form that all have in common, and the classes of all.

    again: reads the shard as what training taught says: asked where a host's own values say another thing of a column
    than all hosts' do, as where its part of the texts looks like numbers.

    Raises:
        UserError: the shards are not of one format, or not of the same columns.
    """
    if found.format.undividable:
        raise channel.error(found.format.undividable)
    forms = shards.of_each(_Form.of(found))
    for name, form in zip(shards.names, forms, strict=True):
        for what, ours, theirs in _told_apart(forms[0], form, found.format):
            if ours != theirs:
                raise channel.error(
                    f"the channel is sharded, and {what} is {shown(ours)} on host {shards.names[0]} and "
                    f"{shown(theirs)} on host {name}; expected the same in every shard."
                )
    classes = natural_order({name for form in forms for name in form.classes})
    if forms[0].columns:
        found = _as_all_have(forms, forms[shards.own], found, classes, again)
    return found, classes


def _told_apart(first: _Form, other: _Form, form: Format) -> list[tuple[str, Any, Any]]:
    told: list[tuple[str, Any, Any]] = [
        ("the format", first.format, other.format),
        ("what it holds", first.kind, other.kind),
        ("whether there is a header", first.header, other.header),
        ("the label's column", first.label, other.label),
        ("the column of texts", first.text_column, other.text_column),
        ("a white pixel's value", first.white, other.white),
    ]
    if not form.columns_vary:
        told.append(("the list of columns", list(first.columns), list(other.columns)))
    return told


def _as_all_have(
    forms: Sequence[_Form],
    own: _Form,
    found: Found,
    classes: tuple[str, ...],
    again: Callable[[Preprocessing], Found],
) -> Found:
    names = {name for form in forms for name in form.columns}
    columns = []
    for name in own.columns if len(own.columns) == len(names) else natural_order(names):
        told = {form.columns.get(name) for form in forms} - {None}
        columns.append(Column(name, (told.pop() if len(told) == 1 else "categorical") if told else "numeric"))  # type: ignore[arg-type]
    # A column without a value is read as one of numbers. Where any host has labels that are texts, those that are
    # numbers are read again for their spelling.
    same = [(own.columns.get(column.name) or "numeric") == column.kind for column in columns]
    numbers = all(map(is_number, classes))
    if len(own.columns) == len(columns) and all(same) and numbers == all(map(is_number, own.classes)):
        return found
    return again(
        Preprocessing(
            "table",
            classes,
            columns=tuple(columns),
            header=own.header,
            label_column=own.label,
            label_index=own.label_index,
        )
    )

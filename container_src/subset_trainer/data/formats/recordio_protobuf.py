"""Reads recordio-protobuf files as a table; this is the RecordIO format of SageMaker's built-in algorithms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from subset_trainer.data.channels import Channel
from subset_trainer.data.classes import classes_of
from subset_trainer.data.formats import recordio
from subset_trainer.data.formats.format import Claim
from subset_trainer.data.formats.protobuf_messages import KEY, holds_messages, message_class
from subset_trainer.data.formats.tabular import Asked, TableFormat
from subset_trainer.data.ids import Ids
from subset_trainer.data.room import Room
from subset_trainer.data.tables.table import MOST_COLUMNS, Table

if TYPE_CHECKING:
    from subset_trainer.data.kinds.table import TableKind

_EACH, _ROW = 20, 200
"""Bytes that a number and a row take once they are read."""


def read_protobuf(
    channel: Channel, files: tuple[str, ...], like: TableKind | None = None, memory: int | None = None
) -> Table:
    """Read a channel's recordio-protobuf files, in name order, as one dense table.

    A record has a dense or sparse tensor of features and one number as its label, both under the key `values`. Columns
    are named by their positions.

    Raises:
        UserError: a file is damaged, records differ in width, labels are missing or are measurements, numbers are
            infinite, or the dense table exceeds `memory` bytes.
    """
    room = Room(channel, memory)
    rows: list[np.ndarray] = []
    labels: list[float] = []
    width = None if like is None else len(like.columns)
    as_in = "as in training" if like is not None else f"as in the first record of '{files[0]}'"
    counts: list[int] = []
    for file in files:
        before = len(rows)
        for number, features, label in _records(channel, file):
            if width is None:
                width = len(features)
            elif len(features) != width:
                raise channel.error(
                    f"file '{file}', record {number:,} (counted from 0): {len(features):,} features; expected "
                    f"{width:,}, {as_in}."
                )
            # As rows, again as columns, and as the model's input.
            room.take(_EACH * width + _ROW, f"file '{file}', with others and all zeros filled in,")
            rows.append(features)
            labels.append(label)
        counts.append(len(rows) - before)
    if width is None or not rows:
        raise channel.error(f"file '{files[0]}' holds no records; expected some.")
    columns = np.empty((width, len(rows)))
    for at, row in enumerate(rows):
        columns[:, at] = row
    codes, classes = classes_of(channel, "one number a record", np.array(labels), like)
    return Table(tuple(map(str, range(width))), tuple(columns), codes, classes, Ids.numbered(files, counts))


def _records(channel: Channel, file: str) -> Iterator[tuple[int, np.ndarray, float]]:
    """(number from 0, features [D], label) of each record."""
    try:
        with (channel.root / file).open("rb") as opened:
            for number, record in enumerate(recordio.records(opened)):
                try:
                    features, label = _parse(record)
                except ValueError as error:
                    raise channel.error(
                        f"file '{file}', record {number:,} (counted from 0): {error}."
                    ) from error
                yield number, features, label
    except ValueError as error:
        raise channel.error(f"file '{file}': {error}; expected records of recordio-protobuf.") from error
    except OSError as error:
        raise channel.error(f"file '{file}' cannot be read ({error.strerror}).") from error


def _parse(record: bytes) -> tuple[np.ndarray, float]:
    """Features [D] and the label. Raises ValueError that says what is wrong."""
    try:
        message = message_class().FromString(record)
    except Exception as error:
        raise ValueError("it is not a recordio-protobuf message of features and a label") from error
    for entries, what in ((message.features, "features are"), (message.label, "label is")):
        if KEY not in entries:
            held = ", ".join(sorted(map(repr, entries))[:5])
            raise ValueError(f"the {what} {f'called {held}' if held else 'missing'}; expected {KEY!r}")
    features = _tensor(message.features[KEY], "features are")
    label = _tensor(message.label[KEY], "label is")
    if len(label) != 1 or not math.isfinite(label[0]):
        raise ValueError(f"the label is {label.tolist()[:5]}; expected one finite number")
    if np.isinf(features).any():
        raise ValueError(f"feature {int(np.isinf(features).argmax())} is infinite; expected a finite number")
    return features, float(label[0])


def _tensor(value: Any, what: str) -> np.ndarray:
    """Convert a dense or sparse tensor to float64 [D]. Raises ValueError as in `_parse`."""
    kind = value.WhichOneof("value")
    if kind is None or kind == "bytes":
        raise ValueError(f"the {what} {'bytes' if kind else 'empty'}; expected a tensor of numbers")
    tensor = getattr(value, kind)
    values = np.fromiter(tensor.values, np.float64, len(tensor.values))
    width = math.prod(tensor.shape) if len(tensor.shape) else None
    if width is None and (len(tensor.keys) or not len(values)):
        raise ValueError(f"the {what} sparse and without a shape; expected one")
    size = len(values) if width is None else width
    if not 0 < size <= MOST_COLUMNS:
        raise ValueError(f"the {what} {size:,} numbers; expected at most {MOST_COLUMNS:,}, and one at least")
    if len(values) == size and not len(tensor.keys):
        return values
    keys = np.fromiter(tensor.keys, np.uint64, len(tensor.keys))
    if len(keys) != len(values):
        raise ValueError(
            f"the {what} {len(values):,} values with {len(keys):,} keys, for a shape of {size:,}; expected as "
            "many of both"
        )
    if keys.max(initial=0) >= size or len(np.unique(keys)) < len(keys):
        raise ValueError(
            f"the {what} sparse with keys that are not different numbers below {size:,}, the shape"
        )
    dense = np.zeros(size)
    dense[keys.astype(np.int64)] = values
    return dense


class RecordIOProtobuf(TableFormat):
    """recordio-protobuf, the format of SageMaker's built-in algorithms."""

    name = "protobuf"
    table = "recordio-protobuf"
    expected = ("", "recordio-protobuf", " files")
    suffixes = telling = (".pbr", ".pb", ".protobuf")
    content_types = ("application/x-recordio-protobuf", "recordio-protobuf")
    shared = recordio.SUFFIXES

    def recognise(self, channel: Channel) -> Claim | None:
        files = tuple(
            file
            for file in channel.ending(*self.suffixes, *recordio.SUFFIXES)
            if file.lower().endswith(self.suffixes) or holds_messages(channel.root / file)
        )
        return Claim(files) if files else None

    def table_of(self, channel: Channel, files: tuple[str, ...], asked: Asked) -> Table:
        return read_protobuf(channel, files, asked.like, asked.memory)

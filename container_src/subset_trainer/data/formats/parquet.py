"""Reads Parquet files as a table with pyarrow. The kind of a column depends on its type, not on its values.

Columns are matched by name. Numbers, decimals, booleans and durations (in seconds) become numbers. Strings, categories
(dictionaries) and partitions become texts, or dates if all their values are ISO 8601 dates. Dates and timestamps become
dates in UTC. Nested and binary columns are refused.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import unquote

import numpy as np

from subset_trainer.data.channels import Channel
from subset_trainer.data.classes import LABEL_COLUMN_HINT, classes_of
from subset_trainer.data.formats.format import Claim, Found, Reading
from subset_trainer.data.formats.tabular import Asked, TableFormat
from subset_trainer.data.ids import Ids
from subset_trainer.data.kinds.table import TableKind
from subset_trainer.data.tables import dates
from subset_trainer.data.tables.table import MOST_COLUMNS, Table
from subset_trainer.errors import UserError, first_line, shown

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet as pq

_ROWS_AT_ONCE = 1 << 16
_INDEX = "__index_level_"
_NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_NO_TEXT = frozenset(("",))


def read_parquet(
    channel: Channel,
    files: tuple[str, ...],
    label_column: str | None = None,
    like: TableKind | None = None,
    memory: int | None = None,
) -> Table:
    """Read a channel's Parquet files, in name order, as one table.

    The label is `label_column` (a name or a 0-based position), or the first column. Folders named `column=value` above
    the files are columns too, as Spark, pandas and Hive write partitions.

    Args:
        like: the fitted training table; its columns are found by name, and other columns are ignored.
        memory: the largest unpacked size in bytes.

    Raises:
        UserError: the files differ in columns or types, a column has an unsupported type, labels are missing or are
            measurements, numbers are infinite, or the data exceeds `memory`.
    """
    reader = _Reader(channel, files, memory)
    label, features = reader.match(like) if like is not None else reader.choose(label_column)
    columns = reader.columns([label, *features])
    title = f"column {label!r}"
    labels, classes = classes_of(
        channel, title, reader.labels(label, columns.pop(label)), like, LABEL_COLUMN_HINT
    )
    for name, values in columns.items():
        _as_training_had(reader, name, values, columns, like)
    return Table(
        names=tuple(features),
        columns=tuple(columns[name] for name in features),
        labels=labels,
        classes=classes,
        ids=Ids.numbered(files, reader.rows),
        header=True,
        label_column=label,
        label_index=reader.names.index(label),
        notes=tuple(reader.notes),
    )


def _as_training_had(
    reader: _Reader, name: str, values: np.ndarray, columns: dict[str, np.ndarray], like: TableKind | None
) -> None:
    """Convert texts to dates if they were dates in training, or if this is training and they are dates."""
    if values.dtype != object:
        return
    kind = None if like is None else next(column.kind for column in like.columns if column.name == name)
    if kind not in (None, "date"):
        return
    found, bad = dates.parse(values, _NO_TEXT)
    if bad is None:
        if (found == found).any():  # a column without values stays as it is
            columns[name] = found
    elif kind == "date":
        reader.fail(
            bad, name, f"the value is {shown(values[bad])}; expected a {dates.EXAMPLE}, as in training"
        )


class _Texts(dict[str, str]):
    """Keeps one object for each distinct text. `size`: their approximate number of bytes."""

    size = 0

    def __missing__(self, text: str) -> str:
        self.size += 100 + len(text)
        self[text] = text
        return text


class _Reader:
    """Reads the files of a table. `names`: the columns in use, in the order of the first file, partitions last."""

    def __init__(self, channel: Channel, files: tuple[str, ...], memory: int | None) -> None:
        self.channel, self.files, self.memory = channel, files, memory
        self.notes: list[str] = []
        self.partitions = [_partition(file) for file in files]
        for file, partition in zip(files, self.partitions, strict=True):
            if partition.keys() != self.partitions[0].keys():
                raise channel.error(
                    f"file '{file}' lies in folders that name the columns {_listed(partition)}; expected "
                    f"{_listed(self.partitions[0])}, as of '{files[0]}'."
                )
        self.rows: list[int] = []
        self.types: dict[str, pa.DataType] = {}
        for file in files:
            self._look_at(file)
        self.names = [*self.types, *(name for name in self.partitions[0] if name not in self.types)]
        left_out = [name for name in self.names if name.startswith(_INDEX) or not name]
        if left_out:
            # pandas writes its row labels as such a column: an identifier, not a feature.
            self.notes.append(
                f"{channel.name} channel: the column {left_out[0]!r} holds pandas's row labels and is left out."
            )
            self.names = [name for name in self.names if name not in left_out]
        if not sum(self.rows):
            raise channel.error(f"file '{files[0]}' has no rows; expected some.")

    def _look_at(self, file: str) -> None:
        """Check a file's names, types and number of rows against those of the first file."""
        opened = self._open(file)
        try:
            schema, metadata = opened.schema_arrow, opened.metadata
            self.rows.append(metadata.num_rows)
            unpacked = sum(metadata.row_group(at).total_byte_size for at in range(metadata.num_row_groups))
        except Exception as error:
            self._unreadable(file, error)
        finally:
            opened.close()
        self._check_size(file, unpacked)
        twice = next((name for name, times in Counter(schema.names).items() if times > 1), None)
        if twice is not None:
            raise self.channel.error(f"file '{file}' has two columns {twice!r}; expected different names.")
        if len(schema.names) > MOST_COLUMNS:
            raise self.channel.error(
                f"file '{file}' has {len(schema.names):,} columns; expected at most {MOST_COLUMNS:,}."
            )
        types = dict(zip(schema.names, schema.types, strict=True))
        if len(self.rows) == 1:
            self.types = types
        elif types.keys() != self.types.keys():
            odd = sorted(types.keys() ^ self.types.keys())[0]
            has, lacks = (file, self.files[0]) if odd in types else (self.files[0], file)
            raise self.channel.error(
                f"file '{has}' has a column {odd!r} and '{lacks}' has none; expected the same columns."
            )
        for name, kind in types.items():
            if _kind(kind) != _kind(self.types[name]) and "nothing" not in (
                _kind(kind),
                _kind(self.types[name]),
            ):
                raise self.channel.error(
                    f"file '{file}', column {name!r}: the values are of type {kind}; expected {self.types[name]}, as "
                    f"in '{self.files[0]}'."
                )

    def choose(self, label_column: str | None) -> tuple[str, list[str]]:
        """Choose the label and the features for training."""
        if label_column is None:
            label = self.names[0] if self.names else ""
        elif label_column in self.names:
            label = label_column
        elif label_column.isdecimal() and len(label_column) < 10 and int(label_column) < len(self.names):
            label = self.names[int(label_column)]
        else:
            raise UserError(
                f"label_column={shown(label_column)}: the {self.channel.name} channel has no such column; expected one "
                f"of {_listed(self.names)} or a position from 0 to {len(self.names) - 1}."
            )
        features = [name for name in self.names if name != label]
        if not features:
            raise self.channel.error(
                f"file '{self.files[0]}' has {len(self.names)} columns; expected a label and at least one feature."
            )
        return label, features

    def match(self, like: TableKind) -> tuple[str, list[str]]:
        """Match the training columns, by name or, if those have no names, by position; returns label and features."""
        names = [column.name for column in like.columns]
        if like.header:
            label = like.label_column or self.names[0]
            for name in (label, *names):
                if name not in self.names:
                    raise self.channel.error(
                        f"file '{self.files[0]}' lacks the column {name!r}, which training has."
                    )
            return label, names
        if len(self.names) != len(names) + 1:
            raise self.channel.error(
                f"file '{self.files[0]}' has {len(self.names)} columns; expected {len(names) + 1}, as in training."
            )
        label = self.names[like.label_index]
        return label, [name for name in self.names if name != label]

    def columns(self, names: list[str]) -> dict[str, np.ndarray]:
        """Values [N] by name, in the types of a Table."""
        stored = [name for name in names if name in self.types]
        for name in stored:
            if _kind(self.types[name]) is None:
                raise self.channel.error(
                    f"file '{self.files[0]}', column {name!r}: the values are of type {self.types[name]}; expected "
                    "numbers, texts, categories, dates or truth values, so leave out other columns."
                )
        self._check_size(self.files[0], sum(self.rows) * len(names) * 8)
        parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
        known = _Texts()
        for file, rows, partition in zip(self.files, self.rows, self.partitions, strict=True):
            read = 0
            for batch in self._batches(file, stored):
                try:
                    for name in stored:
                        parts[name].append(_values(batch.column(name), known))
                except Exception as error:  # for example texts that are not UTF-8
                    self._unreadable(file, error)
                for name in set(names).difference(stored):
                    parts[name].append(np.full(batch.num_rows, known[partition[name]], object))
                read += batch.num_rows
                self._check_size(file, sum(self.rows) * len(names) * 8 + known.size)
            if read != rows:
                raise self.channel.error(
                    f"file '{file}' has {read:,} rows; expected {rows:,}, as its metadata declare."
                )
        return {name: self._joined(name, pieces) for name, pieces in parts.items()}

    def _batches(self, file: str, names: list[str]) -> Iterator[pa.RecordBatch]:
        # Texts are read as dictionaries, so that a long text on many rows is in memory only once.
        opened = self._open(file, [name for name in names if _kind(self.types[name]) == "string"])
        try:
            yield from opened.iter_batches(_ROWS_AT_ONCE, columns=names)
        except Exception as error:
            self._unreadable(file, error)
        finally:
            opened.close()

    def _check_size(self, file: str, needed: int) -> None:
        if self.memory is not None and needed > self.memory:
            raise self.channel.error(
                f"file '{file}': the rows take {needed / 1e9:,.1f} GB or more, of which "
                f"{max(0, self.memory) / 1e9:.1f} GB fit in memory; expected less data, or an instance with more "
                "memory."
            )

    def _joined(self, name: str, pieces: list[np.ndarray]) -> np.ndarray:
        kinds = {piece.dtype.kind for piece in pieces}
        if len(kinds) > 1:  # some files have no value in this column and do not state its type
            to = "O" if "O" in kinds else "M"
            pieces = [piece if piece.dtype.kind == to else _nothing(len(piece), to) for piece in pieces]
        values = np.concatenate(pieces)
        if name not in self.types and len(values) and all(map(_is_number, set(values.tolist()) - {""})):
            values = np.array([math.nan if text == "" else float(text) for text in values.tolist()])
        if values.dtype.kind == "f" and (bad := np.flatnonzero(np.isinf(values))).size:
            self.fail(int(bad[0]), name, f"the value is {values[bad[0]]:g}; expected a finite number")
        return values

    def labels(self, name: str, values: np.ndarray) -> np.ndarray:
        """Labels without gaps, of a type that classes can have."""
        if values.dtype.kind == "M":
            raise self.channel.error(
                f"the label, column {name!r}, holds dates; expected classes{LABEL_COLUMN_HINT}."
            )
        bad = np.flatnonzero(values == "" if values.dtype == object else np.isnan(values))
        if len(bad):
            self.fail(int(bad[0]), name, "the label is missing; expected a class")
        if name in self.types and str(self.types[name]) == "bool":
            values = np.where(values == 1, "True", "False").astype(object)
        return values

    def fail(self, row: int, name: str, problem: str) -> NoReturn:
        starts = np.array([0, *accumulate(self.rows)])
        at = int(np.searchsorted(starts, row, "right")) - 1
        place = f"file '{self.files[at]}', row {row - starts[at]} (counted from 0), column {name!r}"
        raise self.channel.error(f"{place}: {problem}.")

    def _open(self, file: str, as_dictionaries: Sequence[str] = ()) -> pq.ParquetFile:
        import pyarrow.parquet as pq  # takes a quarter of a second to import, so that other data skips it

        try:
            return pq.ParquetFile(self.channel.root / file, read_dictionary=list(as_dictionaries))
        except Exception as error:  # pyarrow raises many exceptions for damaged files
            self._unreadable(file, error)

    def _unreadable(self, file: str, error: Exception) -> NoReturn:
        raise self.channel.error(
            f"file '{file}' cannot be read ({first_line(error).rstrip('.')}); expected Parquet."
        ) from error


def _partition(file: str) -> dict[str, str]:
    """The columns that the folders of a file name, as in colour=red/part-0.parquet."""
    pairs = (folder.split("=", 1) for folder in file.split("/")[:-1] if "=" in folder)
    found = {unquote(name): unquote(value) for name, value in pairs}
    return {name: "" if value == _NO_PARTITION else value for name, value in found.items()}


def _kind(kind: pa.DataType) -> str | None:
    """The kind of a column: number, string, date or nothing; None: unsupported."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return "string" if _kind(kind.value_type) in ("number", "string") else None
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind):
        return "number"
    if types.is_duration(kind):
        return "number"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "string"
    if types.is_date(kind) or types.is_timestamp(kind):
        return "date"
    return "nothing" if types.is_null(kind) else None


def _values(column: pa.Array, known: _Texts) -> np.ndarray:
    """A column's values in the types of a Table."""
    import pyarrow as pa
    from pyarrow import compute, types

    kind = column.type
    if types.is_dictionary(kind):
        dictionary = column.dictionary.cast(pa.string()).to_pylist()
        texts = np.empty(len(dictionary) + 1, object)
        texts[:] = [*("" if text is None else known[text] for text in dictionary), ""]
        codes = column.indices.cast(pa.int64())
        return texts[compute.fill_null(codes, -1).to_numpy(zero_copy_only=False)]
    what = _kind(kind)
    if what == "string":
        return _values(column.dictionary_encode(), known)
    if what == "date":
        return (
            column.cast(pa.timestamp("us"), safe=False)
            .to_numpy(zero_copy_only=False)
            .astype("datetime64[us]")
        )
    if what == "nothing":
        return _nothing(len(column), "f")
    if types.is_duration(kind):
        per_second = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}[kind.unit]
        column = compute.divide(column.cast(pa.int64()).cast(pa.float64(), safe=False), float(per_second))
    return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _nothing(rows: int, kind: str) -> np.ndarray:
    if kind == "O":
        return np.full(rows, "", object)
    return np.full(rows, np.nan) if kind == "f" else np.full(rows, np.datetime64("NaT", "us"))


def _is_number(text: str) -> bool:
    try:
        return "_" not in text and math.isfinite(float(text))
    except ValueError:
        return False


def _listed(names: Iterable[str], most: int = 8) -> str:
    names = list(names)
    return ", ".join(map(repr, names[:most])) + (", …" if len(names) > most else "") if names else "none"


class Parquet(TableFormat):
    """Parquet files of a table or of encoded images."""

    name = "parquet"
    table = "Parquet"
    expected = ("", "Parquet", " files")
    suffixes = telling = (".parquet", ".pq", ".parq")
    contents = ("Parquet",)
    content_types = (
        *("application/x-parquet", "application/parquet", "application/vnd.apache.parquet"),
        "parquet",
    )

    def read(self, channel: Channel, claim: Claim, reading: Reading) -> Found:
        # pyarrow takes a quarter of a second to import, so that other data skips it.
        from subset_trainer.data.formats.parquet_images import image_column, read_parquet_images

        if image_column(channel, claim.files[0]) is None:
            return super().read(channel, claim, reading)
        images = read_parquet_images(channel, claim.files, reading.options.label_column)
        return Found(self, images, notes=images.notes)

    def table_of(self, channel: Channel, files: tuple[str, ...], asked: Asked) -> Table:
        return read_parquet(channel, files, asked.label_column, asked.like, asked.memory)

"""Reads Parquet files as cells with pyarrow.

Columns are matched by name. Numbers, decimals, booleans and durations (in seconds) are numbers. Dates and timestamps
are dates in UTC. Strings, times of day, categories (dictionaries) and partitions are interpreted as those of CSV files
are, but whole numbers that are declared as texts stay texts. Nested and binary columns are refused.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NoReturn, cast
from urllib.parse import unquote

import numpy as np

from subset_trainer.data.channels import Channel
from subset_trainer.data.formats.format import Claim, Found, Reading
from subset_trainer.data.formats.tabular import Asked, TableFormat
from subset_trainer.data.ids import Ids
from subset_trainer.data.room import STRING, Room
from subset_trainer.data.tables.cells import Cells, Coded, distinct_of
from subset_trainer.data.tables.interpret import Rules
from subset_trainer.data.tables.numbers import are_codes
from subset_trainer.data.tables.reading import as_training, table_of
from subset_trainer.data.tables.table import MISSING, MOST_COLUMNS, Table, TrainedTable
from subset_trainer.errors import first_line, shown

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet as pq

_ROWS_AT_ONCE = 1 << 16
_NUMBER, _CODE, _ROW = 24, 16, 24
"""Bytes that a number (as it is stored, a float64, the model's float32), a text's code and a row (its label, its place)
take once they are read."""
_MOST_NAMED = 10
_INDEX = "__index_level_"
_NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"


def read_parquet(
    channel: Channel,
    files: tuple[str, ...],
    label_column: str | None = None,
    like: TrainedTable | None = None,
    memory: int | None = None,
    rules: Rules | None = None,
) -> Table:
    """Read a channel's Parquet files, in name order, as one table.

    Folders named `column=value` above the files are columns too, as Spark, pandas and Hive write partitions.

    Args:
        label_column: the label's name or its 0-based position; None: see
            :func:`subset_trainer.data.tables.label.choose_label`.
        like: the fitted training table; its columns are found by name, and other columns are ignored.
        memory: bytes that the rows may take once they are read.
        rules: the user's settings for columns.

    Raises:
        UserError: the files differ in columns or types, a column has an unsupported type, labels are missing or are
            measurements, numbers are infinite, the data exceeds `memory`, or a column allows two readings.
    """
    cells = ParquetCells(channel, files, memory)
    ids = Ids.numbered(files, cells.rows)
    if like is None:
        return table_of(cells, ids, label_column, rules or Rules())
    return as_training(cells, ids, like)


class ParquetCells(Cells):
    """The cells of several files; see :class:`subset_trainer.data.tables.cells.Cells`. `names`: the columns, in the
    order of the first file, partitions last. `rows`: the number of rows of each file."""

    header, typed = True, True

    def __init__(self, channel: Channel, files: tuple[str, ...], memory: int | None) -> None:
        self.channel, self.files, self.room = channel, files, Room(channel, memory)
        self._unpacked = 0
        self.indexes: frozenset[str] = frozenset()
        self.partitions = [_partition(file) for file in files]
        for file, partition in zip(files, self.partitions, strict=True):
            if partition.keys() != self.partitions[0].keys():
                raise channel.error(
                    f"file '{file}' lies in folders that name the columns {_listed(partition)}; expected "
                    f"{_listed(self.partitions[0])}, as of '{files[0]}'."
                )
        self.rows: list[int] = []
        self._chunks: dict[str, list[pa.Array]] = {}
        self._coded: dict[str, Coded] = {}
        self.types: dict[str, pa.DataType] = {}
        for file in files:
            self._look_at(file)
        self.starts = [0, *accumulate(self.rows)][:-1]
        self.names = [*self.types, *(name for name in self.partitions[0] if name not in self.types)]
        if not sum(self.rows):
            raise channel.error(f"file '{files[0]}' has no rows; expected some.")
        # Before anything of their number is made: a file of a few kilobytes may declare billions.
        self.room.check(len(self) * _ROW, self._all_rows)

    def _look_at(self, file: str) -> None:
        """Check a file's names, types and number of rows against those of the first file."""
        opened = self._open(file)
        try:
            schema, metadata = opened.schema_arrow, opened.metadata
            self.indexes |= _indexes(schema)
            self.rows.append(metadata.num_rows)
            unpacked = sum(metadata.row_group(at).total_byte_size for at in range(metadata.num_row_groups))
        except Exception as error:
            self._unreadable(file, error)
        finally:
            opened.close()
        self._unpacked += unpacked
        self.room.check(self._unpacked, f"file '{file}'")
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

    def __len__(self) -> int:
        return sum(self.rows)

    @property
    def _all_rows(self) -> str:
        return f"file '{self.files[0]}', with the {len(self):,} rows of all files,"

    def prefetch(self, positions: Iterable[int]) -> None:
        """Read some columns in one pass over the files."""
        names = [self.names[position] for position in positions if self.names[position] not in self._chunks]
        stored = [name for name in names if name in self.types]
        odd = [name for name in stored if _kind(self.types[name]) is None]
        if odd:
            columns = ", ".join(f"{name!r} ({self.types[name]})" for name in odd[:_MOST_NAMED])
            more = f" and {len(odd) - _MOST_NAMED:,} more" if len(odd) > _MOST_NAMED else ""
            raise self.channel.error(
                f"file '{self.files[0]}', column{'s' * (len(odd) > 1)} {columns}{more}: the values are of other types "
                "than numbers, texts, categories, dates, times or truth values, so leave them out "
                f"(ignore_columns={','.join(odd)})."
            )
        numbers = sum(name in stored and not _is_text(self.types[name]) for name in names)
        self.room.check(
            len(self) * (numbers * _NUMBER + (len(names) - numbers) * _CODE + _ROW), self._all_rows
        )
        self._chunks.update({name: [] for name in names})
        for file, rows, partition in zip(self.files, self.rows, self.partitions, strict=True):
            read = 0
            for batch in self._batches(file, stored) if stored else self._nothing(rows):
                for name in names:
                    piece = (
                        batch.column(name) if name in stored else _repeated(partition[name], batch.num_rows)
                    )
                    self._chunks[name].append(piece)
                    coded = hasattr(piece, "dictionary")
                    held = piece.dictionary.nbytes + _CODE * len(piece) if coded else _NUMBER * len(piece)
                    self.room.take(held, f"file '{file}'")
                read += batch.num_rows
            if read != rows:
                raise self.channel.error(
                    f"file '{file}' has {read:,} rows; expected {rows:,}, as its metadata declare."
                )

    def column(self, position: int) -> np.ndarray | Coded:
        """Numbers as float64, dates as datetime64[us], other columns as texts."""
        import pyarrow as pa
        from pyarrow import compute, types

        chunks = self._pieces(position)
        kind = chunks[0].type
        what = _kind(kind)
        if what == "string":
            coded = self.coded(position)
            texts = [text for text in coded.distinct if text]
            if self.names[position] in self.types or not all(map(_is_number, texts)) or are_codes(texts):
                return coded
            return np.array([float(text) if text else math.nan for text in coded.distinct])[coded.codes]
        column = pa.chunked_array(chunks)
        if what == "date":
            return cast(
                np.ndarray, column.cast(pa.timestamp("us"), safe=False).to_numpy().astype("datetime64[us]")
            )
        if what == "nothing":
            return np.full(len(self), np.nan)
        if types.is_duration(kind):
            per_second = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}[kind.unit]
            column = compute.divide(column.cast(pa.int64()).cast(pa.float64(), safe=False), float(per_second))
        return cast(np.ndarray, column.cast(pa.float64(), safe=False).to_numpy())

    def coded(self, position: int) -> Coded:
        """A column's values as they are spelt: whole numbers with all their digits."""
        import pyarrow as pa
        from pyarrow import compute, types

        name = self.names[position]
        if name not in self._coded:
            chunks = self._pieces(position)
            try:
                if types.is_boolean(chunks[0].type):
                    chunks = [compute.if_else(piece, "True", "False") for piece in chunks]
                elif not types.is_dictionary(chunks[0].type):
                    chunks = [piece.cast(pa.string()) for piece in chunks]
                column = pa.chunked_array(chunks)
                column = column if types.is_dictionary(column.type) else column.dictionary_encode()
                texts, held = distinct_of(column)
                self.room.look(f"file '{self.files[0]}'", texts * STRING + 2 * held + 16 * len(self))
                self._coded[name] = Coded.of_arrow(column)
            except (pa.ArrowException, ValueError) as error:  # for example texts that are not UTF-8
                self._unreadable(self.files[0], error)
        return self._coded[name]

    def _pieces(self, position: int) -> list[pa.Array]:
        """A column's values in one type: files without any value in it do not declare its type."""
        self.prefetch([position])
        name = self.names[position]
        pieces = self._chunks[name]
        kinds = [piece.type for piece in pieces if _kind(piece.type) != "nothing"]
        kind = kinds[0] if kinds else pieces[0].type
        return [piece if piece.type == kind else piece.cast(kind) for piece in pieces]

    @staticmethod
    def _nothing(rows: int) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        yield pa.record_batch({"": pa.nulls(rows)})

    def fail(self, position: int, row: int, expected: str, what: str = "value") -> NoReturn:
        at = int(np.searchsorted(self.starts, row, "right")) - 1
        values = self.coded(position)
        value = values.distinct[values.codes[row]]
        is_what = f"is missing ({value!r})" if value.lower() in MISSING else f"is {shown(value)}"
        raise self.channel.error(
            f"file '{self.files[at]}', row {row - self.starts[at]} (counted from 0), column "
            f"{self.names[position]!r}: the {what} {is_what}; {expected}."
        )

    def _batches(self, file: str, names: list[str]) -> Iterator[pa.RecordBatch]:
        # Texts are read as dictionaries, so that a long text on many rows is in memory only once.
        opened = self._open(file, [name for name in names if _is_text(self.types[name])])
        try:
            yield from opened.iter_batches(_ROWS_AT_ONCE, columns=names)
        except Exception as error:
            self._unreadable(file, error)
        finally:
            opened.close()

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
    if _is_text(kind) or types.is_time(kind):
        return "string"
    if types.is_date(kind) or types.is_timestamp(kind):
        return "date"
    return "nothing" if types.is_null(kind) else None


def _is_text(kind: pa.DataType) -> bool:
    from pyarrow import types

    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _repeated(text: str, rows: int) -> pa.Array:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text]))


def _indexes(schema: pa.Schema) -> frozenset[str]:
    """The columns that pandas declares as row labels in the file's metadata, and those with the name that it gives."""
    try:
        declared = json.loads((schema.metadata or {}).get(b"pandas", b"{}")).get("index_columns", [])
    except (ValueError, AttributeError):
        declared = []
    named = {name for name in declared if isinstance(name, str)}
    return frozenset(named | {name for name in schema.names if name.startswith(_INDEX) or not name})


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
    beginning = "rows"
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
        return Found(self, images, notes=images.notes, decisions=images.decisions)

    def table_of(self, channel: Channel, files: tuple[str, ...], asked: Asked) -> Table:
        return read_parquet(channel, files, asked.label_column, asked.like, asked.memory, asked.rules)

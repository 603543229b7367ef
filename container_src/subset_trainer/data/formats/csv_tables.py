"""Reads CSV files as cells: with pyarrow, and record by record where an error is to be located.

Every error names the file, the line (1-based, as in an editor), the column and the value.
"""

import codecs
import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, islice
from typing import TYPE_CHECKING, BinaryIO, NoReturn, cast

import numpy as np

from subset_trainer.data.channels import Channel
from subset_trainer.data.content import TEXT
from subset_trainer.data.encodings import refusal
from subset_trainer.data.formats.format import OF_COLUMNS
from subset_trainer.data.formats.tabular import Asked, TableFormat
from subset_trainer.data.ids import Ids
from subset_trainer.data.room import CELL, STRING, Room
from subset_trainer.data.tables.beginning import (
    LINE_END,
    Beginning,
    beginning_of,
    header_of,
    is_again,
    names_columns,
    places_of,
    quotes_are_text,
)
from subset_trainer.data.tables.cells import Cells, Coded, distinct_of
from subset_trainer.data.tables.interpret import Rules
from subset_trainer.data.tables.numbers import PADDED
from subset_trainer.data.tables.reading import as_training, table_of
from subset_trainer.data.tables.table import (
    MISSING,
    MOST_COLUMNS,
    Table,
    TrainedTable,
    as_named,
    column_title,
    names_most,
)
from subset_trainer.data.understanding import Decision, refuse_open
from subset_trainer.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

LONGEST_LINE = 1 << 24
"""Bytes. A longer line belongs to no table; the limit keeps it from being read into memory whole."""

_BLOCK = 1 << 20
_LINE_END = re.compile(LINE_END.pattern.encode())
_SAMPLE_ROWS, _SAMPLE_FIELDS = 1_000, 1 << 21
_ROWS_OF_FURTHER = 50
"""Rows by which the header of a further file is told."""
_LINES_OF_ROWS = 4
"""So many lines of a cell that have as many fields as a row are rows."""


def read_csv(
    channel: Channel,
    files: tuple[str, ...],
    label_column: str | None = None,
    csv_header: str = "auto",
    like: TrainedTable | None = None,
    memory: int | None = None,
    rules: Rules | None = None,
) -> Table:
    """Read a channel's CSV files, in name order, as one table.

    Args:
        label_column: the label's name in the header or its 0-based position; None: see
            :func:`subset_trainer.data.tables.label.choose_label`.
        like: the fitted training table. Columns are then matched by name if there is a header, otherwise by position,
            and each column must be of the same kind (number, text or date) as in training.
        memory: bytes that the rows may take once they are read.
        rules: the user's settings for columns.

    Raises:
        UserError: ragged rows, missing labels, text among numbers, a label or columns that allow two readings, or rows
            that take more than `memory`.
    """
    cells = CsvCells(channel, files, csv_header, like, memory)
    ids = Ids.of_lines(cells.files, len(cells), cells.lines)
    table = (
        table_of(cells, ids, label_column, rules or Rules())
        if like is None
        else as_training(cells, ids, like)
    )
    return replace(table, notes=tuple(cells.notes), decisions=(*cells.decisions, *table.decisions))


class CsvCells(Cells):
    """The cells of several files of the same columns; see :class:`subset_trainer.data.tables.cells.Cells`."""

    indexes = frozenset()
    typed = header = False

    def __init__(
        self,
        channel: Channel,
        files: tuple[str, ...],
        csv_header: str,
        like: TrainedTable | None,
        memory: int | None,
    ) -> None:
        self.channel, self.told_header = channel, csv_header == "true"
        self.room = Room(channel, memory)
        self.notes: list[str] = []
        self.decisions: list[Decision] = []
        self.titles: list[str] | None = None
        self.width: int | None = None
        self.beginnings: dict[str, Beginning] = {}
        for file in files:
            self.beginnings[file] = self._beginning(file, csv_header)
        self.files = tuple(file for file in files if next(self._records(file), None) is not None)
        if not self.files:
            raise channel.error(f"file '{files[0]}' holds only blank lines; expected rows.")
        first = self.files[0]
        _, fields = next(self._records(first))
        self.width = len(fields)
        if self.width < 2:
            raise channel.error(
                f"file '{first}' has one column, beginning with {fields[0][:40]!r}; expected a label and at least one "
                "feature, separated by commas (tabs in a .tsv file)."
            )
        if self.width > MOST_COLUMNS:
            raise channel.error(
                f"file '{first}' has {self.width:,} columns; expected at most {MOST_COLUMNS:,}."
            )
        self._decide_header(csv_header, like)
        self._repeated = 0
        read = [self._read(file) for file in self.files]
        if self._repeated:
            reason = f"{self._repeated:,} lines repeat the header"
            self.decisions.append(Decision("left out", "left out", reason))
        self.starts = [0, *accumulate(table.num_rows for table in read)][:-1]
        self._rows_read = sum(table.num_rows for table in read)
        if not self._rows_read:
            raise channel.error(f"file '{first}' holds a header and no rows.")
        import pyarrow as pa

        self._table = pa.concat_tables(read)
        self._leave_out_nameless()

    def __len__(self) -> int:
        return self._rows_read

    # The header

    def _decide_header(self, csv_header: str, like: TrainedTable | None) -> None:
        """Decide for the first file whether its line 1 is a header, and then for the others."""
        first = self.files[0]
        sample = self._sample(first, _SAMPLE_ROWS)
        if csv_header != "auto":
            has, reason = self.told_header, "csv_header says so"
            decision = Decision("header", "line 1" if has else "none", reason, "given")
            self.decisions.append(self._placed(decision))
        elif like is not None:
            has = names_most(as_named(sample[0], like), like) or names_columns(sample)
        else:
            decision = header_of(sample)
            refuse_open(
                self.channel.name, [replace(decision, name=first)] if decision.certainty == "open" else ()
            )
            self.decisions.append(self._placed(decision))
            has = decision.taken != "none"
        self._order: dict[str, list[int]] = {}
        if has:
            self._take_titles(first, sample[0] if like is None else as_named(sample[0], like))
            if like is not None and not like.header:
                self.notes.append(
                    f"{self.channel.name} channel: line 1 of '{first}' is a header; training has none, so that columns "
                    "are matched by position."
                )
        for file in self.files[1:]:
            self._decide_header_of(file, csv_header)

    def _decide_header_of(self, file: str, csv_header: str) -> None:
        """Decide on a further file: it has the same header, perhaps in another order, or none, as files have that were
        split from a larger one."""
        fields = self._sample(file, 1)[0]
        order = None if self.titles is None else places_of(self.titles, fields)
        if order is not None:
            self._order[file] = order
            if order != sorted(order):
                self.notes.append(
                    f"{self.channel.name} channel: file '{file}' has its columns in another order than "
                    f"'{self.files[0]}'; they are matched by name."
                )
        elif self.told_header or (
            csv_header == "auto" and names_columns(self._sample(file, _ROWS_OF_FURTHER))
        ):
            if self.titles is not None:
                expected = f"that of '{next(iter(self._order))}', in any order"
                raise self.channel.error(
                    f"file '{file}' has the header {', '.join(fields)[:200]!r}; expected {expected}."
                )
            self._take_titles(file, fields)
            self.decisions = [decision for decision in self.decisions if decision.about != "header"]
            reason = "it names the columns of all files, others have no header"
            self.decisions.append(Decision("header", "line 1", reason, name=file))

    def _take_titles(self, file: str, titles: Sequence[str]) -> None:
        self.titles, self.header = list(titles), True
        self._order[file] = list(range(len(titles)))
        counts = Counter(filter(None, self.titles))
        twice = next((name for name in self.titles if counts[name] > 1), None)
        if twice is not None:
            raise self.channel.error(
                f"file '{file}': the header names {twice!r} twice; expected different names."
            )

    def _sample(self, file: str, rows: int) -> list[list[str]]:
        """The first records of a file, with stripped fields."""
        assert self.width is not None
        most = min(rows, max(2, _SAMPLE_FIELDS // self.width))
        return [[field.strip() for field in fields] for _, fields in islice(self._records(file), most)]

    def _placed(self, decision: Decision) -> Decision:
        """A decision about the header with its line in the first file."""
        above = self.beginnings[self.files[0]].lines
        return (
            replace(decision, taken=f"line {above + 1}") if above and decision.taken == "line 1" else decision
        )

    def _leave_out_nameless(self) -> None:
        """Columns without a name are called by their position, as pandas does; without values they are left out."""
        width = len(self._table.column_names)
        names = list(self.titles) if self.titles is not None else [str(position) for position in range(width)]
        self._stored = list(range(width))
        if self.titles is not None and "" in names:
            empty = [at for at, name in enumerate(names) if not name and not any(self.coded_at(at).distinct)]
            if empty:
                self.decisions.append(
                    Decision("left out", "empty", f"{len(empty)} columns without a name and without values")
                )
            self._stored = [at for at in self._stored if at not in empty]
            names = [name if name or at == 0 else f"Unnamed: {at}" for at, name in enumerate(names)]
        self.names = [names[at] for at in self._stored]

    # The cells

    def column(self, position: int) -> np.ndarray | Coded:
        """Plain numbers as float64, other columns as texts, also digits with leading zeros."""
        import pyarrow as pa
        from pyarrow import compute

        texts = self._table.column(self._stored[position])
        if compute.any(compute.match_substring_regex(texts, f"^{PADDED}$")).as_py():
            return self.coded(position)
        try:
            numbers = texts.cast(pa.float64()).to_numpy()
        except pa.ArrowInvalid:
            numbers = None
        if numbers is not None and np.isfinite(numbers).all():
            return cast(np.ndarray, numbers)
        return self.coded(position)

    def coded(self, position: int) -> Coded:
        """A column's texts."""
        return self.coded_at(self._stored[position])

    def coded_at(self, place: int) -> Coded:
        column = self._table.column(place).dictionary_encode()
        texts, held = distinct_of(column)
        self.room.look(f"file '{self.files[0]}'", texts * STRING + 2 * held + 16 * len(self))
        return Coded.of_arrow(column)

    def fail(self, position: int, row: int, expected: str, what: str = "value") -> NoReturn:
        file, line, fields = self._locate(row)
        value = fields[self._stored[position]].strip()
        is_what = f"is missing ({value!r})" if value.lower() in MISSING else f"is {value!r}"
        hint = " (if this line is a header, set csv_header to true)" if row == 0 and not self.header else ""
        title = column_title(self.names[position], self.header)
        raise self.channel.error(
            f"file '{file}', line {line}, {title}: the {what} {is_what}; {expected}{hint}."
        )

    # The files

    def _read(self, file: str) -> "pa.Table":
        """A file's rows as strings, without a header and without rows of empty cells."""
        import pyarrow as pa
        from pyarrow import compute
        from pyarrow import csv as arrow_csv

        assert self.width is not None
        names = [str(position) for position in range(self.width)]
        ragged, lines = False, 0

        def invalid(row: "arrow_csv.InvalidRow") -> str:
            nonlocal ragged
            ragged = ragged or bool(row.text.strip())
            return "skip"

        try:
            if self.beginnings[file].spaced:
                raise ValueError("pyarrow knows no blanks before quotes")
            with self._open(file, CELL) as opened:
                table = arrow_csv.read_csv(
                    opened,
                    read_options=arrow_csv.ReadOptions(
                        column_names=names, block_size=LONGEST_LINE, use_threads=False
                    ),
                    parse_options=arrow_csv.ParseOptions(
                        delimiter=self.beginnings[file].separator,
                        quote_char='"' if self.beginnings[file].quoted else False,
                        newlines_in_values=True,
                        invalid_row_handler=invalid,
                    ),
                    convert_options=arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
                )
                lines = opened.lines
        except UserError:
            raise
        except (pa.ArrowException, OSError, EOFError, zlib.error, ValueError):
            ragged = True
        if ragged:  # the csv module says where, or understands what pyarrow does not
            table = None
            rows = list(self._records(file, STRING))
            columns = [
                pa.array(column, pa.string()) for column in zip(*(fields for _, fields in rows), strict=True)
            ]
            table = pa.table(columns, names=names)
        if ragged or table.num_rows < lines:
            self._check_swallowed(file, table)
        if (order := self._order.get(file)) is not None:
            table = table.slice(1).select(order).rename_columns(names)
        table = self._without_headers(table)
        last = table.column(self.width - 1)
        if compute.any(compute.equal(last, "")).as_py():
            blank = [compute.equal(compute.utf8_trim_whitespace(column), "") for column in table.columns[:1]]
            if compute.any(blank[0]).as_py():
                for column in table.columns[1:]:
                    blank[0] = compute.and_(blank[0], compute.equal(compute.utf8_trim_whitespace(column), ""))
                table = table.filter(compute.invert(blank[0]))
        return table

    def _without_headers(self, table: "pa.Table") -> "pa.Table":
        """Rows without those that repeat the header."""
        import pyarrow as pa
        from pyarrow import compute

        if self.titles is None:
            return table
        title = self.titles[0]
        again = compute.is_in(
            compute.utf8_trim_whitespace(table.column(0)), pa.array([title, f"\ufeff{title}"], pa.string())
        )
        for column, title in zip(table.columns[1:], self.titles[1:], strict=True):
            if not compute.any(again).as_py():
                return table
            again = compute.and_(again, compute.equal(compute.utf8_trim_whitespace(column), title))
        table, rows = table.filter(compute.invert(again)), table.num_rows
        self._repeated += rows - table.num_rows
        return table

    def _locate(self, row: int) -> tuple[str, int, list[str]]:
        """File, line and fields of a row. It reads the files again: storing line numbers would cost every run."""
        records = ((file, line, fields) for file in self.files for line, fields in self._rows(file))
        return next(islice(records, row, None))

    def lines(self) -> Iterator[tuple[str, int]]:
        """File and line number of each row."""
        return ((file, line) for file in self.files for line, _ in self._rows(file))

    def _rows(self, file: str) -> Iterator[tuple[int, list[str]]]:
        records = self._records(file)
        if (order := self._order.get(file)) is not None:
            next(records)
            records = ((line, [fields[at] for at in order]) for line, fields in records)
        repeated = self._repeated and self.titles
        yield from (
            (line, fields)
            for line, fields in records
            if any(map(str.strip, fields)) and not (repeated and is_again(fields, repeated))
        )

    def _records(self, file: str, each: int = 0) -> Iterator[tuple[int, list[str]]]:
        """(first line, fields) of each record that is not blank. Raises UserError on ragged rows.

        Args:
            each: bytes that a cell takes where all records are kept.
        """
        beginning = self.beginnings.get(file, Beginning())
        above = beginning.lines
        line = above + 1
        csv.field_size_limit(LONGEST_LINE)
        try:
            with (
                self._open(file, each) as opened,
                io.TextIOWrapper(cast(BinaryIO, opened), encoding="utf-8", newline="") as text,
            ):
                reader = csv.reader(
                    text,
                    delimiter=beginning.separator,
                    quoting=csv.QUOTE_MINIMAL if beginning.quoted else csv.QUOTE_NONE,
                    skipinitialspace=beginning.spaced,
                )
                for fields in reader:
                    if len(fields) == self.width:
                        yield line, fields
                    elif len(fields) > 1 or "".join(fields).strip():
                        if self.width is not None:
                            raise self.channel.error(
                                f"file '{file}', line {line}: {len(fields)} field{'s' * (len(fields) != 1)}; expected "
                                f"{self.width}, as in the first line of '{self.files[0]}'"
                                f"{self._why_more(fields, file)}."
                            )
                        yield line, fields
                    line = above + reader.line_num + 1
        except csv.Error as error:
            raise self.channel.error(f"file '{file}', line {line}: {error}; expected CSV.") from error
        except UnicodeDecodeError as error:
            raise self.channel.error(f"file '{file}', {self._undecodable(file)}.") from error
        except (OSError, EOFError, zlib.error) as error:
            raise self.channel.error(f"file '{file}' cannot be read ({error}).") from error

    def _undecodable(self, file: str) -> str:
        """On the first line that cannot be decoded."""
        encoding = self.channel.encoding
        path = self.channel.root / file
        with gzip.open(path) if self.channel.content(file) == "gzip" else path.open("rb") as raw:
            for number, line in enumerate(cast(BinaryIO, raw), 1):
                if (refused := refusal(line.rstrip(b"\r\n"), encoding)) is not None:
                    return f"line {number}: {refused}"
        return "not UTF-8 text; expected UTF-8, or text_encoding"

    def _why_more(self, fields: Sequence[str], file: str) -> str:
        if self.width is None or len(fields) <= self.width:
            return ""
        mark = self.beginnings[file].separator
        return f" (a field that holds {mark!r} stands in quotes, and quotes in it are doubled)"

    def _open(self, file: str, each: int = 0) -> "_Bytes":
        """The file's text from the first line of its table on.

        Args:
            each: bytes that a cell takes, where what is read is kept.
        """
        beginning = self.beginnings.get(file)
        room = self.room if each else None
        return _Bytes(self.channel, file, room, beginning.lines if beginning else 0, each * (self.width or 1))

    def _beginning(self, file: str, csv_header: str) -> Beginning:
        tabs = file.lower().removesuffix(".gz").endswith(".tsv")
        try:
            with self._open(file) as opened:
                head = opened.read(_BLOCK).decode("utf-8", "ignore")
        except (UserError, OSError, EOFError, ValueError, zlib.error):
            return Beginning("\t" if tabs else ",")  # the error is reported when the records are read
        found = beginning_of(head, "\t" if tabs else None, csv_header)
        if found.told or (found.separator != "," and not tabs):
            says = ", as its first line says" if found.told else ""
            self.notes.append(
                f"{self.channel.name} channel: file '{file}' is separated by {found.separator!r}{says}."
            )
        if found.titles:
            lines = f"line {found.lines} stands" if found.lines == 1 else f"lines 1 to {found.lines} stand"
            self.decisions.append(
                Decision(
                    "left out", "titles", f"{lines} above the header", name=file, examples=found.titles[:2]
                )
            )
        if found.separator == "\t" and self._has_open_quotes(file, found.lines):
            self.notes.append(
                f"{self.channel.name} channel: file '{file}' has quotes that are not closed, and the same number of "
                "fields in every line, so that quotes are read as text."
            )
            return replace(found, quoted=False)
        return found

    def _has_open_quotes(self, file: str, above: int) -> bool:
        try:
            with self._open(file) as opened:
                text = io.TextIOWrapper(cast(BinaryIO, opened), encoding="utf-8", errors="replace")
                return quotes_are_text(islice(text, above, None), "\t")
        except (UserError, OSError, EOFError, zlib.error):
            return False

    def _check_swallowed(self, file: str, table: "pa.Table") -> None:
        """Raise UserError if a cell holds lines that look like rows, as one does that begins with a stray quote."""
        from pyarrow import compute

        separator, width = self.beginnings[file].separator, len(table.column_names)
        for at, column in enumerate(table.columns):
            several = compute.match_substring(column, "\n")
            if not compute.any(several).as_py():
                continue
            for row in compute.indices_nonzero(several).to_pylist():
                lines = column[row].as_py().splitlines()[1:-1]
                if len(lines) >= _LINES_OF_ROWS and all(line.count(separator) == width - 1 for line in lines):
                    line = next(islice(self._records(file), row, None))[0]
                    raise self.channel.error(
                        f"file '{file}', line {line}: a quote in field {at + 1} is closed {len(lines) + 1:,} lines "
                        f"below, and the lines between look like rows, such as {lines[0][:60]!r}; expected quotes "
                        'inside of a text to be doubled ("").'
                    )


class _Bytes(io.RawIOBase):
    """The UTF-8 text of a file without its first lines, unpacked if its content is packed with gzip, with
    limits on its lines and on the memory that its rows take where they are kept.

    Raises:
        UserError: a line is too long or contains a NUL character, or there is no room for its rows.
    """

    def __init__(
        self, channel: Channel, file: str, room: Room | None = None, above: int = 0, each_line: int = 0
    ) -> None:
        self._line, self._lines = 0, 0
        self._room, self._each_line = room, each_line
        self._channel, self._name = channel, file
        raw: BinaryIO = (channel.root / file).open("rb")
        start = raw.read(4)
        raw.seek(0)
        if start[:2] == b"\x1f\x8b":
            raw = cast(BinaryIO, gzip.GzipFile(fileobj=raw))
            start = _start(raw)
        self._text: io.TextIOWrapper | None = None
        if start in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
            self._text = io.TextIOWrapper(raw, "utf-32", newline="")
        elif start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            self._text = io.TextIOWrapper(raw, "utf-16", newline="")
        elif start[:3] == codecs.BOM_UTF8:
            raw.read(3)
        elif channel.encoding is not None:
            self._text = io.TextIOWrapper(raw, channel.encoding, newline="")
        self._raw = raw
        self._pending = self._below(above) if above else b""

    @property
    def lines(self) -> int:
        """The line feeds that were read."""
        return self._lines

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        block, self._pending = self._pending[: len(buffer)], self._pending[len(buffer) :]
        block = block or self._next(len(buffer))
        self._check(block)
        buffer[: len(block)] = block
        return len(block)

    def _next(self, size: int) -> bytes:
        if self._text is None:
            return self._raw.read(size)
        return self._text.read(max(1, size // 4)).encode()  # a character takes at most four bytes

    def _below(self, above: int) -> bytes:
        """What stands below the first lines in the block that they were found in."""
        block = b""
        while len(block) < _BLOCK and (more := self._next(_BLOCK - len(block))):
            block += more
        end = [found.end() for found in islice(_LINE_END.finditer(block), above)][-1]
        self._lines = above
        return block[end:]

    def _check(self, block: bytes) -> None:
        end = max(block.rfind(b"\n"), block.rfind(b"\r"))
        self._line = len(block) - end - 1 + (self._line if end < 0 else 0)
        if self._line > LONGEST_LINE:
            raise self._refused(block, f"a line of more than {LONGEST_LINE:,} bytes")
        if b"\0" in block:
            at = block.index(b"\0")
            utf16 = {0: "utf-16-be", 1: "utf-16-le"}.get(at) if not self._lines else None
            hint = f" (set text_encoding={utf16} if it is UTF-16)" if utf16 else ""
            raise self._refused(block[:at], f"a NUL character, which no UTF-8 text has{hint}")
        lines = block.count(b"\n")
        self._lines += lines
        if self._room is not None:
            # Arrow's buffers double as they grow.
            self._room.take(2 * len(block) + lines * self._each_line, f"file '{self._name}'")

    def _refused(self, before: bytes, what: str) -> UserError:
        line = self._lines + before.count(b"\n") + 1
        return self._channel.error(f"file '{self._name}', line {line}: {what}; expected CSV.")

    def close(self) -> None:
        self._raw.close()
        super().close()


def _start(packed: BinaryIO) -> bytes:
    try:
        start = packed.read(4)
        packed.seek(0)
    except (OSError, EOFError, zlib.error):
        packed.seek(0)
        return b""
    return start


class CsvTables(TableFormat):
    """CSV and TSV files, optionally compressed with gzip."""

    name = "csv"
    heeds = ("label_column", "csv_header", "text_encoding", *OF_COLUMNS)
    table = "CSV"
    expected = ("", "CSV", " files")
    beginning = "lines"
    suffixes = telling = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
    content_types = ("text/csv", "csv")
    contents = (TEXT, "gzip", "UTF-16 text", "UTF-32 text")

    def table_of(self, channel: Channel, files: tuple[str, ...], asked: Asked) -> Table:
        rules = asked.rules
        return read_csv(channel, files, asked.label_column, asked.csv_header, asked.like, asked.memory, rules)

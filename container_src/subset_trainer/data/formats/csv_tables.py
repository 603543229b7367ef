"""Reads CSV files as columns and labels.

Every error names the file, the line (1-based, as in an editor), the column and the value.
"""

import csv
import gzip
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NoReturn, TextIO

import numpy as np

from subset_trainer.data.channels import Channel
from subset_trainer.data.classes import LABEL_COLUMN_HINT, classes_of
from subset_trainer.data.content import TEXT
from subset_trainer.data.formats.tabular import Asked, TableFormat
from subset_trainer.data.ids import Ids
from subset_trainer.data.kinds.table import TableKind
from subset_trainer.data.tables import dates
from subset_trainer.data.tables.table import (
    MISSING,
    MOST_COLUMNS,
    Table,
    column_title,
    is_number,
    names_most,
    numbers_of,
    separator_of,
    with_gaps,
)
from subset_trainer.errors import UserError, shown

LONGEST_LINE = 1 << 24
"""Characters. A longer line belongs to no table; the limit keeps it from being read into memory whole."""

_ROWS_AT_ONCE = 1 << 16
_SAMPLE_ROWS, _SAMPLE_FIELDS = 1_000, 1 << 21
_MISSING_TO_PANDAS = [spelt for word in MISSING for spelt in {word, word.upper(), word.capitalize(), "NaN"}]


def read_csv(
    channel: Channel,
    files: tuple[str, ...],
    label_column: str | None = None,
    csv_header: str = "auto",
    like: TableKind | None = None,
    memory: int | None = None,
) -> Table:
    """Read a channel's CSV files, in name order, as one table.

    The label is the first column, or `label_column` (a name in the header or a 0-based position).

    Args:
        like: the fitted training table. Columns are then matched by name if there is a header, otherwise by position,
            and each column must be of the same kind (number, text or date) as in training.
        memory: the largest size of the unpacked text in bytes.

    Raises:
        UserError: ragged rows, missing labels, text among numbers, labels that are measurements rather than classes, or
            more text than `memory`.
    """
    reader = _Reader(channel, files, label_column, csv_header, like, memory)
    columns = reader.columns()
    labels, classes = classes_of(
        channel, reader.column(reader.label), columns[reader.label], like, LABEL_COLUMN_HINT
    )
    return Table(
        names=tuple(reader.names[position] for position in reader.features),
        columns=tuple(columns[position] for position in reader.features),
        labels=labels,
        classes=classes,
        ids=Ids.of_lines(reader.files, len(labels), reader.lines),
        header=reader.header is not None,
        label_column=reader.names[reader.label],
        label_index=reader.positions.index(reader.label),
        notes=tuple(reader.notes),
    )


class _Reader:
    """Reads the records of several files of the same columns, repeatedly if needed.

    `positions`: the columns in use. `names`: their names, or their positions as text if there is no header. `label`:
    the label's position. `features`: the positions of the other columns, in the order of training.
    """

    def __init__(
        self,
        channel: Channel,
        files: tuple[str, ...],
        label_column: str | None,
        csv_header: str,
        like: TableKind | None,
        memory: int | None,
    ):
        self.channel, self.like, self.told_header = channel, like, csv_header == "true"
        self.memory = memory
        self.notes: list[str] = []
        self.header: list[str] | None = None
        self.width: int | None = None
        self.delimiters: dict[str, str] = {}
        for file in files:
            self.delimiters[file] = self._delimiter(file)
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
        rows = max(2, min(_SAMPLE_ROWS, _SAMPLE_FIELDS // self.width))
        self.sample = [
            [field.strip() for field in fields] for _, fields in islice(self._records(first), rows)
        ]
        if csv_header == "auto":
            has_header = _looks_like_header(self.sample) if like is None else names_most(self.sample[0], like)
        else:
            has_header = self.told_header
        if has_header:
            self.header = self.sample[0]
            counts = Counter(self.header)
            twice = next((name for name in self.header if counts[name] > 1), None)
            if twice is not None:
                raise channel.error(
                    f"file '{first}': the header names {twice!r} twice; expected different names."
                )
            self.sample = self.sample[1:]
        self.names = self.header or [str(position) for position in range(self.width)]
        self.positions = list(range(self.width))
        if self.header is not None and self.header[0] == "":
            # pandas writes its row numbers as a first column without a name: an identifier, not a feature.
            self.positions = self.positions[1:]
            self.notes.append(
                f"{channel.name} channel: the first column has no name in the header and is left out."
            )
        if like is None:
            self.label = self._find_label(label_column)
            self.features = [position for position in self.positions if position != self.label]
            if not self.features:
                raise channel.error(
                    f"file '{first}' has a label and no other column; expected at least one feature."
                )
        else:
            self.label, self.features = self._match(like)

    def _find_label(self, label_column: str | None) -> int:
        assert self.width is not None
        if label_column is None:
            return self.positions[0]
        if self.header is not None and label_column in self.header:
            return self.header.index(label_column)
        if label_column.isdecimal() and len(label_column) < 10 and int(label_column) < self.width:
            return int(label_column)
        if self.header is None:
            expected = f"the files have no header, so expected a position from 0 to {self.width - 1}"
        else:
            known = ", ".join(repr(name) for name in self.header[:8]) + (", …" if self.width > 8 else "")
            expected = f"expected one of {known} or a position from 0 to {self.width - 1}"
        raise UserError(
            f"label_column={shown(label_column)}: the {self.channel.name} channel has no such column; {expected}."
        )

    def _match(self, like: TableKind) -> tuple[int, list[int]]:
        """Label and features of training: matched by name if both have a header, otherwise by position."""
        label, names = like.label_column or "0", [column.name for column in like.columns]
        if self.header is not None and like.header:
            position = {name: at for at, name in enumerate(self.header)}
            for name in (label, *names):
                if name not in position:
                    raise self.channel.error(
                        f"file '{self.files[0]}' lacks the column {name!r}, which training has."
                    )
            return position[label], [position[name] for name in names]
        if len(self.positions) != len(names) + 1:
            raise self.channel.error(
                f"file '{self.files[0]}' has {len(self.positions)} columns; expected {len(names) + 1}, as in training."
            )
        at = self.positions[like.label_index]
        return at, [position for position in self.positions if position != at]

    def column(self, position: int) -> str:
        return column_title(self.names[position], self.header is not None)

    def columns(self) -> dict[int, np.ndarray]:
        """Values [N] by position, in the types of a Table."""
        as_text = self._known_texts()
        columns = self._read_clean([self.label, *self.features], as_text)
        if columns is None:
            columns = self._read_odd(as_text)
        for position in self.features:
            if columns[position].dtype == object:
                self._find_dates(columns, position)
        return columns

    def _read_odd(self, as_text: set[int]) -> dict[int, np.ndarray]:
        parts = self._read([self.label, *self.features], as_text)
        mixed = []
        for position, pieces in parts.items():
            texts = [piece.dtype == object for piece in pieces]
            if any(texts) and position not in as_text:
                if self._check_mixed(position, pieces):
                    parts[position] = list(map(with_gaps, pieces))
                elif not all(texts):
                    mixed.append(position)
        if mixed:  # text after values that looked like numbers, whose spelling must be read again
            parts.update(self._read(mixed, set(mixed)))
        columns = {}
        for position in list(parts):
            values = columns[position] = np.concatenate(parts.pop(position))
            text, label = values.dtype == object, position == self.label
            if text:
                bad = np.flatnonzero((values == "") & label)
            else:
                bad = np.flatnonzero(~np.isfinite(values) if label else np.isinf(values))
            if len(bad):
                self._fail(position, int(bad[0]), "expected a text" if text else "expected a finite number")
        return columns

    def _find_dates(self, columns: dict[int, np.ndarray], position: int) -> None:
        """Convert a text column to dates if all its values are dates, or if it was a date column in training."""
        was_date = False
        if self.like is not None:
            was_date = self.like.columns[self.features.index(position)].kind == "date"
            if not was_date:
                return
        found, bad = dates.parse(columns[position], MISSING)
        if bad is None:
            columns[position] = found
        elif was_date:
            self._fail(position, bad, f"expected a {dates.EXAMPLE}, as in training")

    def _known_texts(self) -> set[int]:
        """The columns that were not numeric in training, even if all their values are numbers here."""
        if self.like is None:
            return set()
        kinds = zip(self.features, self.like.columns, strict=True)
        texts = {position for position, column in kinds if column.kind != "numeric"}
        return texts if all(map(is_number, self.like.classes)) else texts | {self.label}

    def _read_clean(self, positions: Sequence[int], as_text: set[int]) -> dict[int, np.ndarray] | None:
        """What `columns` returns, but many times faster; None if anything is unusual.

        pandas parses fast, but it cannot locate an error and silently repairs some. In any doubt the caller therefore
        falls back to the careful reading.
        """
        # pandas takes a second to import, so that jobs on images skip it.
        import pandas as pd

        # Columns with text in the first rows are read as text, so that True, 007 and the like keep their spelling.
        texts = as_text | {
            p
            for p in positions
            if any(row[p].lower() not in MISSING and numbers_of((row[p],)) is None for row in self.sample)
        }
        gaps = {p: _MISSING_TO_PANDAS for p in positions if p not in texts and p != self.label}
        frames = []
        try:
            for file in self.files:
                _, fields = next(self._records(file))
                titled = self.header is not None and [field.strip() for field in fields] == self.header
                if self.told_header and not titled:
                    return None
                with warnings.catch_warnings(), self._open(file) as text:
                    warnings.simplefilter("error")
                    frame = pd.read_csv(  # type: ignore[call-overload]  # it needs read() only
                        text,
                        sep=self.delimiters[file],
                        header=0 if titled else None,
                        names=range(len(self.names)),
                        dtype=dict.fromkeys(texts, str),
                        na_filter=bool(gaps),
                        na_values=gaps,
                        keep_default_na=False,
                        low_memory=False,  # otherwise a column may be numeric in one block and text in another
                    )
                if not isinstance(frame.index, pd.RangeIndex):  # rows with an extra field
                    return None
                # Rows with too few fields end in gaps, as good rows may. With quotes, separators cannot be counted.
                last = frame[len(self.names) - 1]
                if (last.isna() | (last == "")).any() and (
                    text.quoted or text.separators != (len(frame) + titled) * (len(self.names) - 1)
                ):
                    return None
                frames.append(frame)
            table = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
        except UserError:
            raise
        except Exception:
            return None
        columns = {}
        for position in positions:
            column = table[position]
            if position in texts:
                codes, found = pd.factorize(column)
                values = [value.strip() if isinstance(value, str) else "" for value in found]
                if codes.min(initial=0) < 0 or (position == self.label and "" in values):
                    return None
                if position not in as_text and (
                    any(map(is_number, values)) or all(value.lower() in MISSING for value in values)
                ):
                    return None
                columns[position] = np.array(values, object)[codes]
            elif column.dtype.kind in "iuf":
                columns[position] = column.to_numpy(np.float64)
                odd = np.isinf if position in gaps else _not_finite
                if odd(columns[position]).any():
                    return None
            else:
                return None
        return columns if len(table) else None

    def _read(self, positions: Sequence[int], as_text: set[int]) -> dict[int, list[np.ndarray]]:
        parts: dict[int, list[np.ndarray]] = {position: [] for position in positions}
        known: dict[str, str] = {}  # one object for each distinct text
        records = (fields for file in self.files for _, fields in self._rows(file))
        while rows := list(islice(records, _ROWS_AT_ONCE)):
            by_column = list(zip(*rows, strict=True))
            for position in positions:
                values = by_column[position]
                piece = None if position in as_text else numbers_of(values)
                if piece is None:
                    piece = np.empty(len(values), object)
                    piece[:] = [known.setdefault(value, value) for value in map(str.strip, values)]
                parts[position].append(piece)
        if not parts[positions[0]]:
            raise self.channel.error(f"file '{self.files[0]}' holds a header and no rows.")
        return parts

    def _check_mixed(self, position: int, pieces: list[np.ndarray]) -> bool:
        """Whether a column that is not all numbers consists of numbers and gaps, rather than of text.

        Raises:
            UserError: it consists of numbers with a few odd cells, or of labels with gaps.
        """
        rows, texts, gaps = 0, [0, -1], [0, -1]  # how many, and the first one's row
        for piece in pieces:
            if piece.dtype == object:
                for row, value in enumerate(piece.tolist(), rows):
                    kind = gaps if value.lower() in MISSING else texts
                    if kind is gaps or not is_number(value):
                        kind[:] = kind[0] + 1, row if kind[0] == 0 else kind[1]
            rows += len(piece)
        numbers = rows - texts[0] - gaps[0]
        # In training a column may be text; afterwards its kind is fixed.
        few = texts[0] <= max(1, rows // 100) and numbers > texts[0]
        if texts[0] and (few or self.like is not None):
            self._fail(position, texts[1], "expected a number, as in other rows")
        if gaps[0] and not texts[0] and position == self.label:
            self._fail(position, gaps[1], "expected a number")
        return not texts[0]

    def _fail(self, position: int, row: int, expected: str) -> NoReturn:
        file, line, fields = self._locate(row)
        value = fields[position].strip()
        what = "label" if position == self.label else "value"
        is_what = f"is missing ({value!r})" if value.lower() in MISSING else f"is {value!r}"
        hint = (
            " (if this line is a header, set csv_header to true)" if row == 0 and self.header is None else ""
        )
        raise self.channel.error(
            f"file '{file}', line {line}, {self.column(position)}: the {what} {is_what}; {expected}{hint}."
        )

    def _locate(self, row: int) -> tuple[str, int, list[str]]:
        """File, line and fields of a row. It reads the files again: storing line numbers would cost every run."""
        records = ((file, line, fields) for file in self.files for line, fields in self._rows(file))
        return next(islice(records, row, None))

    def lines(self) -> Iterator[tuple[str, int]]:
        """File and line number of each row."""
        return ((file, line) for file in self.files for line, _ in self._rows(file))

    def _rows(self, file: str) -> Iterator[tuple[int, list[str]]]:
        records = self._records(file)
        line, fields = next(records)
        if self.header is None or [field.strip() for field in fields] != self.header:
            # Files that were split from a larger one have a header in the first file only.
            if self.told_header:
                raise self.channel.error(
                    f"file '{file}' has the header {', '.join(fields)[:200]!r}; expected that of '{self.files[0]}'."
                )
            yield line, fields
        yield from records

    def _records(self, file: str) -> Iterator[tuple[int, list[str]]]:
        """(first line, fields) of each record that is not blank. Raises UserError on ragged rows."""
        line = 1
        try:
            with self._open(file) as text:
                reader = csv.reader(text, delimiter=self.delimiters[file])
                for fields in reader:
                    if len(fields) == self.width:
                        yield line, fields
                    elif len(fields) > 1 or "".join(fields).strip():
                        if self.width is not None:
                            raise self.channel.error(
                                f"file '{file}', line {line}: {len(fields)} field{'s' * (len(fields) != 1)}; expected "
                                f"{self.width}, as in the first line of '{self.files[0]}'."
                            )
                        yield line, fields
                    line = reader.line_num + 1
        except csv.Error as error:
            raise self.channel.error(f"file '{file}', line {line}: {error}; expected CSV.") from error
        except UnicodeDecodeError as error:
            raise self.channel.error(
                f"file '{file}', near line {line}: not UTF-8 text ({error.reason})."
            ) from error
        except (OSError, EOFError, zlib.error) as error:
            raise self.channel.error(f"file '{file}' cannot be read ({error}).") from error

    def _open(self, file: str) -> "_Text":
        path, separator, limit = (
            self.channel.root / file,
            self.delimiters.get(file, ","),
            self._too_large(file),
        )
        if self.channel.content(file) == "gzip":
            return _Text(gzip.open(path, "rt", encoding="utf-8-sig", newline=""), separator, limit)
        return _Text(path.open(encoding="utf-8-sig", newline=""), separator, limit)

    def _too_large(self, file: str) -> "_Limit":
        if self.memory is None:
            return None
        return self.memory, self.channel.error(
            f"file '{file}' holds more than {self.memory / 1e9:.1f} GB of text, which is what fits in memory; expected "
            "less data, or an instance with more memory."
        )

    def _delimiter(self, file: str) -> str:
        if file.lower().removesuffix(".gz").endswith(".tsv"):
            return "\t"
        try:
            with self._open(file) as text:
                line = text.file.readline(1 << 20)
        except (UnicodeDecodeError, OSError, EOFError, zlib.error):
            return ","  # the error is reported when the records are read
        separator = separator_of(line)
        if separator != ",":
            self.notes.append(f"{self.channel.name} channel: file '{file}' is separated by {separator!r}.")
        return separator


_Limit = tuple[int, UserError] | None


class _Text:
    """A text file with limits on its lines and size; the csv module iterates over its lines, pandas reads blocks.

    Raises:
        csv.Error: a line is too long, or contains a NUL character (as in UTF-16).
        UserError: the error in `limit`, once the file exceeds the number of characters there.
    """

    def __init__(self, file: TextIO, separator: str, limit: _Limit) -> None:
        self.file = file
        self.separators, self.quoted = 0, False
        """The number of separators that `read` has passed, and whether it has passed a quotation mark."""
        self._separator = separator
        self._limit = limit
        self._read = 0
        self._line = 0

    def __enter__(self) -> "_Text":
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()

    def __iter__(self) -> Iterator[str]:
        while line := self.file.readline(LONGEST_LINE + 1):
            self._check(line, len(line))
            yield line

    def read(self, size: int = -1) -> str:
        text = self.file.read(size)
        end = max(text.rfind("\n"), text.rfind("\r"))
        self._line = len(text) - end - 1 + (self._line if end < 0 else 0)
        self._check(text, self._line)
        self.separators += text.count(self._separator)
        self.quoted = self.quoted or '"' in text
        return text

    def _check(self, text: str, line: int) -> None:
        if line > LONGEST_LINE:
            raise csv.Error(f"a line of more than {LONGEST_LINE:,} characters")
        if "\0" in text:
            raise csv.Error("a NUL character, which no UTF-8 text has")
        self._read += len(text)
        if self._limit is not None and self._read > self._limit[0]:
            raise self._limit[1]


def _not_finite(values: np.ndarray) -> np.ndarray:
    return ~np.isfinite(values)


def _looks_like_header(sample: list[list[str]]) -> bool:
    """Whether the first of some records is a header for the others."""
    first, *rows = sample
    if not rows:
        return False
    if len(first) > 2 and first == [str(position) for position in range(len(first))]:
        return True  # as pandas writes a table without column names
    columns = list(zip(*rows, strict=True))
    numeric = [position for position, values in enumerate(columns) if _mostly_numbers(values)]
    if numeric:
        # The first name may be empty, as in the files of pandas, where that column holds row numbers.
        return all((first[at] or at == 0) and not is_number(first[at]) for at in numeric)
    # All text: the names in a header are distinct and do not recur in their columns.
    return len(set(first)) == len(first) and not any(map(lambda name, values: name in values, first, columns))


def _mostly_numbers(values: Sequence[str]) -> bool:
    numbers = sum(map(is_number, values))
    odd = len(values) - numbers - sum(value.lower() in MISSING for value in values)
    return numbers > odd and odd <= max(1, len(values) // 100)


class CsvTables(TableFormat):
    """CSV and TSV files, optionally compressed with gzip."""

    name = "csv"
    table = "CSV"
    expected = ("", "CSV", " files")
    suffixes = telling = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
    content_types = ("text/csv", "csv")
    contents = (TEXT, "gzip")

    def table_of(self, channel: Channel, files: tuple[str, ...], asked: Asked) -> Table:
        return read_csv(channel, files, asked.label_column, asked.csv_header, asked.like, asked.memory)

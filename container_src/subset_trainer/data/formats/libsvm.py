"""libsvm files (svmlight's format): one row per line, with the label and then `feature:value` for each non-zero value.

scikit-learn reads them fast but does not locate errors, so on any doubt a careful second reading finds the line.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from subset_trainer.data.channels import Channel
from subset_trainer.data.classes import classes_of
from subset_trainer.data.content import TEXT, beginning
from subset_trainer.data.formats.format import Claim
from subset_trainer.data.formats.tabular import Asked, TableFormat
from subset_trainer.data.ids import Ids
from subset_trainer.data.room import Room
from subset_trainer.data.tables.table import MOST_COLUMNS, Table
from subset_trainer.errors import first_line, shown

if TYPE_CHECKING:
    from subset_trainer.data.kinds.table import TableKind

_ANY_SUFFIXES = ("", ".t", ".tr", ".val", ".txt", ".dat", ".data", ".scale", ".train", ".test")
_ROW = re.compile(rb"\s*[+-]?[\d.]+(?:e[+-]?\d+)?(?:\s+qid:\d+)?(?:\s+\d+:\S+)*\s*(?:#.*)?", re.IGNORECASE)
_BEGINNING, _LINES, _FEW = 1 << 14, 20, 50
_MOST_LABEL = 2**53
_SPARSE_BYTES = 12
"""Memory per byte of text, before zeros are filled in: the matrix of each file, of all, and that by columns."""
_DENSE_BYTES = 12
"""Memory per number with all zeros filled in: a float64, and the float32 of the model's input."""


def read_libsvm(
    channel: Channel, files: tuple[str, ...], like: TableKind | None = None, memory: int | None = None
) -> Table:
    """Read a channel's libsvm files, in name order, as one dense table.

    Columns are named by their feature numbers, from 0 if a feature 0 occurs and otherwise from 1, up to the highest
    number that occurs. With `like`, the columns are those of training, and further features are left out with a note.

    Raises:
        UserError: a malformed line, infinite numbers, labels that are measurements, or a dense table of more than
            `memory` bytes.
    """
    from scipy import sparse
    from sklearn.datasets import load_svmlight_file

    room = Room(channel, memory)
    size = sum(os.path.getsize(channel.root / file) for file in files)  # noqa: PTH202
    room.check(size * _SPARSE_BYTES, f"file '{files[0]}' and others")
    matrices, labels, highest, lowest = [], [], 0, 1
    ranges: list[tuple[int, int, str]] = []
    for file in files:
        try:
            with (channel.root / file).open("rb") as opened:
                # zero_based=True keeps the feature numbers as they are.
                matrix, label = load_svmlight_file(opened, zero_based=True)
        except Exception as error:
            _find_fault(channel, file)
            raise channel.error(
                f"file '{file}' cannot be read ({first_line(error)}); expected libsvm's format."
            ) from error
        if not np.isfinite(label).all() or np.isinf(matrix.data).any():
            _find_fault(channel, file)
        if matrix.nnz:
            ranges.append((int(matrix.indices.min()), int(matrix.indices.max()), file))
            highest, lowest = max(highest, int(matrix.indices.max())), min(lowest, int(matrix.indices.min()))
        matrices.append(matrix)
        labels.append(label)
    y = np.concatenate(labels)
    if not len(y):
        raise channel.error(f"file '{files[0]}' holds no rows; expected some.")
    if np.abs(y).max() >= _MOST_LABEL:
        raise channel.error(
            f"file '{files[0]}' and others have labels beyond 2^53, which are told apart in no floating-point number; "
            "expected smaller numbers."
        )
    _check_first_numbers(channel, ranges, like)
    codes, classes = classes_of(channel, "the first number of each line", y, like)
    names, notes = _features(channel, lowest, highest, like)
    if highest >= MOST_COLUMNS and like is None:
        raise channel.error(
            f"file '{files[0]}' and others have features up to number {highest:,}; expected at most {MOST_COLUMNS:,}, "
            "because all zeros are filled in."
        )
    if not names:
        raise channel.error(
            f"file '{files[0]}' has labels and no features; expected feature:value behind them."
        )
    room.check(
        len(y) * len(names) * _DENSE_BYTES + size, f"file '{files[0]}', with others and all zeros filled in,"
    )
    numbers = [int(name) for name in names]
    for matrix in matrices:  # all of the same width
        matrix.resize(matrix.shape[0], max(numbers) + 1)
    whole = sparse.vstack(matrices, "csc")
    columns = np.zeros((len(names), len(y)))
    for out, number in zip(columns, numbers, strict=True):
        begin, end = whole.indptr[number : number + 2]
        out[whole.indices[begin:end]] = whole.data[begin:end]
    ids = Ids.of_lines(
        files, len(y), lambda: ((file, line) for file in files for line, _ in _rows(channel, file))
    )
    return Table(names, tuple(columns), codes, classes, ids, notes=notes)


def _check_first_numbers(
    channel: Channel, ranges: list[tuple[int, int, str]], like: TableKind | None
) -> None:
    """Raise UserError if some files count their features from 0 and others the same number of them from 1."""
    known = (
        [int(column.name) for column in like.columns if column.name.isdecimal()] if like is not None else []
    )
    if known:
        ranges = [(min(known), max(known), "training"), *ranges]
    for low, high, file in ranges:
        for lowest, highest, other in ranges:
            if low == 0 and lowest == 1 and highest == high + 1:
                first, second = (f"'{name}'" if name != "training" else name for name in (file, other))
                raise channel.error(
                    f"the features are numbered from 0 to {high} in {first} and from 1 to {highest} in {second}; "
                    "expected the same first number everywhere, so write them with the same zero_based."
                )


def _features(
    channel: Channel, lowest: int, highest: int, like: TableKind | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the columns, and notes on features that are left out."""
    if like is None:
        return tuple(str(number) for number in range(lowest, highest + 1)), ()
    names = tuple(column.name for column in like.columns)
    if not all(name.isdecimal() and len(name) < 10 for name in names):
        raise channel.error(
            "libsvm files number their features, and training's have names; expected files in training's format."
        )
    most = max(map(int, names))
    if highest <= most:
        return names, ()
    return names, (
        f"{channel.name} channel: features above {most}, up to {highest}, do not occur in training and are left out.",
    )


def _find_fault(channel: Channel, file: str) -> None:
    """Raise a UserError that names the first malformed line, if there is one."""
    for number, words in _rows(channel, file):
        if problem := _fault(words):
            raise channel.error(f"file '{file}', line {number}: {problem}.")


def _rows(channel: Channel, file: str) -> Iterator[tuple[int, list[bytes]]]:
    """(line number, words) of each row."""
    with (channel.root / file).open("rb") as opened:
        for number, line in enumerate(opened, 1):
            if words := line.split(b"#", 1)[0].split():
                yield number, words


def _fault(words: list[bytes]) -> str | None:
    """Describes what is wrong with a row; None if nothing is."""
    if not _finite(words[0]):
        return f"the label is {_text(words[0])}; expected a number, and then feature:value for each feature"
    before = -1
    for word in words[1:]:
        key, colon, value = word.partition(b":")
        if key == b"qid" and before < 0:
            continue
        if not colon or not key.isdigit():
            return f"{_text(word)} stands where feature:value is expected, such as 3:0.5"
        if len(key) > 9:
            return f"a feature's number has {len(key):,} digits; expected at most 9"
        if int(key) <= before:
            return f"feature {int(key)} comes after {before}; expected each once, in ascending order"
        before = int(key)
        if not _finite(value) and value.lower() != b"nan":
            return f"the value of feature {before} is {_text(value)}; expected a finite number"
    return None


def _finite(word: bytes) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


def _text(word: bytes) -> str:
    return shown(word[:200].decode("utf-8", "replace"), 60)


def _holds_rows(path: Path) -> bool:
    """Whether the first lines are rows of a libsvm file, of which one has features."""
    rows = beginning(path, _BEGINNING).splitlines()
    rows = [row for row in rows[: max(1, len(rows) - 1)][:_LINES] if row.strip()]
    return bool(rows) and all(map(_ROW.fullmatch, rows)) and any(b":" in row for row in rows)


class Libsvm(TableFormat):
    """Files of libsvm and svmlight; the label is the first number of each line."""

    name = table = "libsvm"
    expected = ("", "libsvm", " files")
    suffixes = telling = (".libsvm", ".svm", ".svmlight")
    content_types = ("text/libsvm", "text/x-libsvm", "libsvm")
    contents = (TEXT,)
    columns_vary = True  # features that are 0 in all rows of a file do not appear in it

    def recognise(self, channel: Channel) -> Claim | None:
        """By suffix or, as LIBSVM's own files have none, by the first lines."""
        unknown = channel.of_suffixes(*_ANY_SUFFIXES)
        named = channel.ending(*self.suffixes)
        found = (file for file in unknown if _holds_rows(channel.root / file)) if len(unknown) <= _FEW else ()
        files = tuple(sorted({*named, *found}))
        return Claim(files) if files else None

    def table_of(self, channel: Channel, files: tuple[str, ...], asked: Asked) -> Table:
        return read_libsvm(channel, files, asked.like, asked.memory)

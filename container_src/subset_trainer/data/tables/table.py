"""A table in memory, its fitted columns, and the rules for text in it: missing values, numbers and names."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from subset_trainer.data.ids import Ids
from subset_trainer.data.understanding import Decision

MOST_COLUMNS = 100_000
CYCLES = {"year": 365.2425, "week": 7.0, "day": 1.0}
"""The periodic components of dates, with their periods in days."""
MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?", "-"))
"""Missing values in a column of numbers or dates, in any case. In other columns only '' is missing."""


@dataclass(frozen=True)
class Table:
    """A table with labels.

    `columns`: one array [N] per feature, with their `names`. Numbers are float64, texts are object (of str), dates are
    datetime64[us] in UTC; missing values are NaN, '' or NaT. labels [N] int64: positions in `classes`. `header`:
    whether the files had one. `label_column`: the label's name, or its position as text. `label_index`: its position.
    `text_columns`: the names of the columns of texts that are read as text, in the order of `names`. `decisions`: why
    each column was read as it was.
    """

    names: tuple[str, ...]
    columns: tuple[np.ndarray, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    ids: Ids
    header: bool = False
    label_column: str | None = None
    label_index: int = 0
    notes: tuple[str, ...] = ()
    text_columns: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def texts(self) -> None:
        return None

    @property
    def weights(self) -> None:
        return None


@dataclass(frozen=True)
class Column:
    """One fitted feature column of a table.

    numeric: encoded as (value - mean) / std. date: the days since 1970-01-01 (UTC) are encoded likewise, followed by
    the sine and cosine of 2π · days / period for each of `cycles`. For both, `missing` adds an input that is 1 if the
    value is missing; the value is then encoded as the mean, and sines and cosines as 0. categorical: one input of 0 or
    1 per category, in the order of `categories`, where '' is a missing text; an unknown category is encoded as zeros.
    empty: no input, because training had no value.
    """

    name: str
    kind: Literal["numeric", "categorical", "date", "empty"]
    mean: float = 0.0
    std: float = 1.0
    categories: tuple[str, ...] = ()
    missing: bool = False
    cycles: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """The number of inputs that this column is encoded as."""
        if self.kind in ("categorical", "empty"):
            return len(self.categories)
        return 1 + 2 * len(self.cycles) + self.missing


class TrainedTable(Protocol):
    """The properties of a fitted training table that are needed to read others: see
    :class:`subset_trainer.data.kinds.table.TableKind`."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def columns(self) -> tuple[Column, ...]: ...
    @property
    def header(self) -> bool: ...
    @property
    def label_column(self) -> str | None: ...


def column_title(name: str, header: bool) -> str:
    """The name of a column in messages."""
    return f"column {name!r}" if header else f"column {name} (counted from 0)"


def separator_of(line: str) -> str:
    """The separator of a table with this first line."""
    return next((other for other in (";", "\t") if other in line and "," not in line), ",")


def parse_numbers(texts: Sequence[str]) -> tuple[np.ndarray, int | None]:
    """Parse stripped texts [N] → float64 [N], and the row of the first that is not a finite number, or None.

    Missing values become NaN. If there is such a row, the numbers are not to be used.
    """
    numbers = numbers_of(tuple(texts))
    if numbers is None:
        for row, text in enumerate(texts):
            if text.lower() not in MISSING and not is_number(text):
                return np.zeros(0), row
        numbers = with_gaps(np.array(texts, object))
    infinite = np.flatnonzero(np.isinf(numbers))
    return numbers, int(infinite[0]) if len(infinite) else None


def numbers_of(values: tuple[str, ...]) -> np.ndarray | None:
    """float64 [N], or None if a value is not a number."""
    try:
        numbers = np.fromiter(map(float, values), np.float64, len(values))
    except ValueError:
        return None
    # Python parses 1_000 as a number, but in a file it is text.
    return None if "_" in "".join(values) else numbers


def with_gaps(piece: np.ndarray) -> np.ndarray:
    """Texts of numbers and missing values → float64."""
    if piece.dtype != object:
        return piece
    numbers = (math.nan if value.lower() in MISSING else float(value) for value in piece.tolist())
    return np.fromiter(numbers, np.float64, len(piece))


def is_number(value: str) -> bool:
    """Whether a text is a number: not missing, and not in a spelling of Python's own."""
    try:
        return "_" not in value and not math.isnan(float(value))
    except ValueError:
        return False


def names_most(first: list[str], like: TrainedTable) -> bool:
    """Whether a first record is the training header, possibly with a missing or an additional column."""
    names = {like.label_column, *(column.name for column in like.columns)}
    return like.header and 2 * len(names.intersection(first)) > len(first)

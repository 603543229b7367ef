"""A table in memory, what is learned of its columns, and what texts in one are: missing, numbers, names."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from subset_trainer.data.ids import Ids

MOST_COLUMNS = 100_000
CYCLES = {"year": 365.2425, "week": 7.0, "day": 1.0}
"""What comes again in dates, and after how many days."""
MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?", "-"))
"""In a column of numbers or dates, in any case; elsewhere only ""."""


@dataclass(frozen=True)
class Table:
    """`columns`: one array [N] a feature, with their `names`: float64 for numbers, object (of str) for texts,
    datetime64[us] for dates in UTC; what is missing is not a number, '' or not a time.

    labels [N] int64: positions in `classes`. `header` tells whether the files had one; `label_column` is the label's
    name, or its position as text, and `label_index` its position.
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
    """One feature column of a table.

    numeric: the encoded value is (value - mean) / std. date: the same of the days since 1970 began (UTC), then the
    sine and cosine of 2π · days / period for each of `cycles`. Of both: with `missing` a last column is 1 where there
    is no value, which then counts as the mean, and its sines and cosines as 0. categorical: one column of zeros and
    ones a category, in the order of `categories`, of which '' is a missing text; a category that is not listed becomes
    all zeros. empty: no column, because training had no value.
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
        """Encoded columns that this column becomes."""
        if self.kind in ("categorical", "empty"):
            return len(self.categories)
        return 1 + 2 * len(self.cycles) + self.missing


class TrainedTable(Protocol):
    """What training taught of a table, by which others are read: see
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
    """What messages call a column."""
    return f"column {name!r}" if header else f"column {name} (counted from 0)"


def separator_of(line: str) -> str:
    """What separates the fields of a table whose first line this is."""
    return next((other for other in (";", "\t") if other in line and "," not in line), ",")


def parse_numbers(texts: Sequence[str]) -> tuple[np.ndarray, int | None]:
    """Texts [N], stripped → float64 [N], and the row of the first that is no finite number, where they are of no use.

    What is missing is not a number.
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
    """float64 [N], or None where a value is no number."""
    try:
        numbers = np.fromiter(map(float, values), np.float64, len(values))
    except ValueError:
        return None
    # Python reads 1_000 as a number; in a file it is a text.
    return None if "_" in "".join(values) else numbers


def with_gaps(piece: np.ndarray) -> np.ndarray:
    """Texts of numbers and of what is missing → float64."""
    if piece.dtype != object:
        return piece
    numbers = (math.nan if value.lower() in MISSING else float(value) for value in piece.tolist())
    return np.fromiter(numbers, np.float64, len(piece))


def is_number(value: str) -> bool:
    """Whether it is read as one: neither missing nor spelt as Python alone spells it."""
    try:
        return "_" not in value and not math.isnan(float(value))
    except ValueError:
        return False


def names_most(first: list[str], like: TrainedTable) -> bool:
    """Whether a first record is training's header, perhaps with a column more or less."""
    names = {like.label_column, *(column.name for column in like.columns)}
    return like.header and 2 * len(names.intersection(first)) > len(first)

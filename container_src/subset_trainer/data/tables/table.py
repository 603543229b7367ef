"""A table in memory, and what texts in one are: missing, numbers, names of columns."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from subset_trainer.data.ids import Ids
from subset_trainer.data.kinds.preprocessing import Preprocessing

MOST_COLUMNS = 100_000
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


def names_most(first: list[str], like: Preprocessing) -> bool:
    """Whether a first record is training's header, perhaps with a column more or less."""
    names = {like.label_column, *(column.name for column in like.columns)}
    return like.header and 2 * len(names.intersection(first)) > len(first)

"""A table in memory, its fitted columns, and the rules for text in it: missing values, numbers and names."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from subset_trainer.data.ids import Ids
from subset_trainer.data.label_columns import plain_name
from subset_trainer.data.tables.numbers import PADDED, Spelling, plain, whole
from subset_trainer.data.understanding import Decision

MOST_COLUMNS = 100_000
Cycle = Literal["year", "week", "day"]
CYCLES: dict[Cycle, float] = {"year": 365.2425, "week": 7.0, "day": 1.0}
"""The periodic components of dates, with their periods in days."""
MISSING = frozenset(
    (
        *(
            "",
            "na",
            "n/a",
            "n.a.",
            "nan",
            "-nan",
            "null",
            "none",
            "nil",
            "nat",
            "?",
            "-",
            "--",
            "---",
            ".",
            "..",
            "…",
        ),
        *("<na>", "#n/a", "#na", "#div/0!", "#value!", "#ref!", "#name?", "#num!", "#null!", "(null)", "\\n"),
        *("0000-00-00", "0000-00-00 00:00:00"),  # MySQL's zero date
        *("unknown", "missing", "not available", "not applicable", "undefined"),
    )
)
"""Missing values in a column of numbers or dates, in lower case. In other columns only '' is missing."""


@dataclass(frozen=True)
class Table:
    """A table with labels.

    `columns`: one array [N] per feature, with their `names`. Numbers are float64, texts are object (of str), dates are
    datetime64[us] in UTC; missing values are NaN, '' or NaT. labels [N] int64: positions in `classes`. `header`:
    whether the files had one. `label_column`: the label's name, or its position as text. `label_index`: its position.
    `text_columns`: the names of the columns of texts that are read as text, in the order of `names`. `decisions`: why
    each column was read as it was. `spellings`: how each column's numbers or dates are written, for columns where that
    is not plain. `left_out`: the positions in the files of columns that are not used.
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
    spellings: Mapping[str, Spelling] = field(default_factory=dict)
    left_out: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def texts(self) -> np.ndarray | None:
        """[N, T] object (of str): the columns that are read as text; None without any."""
        if not self.text_columns:
            return None
        columns = dict(zip(self.names, self.columns, strict=True))
        return np.stack([columns[name] for name in self.text_columns], 1)

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
    empty: no input, because training had no value. `spelling`: how its numbers or dates are written; None: plainly.
    """

    name: str
    kind: Literal["numeric", "categorical", "date", "free text", "empty"]
    mean: float = 0.0
    std: float = 1.0
    categories: tuple[str, ...] = ()
    missing: bool = False
    cycles: tuple[Cycle, ...] = ()
    spelling: Spelling | None = None

    @property
    def width(self) -> int:
        """The number of inputs that this column is encoded as."""
        if self.kind in ("categorical", "empty"):
            return len(self.categories)
        return 1 + 2 * len(self.cycles) + self.missing

    def categories_of(self, texts: Iterable[str]) -> dict[str, str]:
        """The category for each text that is one, or is one in another spelling: the same number, as 1.0 and 1, or the
        same letters in another case, as TRUE and true, where that leaves one category."""
        found = {}
        for text in texts:
            if text in self._known:
                found[text] = text
            elif text and len(same := self._by_meaning.get(_meaning(text), ())) == 1:
                found[text] = same[0]
        return found

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.categories)

    @cached_property
    def _by_meaning(self) -> Mapping[str | float, tuple[str, ...]]:
        found: dict[str | float, tuple[str, ...]] = {}
        for category in filter(None, self.categories):
            found[_meaning(category)] = (*found.get(_meaning(category), ()), category)
        return found

    @cached_property
    def by_value(self) -> Mapping[int, tuple[str, ...]]:
        """The categories of digits alone that have each value: those of 7 may be 7 and 007."""
        found: dict[int, tuple[str, ...]] = {}
        for category in self.categories:
            value = whole(category)
            if value is not None:
                found[value] = (*found.get(value, ()), category)
        return found


def _meaning(text: str) -> str | float:
    """What different spellings of a category have in common. Codes with leading zeros mean nothing but themselves."""
    number = None if re.fullmatch(PADDED, text) else plain(text)
    return text.casefold() if number is None or math.isinf(number) else number


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
    @property
    def label_index(self) -> int: ...
    @property
    def left_out(self) -> tuple[int, ...]: ...


TEXTUAL = ("free text",)
"""The kinds of columns that are read as text."""


@dataclass(frozen=True)
class TrainedColumns:
    """A TrainedTable of columns that are read as texts."""

    classes: tuple[str, ...]
    columns: tuple[Column, ...]
    header: bool
    label_column: str | None
    label_index: int
    left_out: tuple[int, ...] = ()


def column_title(name: str, header: bool) -> str:
    """The name of a column in messages."""
    return f"column {name!r}" if header else f"column {name} (counted from 0)"


def numbers_of(values: tuple[str, ...]) -> np.ndarray | None:
    """float64 [N], or None if a value is not a number."""
    try:
        numbers = np.fromiter(map(float, values), np.float64, len(values))
    except ValueError:
        return None
    # Python parses 1_000 as a number, but in a file it is text.
    return None if "_" in "".join(values) else numbers


def is_number(value: str) -> bool:
    """Whether a text is a number: not missing, and not in a spelling of Python's own."""
    try:
        return "_" not in value and not math.isnan(float(value))
    except ValueError:
        return False


def as_named(first: Sequence[str], like: TrainedTable) -> list[str]:
    """The names of a first record, in training's spelling where they differ from one of its names in case, blanks,
    hyphens, underscores or points alone."""
    known: dict[str, list[str]] = {}
    for name in (like.label_column or "", *(column.name for column in like.columns)):
        known.setdefault(plain_name(name), []).append(name)
    held = [plain_name(name) for name in first]
    return [
        same[0]
        if len(same := known.get(plain, [])) == 1 and held.count(plain) == 1 and same[0] not in first
        else name
        for name, plain in zip(first, held, strict=True)
    ]


def names_most(first: list[str], like: TrainedTable) -> bool:
    """Whether a first record is the training header, possibly with missing or additional columns."""
    features = {column.name for column in like.columns}
    most = 2 * len({like.label_column, *features}.intersection(first)) > len(first)
    # Columns that training left out may be more than its features.
    all_named = features <= set(first) and not all(map(is_number, features))
    return like.header and (most or all_named)

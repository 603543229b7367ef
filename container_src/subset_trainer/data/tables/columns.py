"""Fits columns on training rows, and encodes tables as float32 matrices accordingly."""

import functools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subset_trainer.data.channels import Channel
from subset_trainer.data.classes import natural_order
from subset_trainer.data.tables.numbers import code_width, whole
from subset_trainer.data.tables.table import CYCLES, Column, Table, column_title

MOST_CATEGORIES = 1_000

_DAY = 86_400e6  # microseconds


@dataclass(frozen=True)
class _Seen:
    """Statistics of a column over some rows.

    For numbers: their count, the number of missing values, their moments, the largest, and whether any has a fraction.
    For texts: the distinct values.
    """

    texts: frozenset[str] | None = None
    date: bool = False
    count: int = 0
    missing: int = 0
    mean: float = 0.0
    std: float = 0.0
    largest: float = 0.0
    fraction: bool = False

    @classmethod
    def of(cls, values: np.ndarray) -> "_Seen":
        if values.dtype == object:
            return cls(frozenset(values.tolist()))
        numbers = _numbers(values)
        date = values.dtype.kind == "M"
        present = numbers[~np.isnan(numbers)]
        if not len(present):
            return cls(date=date, missing=len(numbers))
        with np.errstate(over="ignore", invalid="ignore"):
            mean, std = float(present.mean(dtype=np.float64)), float(present.std(dtype=np.float64))
        return cls(
            date=date,
            count=len(present),
            missing=len(numbers) - len(present),
            mean=mean,
            std=std,
            largest=float(np.abs(present).max()),
            fraction=date and bool((present % 1).any()),
        )

    def __add__(self, other: "_Seen") -> "_Seen":
        """Merge the statistics of two sets of rows.

        The moments follow Chan, Golub & LeVeque, "Algorithms for computing the sample variance", 1983.
        """
        if self.texts is not None and other.texts is not None:
            return _Seen(self.texts | other.texts)
        count = self.count + other.count
        share = other.count / max(1, count)
        apart = other.mean - self.mean
        variance = (1 - share) * self.std**2 + share * other.std**2 + share * (1 - share) * apart**2
        return _Seen(
            date=self.date,
            count=count,
            missing=self.missing + other.missing,
            mean=self.mean + share * apart,
            std=math.sqrt(variance),
            largest=max(self.largest, other.largest),
            fraction=self.fraction or other.fraction,
        )


def fit_columns(
    channel: Channel,
    table: Table,
    rows: np.ndarray,
    of_each: Callable[[list[_Seen]], list[list[_Seen]]] = lambda own: [own],
) -> tuple[Column, ...]:
    """Fit means, standard deviations and categories on the given rows, and on those of the other shards.

    A column without any value in these rows becomes empty.

    Args:
        of_each: collects the statistics of all shards, given those of this one.

    Raises:
        UserError: a column has too many categories or too large numbers.
    """
    shards = of_each([_Seen.of(values[rows]) for values in table.columns])
    fitted = []
    for name, parts in zip(table.names, zip(*shards, strict=True), strict=True):
        spelling = table.spellings.get(name)
        seen = functools.reduce(operator.add, parts)
        if seen.texts is not None:
            categories = natural_order(set(seen.texts))
            if len(categories) > MOST_CATEGORIES:
                raise channel.error(
                    f"{column_title(name, table.header)} has {len(categories):,} different texts; expected at most "
                    f"{MOST_CATEGORIES:,} categories, so leave out columns of names, identifiers or free text "
                    f"(ignore_columns={name}), or read them as text (text_column={name})."
                )
            empty = categories == ("",)
            fitted.append(
                Column(name, "empty") if empty else Column(name, "categorical", categories=categories)
            )
            continue
        if not seen.count:
            fitted.append(Column(name, "empty"))
            continue
        mean, std = seen.mean, seen.std
        if not (math.isfinite(mean) and math.isfinite(std)):
            raise channel.error(
                f"{column_title(name, table.header)} has numbers up to {seen.largest:g}, whose squares "
                "overflow; expected smaller ones, such as in other units."
            )
        # A constant column is encoded as zeros, even if rounding errors make its deviation non-zero.
        std = 1.0 if std <= 1e-12 * max(1.0, abs(mean)) else std
        missing = seen.missing > 0
        if seen.date:
            # Dates are counted in days, so that a fraction means a time of day.
            cycles = tuple(cycle for cycle in CYCLES if cycle != "day" or seen.fraction)
            fitted.append(Column(name, "date", mean, std, (), missing, cycles, spelling))
        else:
            fitted.append(Column(name, "numeric", mean, std, missing=missing, spelling=spelling))
    return tuple(fitted)


def describe(channel: Channel, table: Table, columns: tuple[Column, ...]) -> list[str]:
    """Sentences on how columns are encoded."""
    kinds = {kind: [column for column in columns if column.kind == kind] for kind in _BECOME}
    notes = [
        f"{channel.name} channel: "
        + "; ".join(
            # Each column's kind is among the table's decisions, which consider all rows, not training's alone.
            f"{len(found):,} {_BECOME[kind]}" + (f" ({_titles(found, table)})" if kind == "empty" else "")
            for kind, found in kinds.items()
            if found
        )
        + f": {sum(column.width for column in columns):,} inputs."
    ]
    gaps = [column for column in columns if column.missing or "" in column.categories]
    if gaps:
        notes.append(
            f"{channel.name} channel: values are missing in {_titles(gaps, table)}; a missing number or date is "
            "replaced by the column's mean and flagged by a separate input; a missing text is a category of its own."
        )
    return notes


_BECOME = {
    "numeric": "numeric columns, scaled to mean 0 and deviation 1",
    "categorical": "of categories, each an input of 0 or 1",
    "date": "of dates, as days and as sine and cosine of year, week and any time of day",
    "empty": "without any value in training, left out",
}


def _titles(columns: list[Column], table: Table, most: int = 8) -> str:
    more = f" and {len(columns) - most:,} more" if len(columns) > most else ""
    return ", ".join(column_title(column.name, table.header) for column in columns[:most]) + more


def encode(
    channel: Channel, table: Table, columns: tuple[Column, ...], header: bool
) -> tuple[np.ndarray, list[str]]:
    """Encode a table → float32 [N, D], with columns as in training, and notes on values that training did not have.

    Args:
        header: whether the training files had a header.
    """
    expected = [column.name for column in columns]
    if len(table.columns) != len(expected):
        raise channel.error(
            f"{len(table.columns)} feature columns; expected {len(expected)}, as in training."
        )
    inputs = np.zeros((len(table), sum(column.width for column in columns)), np.float32)
    notes: list[str] = []
    at = 0
    for column, values in zip(columns, table.columns, strict=True):
        title = column_title(column.name, header)
        held = {"O": "categorical", "M": "date"}.get(values.dtype.kind, "numeric")
        out = inputs[:, at : at + column.width]
        at += column.width
        if column.kind == "empty":
            continue
        if held != column.kind:
            raise channel.error(
                f"{title} holds {_HELD[held]}; expected {column.kind} values, as in training."
            )
        if column.kind == "categorical":
            _categories(channel, title, column, values, out, notes)
        else:
            _scaled(channel, title, column, _numbers(values), out, notes)
    return inputs, notes


_HELD = {"numeric": "numbers", "categorical": "texts", "date": "dates"}


def _categories(
    channel: Channel, title: str, column: Column, values: np.ndarray, out: np.ndarray, notes: list[str]
) -> None:
    position = {category: index for index, category in enumerate(column.categories)}
    shortened = _without_zeros(column, set(values.tolist()) - position.keys())
    if shortened:
        lacking = np.isin(values, list(shortened)).sum()
        short, full = next(iter(shortened.items()))
        notes.append(
            f"{channel.name} channel: {lacking:,} values of {title} lack the leading zeros of training's codes; "
            f"{short!r} is read as {full!r}."
        )
        position |= {short: position[full] for short, full in shortened.items()}
    same = column.categories_of(sorted(set(values.tolist()) - position.keys()))
    if same:
        one = next(iter(same))
        notes.append(
            f"{channel.name} channel: {np.isin(values, list(same)).sum():,} values of {title} are categories in "
            f"another spelling; {one!r} is read as training's {same[one]!r}."
        )
        position |= {text: position[category] for text, category in same.items()}
    codes = np.fromiter((position.get(value, -1) for value in values), np.int64, len(values))
    known = np.flatnonzero(codes >= 0)
    out[known, codes[known]] = 1
    if len(known) < len(values):
        unknown = natural_order(set(values[codes < 0].tolist()))
        notes.append(
            f"{channel.name} channel: {len(values) - len(known):,} values of {title} are categories that are not "
            f"in training ({', '.join(map(repr, unknown[:3]))}{', …' if len(unknown) > 3 else ''}); encoded as zeros."
        )


def _without_zeros(column: Column, unknown: Iterable[str]) -> dict[str, str]:
    """Training's code for each text that is this code without its leading zeros, as programs write it that take codes
    for numbers. That is certain where all codes have the same number of digits."""
    width = code_width([category for category in column.categories if category])
    if width is None:
        return {}
    padded = {text: text.zfill(width) for text in unknown if whole(text) is not None}
    return {text: full for text, full in sorted(padded.items()) if full in column.categories}


def _scaled(
    channel: Channel, title: str, column: Column, numbers: np.ndarray, out: np.ndarray, notes: list[str]
) -> None:
    gaps = np.isnan(numbers)
    filled = np.where(gaps, column.mean, numbers) if gaps.any() else numbers
    with np.errstate(over="ignore"):
        out[:, 0] = (filled - column.mean) / column.std
    if not np.isfinite(out[:, 0]).all():
        raise channel.error(
            f"{title} has numbers up to {np.abs(filled).max():g}, too far from training's (mean {column.mean:g}, "
            f"standard deviation {column.std:g}) to compute with."
        )
    for place, cycle in enumerate(column.cycles):
        angle = 2 * np.pi / CYCLES[cycle] * filled
        out[:, 1 + 2 * place] = np.where(gaps, 0, np.sin(angle))
        out[:, 2 + 2 * place] = np.where(gaps, 0, np.cos(angle))
    if column.missing:
        out[:, -1] = gaps
    elif gaps.any():
        notes.append(
            f"{channel.name} channel: {gaps.sum():,} values of {title} are missing, but none in training; replaced "
            "by its mean."
        )


def _numbers(values: np.ndarray) -> np.ndarray:
    """Numbers unchanged; dates as days since 1970. Missing values are NaN."""
    if values.dtype.kind != "M":
        return values
    days = values.astype("datetime64[us]").astype(np.int64) / _DAY
    return np.where(np.isnat(values), np.nan, days)


def cell(values: Sequence[float], column: Column) -> str:
    """Decode one encoded column to the value in the table. Empty: it was missing, or unknown in training."""
    if column.kind == "empty" or (column.missing and values[-1] == 1):
        return ""
    if column.kind == "categorical":
        return column.categories[values.index(1)] if 1 in values else ""
    value = values[0] * column.std + column.mean
    # float32 holds days precisely enough for minutes.
    if column.kind == "date":
        return str(np.datetime64(round(value * 1440), "m")).removesuffix("T00:00")
    return f"{value:.5g}"


def column_to_json(column: Column) -> dict[str, Any]:
    """JSON values: only the fields that apply to the column's kind."""
    names = {
        "categorical": ("categories",),
        "free text": (),
        "empty": (),
        "numeric": ("mean", "std", "missing"),
    }.get(column.kind, ("mean", "std", "missing", "cycles"))
    spelling = {"spelling": column.spelling.to_json()} if column.spelling else {}
    return {
        "name": column.name,
        "kind": column.kind,
        **{
            name: list(value) if isinstance(value := getattr(column, name), tuple) else value
            for name in names
        },
        **spelling,
    }

"""Encodes rows without labels, as prediction requests send them.

They follow the rules for training files: the same words mark missing values, and numbers and dates have the same
spellings and encoding.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from subset_trainer.data.ids import Ids
from subset_trainer.data.requests import REQUEST
from subset_trainer.data.tables import dates
from subset_trainer.data.tables.beginning import told_separator
from subset_trainer.data.tables.cells import cleaned
from subset_trainer.data.tables.columns import encode
from subset_trainer.data.tables.interpret import parse_numbers
from subset_trainer.data.tables.numbers import Spelling
from subset_trainer.data.tables.table import (
    MISSING,
    Column,
    Table,
    TrainedTable,
    as_named,
    column_title,
    names_most,
)
from subset_trainer.errors import shown

Scalar = str | int | float | bool | None


class Row(NamedTuple):
    """`values`: one per feature, in the order of training. `place`: the row's name in messages. A tuple, of which a
    request of short rows makes millions."""

    place: str
    values: Sequence[Scalar]


def rows_of_csv(text: str, like: TrainedTable, header: str = "auto") -> Iterator[Row]:
    """The rows of a CSV text, with training's features in order, or by name below a header, which may name others too.

    Args:
        like: the fitted training table.
        header: "true", "false", or "auto": the first line is a header if it matches training's.

    Raises:
        UserError: the text is not CSV, a row has too few or too many fields, or the header lacks a feature.
    """
    names = [column.name for column in like.columns]
    order, width, line = list(range(len(names))), len(names), 1
    first = True
    start, _, rest = text.partition("\n")
    told = told_separator(start)
    if told:
        text, line, start = rest, 2, rest.partition("\n")[0]
    above, separator = line - 1, told or _separator(start, names, like)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        for fields in reader:
            place, line = f"line {line}", above + reader.line_num + 1
            if not fields or (len(fields) == 1 < width and not fields[0].strip()):
                continue
            if first:
                first = False
                titles = as_named([field.strip() for field in fields], like)
                if header == "true" or (header == "auto" and names_most(titles, like)):
                    if like.header:
                        order, width = _by_name(titles, names), len(titles)
                    continue
                if len(fields) == len(names) + len(like.left_out):
                    order, width = _with_left_out(like), len(fields)
            if len(fields) != width:
                expected = (
                    "as in the header"
                    if width != len(names)
                    else "training's features in their order, without the label"
                )
                raise REQUEST.error(
                    f"{place}: {len(fields)} field{'s' * (len(fields) != 1)}; expected {width}, {expected}."
                )
            yield Row(place, [fields[at] for at in order])
    except csv.Error as error:
        raise REQUEST.error(f"line {line}: {error}; expected CSV.") from error


def _separator(line: str, names: list[str], like: TrainedTable) -> str:
    """The separator that divides a first line into training's features, else one that stands in it."""
    if len(names) == 1 and not like.left_out:
        return ","
    widths = len(names), len(names) + len(like.left_out)
    found = [one for one in ",;\t|" if line.count(one) + 1 in widths]
    return found[0] if found else next((one for one in ";\t" if one in line and "," not in line), ",")


def _with_left_out(like: TrainedTable) -> list[int]:
    """Where training's features are among all columns of its files but the label."""
    total = len(like.columns) + len(like.left_out) + 1
    places = [place for place in range(total) if place != like.label_index]
    return [at for at, place in enumerate(places) if place not in like.left_out]


def _by_name(titles: list[str], names: list[str]) -> list[int]:
    position = {title: at for at, title in enumerate(titles)}
    for name in names:
        if name not in position:
            raise REQUEST.error(f"the header lacks the column {name!r}, which training has.")
        if titles.count(name) > 1:
            raise REQUEST.error(f"the header names {name!r} twice; expected different names.")
    return [position[name] for name in names]


def row_of_json(value: Any, place: str, like: TrainedTable) -> Row:
    """One row: a list of values in the order of training, an object with such a list as `features`, or an object of
    values by column name, which may have other names too.

    Raises:
        UserError: the value has none of these forms, or lacks a feature.
    """
    names = [column.name for column in like.columns]
    if isinstance(value, dict) and isinstance(value.get("features"), list):
        value = value["features"]
    if isinstance(value, dict):
        for name in names:
            if name not in value:
                raise REQUEST.error(
                    f"{place} lacks the column {name!r}, which training has; expected "
                    '{"features": […]} in training\'s order, or a value for each column by name.'
                )
        value = [value[name] for name in names]
    if not isinstance(value, list):
        raise REQUEST.error(
            f"{place} is {shown(value, 40)}; expected a list of features, "
            '{"features": […]} or an object of values by column name.'
        )
    if len(value) != len(names):
        raise REQUEST.error(
            f"{place}: {len(value)} feature{'s' * (len(value) != 1)}; expected {len(names)}, in training's order, "
            "without the label."
        )
    for name, single in zip(names, value, strict=True):
        if not isinstance(single, str | int | float | None):
            raise REQUEST.error(
                f"{place}, {column_title(name, like.header)}: the value is {shown(single, 40)}; expected a number, a "
                "text or null."
            )
    return Row(place, value)


def encode_rows(rows: Sequence[Row], like: TrainedTable) -> np.ndarray:
    """Encode rows → float32 [N, D], as in training.

    Raises:
        UserError: a value is of another kind than in training, or too far from the training values to be encoded.
    """
    columns = tuple(
        _values(rows, at, column, column_title(column.name, like.header))
        for at, column in enumerate(like.columns)
    )
    nobody = Ids(lambda row: rows[row].place, np.arange(len(rows)))
    table = Table(
        names=tuple(column.name for column in like.columns),
        columns=columns,
        labels=np.zeros(len(rows), np.int64),
        classes=like.classes,
        ids=nobody,
    )
    return encode(REQUEST, table, like.columns, like.header)[0]


def _values(rows: Sequence[Row], at: int, column: Column, title: str) -> np.ndarray:
    """One column's values [N], in the types of a Table."""
    texts = [
        cleaned(value) if isinstance(value := row.values[at], str) else _text(value, row.place, column, title)
        for row in rows
    ]
    if column.kind in ("categorical", "empty"):
        values = np.empty(len(texts), object)
        values[:] = texts
        return values
    if column.kind == "date":
        spelling = column.spelling or Spelling()
        absent = MISSING | set(spelling.missing)
        values, bad = dates.parse(np.array(texts, object), absent, spelling.orders)
        expected = f"{dates.EXAMPLE}, as in training"
    else:
        values, bad = _numbers([row.values[at] for row in rows], texts, column.spelling or Spelling())
        expected = "finite number, as in training"
    if bad is not None:
        raise REQUEST.error(
            f"{rows[bad].place}, {title}: the value is {shown(texts[bad], 80)}; expected a {expected}."
        )
    return values


def _numbers(
    given: Sequence[Scalar], texts: Sequence[str], spelling: Spelling
) -> tuple[np.ndarray, int | None]:
    """Texts as training's numbers were spelt, or with a decimal point. JSON's numbers are numbers whatever the
    spelling: its 1.234 has no thousands. The second value is the first that is no finite number, or None."""
    absent = MISSING | set(spelling.missing)
    typed = np.array([isinstance(value, int | float) for value in given])
    some = np.flatnonzero(~typed).tolist()
    spelt = [texts[at] for at in some]
    values = np.full(len(texts), np.nan)
    values[some], odd = parse_numbers(spelt, spelling, absent)
    if odd is not None and spelling != Spelling():
        values[some], odd = parse_numbers(spelt, Spelling(), absent)
    values[typed], _ = parse_numbers([texts[at] for at in np.flatnonzero(typed).tolist()], Spelling(), absent)
    bad = None if odd is None else some[odd]
    infinite = np.flatnonzero(np.isinf(values))
    return values, bad if bad is not None else int(infinite[0]) if len(infinite) else None


def _text(value: float | None, place: str, column: Column, title: str) -> str:
    """A value that is no text, as a CSV file would contain it."""
    if value is None:
        return ""
    if column.kind != "categorical":
        return str(int(value)) if isinstance(value, bool) else str(value)
    text = str(value)
    if text in column.categories or isinstance(value, bool) or value != value // 1:
        return text
    # JSON does not distinguish whole numbers, so that a client may send 3.0 for training's 3, and writes none with
    # leading zeros: 2139 stands for training's 02139.
    whole = str(int(value))
    same = (whole,) if whole in column.categories else column.by_value.get(int(value), ())
    if len(same) > 1:
        raise REQUEST.error(
            f"{place}, {title}: the number {whole} may be {' or '.join(map(repr, same[:3]))}; expected the code as "
            "a text."
        )
    return same[0] if same else whole

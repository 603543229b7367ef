"""Chooses the column with the label of a training table, or refuses where more than one could be it."""

import re
from collections.abc import Sequence

import numpy as np

from subset_trainer.data.classes import looks_continuous
from subset_trainer.data.label_columns import NAMES, OF_TABLES, plain_name
from subset_trainer.data.tables import dates
from subset_trainer.data.tables.cells import Cells, Coded
from subset_trainer.data.tables.numbers import plain
from subset_trainer.data.tables.table import column_title
from subset_trainer.data.understanding import Decision, OpenDecisionsError, refuse_open
from subset_trainer.errors import UserError, shown

_FEATURE_NAMES = re.compile(
    r"(year|month|day|weekday|week|hour|minute|second|date|time|timestamp|age|sex|gender|name|country|city|region|state"
    r"|zip|zipcode|postcode|price|amount|count|size|weight|height|length|width|length|latitude|longitude|lat|lon|text"
    r"|x|x1|x0|feature\d*|f\d+)"
)
"""Names of columns that are no label because they stand first."""
_FEW_ROWS = 10
"""Fewer rows do not show that a column cannot be a label."""
_MOST_SHOWN = 5
_MANY_NUMBERS = 30
"""So many different whole numbers may be measurements."""


def choose_label(cells: Cells, given: str | None, positions: Sequence[int]) -> tuple[int, Decision]:
    """The position of the label, and why.

    Args:
        given: the hyperparameter `label_column`, a name or a position.
        positions: the columns that may be the label, without those that are left out.

    Raises:
        UserError: there is no such column, or none can be the label, or several can.
    """
    position, decision = _chosen(cells, given, positions)
    if decision.certainty != "given" and (why := _doubt(cells.coded(position))) is not None:
        setting = f"label_column={cells.names[position]} if these are classes"
        doubted = Decision("label", "", why, "open", name=cells.names[position], setting=setting)
        refuse_open(cells.channel.name, [doubted])
    return position, decision


def _doubt(values: Coded) -> str | None:
    """Why a column may hold measurements rather than classes, such as ages; None: it does not look like them."""
    used = [
        (plain(text), count)
        for text, count in zip(values.distinct, values.counts.tolist(), strict=True)
        if count
    ]
    numbers = sorted(number for number, _ in used if number is not None)
    if len(used) <= _MANY_NUMBERS or len(numbers) < len(used) or any(number % 1 for number in numbers):
        return None
    # Numbers of classes count from 0 or 1.
    counted = numbers[0] in (0, 1) and numbers[-1] - numbers[0] + 1 <= 1.1 * len(numbers)
    rare = sum(count <= 2 for _, count in used)
    if counted or 5 * rare < len(used):
        return None
    return (
        f"{len(used):,} different whole numbers from {numbers[0]:g} to {numbers[-1]:g}, {rare:,} of them in one or two "
        "rows, may be measurements rather than classes; regression is not supported"
    )


def _chosen(cells: Cells, given: str | None, positions: Sequence[int]) -> tuple[int, Decision]:
    if given is not None:
        position = _given(cells, given)
        _check(cells, position, positions)
        return position, Decision("label", _named(cells, position), "label_column names it", "given")
    if not cells.header:
        first = positions[0]
        _check(cells, first, positions)
        return first, Decision("label", _named(cells, first), "the first column of a file without a header")
    names = {position: plain_name(cells.names[position]) for position in positions}
    named = [position for position in positions if names[position] in NAMES]
    if named:
        fitting = [position for position in named if problem(cells, position) is None]
        if not fitting:
            _check(cells, named[0], positions)
        if len(fitting) > 1:
            raise _refused(
                cells, f"several columns are named like a label: {_listed(cells, fitting)}", fitting
            )
        return fitting[0], Decision("label", _named(cells, fitting[0]), "the column with a label's name")
    likely = [p for p in positions if names[p] in OF_TABLES and problem(cells, p) is None]
    if len(likely) == 1:
        return likely[0], Decision("label", _named(cells, likely[0]), "the column with a label's name")
    if likely:
        raise _refused(cells, f"several columns are named like a label: {_listed(cells, likely)}", likely)
    first = positions[0]
    why = problem(cells, first)
    if why is None and _FEATURE_NAMES.fullmatch(names[first]):
        why = "it is named like a feature"
    if why is not None:
        raise _refused(
            cells,
            f"no column is named like a label ({', '.join(NAMES[:5])}, …), and {_named(cells, first)}, the first "
            f"one, is not taken for it: {why}",
            candidates(cells, positions),
        )
    rivals = [p for p in candidates(cells, positions) if p != first]
    if _distinct(cells.coded(first)) > 20 and rivals:
        raise _refused(cells, "no column is named like a label, and several can be it", [first, *rivals])
    return first, Decision(
        "label",
        _named(cells, first),
        "the first column; no column has a label's name",
        setting=f"label_column={cells.names[first]}",
    )


def problem(cells: Cells, position: int) -> str | None:
    """Why a column cannot be the label; None if it can."""
    values = cells.coded(position)
    present = [text for at, text in enumerate(values.distinct) if text and values.counts[at]]
    rows = len(values.codes)
    if not present:
        return "it has no value"
    sample = present[:1_000]
    if all(dates.form_of(text) not in (None, "named") for text in sample):
        return f"its values are dates such as {sample[0]!r}"
    if rows < _FEW_ROWS:
        return None
    distinct = len(present)
    parsed = [plain(text) for text in present]
    if all(number is not None for number in parsed):
        by_row = np.array(
            [number if (number := plain(text)) is not None else np.nan for text in values.distinct]
        )[values.codes]
        if not np.isnan(by_row).any() and cells.count_rows(by_row):
            return f"it counts the rows, {distinct:,} different numbers in {rows:,} rows"
        if 2 * distinct > rows:
            return f"its values are nearly all different, {distinct:,} in {rows:,} rows"
        if not np.isnan(by_row).any() and looks_continuous(by_row):
            return f"it has {distinct:,} different numbers such as {present[0]}"
        return None
    if 2 * distinct > rows:
        return f"its values are nearly all different, {distinct:,} in {rows:,} rows"
    return f"it has {distinct:,} different texts" if distinct > 1_000 and 5 * distinct > rows else None


def candidates(cells: Cells, positions: Sequence[int]) -> list[int]:
    """The columns that can be the label: the last one first, then those with few classes."""
    some = [*positions[:40], *positions[40:][-10:]]  # a wide table need not be read whole for a message
    able = [
        position
        for position in some
        if problem(cells, position) is None and _distinct(cells.coded(position)) > 1
    ]
    return sorted(able, key=lambda position: (position != positions[-1], _distinct(cells.coded(position))))


def _distinct(values: Coded) -> int:
    return sum(1 for at, text in enumerate(values.distinct) if text and values.counts[at])


def _given(cells: Cells, given: str) -> int:
    names, width = cells.names, len(cells.names)
    if cells.header and given in names:
        return list(names).index(given)
    same = [at for at, name in enumerate(names) if plain_name(name) == plain_name(given)]
    if cells.header and len(same) == 1:
        return same[0]
    if given.isdecimal() and len(given) < 10 and int(given) < width:
        return int(given)
    if not cells.header:
        expected = f"the files have no header, so expected a position from 0 to {width - 1}"
    else:
        known = ", ".join(repr(name) for name in names[:8]) + (", …" if width > 8 else "")
        expected = f"expected one of {known} or a position from 0 to {width - 1}"
    raise UserError(
        f"label_column={shown(given)}: the {cells.channel.name} channel has no such column; {expected}."
    )


def _check(cells: Cells, position: int, positions: Sequence[int]) -> None:
    """Raise UserError if the chosen column cannot be the label."""
    why = problem(cells, position)
    if why is not None:
        others = [other for other in candidates(cells, positions) if other != position]
        raise _refused(
            cells, f"{column_title(cells.names[position], cells.header)} cannot be the label: {why}", others
        )


def _refused(cells: Cells, why: str, others: Sequence[int]) -> UserError:
    if not others:
        return cells.channel.error(
            f"{why}; expected a column of classes, because regression is not supported (label_column names another "
            "column as the label)."
        )
    settings = " or ".join(f"label_column={cells.names[other]}" for other in others[:_MOST_SHOWN])
    counts = ", ".join(
        f"{_named(cells, other)} has {_distinct(cells.coded(other)):,} classes"
        for other in others[:_MOST_SHOWN]
    )
    open_decision = Decision("label", "", why, "open", setting=settings)
    message = f"{why}; set {settings} ({counts}); regression is not supported."
    return OpenDecisionsError(str(cells.channel.error(message)), cells.channel.name, (open_decision,))


def _named(cells: Cells, position: int) -> str:
    return repr(cells.names[position]) if cells.header else f"column {position}"


def _listed(cells: Cells, positions: Sequence[int]) -> str:
    return ", ".join(_named(cells, position) for position in positions)

"""Decides what each column of a training table is, and reads the columns of other tables as training's were read.

A column is a number, a date, a category, a text, an identifier, constant or empty. Identifiers are left out. What
allows two readings is refused, all columns at once, with the hyperparameter that settles it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal

import numpy as np

from subset_trainer.data.tables import dates, numbers
from subset_trainer.data.tables.cells import Cells, Coded
from subset_trainer.data.tables.label import plain_name
from subset_trainer.data.tables.numbers import Spelling
from subset_trainer.data.tables.table import MISSING, Column, numbers_of
from subset_trainer.data.understanding import Certainty, Decision

MOST_CATEGORIES = 1_000
FEW = 20
"""So many distinct values are categories whatever they look like."""
_FEWEST_ROWS = 5
"""Fewer rows do not show that a column counts them."""
_LOOKED_AT = 1_000
_MOST_WORDS = 5
"""So many different texts among numbers may be words for a missing value."""

Kind = Literal["number", "date", "category", "free text", "identifier", "empty"]

_ID_NAME = re.compile(
    r"(?:.*[_\-. ])?(?:id|ids|uid|uuid|guid|index|idx|key|row|rowid|rownum|rownumber|rn|nr|no|seq|sequence|serial"
    r"|record|recno|obs|hash|pk|#|unnamed.*)(?:[_\-. ](?:\d+|no|nr|num|number))?|.*[a-z]I[dD]|id_.*"
    r"|(?:user|customer|client|order|product|item|passenger|patient|session|transaction|account|member|employee|student"
    r"|doc|document|image|sample|record|case|event|device|message|review|tweet|comment|post)id",
)


def _named_as_id(name: str) -> bool:
    return bool(_ID_NAME.fullmatch(name) or _ID_NAME.fullmatch(name.lower()))


_ROW_NAME = re.compile(r"|index|level_\d+|unnamed: ?\d+", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_][\w .'/-]*")
_TEXT_NAME = re.compile(
    r".*(?:text|review|comment|message|sentence|description|body|content|title|subject|abstract|summary|headline|tweet"
    r"|question|answer|utterance|document|note).*"
)


@dataclass(frozen=True)
class Rules:
    """The user's settings for columns.

    `ignored`, `kept`, `texts`, `numbers`: patterns of columns that are left out, that are inputs whatever they look
    like, that are read as text, and that are numbers although they look like codes. `date_order`: dmy, mdy or ymd.
    `decimal_mark`: point or comma. `missing`: further words for a missing value, in lower case.
    """

    ignored: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    date_order: str | None = None
    decimal_mark: str | None = None
    missing: frozenset[str] = frozenset()

    @property
    def absent(self) -> frozenset[str]:
        """The words for a missing number or date, in lower case."""
        return MISSING | self.missing

    def keeps(self, name: str) -> bool:
        """Whether a column is an input whatever it looks like."""
        return matches((*self.kept, *self.numbers), name)


@dataclass(frozen=True)
class Read:
    """One interpreted column. `values` are those of :class:`subset_trainer.data.tables.table.Table`."""

    kind: Kind
    values: np.ndarray | None
    reason: str
    spelling: Spelling | None = None
    certainty: Certainty = "certain"
    examples: tuple[str, ...] = ()
    setting: str | None = None
    taken: str | None = None

    @property
    def is_text(self) -> bool:
        return self.kind == "free text"

    def decision(self, name: str) -> Decision:
        about: Literal["left out", "column"] = "left out" if self.kind == "identifier" else "column"
        return Decision(
            about, self.taken or self.kind, self.reason, self.certainty, name, self.examples, self.setting
        )


def interpret(cells: Cells, positions: Sequence[int], rules: Rules) -> dict[int, Read]:
    """Interpret the columns at `positions` for training.

    Raises:
        UserError: a few odd cells among numbers or dates; the message names the first one's line.
    """
    names = {position: cells.names[position] for position in positions}
    found: dict[int, Read] = {}
    unsettled: dict[int, Coded] = {}
    for position in positions:
        if matches(rules.ignored, names[position]):
            found[position] = Read(
                "identifier", None, "ignore_columns names it", certainty="given", taken="ignored"
            )
        elif names[position] in cells.indexes:
            found[position] = Read(
                "identifier", None, "the file's metadata declare it as an index", taken="index"
            )
        elif matches(rules.texts, names[position]):
            texts = cells.coded(position).texts
            found[position] = Read("free text", texts, "text_column names it", certainty="given")
        else:
            values = cells.column(position)
            if isinstance(values, Coded):
                unsettled[position] = values
            else:
                found[position] = _typed(cells, position, _without_missing(values, rules.missing), rules)
                if rules.missing and found[position].kind in ("number", "date"):
                    spelling = Spelling(missing=tuple(sorted(rules.missing)))
                    found[position] = replace(found[position], spelling=spelling)
    spelt = {position: _spelt(values, rules) for position, values in unsettled.items()}
    marks = _marks(spelt, rules)
    for position, values in unsettled.items():
        found[position] = _texts(cells, position, values, spelt[position], marks, rules)
    if marks == {"comma"}:
        for position in positions:
            found[position] = _regrouped(cells, position, found[position])
    return found


def of_label(read: Read, name: str, label: str, labels: np.ndarray, rules: Rules) -> Read:
    """A column as it was read, unless it repeats the labels [N] int64 in other words, as a model must not see them.

    One whose name is the label's with a word more, as `label_text`, is left out; of another, that is said.
    """
    if read.kind not in ("category", "number") or read.values is None or rules.keeps(name):
        return read
    beginnings = read.values[:_LOOKED_AT], labels[:_LOOKED_AT]
    if len(labels) < FEW or not (_one_to_one(*beginnings) and _one_to_one(read.values, labels)):
        return read
    reason = f"each of its values stands for one class, as a copy of {label!r} does"
    own, other = plain_name(name), plain_name(label)
    if own.startswith(other) or own.endswith(other):
        return Read("identifier", None, reason, setting=f"keep_columns={name}", taken="copy of the label")
    return replace(read, reason=f"{read.reason}; {reason} (ignore_columns={name} leaves it out)")


def _one_to_one(values: np.ndarray, labels: np.ndarray) -> bool:
    texts = values if values.dtype == object else values.astype(str)
    pairs = set(zip(texts.tolist(), labels.tolist(), strict=True))
    return len(pairs) == len({text for text, _ in pairs}) == len({code for _, code in pairs})


def matches(patterns: Sequence[str], name: str) -> bool:
    """Whether a column's name fits one of the patterns, in which * stands for any characters."""
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)


def as_trained(
    cells: Cells, position: int, column: Column, missing: frozenset[str] = frozenset()
) -> np.ndarray:
    """The values of a column of another table, read as training's column was.

    Raises:
        UserError: a value is of another kind; the message names its line.
    """
    values = cells.column(position)
    if cells.typed and column.kind == "categorical" and not isinstance(values, Coded):
        spelt = cells.coded(position)
        # The encoding refuses another type, unless its values are spelt like training's.
        return spelt.texts if column.categories_of(spelt.distinct) else values
    if column.kind in ("categorical", "free text", "empty"):
        return cells.coded(position).texts
    spelling = column.spelling or Spelling()
    absent = MISSING | missing | set(spelling.missing)
    if column.kind == "date":
        if not isinstance(values, Coded):
            if values.dtype.kind == "M":
                return values
            values = cells.coded(position)
        return _dates(cells, position, values, absent, spelling.orders, ", as in training")
    if not isinstance(values, Coded):
        if cells.typed or (spelling.mark == "point" and not spelling.affix):
            return _without_missing(values, spelling.missing)
        values = cells.coded(position)
    parsed, bad = parse_numbers(values.distinct, spelling, absent)
    if bad is not None:
        expected = f"expected {spelling.expected()}, as in training"
        cells.fail(position, values.first_row(values.distinct[bad]), expected)
    return _finite(cells, position, parsed[values.codes])


def _without_missing(values: np.ndarray, words: Iterable[str]) -> np.ndarray:
    return numbers.without(values, words) if values.dtype.kind == "f" else values


def parse_numbers(
    texts: Sequence[str], spelling: Spelling, absent: frozenset[str]
) -> tuple[np.ndarray, int | None]:
    """Texts [N] → float64 [N], NaN where missing; and the position of the first that is no number, or None."""
    quick = None if spelling.affix or spelling.grouped else numbers_of(tuple(texts))
    if quick is not None:
        return numbers.without(quick, absent - MISSING), None
    parsed = np.full(len(texts), np.nan)
    for at, text in enumerate(texts):
        if text.lower() in absent:
            continue
        number = spelling.number(text)
        if number is None:
            return parsed, at
        parsed[at] = number
    return numbers.without(parsed, absent - MISSING), None


def _typed(cells: Cells, position: int, values: np.ndarray, rules: Rules) -> Read:
    """A column of numbers or dates."""
    if values.dtype.kind == "M":
        return (
            Read("empty", values, "no value")
            if np.isnat(values).all()
            else Read("date", values, _span(values))
        )
    if np.isnan(values).all():
        return Read("empty", values, "no value")
    values = _finite(cells, position, values)
    if (compact := _compact(cells, position, values, rules)) is not None:
        return compact
    counting = None if rules.keeps(cells.names[position]) else _counting(cells, position, values)
    if counting is not None:
        return Read("identifier", None, counting, setting=f"keep_columns={cells.names[position]}")
    return Read("number", values, _spread(values))


def _compact(cells: Cells, position: int, values: np.ndarray, rules: Rules) -> Read | None:
    """Numbers that are all dates such as 20240131; None: they are not."""
    present = np.unique(values[~np.isnan(values)])
    first, last = present[0], present[-1]
    if not dates.COMPACT[0] <= first <= last <= dates.COMPACT[1] or rules.keeps(cells.names[position]):
        return None
    if len(present) < _FEWEST_ROWS or any(dates.date_of(f"{number:.0f}", {}) is None for number in present):
        return None
    if (present % 1).any():
        return None
    found = {float(number): dates.date_of(f"{number:.0f}", {}) for number in present}
    parsed = np.array([found.get(number, dates.NOTHING) for number in values.tolist()], "datetime64[us]")
    return Read(
        "date",
        parsed,
        f"{_span(parsed)}, written as {first:.0f}",
        setting=f"keep_columns={cells.names[position]}",
    )


def _span(values: np.ndarray) -> str:
    """From which day to which dates [N] go."""
    present = values[~np.isnat(values)]
    return f"from {str(present.min())[:10]} to {str(present.max())[:10]}"


def _spread(values: np.ndarray) -> str:
    present = values[~np.isnan(values)]
    if (present == present[0]).all():
        return f"constant, {present[0]:g}"
    span = f"numbers from {present.min():g} to {present.max():g}"
    for extreme, others in (
        (present.min(), present > present.min()),
        (present.max(), present < present.max()),
    ):
        rows = int((~others).sum())
        rest = present[others]
        # Such as -999 and 9999, which people write for a missing value.
        if rows > 1 and _STAND_IN.fullmatch(f"{extreme:.0f}") and _apart(float(extreme), rest):
            return f"{span}; {extreme:.0f}, in {rows:,} rows, may be missing (missing_values={extreme:.0f})"
    return span


_STAND_IN = re.compile(r"-?9{2,}")


def _apart(extreme: float, rest: np.ndarray) -> bool:
    """Whether a number is farther from all others than these are from each other."""
    return float(np.abs(rest - extreme).min()) > max(1.0, float(rest.max() - rest.min()))


def _finite(cells: Cells, position: int, values: np.ndarray) -> np.ndarray:
    bad = np.flatnonzero(np.isinf(values))
    if len(bad):
        cells.fail(position, int(bad[0]), "expected a finite number")
    return values


def _counting(cells: Cells, position: int, values: np.ndarray) -> str | None:
    """Why a column of numbers is an identifier; None: it is not."""
    rows = len(values)
    if rows < _FEWEST_ROWS or np.isnan(values).any() or (values != np.floor(values)).any():
        return None
    name = cells.names[position]
    named = cells.header and _named_as_id(name)
    telling = named or name == "" or not cells.header or position == 0
    if telling and cells.count_rows(values):
        return "it counts the rows"
    distinct = len(np.unique(values))
    if cells.header and _ROW_NAME.fullmatch(name) and distinct > max(FEW, rows / 10):
        return f"whole numbers in a column called {name!r}, as pandas writes its index"
    if distinct < rows:
        return None
    if named:
        return f"whole numbers, all {rows:,} different, in a column called {name!r}"
    filled = values.max() - values.min() + 1 <= 2 * rows
    if telling and filled and rows > FEW:
        return "whole numbers, all different, without large gaps"
    return None


# Columns of texts


def _present(values: Coded, absent: frozenset[str]) -> list[int]:
    return [at for at, text in enumerate(values.distinct) if text.lower() not in absent and values.counts[at]]


def _spelt(values: Coded, rules: Rules) -> tuple[Spelling, ...]:
    """The spellings under which a column's values are numbers."""
    present = [values.distinct[at] for at in _present(values, rules.absent)]
    found = numbers.spellings(present) if present else ()
    # A few texts are categories, whatever they measure.
    return found or (numbers.of_measures(present) if len(present) > FEW else ())


def _marks(spelt: Mapping[int, tuple[Spelling, ...]], rules: Rules) -> set[str]:
    """The decimal marks of the table: the given one, or those of the columns that allow one reading."""
    if rules.decimal_mark:
        return {rules.decimal_mark}
    return {spellings[0].mark for spellings in spelt.values() if len(spellings) == 1 and spellings[0].grouped}


def _regrouped(cells: Cells, position: int, read: Read) -> Read:
    """Numbers such as 1.234 are whole numbers in a table with decimal commas."""
    if read.kind != "number" or (read.spelling and read.spelling.grouped):
        return read
    values = cells.coded(position)
    absent = MISSING | set(read.spelling.missing if read.spelling else ())
    present = [text for text in values.distinct if text.lower() not in absent]
    if not numbers.also_grouped(present):
        return read
    missing = read.spelling.missing if read.spelling else ()
    spelling = Spelling("comma", True, missing=missing, separated=True)
    parsed, bad = parse_numbers(values.distinct, spelling, frozenset(absent))
    if bad is not None:
        return read
    again = parsed[values.codes]
    return Read(
        "number",
        again,
        f"{_spread(again)}, with points between thousands as other columns have decimal commas",
        spelling,
    )


def _texts(
    cells: Cells, position: int, values: Coded, spelt: tuple[Spelling, ...], marks: set[str], rules: Rules
) -> Read:
    present = _present(values, rules.absent)
    if not present:
        return Read("empty", np.full(len(values.codes), np.nan), "no value")
    if len(spelt) > 1:
        spelt = tuple(spelling for spelling in spelt if {spelling.mark} == marks) or spelt
    if len(spelt) > 1:
        one = next(
            values.distinct[at]
            for at in present
            if spelt[0].number(values.distinct[at]) != spelt[1].number(values.distinct[at])
        )
        return Read(
            "number",
            None,
            f"{one!r} is {spelt[0].number(one):g} or {spelt[1].number(one):g}",
            certainty="open",
            setting="decimal_mark=point or comma",
        )
    texts = [values.distinct[at] for at in present]
    told = matches(rules.numbers, cells.names[position])
    codes = not told and numbers.are_codes(texts)
    whole = all(text.lstrip("+-").isdecimal() for text in texts)
    if spelt and (told or not (codes or (cells.typed and whole))):
        return _number(cells, position, values, spelt[0], rules)
    if told:
        odd = next((text for text in texts if numbers.plain(text) is None), texts[0])
        cells.fail(position, values.first_row(odd), "expected a number, as number_columns says")
    read = (
        _date(cells, position, values, present, rules)
        or _measures(cells.names[position], texts, rules)
        or _nearly_numbers(cells, position, values, present, rules)
        or _words(cells.names[position], values, rules)
    )
    return _of_codes(cells.names[position], texts, read) if codes else read


_NESTED = re.compile(r"\[.*\]|\{.*\}|\(.*,.*\)", re.DOTALL)


def _measures(name: str, texts: Sequence[str], rules: Rules) -> Read | None:
    """The refusal of many different texts that hold numbers which cannot be compared; None: they do not."""
    if len(texts) <= FEW or rules.keeps(name):
        return None
    several = numbers.units(texts)
    if several:
        reason = f"its numbers have several units ({', '.join(unit or 'none' for unit in several)})"
        return _unread(name, reason, texts)
    if numbers.are_several(texts):
        return _unread(name, "each of its cells holds several numbers", texts)
    sample = texts[:_LOOKED_AT]
    if 10 * sum(_NESTED.fullmatch(text) is not None for text in sample) >= 9 * len(sample):
        reason = "its cells hold lists or objects; expected a column for each of their values"
        return _unread(name, reason, texts, f" or text_column={name}")
    return None


def _unread(name: str, reason: str, texts: Sequence[str], more: str = "") -> Read:
    examples = tuple(text if len(text) <= 60 else f"{text[:59]}…" for text in texts[:3])
    setting = f"ignore_columns={name}, keep_columns={name} to take them as categories{more}"
    return Read("number", None, reason, certainty="open", examples=examples, setting=setting)


def _of_codes(name: str, texts: Sequence[str], read: Read) -> Read:
    """What a column of codes was taken to be, and that they are no numbers."""
    zero = next(text for text in texts if text.startswith("0") and len(text) > 1)
    setting = f"{read.setting} or number_columns={name}" if read.setting else f"number_columns={name}"
    return replace(
        read,
        reason=f"codes of digits, some with leading zeros: {read.reason}",
        examples=(zero,),
        setting=setting,
    )


def _number(
    cells: Cells, position: int, values: Coded, spelling: Spelling, rules: Rules, words: tuple[str, ...] = ()
) -> Read:
    absent = rules.absent | frozenset(words)
    parsed, bad = parse_numbers(values.distinct, spelling, absent)
    assert bad is None
    numeric = _finite(cells, position, parsed[values.codes])
    read = _typed(cells, position, numeric, rules)
    if read.kind != "number":
        return read
    how = [
        *(
            ["decimal commas"]
            if spelling.mark == "comma"
            else ["thousands separators or signs"]
            if spelling.separated or (spelling.grouped and not spelling.affix)
            else []
        ),
        *([f"in {spelling.affix}"] if spelling.affix else []),
        *([f"times in {'minutes' if spelling.clock == 2 else 'seconds'}"] if spelling.clock else []),
        *([f"{', '.join(map(repr, words))} taken as missing"] if words else []),
    ]
    own = replace(spelling, missing=(*sorted(rules.missing), *words))
    return Read("number", numeric, ", ".join([read.reason, *how]), own if own else None)


def _date(cells: Cells, position: int, values: Coded, present: list[int], rules: Rules) -> Read | None:
    """A column of dates; None: it is none."""
    texts = [values.distinct[at] for at in present]
    forms = [dates.form_of(text) for text in texts]
    odd = [text for text, form in zip(texts, forms, strict=True) if form is None]
    rows = int(sum(values.counts[at] for at, form in zip(present, forms, strict=True) if form is None))
    total = int(values.counts[present].sum())
    if 2 * rows >= total:
        return None
    word = _word_alone(values, odd, total)
    if odd and word is None:
        if rows <= max(1, total // 100):
            cells.fail(position, values.first_row(odd[0]), f"expected a {dates.EXAMPLE}, as in other rows")
        return _mixed(cells.names[position], "dates", odd, total - rows, rows)
    orders = dates.orders_of([text for text in texts if text not in odd], rules.date_order) or {}
    bad = next((form for form, fitting in orders.items() if not fitting), None)
    if bad is not None:
        members = [text for text, form in zip(texts, forms, strict=True) if form == bad]
        no_dates = [text for text in members if bad in dates.ALONE and dates.date_of(text, {}) is None]
        why = "are no dates" if no_dates else "fit no single order of day, month and year"
        odd_ones = no_dates or _contradicting(members, bad)
        return Read(
            "date",
            None,
            f"among its dates, {', '.join(map(repr, odd_ones[:3]))} {why}",
            certainty="open",
            setting=f"ignore_columns={cells.names[position]}, or write them as 2024-01-31",
        )
    several = next((form for form, fitting in orders.items() if len(fitting) > 1), None)
    if several is not None:
        one = next(
            text
            for text, form in zip(texts, forms, strict=True)
            if form == several
            and len({dates.date_of(text, {several: order}) for order in orders[several]}) > 1
        )
        readings = " or ".join(str(dates.date_of(one, {several: order}))[:10] for order in orders[several])
        return Read(
            "date",
            None,
            f"{one!r} is {readings}",
            certainty="open",
            setting=f"date_order={' or '.join(orders[several])}",
        )
    settled = tuple((form, fitting[0]) for form, fitting in orders.items())
    words = () if word is None else (word,)
    parsed = _dates(cells, position, values, rules.absent | frozenset(words), settled, ", as in other rows")
    read = ", ".join([_span(parsed), *(f"day, month and year in the order {order}" for _, order in settled)])
    spelling = Spelling(missing=(*sorted(rules.missing), *words), orders=settled)
    return Read("date", parsed, read, spelling or None)


def _contradicting(texts: Sequence[str], form: str) -> list[str]:
    """For each order of day, month and year, the first text that does not fit it."""
    found = (
        next((text for text in texts if dates.date_of(text, {form: order}) is None), None)
        for order in dates.ORDERS[:2]
    )
    return list(dict.fromkeys(text for text in found if text is not None))


def _dates(
    cells: Cells,
    position: int,
    values: Coded,
    absent: frozenset[str],
    orders: tuple[tuple[str, str], ...],
    expected: str,
) -> np.ndarray:
    parsed, bad = dates.parse(np.array(values.distinct, object), absent, orders)
    if bad is not None:
        cells.fail(position, values.first_row(values.distinct[bad]), f"expected a {dates.EXAMPLE}{expected}")
    return parsed[values.codes]


def _word_alone(values: Coded, odd: Sequence[str], total: int) -> str | None:
    """The one word among numbers or dates that stands for a missing value, in lower case; None: there is none.

    It is repeated, unlike a slip of the pen, and nothing else than this word is out of place.
    """
    words = {text.lower() for text in odd}
    if len(words) != 1 or not _WORD.fullmatch(odd[0]) or len(odd[0]) > 30:
        return None
    rows = sum(int(values.counts[values.distinct.index(text)]) for text in odd)
    return words.pop() if 1 < rows < total / 2 else None


def _nearly_numbers(
    cells: Cells, position: int, values: Coded, present: list[int], rules: Rules
) -> Read | None:
    """A column of numbers with a few other cells; None: it is none."""
    total = int(values.counts[present].sum())
    best: tuple[int, list[str], Spelling] | None = None
    for spelling in (Spelling(), Spelling("point", True), Spelling("comma", True)):
        odd = [values.distinct[at] for at in present if spelling.number(values.distinct[at]) is None]
        rows = int(sum(values.counts[at] for at in present if spelling.number(values.distinct[at]) is None))
        if best is None or rows < best[0]:
            best = rows, odd, spelling
    assert best
    rows, odd, spelling = best
    if 2 * rows >= total or not odd:
        return None
    good = [values.distinct[at] for at in present if values.distinct[at] not in set(odd)]
    if numbers.are_codes(good):
        return None
    # Few whole numbers beside words are sizes or grades; measurements have fractions.
    fractions = sum((spelling.number(text) or 0.0) % 1 != 0 for text in good)
    several = len(good) > FEW or (len(good) >= _FEWEST_ROWS and 2 * fractions > len(good))
    word = _word_alone(values, odd, total)
    if word is not None and several:
        fitting = numbers.spellings(good)
        if len(fitting) == 1:
            return _number(cells, position, values, fitting[0], rules, (word,))
    if rows <= max(1, total // 100):
        cells.fail(position, values.first_row(odd[0]), "expected a number, as in other rows")
    if several:
        return _mixed(cells.names[position], "numbers", odd, total - rows, rows)
    return None


def _mixed(name: str, what: str, odd: Sequence[str], good: int, rows: int) -> Read:
    leave_out = f"ignore_columns={name}"
    # A comma stands between two words of missing_values.
    words = ",".join(odd) if len(odd) <= _MOST_WORDS and not any("," in text for text in odd) else None
    missing = f"missing_values={words} if they stand for a missing value, or " if words else ""
    return Read(
        "number",
        None,
        f"{good:,} {what} and {rows:,} other texts",
        certainty="open",
        examples=tuple(odd[:3]),
        setting=f"{missing}{leave_out}",
    )


def _words(name: str, values: Coded, rules: Rules) -> Read:
    """A category, a text or an identifier."""
    filled = [at for at, text in enumerate(values.distinct) if text and values.counts[at]]
    distinct, rows = len(filled), int(values.counts[filled].sum())
    sample = [values.distinct[at] for at in filled[:_LOOKED_AT]]
    spaced = sum(" " in text or _UNSPACED.search(text) is not None for text in sample)
    long = sum(len(text) >= 30 or text.count(" ") >= 2 for text in sample)
    if distinct > FEW and 2 * distinct > rows and _is_code(sample) and not rules.keeps(name):
        if distinct == rows or _named_as_id(name):
            settings = f"keep_columns={name} or text_column={name}"
            return _identifier(f"{distinct:,} different codes in {rows:,} rows", sample, settings)
    elif 2 * min(spaced, distinct) > min(rows, _LOOKED_AT) and 2 * distinct > rows:
        return Read(
            "free text", values.texts, f"texts of several words, {distinct:,} different in {rows:,} rows"
        )
    elif (
        distinct > FEW
        and _TEXT_NAME.fullmatch(name.lower())
        and (2 * long > len(sample) or 2 * distinct > rows)
    ):
        return Read("free text", values.texts, f"texts by its name, {distinct:,} different in {rows:,} rows")
    elif distinct > FEW and 2 * long > len(sample) and 2 * distinct > rows:
        return Read("free text", values.texts, f"long texts, {distinct:,} different in {rows:,} rows")
    if distinct <= FEW or 2 * distinct <= rows or rules.keeps(name):
        shown = f"constant, {sample[0]!r}" if distinct == 1 else f"{distinct:,} categories"
        return Read("category", values.texts, shown)
    if distinct == rows and rows > FEW:
        settings = f"text_column={name} or keep_columns={name}"
        return _identifier(f"all {rows:,} texts are different", sample, settings)
    return Read(
        "category",
        None,
        f"{distinct:,} of its {rows:,} values are different, neither categories nor free text",
        certainty="open",
        examples=tuple(sample[:2]),
        setting=f"ignore_columns={name}, text_column={name} or keep_columns={name}",
    )


def _identifier(reason: str, sample: Sequence[str], setting: str) -> Read:
    return Read("identifier", None, reason, examples=tuple(sample[:2]), setting=setting)


_LETTER = re.compile(r"[^\W\d_]")
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]{5}")
"""Several words of a script that writes no blanks between them."""
_CODE = re.compile(r"\S*[\d_/:.@-]\S*( \S+)?|[0-9a-fA-F-]{8,}")


def _is_code(sample: Sequence[str]) -> bool:
    """Whether texts look like codes: of one or two parts, with digits or punctuation."""
    codes = sum(
        (text.isascii() and _CODE.fullmatch(text) is not None) or _LETTER.search(text) is None
        for text in sample
    )
    return 10 * codes >= 9 * len(sample)

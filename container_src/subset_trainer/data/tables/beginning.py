"""Where the table of a CSV file begins: its separator, the lines above it, and whether its first line is a header."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from subset_trainer.data.label_columns import NAMES, plain_name
from subset_trainer.data.tables import dates
from subset_trainer.data.tables.numbers import spellings
from subset_trainer.data.tables.table import MISSING, is_number
from subset_trainer.data.understanding import Decision

LINE_END = re.compile("\r\n|\r|\n")
_SEPARATORS = ",;\t|"
_TOLD = re.compile(r"\ufeff?\"?sep=([^\w\s\"'.+-]|\t)\"?\s*", re.IGNORECASE)
_MOST_TITLES = 20
_SAMPLE_LINES = 200
_WORDS, _LABEL = "it holds words above columns of numbers or dates", "it names a label"


@dataclass(frozen=True)
class Beginning:
    """The beginning of a CSV file.

    `separator`: between fields. `told`: whether the file's own first line says it, as `sep=;` does for Excel. `lines`:
    the number of lines above the table. `titles`: those of them that hold text. `quoted`: whether quotes at the
    beginning of a field enclose it. `spaced`: whether blanks stand before such quotes.
    """

    separator: str = ","
    told: bool = False
    lines: int = 0
    titles: tuple[str, ...] = ()
    quoted: bool = True
    spaced: bool = False


def told_separator(line: str) -> str | None:
    """The separator that a first line such as `sep=;` names, as Excel reads it; None: it is another line."""
    found = _TOLD.fullmatch(line)
    return found[1] if found else None


def beginning_of(head: str, separator: str | None, csv_header: str) -> Beginning:
    """Find the separator of a file, and the lines above its table, in its first characters.

    Above the table are Excel's `sep=;`, blank lines, and titles: lines of a single field, or of a comment, above a
    header.

    Args:
        separator: that of the file's name, if any; the file's own first line comes first.
        csv_header: the hyperparameter; "false": there is no header, so that nothing is a title above it.
    """
    every = LINE_END.split(head)
    blank = next((at for at, line in enumerate(every) if line.strip()), 0)
    told = told_separator(every[blank])
    start = blank + 1 if told else 0
    lines = every[start:]
    separator = told or separator or delimiter_of("\n".join(lines[: _SAMPLE_LINES + 1]))
    filled = [_filled(line, separator) for line in lines[:_MOST_TITLES]]
    above = next(
        (
            at
            for at, (line, fields) in enumerate(zip(lines, filled, strict=False))
            if len(fields) > 1 and not line.startswith("#")
        ),
        0,
    )
    empty = next((at for at, fields in enumerate(filled) if fields), 0)
    titles = tuple(line.strip() for line, fields in zip(lines[:above], filled, strict=False) if fields)
    if titles and not _are_titles(lines[:above], lines[above:], separator, csv_header):
        above, titles = empty, ()
    below = lines[above : above + _SAMPLE_LINES]
    quotes = re.compile(rf'{re.escape(separator)} +"[^"]*" *(?:{re.escape(separator)}|$)')
    spaced = 2 * sum(quotes.search(line) is not None for line in below) > len(list(filter(str.strip, below)))
    return Beginning(separator, told is not None, start + above, titles, spaced=spaced)


def quotes_are_text(lines: Iterable[str], separator: str) -> bool:
    """Whether quotes in a file separated by tabs belong to its texts, as in collections of messages: some line opens a
    quote that it does not close, and yet every line has the same number of fields."""
    width, open_quotes = None, False
    for line in lines:
        if not line.strip():
            continue
        count = line.count(separator)
        if width not in (None, count):
            return False
        width = count
        if not open_quotes and line.count('"') % 2 and (line[0] == '"' or f'{separator}"' in line):
            open_quotes = True
    return open_quotes and bool(width)


def _filled(line: str, separator: str) -> list[str]:
    """The fields of a line that are not empty."""
    try:
        return [field for field in next(csv.reader([line], delimiter=separator), []) if field.strip()]
    except csv.Error:
        return [line, line]


def _are_titles(above: Sequence[str], below: Sequence[str], separator: str, csv_header: str) -> bool:
    """Whether lines stand above a table, rather than being its header or its first rows."""
    try:
        records = list(csv.reader(below[:_SAMPLE_LINES], delimiter=separator))[:-1]
    except csv.Error:
        return False
    if any(line.count('"') % 2 for line in above):
        return False  # a field of several lines
    width = len(records[0]) if records else 0
    rows = [[field.strip() for field in fields] for fields in records if len(fields) == width]
    if width < 2 or len(rows) < 2 or csv_header == "false":
        return False
    # A line without a separator is no row of a wider table.
    alone = all(separator not in line for line in above) and width > 2
    if alone and csv_header == "true":
        return True
    decision = header_of(rows)
    certain = decision.certainty != "open" and decision.taken != "none"
    return certain and (alone or decision.reason in (_WORDS, _LABEL))


def delimiter_of(head: str) -> str:
    """The separator that divides the lines of a file's beginning into the same number of fields.

    Where several do, it is the one between most numbers; commas divide 1,5;2,5 as well as semicolons do.
    """
    lines = [line for line in head.splitlines()[:101] if line.strip()]
    lines = lines[:-1] if len(lines) > 2 else lines  # the last one may be cut
    best, most = ",", (0, 0.0)
    for separator in _SEPARATORS:
        try:
            rows = list(csv.reader(lines, delimiter=separator))
        except csv.Error:
            continue
        widths = Counter(map(len, rows))
        width, times = widths.most_common(1)[0] if widths else (1, 0)
        if width < 2:
            continue
        cells = [cell.strip() for row in rows[1:] or rows for cell in row]
        good = sum(1 for cell in cells if spellings([cell])) / max(1, len(cells))
        score = (int(100 * times / len(rows)), good)
        if score > most and (best == "," or score[0] >= most[0]):
            best, most = separator, score
    return best


def header_of(sample: Sequence[Sequence[str]]) -> Decision:
    """Whether the first of some records is a header for the others: `taken` is "line 1" or "none"."""
    first, *rows = sample
    if not rows:
        return Decision("header", "none", "there is one line")
    apart = [row for row in rows if not is_again(row, first)]
    if (
        apart
        and len(apart) < len(rows)
        and (decision := header_of([first, *apart])).reason in (_WORDS, _LABEL)
    ):
        return decision
    places = [str(place) for place in range(len(first))]
    if len(first) > 2 and list(first) == places:
        return Decision("header", "line 1", "it counts the columns, as pandas writes a table without names")
    names = list(filter(None, first))
    columns = list(zip(*rows, strict=True))
    typed = [at for at, values in enumerate(columns) if _mostly_typed(values)]
    like_names = [
        at for at in typed if first[at] and first[at].lower() not in MISSING and not _typed(first[at])
    ]
    like_values = [at for at in typed if _typed(first[at]) and not _is_place(first, at)]
    like_places = [at for at in typed if _typed(first[at]) and _is_place(first, at)]
    again = [at for at, values in enumerate(columns) if first[at] and at not in typed and first[at] in values]
    if like_places and not (like_names or _repeating(columns, typed, first)):
        like_values, like_places = [*like_values, *like_places], []
    # A name may be one of its column's values: `airbag` above airbag and none. A word for missing numbers would be the
    # same in several columns.
    if not like_values and len(set(names)) == len(names) and len(like_names) > max(1, len(again)):
        again = []
    if like_values or again:
        named = any(plain_name(name) in NAMES for name in names)
        # Names may be numbers, such as years; then the texts of line 1 stand nowhere else.
        if not again and ((like_names and named) or _repeating(columns, typed, first)):
            return _open_header(first)
        return Decision("header", "none", "line 1 is like the lines below it")
    if like_names and not like_places:
        return Decision("header", "line 1", _WORDS)
    repeated = _repeating(columns, typed, first)
    if any(plain_name(name) in NAMES for name in names):
        return Decision("header", "line 1", _LABEL)
    if like_places:
        return Decision("header", "line 1", "it counts the columns") if repeated else _open_header(first)
    if not typed and len(set(names)) == len(names):
        return Decision("header", "line 1", "none of its names stands in its column")
    if repeated and not like_names and all(not first[at] for at in typed):
        return Decision("header", "line 1", "none of its names stands in its column")
    return Decision("header", "none", "line 1 is like the lines below it")


def names_columns(sample: Sequence[Sequence[str]]) -> bool:
    """Whether the first of some records names columns beyond doubt: by words above numbers, or by a label's name."""
    decision = header_of(sample)
    return decision.certainty != "open" and decision.reason in (_WORDS, _LABEL)


def places_of(titles: Sequence[str], fields: Sequence[str]) -> list[int] | None:
    """Where each title stands in a record that names the same columns, in any order and case; None: it does not."""
    stripped = [fields[0].strip().removeprefix("\ufeff"), *map(str.strip, fields[1:])]
    if stripped == list(titles):
        return list(range(len(titles)))
    wanted, held = list(map(plain_name, titles)), list(map(plain_name, stripped))
    if "" in wanted or len(set(wanted)) < len(wanted) or set(wanted) != set(held) or len(held) != len(wanted):
        return None
    return [held.index(name) for name in wanted]


def is_again(fields: Sequence[str], titles: Sequence[str]) -> bool:
    """Whether a record repeats the header, as in files that were put together, perhaps with a byte order mark."""
    return [fields[0].strip().removeprefix("\ufeff"), *map(str.strip, fields[1:])] == list(titles)


def _repeating(columns: Sequence[Sequence[str]], typed: Sequence[int], first: Sequence[str]) -> list[int]:
    """The columns of texts that recur, so that a value of line 1 would recur too."""
    return [
        at
        for at, values in enumerate(columns)
        if at not in typed and first[at] and 2 * len(set(values)) <= len(values)
    ]


def _open_header(first: Sequence[str]) -> Decision:
    return Decision(
        "header",
        "",
        "line 1 may be names or values",
        "open",
        examples=tuple(first[:4]),
        setting="csv_header=true or csv_header=false",
    )


def _is_place(first: Sequence[str], at: int) -> bool:
    """Whether a field counts the columns: from 0 or 1, perhaps after a first one with a name."""
    return first[at] in {str(at), str(at - 1), str(at + 1)} and all(
        not other.isdecimal() or int(other) - place == int(first[at]) - at
        for place, other in enumerate(first)
    )


def _typed(value: str) -> bool:
    return is_number(value) or bool(spellings([value])) or dates.form_of(value) is not None


def _mostly_typed(values: Sequence[str]) -> bool:
    known = {value: _typed(value) for value in set(values)}
    typed = sum(known[value] for value in values)
    odd = len(values) - typed - sum(value.lower() in MISSING for value in values)
    return typed > odd and odd <= max(1, len(values) // 5)

"""Numbers as people write them: decimal commas, thousands separators, percent and currency signs.

A column's spelling is found from all its distinct values together. It is certain where every value allows one reading.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from subset_trainer.data.tables.dates import Order

Mark = Literal["point", "comma"]

_SPACES = "    ’'"
"""Thousands separators that are never decimal marks."""
_CURRENCY = r"[$€£¥₹₽₩]|(?:USD|EUR|GBP|CHF|JPY|CNY|INR|SEK|NOK|DKK|PLN|CZK|BRL|AUD|CAD)"
_AFFIXED = re.compile(rf"([+-]?)({_CURRENCY})?\s*([+-]?[\d.,{_SPACES}]*\d[\d.,]*)\s*(%|{_CURRENCY})?")
_EXPONENT = r"(?:[eE][+-]?\d+)?"
_WHOLE = rf"(?!0)\d{{{{1,3}}}}(?:([{{separators}}{_SPACES}])\d{{{{3}}}})(?:\1\d{{{{3}}}})*"
_INDIAN = r"(?!0)\d{1,3}(?:,\d\d)+,\d{3}"
_GROUPS = {
    "point": re.compile(
        rf"(?=.*\d)[+-]?(?:{_WHOLE.format(separators=',')}|{_INDIAN}|\d*)(?:\.\d*)?{_EXPONENT}"
    ),
    "comma": re.compile(rf"(?=.*\d)[+-]?(?:{_WHOLE.format(separators='.')}|\d*)(?:,\d*)?{_EXPONENT}"),
}
_UNGROUPED = re.compile(r"[+-]?\d{4,}(?:[.,]\d*)?")


@dataclass(frozen=True)
class Spelling:
    """How a column writes its numbers or dates, beyond a plain decimal point and ISO 8601.

    `mark`: the decimal mark. `affix`: the sign that stands before or after its numbers, such as % or €. `missing`:
    words of this column for a missing value, in lower case. `orders`: the order of day, month and year of each form of
    date (see :mod:`subset_trainer.data.tables.dates`). `separated`: whether any number has separators between
    thousands; otherwise 1.234 is none of its numbers with a decimal comma. `clock`: the number of parts of times and
    durations such as 9:30 (2) or 1:05:30 (3), read as minutes or seconds; 0: there are none.
    """

    mark: Mark = "point"
    grouped: bool = False
    affix: str = ""
    missing: tuple[str, ...] = ()
    orders: tuple[tuple[str, Order], ...] = ()
    separated: bool = False
    clock: int = 0

    def number(self, text: str) -> float | None:
        """A stripped text as a number; None if it is not written in this way."""
        if self.clock:
            return _time(text, self.clock)
        if not self.affix and not self.grouped and self.mark == "point":
            return plain(text)
        core, affix = _core(text)
        if self.affix and not affix:
            core, affix = _in_unit(text)
        # A currency may be left out; 0.5 is not 0.5%.
        if affix != self.affix and (affix or not re.fullmatch(_CURRENCY, self.affix)):
            return None
        if not _GROUPS[self.mark].fullmatch(core):
            return None
        if self.mark == "comma" and not self.separated and "." in core and "," not in core:
            return None
        digits = core.replace(".", "") if self.mark == "comma" else core.replace(",", "")
        return plain(re.sub(f"[{_SPACES}]", "", digits).replace(",", "."))

    def __bool__(self) -> bool:
        return self != Spelling()

    def expected(self) -> str:
        """What a number of this column looks like, for messages."""
        if self.clock:
            return "a time such as " + ("9:30" if self.clock == 2 else "9:30:00")
        marks = " with a decimal comma" if self.mark == "comma" else ""
        return f"a number{marks}{f' in {self.affix}' if self.affix else ''}"

    def to_json(self) -> dict[str, Any]:
        """JSON values: only the fields that differ from the defaults."""
        return {
            name: list(map(list, value))
            if name == "orders"
            else list(value)
            if isinstance(value, tuple)
            else value
            for name, value in vars(self).items()
            if value != getattr(_PLAIN, name)
        }


_PLAIN = Spelling()


def plain(text: str) -> float | None:
    """A number with a decimal point, infinite ones included; None for other texts and for NaN."""
    try:
        number = float(text)
    except ValueError:
        return None
    # Python parses 1_000 as a number, but in a file it is text.
    return None if math.isnan(number) or "_" in text else number


def without(values: np.ndarray, words: Iterable[str]) -> np.ndarray:
    """Numbers [N], with NaN for those that are among the words for a missing value, as -999.0 is for -999."""
    absent = [number for word in words if (number := plain(word)) is not None]
    return np.where(np.isin(values, absent), np.nan, values) if absent else values


def spellings(texts: Sequence[str]) -> tuple[Spelling, ...]:
    """The spellings under which all the texts are numbers: none, one, or two that differ in their values."""
    if all(plain(text) is not None for text in texts):
        return (_PLAIN,)
    parts = [_core(text) for text in texts]
    affixes = {affix for _, affix in parts}
    if len(affixes - {""}) > 1 or affixes == {"", "%"}:
        return ()
    affix = max(affixes)
    cores = [core for core, _ in parts]
    fitting: list[Mark] = [mark for mark in _MARKS if all(map(_GROUPS[mark].fullmatch, cores))]
    if len(fitting) == 2 and any(map(_UNGROUPED.fullmatch, cores)):
        # A column that groups thousands groups all of them.
        fitting = ["comma" if any("," in core for core in cores) else "point"]
    found = [Spelling(mark, True, affix, separated=_separated(mark, cores)) for mark in fitting]
    if len(found) == 2 and all(found[0].number(text) == found[1].number(text) for text in texts):
        found = found[:1]
    return tuple(found)


_MARKS: tuple[Mark, Mark] = ("point", "comma")


def _separated(mark: Mark, cores: Sequence[str]) -> bool:
    separators = _SPACES + ("," if mark == "point" else ".")
    return any(separator in core for core in cores for separator in separators)


_TIME = re.compile(r"(\d{1,4}):([0-5]\d)(?::([0-5]\d(?:\.\d{1,9})?))?(?:\s?([AaPp])\.?[Mm]\.?)?", re.ASCII)
_UNIT = re.compile(
    rf"([+-]?[\d.,{_SPACES}]*\d[\d.,]*(?:[eE][+-]?\d+)?)\s*([^\W\d_]{{1,12}}|[^\s\w.,;:+*()\[\]{{}}<>=\"'/\\-][^\s\d.,;:]{{0,5}}"
    r"|[^\W\d_]{1,6}[/²³^]\w{0,6}|[^\W\d_]{2,8} [^\W\d_]{2,8})\.?"
)
_SINGLE_UNITS = "gmshkKM%°"
"""Units of one letter; other letters, as in 12A and 12B, may be parts of a code."""
_MOST_UNITS = 6


def _time(text: str, parts: int) -> float | None:
    found = _TIME.fullmatch(text)
    if found is None or (3 if found[3] else 2) != parts:
        return None
    hours = int(found[1])
    if found[4]:
        if not 1 <= hours <= 12:
            return None
        hours = hours % 12 + 12 * (found[4] in "pP")
    return (
        hours * 60.0 + int(found[2]) if parts == 2 else hours * 3600.0 + int(found[2]) * 60 + float(found[3])
    )


def _in_unit(text: str) -> tuple[str, str]:
    """The digits and the unit of a text such as 5 kg; a unit's plural is its singular."""
    found = _UNIT.fullmatch(text.replace("−", "-"))
    if found is None:
        return text, ""
    unit = found[2]
    return found[1].strip(), unit[:-1] if len(unit) > 3 and unit.endswith("s") else unit


def of_measures(texts: Sequence[str]) -> tuple[Spelling, ...]:
    """The spellings under which all texts are times such as 9:30, or numbers in one unit such as 5 kg."""
    for parts in (2, 3):
        if all(_time(text, parts) is not None for text in texts):
            return (Spelling(clock=parts),)
    parsed = [_in_unit(text) for text in texts]
    if len({unit for _, unit in parsed}) > 1 or not parsed[0][1]:
        return ()
    return tuple(
        replace(spelling, affix=parsed[0][1], grouped=True)
        for spelling in spellings([core for core, _ in parsed])
    )


def units(texts: Sequence[str]) -> tuple[str, ...]:
    """The several units or currencies of texts that are all numbers in some, '' for none; () where they are not."""
    found: set[str] = set()
    for text in texts:
        core, unit = _core(text)
        core, unit = (core, unit) if unit else _in_unit(text)
        if not any(map(re.Pattern.fullmatch, _GROUPS.values(), [core, core])):
            return ()
        found.add(unit)
    known = all(len(unit) != 1 or unit in _SINGLE_UNITS or re.fullmatch(_CURRENCY, unit) for unit in found)
    return tuple(sorted(found)) if 1 < len(found) <= _MOST_UNITS and known else ()


_SEVERAL = re.compile(r"[+-]?\d+(?:[.,]\d+)?(?:\s*[/x×:*]\s*[+-]?\d+(?:[.,]\d+)?)+")


def are_several(texts: Sequence[str]) -> bool:
    """Whether each text holds several numbers, as 120/80 and 10x20 do."""
    return all(map(_SEVERAL.fullmatch, texts))


PADDED = r"0[0-9]+"
"""Digits that a number would not lead with, as a pattern of Python and of RE2."""
_LONGEST = 1_000  # Python parses no more than 4,300 digits
_PADDED, _DIGITS = re.compile(PADDED), re.compile("[0-9]+")


def are_codes(texts: Sequence[str]) -> bool:
    """Whether texts are codes of digits, such as postal codes: digits alone, and some of them lead with a zero."""
    return any(map(_PADDED.fullmatch, texts)) and all(map(_DIGITS.fullmatch, texts))


def whole(text: str) -> int | None:
    """The value of a text of digits alone; None for other texts."""
    return int(text) if len(text) <= _LONGEST and _DIGITS.fullmatch(text) else None


def code_width(texts: Sequence[str]) -> int | None:
    """The number of digits of codes that all have the same; None if they differ, or are no codes."""
    widths = set(map(len, texts))
    return widths.pop() if len(widths) == 1 and are_codes(texts) else None


def also_grouped(texts: Sequence[str]) -> bool:
    """Whether plain numbers such as 1.234 are whole numbers with thousands separators under a decimal comma."""
    if any(map(_UNGROUPED.fullmatch, texts)) or not any("." in text for text in texts):
        return False
    return all(map(_GROUPS["comma"].fullmatch, texts))


def _core(text: str) -> tuple[str, str]:
    """The digits of a text, and the sign of a percentage or currency before or after them."""
    text = text.replace("−", "-")
    if text.startswith("(") and text.endswith(")"):  # as accountants write negative numbers
        text = "-" + text[1:-1]
    found = _AFFIXED.fullmatch(text)
    if found is None:
        return text, ""
    sign, before, digits, after = found.groups()
    if before and after:
        return text, ""
    return f"{sign}{digits.strip()}", before or after or ""

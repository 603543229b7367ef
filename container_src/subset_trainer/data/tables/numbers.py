"""Numbers as people write them: decimal commas, thousands separators, percent and currency signs.

A column's spelling is found from all its distinct values together. It is certain where every value allows one reading.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

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
    thousands; otherwise 1.234 is none of its numbers with a decimal comma.
    """

    mark: Mark = "point"
    grouped: bool = False
    affix: str = ""
    missing: tuple[str, ...] = ()
    orders: tuple[tuple[str, str], ...] = ()
    separated: bool = False

    def number(self, text: str) -> float | None:
        """A stripped text as a number; None if it is not written in this way."""
        if not self.affix and not self.grouped and self.mark == "point":
            return plain(text)
        core, affix = _core(text)
        if affix not in ("", self.affix) or (affix == "" and self.affix == "%"):
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

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Spelling":
        """The inverse of `to_json`. Raises TypeError or ValueError on anything else."""
        orders = tuple((str(form), str(order)) for form, order in value.get("orders", ()))
        return cls(**{**value, "missing": tuple(map(str, value.get("missing", ()))), "orders": orders})


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

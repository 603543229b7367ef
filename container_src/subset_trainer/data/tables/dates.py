"""Parses dates: ISO 8601, as databases and programs write them, and the forms of other countries and of people.

The order of day, month and year is a property of a column: it is certain where every value allows one order only.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Literal

import numpy as np

ALONE = ("iso", "named", "compact", "weekday")
"""The forms that leave no doubt about the order of day, month and year."""
EXAMPLE = "date such as 2024-01-31 or 2024-01-31T09:30:00"
Order = Literal["dmy", "mdy", "ymd"]
ORDERS: tuple[Order, ...] = ("dmy", "mdy", "ymd")
NOTHING = np.datetime64("NaT", "us")

_ISO = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?( ?(Z|UTC|[+-]\d\d(:?\d\d)?))?)?", re.ASCII
)
_TIME = r"(?:[T ,]+(\d{1,2}):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)? ?([AaPp][Mm])?)?"
_NUMERIC = re.compile(rf"(\d{{1,4}})([./-])(\d{{1,2}})\2(\d{{1,4}})\.?{_TIME}", re.ASCII)
COMPACT = (19000101, 21001231)
"""The first and the last date that is read in the form 20240131."""
_COMPACT = re.compile(r"(\d{4})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?:\.0)?", re.ASCII)
_MONTHS = {
    start: month
    for month, starts in enumerate(
        (
            *("jan gen ene", "feb fev", "mar maa mrz", "apr avr abr", "may mai mag mei", "jun giu juin"),
            *("jul lug juil", "aug aou ago", "sep set", "oct okt ott out", "nov", "dec dez dic"),
        ),
        1,
    )
    for start in starts.split()
}
"""How months' names begin in English, German, French, Spanish, Italian, Portuguese and Dutch, without accents."""
_NAMED = re.compile(
    r"(?:(\d{1,2})(?:st|nd|rd|th|er|º)?[ .-]+(?:de )?([^\W\d_]{3,10})|([^\W\d_]{3,10})[ .]+(\d{1,2})(?:st|nd|rd|th)?)"
    rf",?[ .,-]+(?:de )?(\d{{4}}|\d\d){_TIME}"
)
_WEEKDAY = re.compile(r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? .*\d\d:\d\d.*", re.IGNORECASE)


def parse(
    values: np.ndarray, missing: frozenset[str], orders: Iterable[tuple[str, str]] = ()
) -> tuple[np.ndarray, int | None]:
    """Parse texts [N] → datetime64[us] [N] in UTC, and the row of the first text that is not a date, or None.

    Parsing stops at such a row. Texts in `missing`, in any case, become NaT.

    Args:
        orders: the order of each form of date that is not ISO 8601, as `orders_of` returns them.
    """
    known: dict[str, np.datetime64] = {}
    order_of = dict(orders)
    dates = np.full(len(values), NOTHING)
    for row, text in enumerate(values.tolist()):
        date = known.get(text)
        if date is None:
            parsed = NOTHING if text.lower() in missing else date_of(text, order_of)
            if parsed is None:
                return dates, row
            date = known[text] = parsed
        dates[row] = date
    return dates, None


def date_of(text: str, orders: dict[str, str]) -> np.datetime64 | None:
    """A text as a date in UTC; None if it is none in ISO 8601, with a month's name, or in one of these forms."""
    form = form_of(text)
    if form is None:
        return None
    if form == "iso":
        return _iso(text)
    if form == "named":
        return _named(text)
    if form == "compact":
        return _iso("-".join(_COMPACT.fullmatch(text).groups()))  # type: ignore[union-attr]
    if form == "weekday":
        return _weekday(text)
    return _numeric(text, orders[form]) if form in orders else None


def form_of(text: str) -> str | None:
    """The form of a text that may be a date: iso, named, or a separator and the place of a year of four digits."""
    if _ISO.fullmatch(text):
        return "iso"
    found = _NUMERIC.fullmatch(text)
    if found:
        first, last = len(found[1]), len(found[4])
        if 3 in (first, last) or (first < 4 and last not in (2, 4)) or first == last == 4:
            return None
        return found[2] + ("first" if first == 4 else "last" if last == 4 else "short")
    compact = _COMPACT.fullmatch(text)
    if compact:
        return "compact" if COMPACT[0] <= int("".join(compact.groups())) <= COMPACT[1] else None
    if _WEEKDAY.fullmatch(text):
        return "weekday"
    named = _NAMED.fullmatch(text)
    return "named" if named and _month(named[2] or named[3]) else None


def _month(name: str) -> int | None:
    plain = unicodedata.normalize("NFD", name.lower())
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return _MONTHS.get(plain[:4]) or _MONTHS.get(plain[:3])


def _weekday(text: str) -> np.datetime64 | None:
    """Dates with a weekday and a time, as mail (RFC 5322), ctime and social networks write them."""
    try:
        time = parsedate_to_datetime(text)
        if time.tzinfo is not None:
            time = time.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return np.datetime64(time, "us")


def orders_of(texts: Sequence[str], given: str | None) -> dict[str, tuple[Order, ...]] | None:
    """The orders that each form of the texts allows, for forms that need one; None if a text is not like a date.

    An empty tuple: no order fits all values of the form. Several: the values allow more than one reading. Orders that
    give the same dates count once.

    Args:
        given: the order that the user gives; it is taken where it fits.
    """
    forms: dict[str, list[str]] = {}
    for text in texts:
        form = form_of(text)
        if form is None:
            return None
        forms.setdefault(form, []).append(text)
    found: dict[str, tuple[Order, ...]] = {}
    for form, members in forms.items():
        if form in ALONE:
            if any(date_of(text, {}) is None for text in members):
                found[form] = ()
            continue
        possible = ORDERS[2:] if form.endswith("first") else ORDERS[:2] if form.endswith("last") else ORDERS
        dates = {order: [_numeric(text, order) for text in members] for order in possible}
        fitting = [order for order in possible if None not in dates[order]]
        if form.endswith("short") and len(fitting) > 1 and given is None:
            fitting = [order for order in fitting if order != "ymd"]  # people write a short year last
        if given in fitting:
            fitting = [given]
        found[form] = tuple(
            order
            for at, order in enumerate(fitting)
            if not any(dates[order] == dates[other] for other in fitting[:at])
        )
    return found


def _iso(text: str) -> np.datetime64 | None:
    try:
        time = datetime.fromisoformat(
            text.replace(" UTC", "Z").replace(" +", "+").replace(" -", "-").replace(" Z", "Z")
        )
        if time.tzinfo is not None:
            time = time.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None
    return np.datetime64(time, "us")


def _numeric(text: str, order: str) -> np.datetime64 | None:
    found = _NUMERIC.fullmatch(text)
    assert found
    parts = dict(zip(order, (found[1], found[3], found[4]), strict=True))
    return _made(parts["y"], int(parts["m"]), parts["d"], found.groups()[4:])


def _named(text: str) -> np.datetime64 | None:
    found = _NAMED.fullmatch(text)
    assert found
    month = _month(found[2] or found[3])
    assert month
    return _made(found[5], month, found[1] or found[4], found.groups()[5:])


def _made(year: str, month: int, day: str, time: Sequence[str | None]) -> np.datetime64 | None:
    hour, minute, second, fraction, half = time
    of_day = int(hour or 0)
    if half:
        if not 1 <= of_day <= 12:
            return None
        of_day = of_day % 12 + 12 * (half.lower() == "pm")
    # Two digits mean 1969 to 2068, as in POSIX.
    full = int(year) if len(year) > 2 else int(year) + (2000 if int(year) < 69 else 1900)
    try:
        at = datetime(full, month, int(day), of_day, int(minute or 0), int(second or 0))
    except ValueError:
        return None
    return np.datetime64(at + timedelta(seconds=float(f"0.{fraction or 0}")), "us")

"""Parses dates in ISO 8601, as databases and programs write them."""

import re
from datetime import UTC, datetime

import numpy as np

EXAMPLE = "date such as 2024-01-31 or 2024-01-31T09:30:00"

_ISO = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?( ?(Z|UTC|[+-]\d\d(:?\d\d)?))?)?", re.ASCII
)


def parse(values: np.ndarray, missing: frozenset[str]) -> tuple[np.ndarray, int | None]:
    """Parse texts [N] → datetime64[us] [N] in UTC, and the row of the first text that is not a date, or None.

    Parsing stops at such a row. Texts in `missing`, in any case, become NaT.
    """
    known: dict[str, np.datetime64] = {}
    nothing = np.datetime64("NaT", "us")
    dates = np.full(len(values), nothing)
    for row, text in enumerate(values.tolist()):
        date = known.get(text)
        if date is None:
            parsed = nothing if text.lower() in missing else _parse(text)
            if parsed is None:
                return dates, row
            date = known[text] = parsed
        dates[row] = date
    return dates, None


def _parse(text: str) -> np.datetime64 | None:
    if not _ISO.fullmatch(text):
        return None
    try:
        time = datetime.fromisoformat(
            text.replace(" UTC", "Z").replace(" +", "+").replace(" -", "-").replace(" Z", "Z")
        )
        if time.tzinfo is not None:
            time = time.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None
    return np.datetime64(time, "us")

"""Numbers as people read them, on the pages and in sentences."""

import math
from decimal import Decimal


def number(value: float | None, form: str) -> str:
    """Format a number.

    Zero is `0`, whatever the form, and so is what rounds to it; but a share that is not zero keeps one digit
    (`0.004%`), and a whole one is `100%`. There are no exponents. What is missing is a dash.

    Args:
        form: Python's format specification.
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if form.endswith("%"):
        if value == 1:
            return "100%"
        text = format(value, form)
        if value and not _digits(text):
            text = f"{Decimal(format(100 * value, '.0e')):f}%"
    else:
        text = format(value, form)
    if not _digits(text):
        return "0"
    if "e" in text:
        text = format(Decimal(text), "f")
    return text.replace("-", "−")


def _digits(text: str) -> bool:
    return any(digit in text for digit in "123456789")

"""Numbers as people read them."""

import math

import pytest

from subset_trainer.readable import number


@pytest.mark.parametrize("form", [".1%", ".0%", ".2f", "+.2f", ".4g", ",", ",.4f", ".3e"])
def test_zero_is_0(form: str) -> None:
    assert number(0 if form == "," else 0.0, form) == number(-0.0 if form != "," else 0, form) == "0"


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (-0.001, ".2f", "0"),
        (-0.57, ".2f", "−0.57"),
        (0.5, "+.2f", "+0.50"),
        (0.0004, ".1%", "0.04%"),
        (0.0000031, ".1%", "0.0003%"),
        (-0.0004, ".1%", "−0.04%"),
        (1.0, ".1%", "100%"),
        (0.643, ".1%", "64.3%"),
        (1e-5, ".3g", "0.00001"),
        (1234567, ",", "1,234,567"),
        (None, ".1%", "–"),
        (math.nan, ",.4f", "–"),
        (-math.inf, ",.4f", "−∞"),
    ],
)
def test_numbers_have_no_exponent_and_a_true_minus(value: float | None, form: str, text: str) -> None:
    assert number(value, form) == text

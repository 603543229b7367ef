"""Other hostile inputs in every run, for as many minutes as SOAK_MINUTES says, shared by all readers."""

import os
import random
import time

import pytest

from tests.fuzzing import PROPERTIES

MINUTES = float(os.environ.get("SOAK_MINUTES") or 0)
AT_ONCE = 100
"""Inputs between two looks at the clock."""


@pytest.mark.skipif(
    "SOAK_MINUTES" not in os.environ, reason="`make soak` fuzzes on; unit/test_fuzz.py begins"
)
@pytest.mark.timeout(600 + 60 * MINUTES)
@pytest.mark.parametrize("reader", PROPERTIES)
def test_what_is_read_is_read_or_refused_with_our_errors(reader: str) -> None:
    """A failure prints the smallest input that it has found, and the seed that leads to it."""
    end = time.monotonic() + 60 * MINUTES / len(PROPERTIES)
    tried = 0
    seeds = random.SystemRandom()
    while tried == 0 or time.monotonic() < end:
        start = seeds.randrange(1 << 32)
        print(f"{reader}: {tried} inputs, and {AT_ONCE} more from seed {start}")
        PROPERTIES[reader].run(AT_ONCE, start)
        tried += AT_ONCE
    print(f"{reader}: {tried} inputs in its share of {MINUTES:g} minutes")

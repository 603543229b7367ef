"""Other hostile inputs in every run, for as many minutes as SOAK_MINUTES says, shared by all readers."""

import os
import random
import time

import pytest

from tests.fuzzing import PROPERTIES

MINUTES = float(os.environ.get("SOAK_MINUTES") or 2)
AT_ONCE = 100
"""Inputs between two looks at the clock."""
AT_MOST = 2000
"""Inputs of a reader where SOAK_MINUTES is not given."""


@pytest.mark.timeout(600 + 60 * MINUTES)
@pytest.mark.parametrize("reader", PROPERTIES)
def test_what_is_read_is_read_or_refused_with_our_errors(reader: str) -> None:
    """A failure prints the smallest input that it has found, and the seed that leads to it."""
    end = time.monotonic() + 60 * MINUTES / len(PROPERTIES)
    tried = 0
    # `make test` shall not fail for what nobody has changed: the same every time, and no more on a faster machine.
    wild = "SOAK_MINUTES" in os.environ
    seeds = random.SystemRandom() if wild else random.Random(0)
    while tried == 0 or (time.monotonic() < end and (wild or tried < AT_MOST)):
        start = seeds.randrange(1 << 32)
        print(f"{reader}: {tried} inputs, and {AT_ONCE} more from seed {start}")
        PROPERTIES[reader].run(AT_ONCE, start)
        tried += AT_ONCE
    print(f"{reader}: {tried} inputs in its share of {MINUTES:g} minutes")

"""A few hundred hostile inputs for each reader, the same ones every time.

tests/soak/test_fuzz.py tries others, for longer.
"""

import pytest

from tests.fuzzing import PROPERTIES


@pytest.mark.parametrize("reader", PROPERTIES)
def test_what_is_read_is_read_or_refused_with_our_errors(reader: str) -> None:
    PROPERTIES[reader].run(start=0)

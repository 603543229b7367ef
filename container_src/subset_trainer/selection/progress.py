"""A line in the log now and then, where a choice takes minutes."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
SECONDS = 30.0

logger = logging.getLogger(__name__)


def with_progress(steps: Iterable[Item], count: int) -> Iterator[Item]:
    """The steps of a choice, ``count`` of them; says every half minute how many are done."""
    last_said = time.monotonic()
    for done, step in enumerate(steps):
        if time.monotonic() - last_said >= SECONDS:
            last_said = time.monotonic()
            logger.info("selection: %d of %d", done, count)
        yield step

"""A line in the log now and then, where a choice or the like takes minutes."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
SECONDS = 30.0

logger = logging.getLogger(__name__)


def with_progress(steps: Iterable[Item], count: int, what: str = "selection") -> Iterator[Item]:
    """The steps of a choice, ``count`` of them; says every half minute how many are done, and of what."""
    last_said = time.monotonic()
    for done, step in enumerate(steps):
        if time.monotonic() - last_said >= SECONDS:
            last_said = time.monotonic()
            logger.info("%s: %d of %d", what, done, count)
        yield step

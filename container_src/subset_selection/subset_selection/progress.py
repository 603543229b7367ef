"""Progress lines in the log, for computations that take minutes."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
SECONDS = 30.0

logger = logging.getLogger(__name__)


def with_progress(steps: Iterable[Item], count: int, what: str = "selection") -> Iterator[Item]:
    """Iterate over ``count`` steps of ``what``, and log every half minute how many are done."""
    last_said = time.monotonic()
    for done, step in enumerate(steps):
        if time.monotonic() - last_said >= SECONDS:
            last_said = time.monotonic()
            logger.info("%s: %d of %d", what, done, count)
        yield step

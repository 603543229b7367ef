"""Progress of computations that take minutes: a bar of tqdm in a terminal or notebook that has it, else lines in the
log.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

Item = TypeVar("Item")
SECONDS = 30.0
"""Time between two lines in the log."""
BAR_SECONDS = 2.0
"""Time after which a bar appears."""

logger = logging.getLogger(__name__)


def with_progress(
    steps: Iterable[Item],
    count: int,
    what: str = "selection",
    size: Callable[[Item], int] = lambda step: 1,
) -> Iterator[Item]:
    """Iterate over the steps of ``what``, and report how many are done.

    Args:
        steps: what to iterate over.
        count: the sum of their sizes.
        what: the computation, in words.
        size: how much of the count a step is, called after the step.
    """
    begun = last_said = time.monotonic()
    bar: Any = None
    done = 0
    bars = _bars()
    try:
        for step in steps:
            now = time.monotonic()
            if bars is not None and bar is None and now - begun >= BAR_SECONDS:
                bar = bars(total=count, desc=what, initial=done, leave=False)
            elif bars is None and now - last_said >= SECONDS:
                last_said = now
                logger.info("%s: %d of %d", what, done, count)
            yield step
            done += size(step)
            if bar is not None:
                bar.update(size(step))
    finally:
        if bar is not None:
            bar.close()


def _bars() -> Callable[..., Any] | None:
    """tqdm's bar, where somebody sees it."""
    watched = "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())
    if not watched or find_spec("tqdm") is None:
        return None
    bars: Callable[..., Any] = import_module("tqdm.auto").tqdm
    return bars

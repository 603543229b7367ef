"""How long each stage of a run took, and whether SIGTERM has ended one."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from subset_trainer.training.interruption import Terminated

logger = logging.getLogger(__name__)


class Stages:
    """The clock of a run, which starts when this is made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._seconds: dict[str, float] = {}
        self.stopped = False
        """Whether SIGTERM has ended a stage: what is left of the run is to save what there is."""

    @contextmanager
    def stage(self, name: str, when_stopped: Callable[[], str] | None = None) -> Iterator[None]:
        """Count a stage's seconds.

        Args:
            when_stopped: a stage after which there is something to save: SIGTERM ends it and not the run, and the log
                gets this sentence. None: SIGTERM ends the run.
        """
        start = time.perf_counter()
        try:
            yield
        except Terminated:
            if when_stopped is None:
                raise
            self.stopped = True
            logger.info("SIGTERM received%s", when_stopped())
        finally:
            self._seconds[name] = time.perf_counter() - start

    def seconds(self, name: str) -> float:
        """Of a stage; 0 where there was none."""
        return self._seconds.get(name, 0.0)

    def total(self) -> float:
        """Since the run's start."""
        return time.perf_counter() - self._start

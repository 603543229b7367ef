"""Measures the time of each stage of a run, and records whether SIGTERM ended one."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from subset_trainer.training.interruption import Interruption, Terminated

logger = logging.getLogger(__name__)


class Stages:
    """The clock of a run. It starts when the object is created.

    Args:
        interruption: after the first stage that SIGTERM only ends, it ends such stages alone, and never the saving of
            results between and after them.
    """

    def __init__(self, interruption: Interruption) -> None:
        self._interruption = interruption
        self._start = time.perf_counter()
        self._seconds: dict[str, float] = {}
        self.stopped = False
        """Whether SIGTERM has ended a stage. The run then only saves its results."""

    @contextmanager
    def stage(self, name: str, when_stopped: Callable[[], str] | None = None) -> Iterator[None]:
        """Measure the time of a stage.

        Args:
            name: the stage's name.
            when_stopped: makes the end of the log line about SIGTERM. If given, SIGTERM ends only the stage, because
                there are results to save. None: SIGTERM ends the run.

        Raises:
            Terminated: SIGTERM arrived, and `when_stopped` is None.
        """
        start = time.perf_counter()
        try:
            if when_stopped is None:
                yield
            else:
                with self._interruption.stoppable():
                    yield
                self._interruption.keep()
        except Terminated:
            if when_stopped is None:
                raise
            self.stopped = True
            logger.info("SIGTERM received%s", when_stopped())
        finally:
            self._seconds[name] = time.perf_counter() - start

    def seconds(self, name: str) -> float:
        """The seconds of a stage; 0 if it did not run."""
        return self._seconds.get(name, 0.0)

    def total(self) -> float:
        """The seconds since the start of the run."""
        return time.perf_counter() - self._start

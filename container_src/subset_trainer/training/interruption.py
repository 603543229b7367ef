"""SIGTERM, raised as an exception at a moment when nothing is left half done."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN_SECONDS = 0.05


class Terminated(BaseException):
    """The platform asked the job to stop. Not an Exception, so that no handler of failures takes it for one."""


class Interruption:
    """Raises :class:`Terminated` in the main thread as soon as SIGTERM arrives, or at the end of what is deferred.

    Loading data and selecting a subset can be abandoned anywhere. A training step or the writing of a file can not:
    those run within ``deferred()``.
    """

    def __init__(self) -> None:
        self.requested = False
        """Whether SIGTERM has arrived."""
        self._delivered = False
        self._depth = 0

    def install(self) -> None:
        signal.signal(signal.SIGTERM, self._handle)
        sys.unraisablehook = self._swallowed
        # The image starts the program with SIGTERM blocked, so that it waits for this.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def ignore(self) -> None:
        """Ignore SIGTERM from now on: only the end of the process is left."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _swallowed(self, event: "sys.UnraisableHookArgs") -> None:
        """Python ignores what is raised while an object is removed: then raise the exception again, a moment later."""
        if event.exc_type is not Terminated:
            sys.__unraisablehook__(event)
            return
        self._delivered = False
        again = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGTERM))
        again.daemon = True
        again.start()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._deliver()

    def _deliver(self) -> None:
        # Once only: what runs after it is the saving of results, which a second SIGTERM must not disturb.
        if self.requested and not self._delivered and self._depth == 0:
            self._delivered = True
            raise Terminated

    def hold(self) -> None:
        """From now on raise only within ``abandonable()``, and set ``requested``: for processes that must stop
        together, at a place that they agree on."""
        self._depth += 1

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """A stretch that runs to its end; a signal that arrived meanwhile is raised there."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        self._deliver()

    @contextmanager
    def abandonable(self) -> Iterator[None]:
        """A stretch that can be left anywhere, also while the interruption is on hold."""
        depth, self._depth = self._depth, 0
        try:
            self._deliver()
            yield
        finally:
            self._depth = depth

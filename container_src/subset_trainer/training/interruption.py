"""Raises SIGTERM as an exception at a point where no work is left incomplete."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN_SECONDS = 0.05


class Terminated(BaseException):
    """The platform requested the job to stop. It is not an Exception, so that error handlers do not catch it."""


class Interruption:
    """Raises :class:`Terminated` in the main thread when SIGTERM arrives, or at the end of a deferred section.

    Loading data and selecting a subset can be abandoned at any point. A training step and the writing of a file cannot,
    so they run within ``deferred()``.
    """

    def __init__(self) -> None:
        self.requested = False
        """Whether SIGTERM has arrived."""
        self._delivered = False
        self._depth = 0
        self._several = self._kept = False

    def install(self) -> None:
        """Handle SIGTERM from now on."""
        signal.signal(signal.SIGTERM, self._handle)
        sys.unraisablehook = self._swallowed
        # The image starts the program with SIGTERM blocked, so that no signal is lost before this point.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def ignore(self) -> None:
        """Ignore SIGTERM from now on, because the process is about to end."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _swallowed(self, event: "sys.UnraisableHookArgs") -> None:
        """Send SIGTERM again if Python ignored the exception, as it does while it deletes an object."""
        if event.exc_type is not Terminated:
            sys.__unraisablehook__(event)
            return
        self._delivered = False
        _send_again()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        # The modules of C++ libraries end the process where an exception comes up while they are imported.
        if self._depth == 0 and _is_importing(frame):
            _send_again()
        else:
            self._deliver()

    def _deliver(self) -> None:
        # Only once, because a second SIGTERM must not interrupt the saving of results that follows the first.
        if self.requested and not self._delivered and self._depth == 0:
            self._delivered = True
            raise Terminated

    def hold(self) -> None:
        """From now on raise only within ``abandonable()``, and otherwise only set ``requested``.

        This is for several processes, which must stop together at an agreed point.
        """
        self._several = True
        self._depth += 1

    def keep(self) -> None:
        """From now on there are results to save: raise only within ``stoppable()`` and ``abandonable()``."""
        if not self._kept:
            self._kept = True
            self._depth += 1

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """A section that SIGTERM ends after ``keep()``, too, also one that came before it.

        Several processes end theirs at points that they agree on.
        """
        if self._several:
            yield
            return
        depth, self._depth = self._depth, 0
        try:
            if self.requested and not self._delivered:
                _send_again()  # not raised here, where the section could not be left
            yield
        finally:
            self._depth = depth

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """A section that always runs to its end. A signal that arrives within it is raised at the end."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        self._deliver()

    @contextmanager
    def abandonable(self) -> Iterator[None]:
        """A section that can be abandoned at any point, even after ``hold()``."""
        depth, self._depth = self._depth, 0
        try:
            self._deliver()
            yield
        finally:
            self._depth = depth


def _send_again() -> None:
    """Send this process SIGTERM in a moment."""
    again = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGTERM))
    again.daemon = True
    again.start()


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False

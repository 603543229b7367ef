"""The base of all trackers. Each tracker sends a job's parameters and metrics from its own thread.

Errors of a tracker never stop training. The first failure is logged as one warning, and at the end the job waits a
bounded time for unsent data. Data that failed for a temporary reason is sent again with the next metrics.
"""

import importlib
import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from subset_trainer.errors import first_line

logger = logging.getLogger(__name__)
DRAIN_SECONDS = 10.0
LAST_ATTEMPTS = 3
"""The number of attempts to send the remaining data at the end."""
PAUSE = 0.5
Outcome = Literal["completed", "stopped", "failed"]


@dataclass(frozen=True)
class Metric:
    name: str
    value: float
    step: int
    time: datetime


@dataclass
class Backlog:
    """Data that has not been sent yet."""

    parameters: dict[str, Any] = field(default_factory=dict)
    metrics: list[Metric] = field(default_factory=list)
    outcome: Outcome | None = None

    def add(self, other: "Backlog") -> None:
        self.parameters.update(other.parameters)
        self.metrics.extend(other.metrics)
        self.outcome = other.outcome or self.outcome


class Sender(Protocol):
    """Sends data to one tracker. It is used only in the tracker's thread."""

    def send(self, backlog: Backlog) -> None:
        """Send the backlog, and remove sent data from it, so that after an error only the rest is sent again."""

    def passing(self, error: Exception) -> bool:
        """Whether the error is temporary, so that another attempt may succeed."""


class Background:
    """A tracker. Does nothing where ``connect`` is None.

    Args:
        label: the tracker's name in the log.
        connect: creates the sender, in the tracker's thread; None if there is no destination.
        imports: modules that are slow to import. They are imported here, before any time is measured.
    """

    def __init__(
        self, label: str, connect: Callable[[], Sender | None] | None, imports: Sequence[str] = ()
    ) -> None:
        self._label = label
        self._queue: queue.SimpleQueue[Backlog] = queue.SimpleQueue()
        self._complained = False
        self._thread: threading.Thread | None = None
        if connect is not None and self._imported(imports):
            # A daemon thread, so that a call that hangs does not keep the process alive.
            self._thread = threading.Thread(target=self._work, args=(connect,), name=label, daemon=True)
            self._thread.start()

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Send parameters: name → number or text. Parameters that are None are omitted."""
        self._put(Backlog(parameters={name: value for name, value in values.items() if value is not None}))

    def metrics(self, epoch: int, values: Mapping[str, float]) -> None:
        """Send the metrics of an epoch. The epoch is their step."""
        now = datetime.now(UTC)
        self._put(Backlog(metrics=[Metric(name, float(value), epoch, now) for name, value in values.items()]))

    def close(self, seconds: float = DRAIN_SECONDS, outcome: Outcome = "completed") -> None:
        """Wait until all is sent, at most for so long."""
        self.finish(outcome)
        self.wait(seconds)

    def finish(self, outcome: Outcome) -> None:
        """End the tracking: no more data follows."""
        self._put(Backlog(outcome=outcome))

    def wait(self, seconds: float) -> None:
        """After ``finish``: wait until all is sent, at most for so long."""
        if self._thread is None:
            return
        self._thread.join(seconds)
        if self._thread.is_alive():
            self.complain(f"not everything was sent within {seconds:.3g} s")

    def complain(self, reason: str) -> None:
        """Log the first failure of this tracker; later ones are not logged."""
        if not self._complained:
            self._complained = True
            logger.warning("%s: %s; training continues, and its metrics are in the log", self._label, reason)

    def _imported(self, names: Sequence[str]) -> bool:
        try:
            for name in names:
                importlib.import_module(name)
        except Exception as error:
            self.complain(reason(error))
            return False
        return True

    def _put(self, more: Backlog) -> None:
        if self._thread is not None:
            self._queue.put(more)

    def _work(self, connect: Callable[[], Sender | None]) -> None:
        try:
            sender = connect()
            if sender is not None:
                self._send_all(sender)
        except Exception as error:
            self.complain(reason(error))

    def _send_all(self, sender: Sender) -> None:
        backlog = Backlog()
        attempts = 0
        while attempts < LAST_ATTEMPTS:
            if backlog.outcome is None:
                self._gather(backlog)
            try:
                sender.send(backlog)
            except Exception as error:
                if not sender.passing(error):
                    raise
                self.complain(f"{reason(error)}; trying again")
                if backlog.outcome is not None:
                    attempts += 1
                    time.sleep(PAUSE)
            else:
                if backlog.outcome is not None:
                    return

    def _gather(self, backlog: Backlog) -> None:
        """Wait for something to send, and take all that is there."""
        backlog.add(self._queue.get())
        while not self._queue.empty():
            backlog.add(self._queue.get())


def reason(error: Exception) -> str:
    """The error's first line, without a password that an address may hold."""
    line = first_line(error)
    return re.sub(r"//[^/@\s]*@", "//", line)

"""What the trackers share: each sends a job's parameters and metrics from a thread of its own.

Whatever happens there, training goes on: what fails is said once in the log, and at the end the job waits a bounded
time for the rest. What failed for a passing reason is sent again with what comes next.
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
"""How often what is left at the end is tried."""
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
    """What is to be sent."""

    parameters: dict[str, Any] = field(default_factory=dict)
    metrics: list[Metric] = field(default_factory=list)
    outcome: Outcome | None = None

    def add(self, other: "Backlog") -> None:
        self.parameters.update(other.parameters)
        self.metrics.extend(other.metrics)
        self.outcome = other.outcome or self.outcome


class Sender(Protocol):
    """Runs in the tracker's thread only."""

    def send(self, backlog: Backlog) -> None:
        """Send, and take from the backlog what has gone, so that an error leaves the rest for the next time."""

    def passing(self, error: Exception) -> bool:
        """Whether trying again may help."""


class Background:
    """A tracker. Does nothing where ``connect`` is None.

    Args:
        label: what the log calls it.
        connect: makes the sender, in the tracker's thread; None where there is nothing to send to.
        imports: modules that take long to import: done here, where nothing is measured yet, and not beside training.
    """

    def __init__(
        self, label: str, connect: Callable[[], Sender | None] | None, imports: Sequence[str] = ()
    ) -> None:
        self._label = label
        self._news: queue.SimpleQueue[Backlog] = queue.SimpleQueue()
        self._complained = False
        self._thread: threading.Thread | None = None
        if connect is not None and self._imported(imports):
            # A daemon: a call that hangs does not keep the process.
            self._thread = threading.Thread(target=self._work, args=(connect,), name=label, daemon=True)
            self._thread.start()

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Name → number or text; what is None is left out."""
        self._put(Backlog(parameters={name: value for name, value in values.items() if value is not None}))

    def metrics(self, epoch: int, values: Mapping[str, float]) -> None:
        """The metrics of an epoch, which becomes their step."""
        now = datetime.now(UTC)
        self._put(Backlog(metrics=[Metric(name, float(value), epoch, now) for name, value in values.items()]))

    def close(self, seconds: float = DRAIN_SECONDS, outcome: Outcome = "completed") -> None:
        """Wait until all is sent, or so long."""
        self.finish(outcome)
        self.wait(seconds)

    def finish(self, outcome: Outcome) -> None:
        """There is nothing more to come."""
        self._put(Backlog(outcome=outcome))

    def wait(self, seconds: float) -> None:
        """After ``finish``: until all is sent, or so long."""
        if self._thread is None:
            return
        self._thread.join(seconds)
        if self._thread.is_alive():
            self.complain(f"not everything had been sent after {seconds:.3g} s")

    def complain(self, reason: str) -> None:
        """Say it in the log, if nothing has been said yet."""
        if not self._complained:
            self._complained = True
            logger.warning("%s: %s; training goes on, and its metrics are in the log", self._label, reason)

    def _imported(self, names: Sequence[str]) -> bool:
        try:
            for name in names:
                importlib.import_module(name)
        except Exception as error:
            self.complain(reason(error))
            return False
        return True

    def _put(self, news: Backlog) -> None:
        if self._thread is not None:
            self._news.put(news)

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
        """Wait for news, and take all that there are."""
        backlog.add(self._news.get())
        while not self._news.empty():
            backlog.add(self._news.get())


def reason(error: Exception) -> str:
    """The error's first line, without what an address may hold of a password."""
    line = first_line(error)
    return re.sub(r"//[^/@\s]*@", "//", line)

"""Which process of a run is silent. Each beats through the run's store, from a thread of its own, so that one that is
stopped is named while the others wait for it in a collective.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from torch.distributed import PrefixStore, Store, TCPStore

from subset_trainer.errors import PlatformError

logger = logging.getLogger(__name__)
BEAT_SECONDS = 2.0
SAID_SECONDS = 30.0
"""Seconds of silence after which a process is named in the log."""
LOST_SECONDS = 300.0
"""Seconds of silence after which the job ends: a machine may be short of memory or processors for minutes."""


class Heartbeat:
    """The beats of this process, and of the others as this one hears them.

    Args:
        rank: the number of this process.
        size: the number of processes.
        host: the name of this host.
        watches: whether this process listens to the others; a few of them suffice.
        end: ends this process, with the reason, from the heartbeat's thread.
    """

    def __init__(
        self, rank: int, size: int, host: str, watches: bool, end: Callable[[PlatformError], None]
    ) -> None:
        self._rank, self._size, self._host, self._watches, self._end = rank, size, host, watches, end
        self._heard: dict[int, tuple[int, float]] = {}
        self._said: set[int] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        if self._size > 1:
            self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        """Say that this process leaves, so that its silence counts no more."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(2 * BEAT_SECONDS)

    def _run(self) -> None:
        try:
            # A line of its own: the group's may wait for an answer while it holds a lock.
            address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            server = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=SAID_SECONDS))
            store = PrefixStore("heartbeat", server)
            store.set(f"host/{self._rank}", self._host)
            before = time.monotonic()
            while not self._over.wait(BEAT_SECONDS):
                store.add(f"beat/{self._rank}", 1)
                now = time.monotonic()
                if now - before > 5 * BEAT_SECONDS:
                    self._heard.clear()  # this process was stopped itself
                before = now
                if self._watches:
                    self._listen(store, now)
            store.set(f"left/{self._rank}", "")
        except RuntimeError as error:
            # The store is the launcher's on the first host. Its end is noticed by this host's launcher.
            logger.debug("the heartbeat has ended: %s", error)

    def _listen(self, store: Store, now: float) -> None:
        silent: dict[int, float] = {}
        for other in range(self._size):
            if other == self._rank or store.check([f"left/{other}"]):
                self._said.discard(other)
                continue
            beat = store.add(f"beat/{other}", 0)
            last, since = self._heard.get(other, (-1, now))
            self._heard[other] = (beat, since if beat == last else now)
            silent[other] = now - self._heard[other][1]
        # Of those that listen the first that lives speaks.
        speaks = all(silent.get(other, 0) > SAID_SECONDS for other in range(self._rank))
        for other, seconds in silent.items():
            if seconds > LOST_SECONDS:
                self._end(
                    PlatformError(
                        f"{self._name(store, other)} was silent for {LOST_SECONDS / 60:g} minutes: it is stopped or "
                        "hangs, or its host is overloaded"
                    )
                )
            elif seconds > SAID_SECONDS and other not in self._said:
                self._said.add(other)
                if speaks:
                    logger.warning(
                        "%s has been silent for %.0f seconds: it is stopped or hangs, and the others wait for it; the "
                        "job ends when %g minutes are over",
                        *(self._name(store, other), seconds, LOST_SECONDS / 60),
                    )
            elif seconds <= SAID_SECONDS and other in self._said:
                self._said.discard(other)
                if speaks:
                    logger.warning("%s answers again", self._name(store, other))

    @staticmethod
    def _name(store: Store, rank: int) -> str:
        known = store.check([f"host/{rank}"])
        where = f", on {store.get(f'host/{rank}').decode()}," if known else ""
        return f"process {rank} of the training{where}"

"""Communication between the hosts of a job outside training: which hosts are present, and why one failed."""

import json
import logging
import socket
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from torch.distributed import TCPStore

from subset_trainer.errors import AlgorithmError, PlatformError, TrainingError, UserError

logger = logging.getLogger(__name__)
PORT = 29_400
"""The port of the store on the first host, which holds all reports. The launcher's rendezvous uses the next port."""
SILENT_SECONDS = 20
"""Seconds without a report after which a host counts as lost. Every host reports once per second."""
KINDS: dict[str, type[TrainingError]] = {
    kind.__name__: kind for kind in (UserError, AlgorithmError, PlatformError)
}


@dataclass(frozen=True)
class Reason:
    """The reason of a job's failure, in a form that can be sent to other hosts."""

    sentence: str
    kind: str
    bystander: bool = False
    """Whether the reason is only that another process was lost."""

    @classmethod
    def of(cls, error: TrainingError, bystander: bool = False) -> "Reason":
        kinds = (name for name, kind in KINDS.items() if isinstance(error, kind))
        return cls(str(error), next(kinds, AlgorithmError.__name__), bystander)

    def error(self) -> TrainingError:
        return KINDS[self.kind](self.sentence)

    def to_json(self) -> str:
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> "Reason":
        return cls(**json.loads(text))


class Hosts:
    """The hosts of a job, including this one.

    Args:
        names: the names of all hosts, in the same order on every host.
        own: the name of this host.
        minutes: the maximum time to wait for the others.
    """

    def __init__(self, names: tuple[str, ...], own: str, minutes: float) -> None:
        self.names = names
        self.own = own
        self._minutes = minutes
        self._deadline = time.monotonic() + 60 * minutes
        self._store: TCPStore | None = None
        self._beats: dict[str, tuple[int, float]] = {}
        self._lost: set[str] = set()

    def meet(self, facts: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Wait for all hosts, and return the facts that each reports about itself, by name.

        Raises:
            PlatformError: some hosts did not connect in time. The message names them.
        """
        first = self.names[0]
        if self.own != first:
            self._wait_for_first(first)
        self._store = TCPStore(
            first,
            PORT,
            is_master=self.own == first,
            wait_for_workers=False,
            timeout=timedelta(seconds=max(1.0, self._deadline - time.monotonic())),
        )
        self._store.set(f"here/{self.own}", json.dumps(facts))
        said = time.monotonic()
        while missing := [name for name in self.names if not self._store.check([f"here/{name}"])]:
            now = time.monotonic()
            if now > self._deadline:
                raise PlatformError(
                    f"{len(missing)} of {len(self.names)} hosts did not come within {self._minutes:g} minutes: "
                    f"{', '.join(missing)} (see host_wait_minutes)"
                )
            if now - said > 30:
                said = now
                logger.info("waiting for %s", ", ".join(missing))
            time.sleep(0.2)
        return {name: json.loads(self._store.get(f"here/{name}")) for name in self.names}

    def _wait_for_first(self, first: str) -> None:
        problem = "no answer"
        while time.monotonic() < self._deadline:
            try:
                socket.create_connection((first, PORT), timeout=5).close()
                return
            except OSError as error:
                problem = str(error)
            time.sleep(0.5)
        raise PlatformError(
            f"host {first} did not come within {self._minutes:g} minutes ({problem}, port {PORT}; see "
            "host_wait_minutes)"
        )

    def tell(self, reason: Reason) -> None:
        """Report the reason of the failure to all hosts. The first reason is kept, unless it is a bystander's."""
        if self._store is None:
            return
        try:
            if reason.bystander:
                self._store.set(f"bystander/{self.own}", reason.to_json())
            else:
                self._store.compare_set("failure", "", reason.to_json())
        except RuntimeError as error:
            logger.debug("the reason could not be reported to the hosts: %s", error)

    def heard(self) -> Reason | None:
        """The reason of the job's failure, if another host has reported one or is lost; otherwise None.

        Call this every second, because it also reports that this host is alive.
        """
        if self._store is None:
            return None
        try:
            self._store.add(f"beat/{self.own}", 1)
            if self._store.check(["failure"]):
                return Reason.from_json(self._store.get("failure"))
            return self._silent()
        except RuntimeError:
            return Reason.of(PlatformError(f"host {self.names[0]} no longer answers"), bystander=True)

    def _silent(self) -> Reason | None:
        assert self._store is not None
        now = time.monotonic()
        for name in self.names:
            if name == self.own or self._store.check([f"left/{name}"]):
                continue
            beat = self._store.add(f"beat/{name}", 0)
            last, since = self._beats.get(name, (-1, now))
            self._beats[name] = (beat, since if beat == last else now)
            if now - self._beats[name][1] > SILENT_SECONDS:
                self._lost.add(name)
                return Reason.of(PlatformError(f"host {name} no longer answers: it was stopped or lost"))
        return None

    def alone(self) -> bool:
        """Whether all others have left."""
        assert self._store is not None
        return self._store.check([f"left/{name}" for name in self.names if name != self.own])

    def leave(self) -> None:
        """Report that this host leaves. The first host holds the store, so it waits until the others have left."""
        if self._store is None:
            return
        try:
            self._store.set(f"left/{self.own}", "")
            others = [
                f"left/{name}"
                for name in self.names
                if name not in (self.own, *self._lost) and self._store.check([f"here/{name}"])
            ]
            until = time.monotonic() + SILENT_SECONDS
            while self.own == self.names[0] and not self._store.check(others) and time.monotonic() < until:
                time.sleep(0.1)
        except RuntimeError as error:
            logger.debug("the first host is gone: %s", error)

"""The interface of the backends that run a plan's cells (this machine, containers, SageMaker), and shared functions."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from deploy.grid.agenda import Agenda
from deploy.grid.plan import Cell
from deploy.results.compare import Lost, Run

LONGEST_NAME = 29
"""Longest beginning of a job's name that leaves room for the cell's own part."""
Ended = tuple[Cell, Run | Lost]
"""A cell and its result."""


class Backend(Protocol):
    """Runs cells."""

    def run(self, agenda: Agenda) -> Iterator[Ended]:
        """Yield each cell as it ends.

        The next cells are taken from the agenda when there is room for them. So what a caller records of a cell that
        ended decides what runs next.
        """


def work(backend: Backend, agenda: Agenda, after: Callable[[Cell, Run | Lost], None] | None = None) -> None:
    """Run what the agenda needs, recording each result. `after`: called with each cell that ended and its result."""
    for cell, outcome in backend.run(agenda):
        agenda.record(cell, outcome)
        if after is not None:
            after(cell, outcome)


@contextmanager
def resumable(agenda: Agenda) -> Iterator[None]:
    """Let an interruption say what is there, and that the same command resumes."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        count, most = len(agenda.outcomes), len(agenda.outcomes) + len(agenda.possible())
        finished = f"{count} of up to {most} runs {'is' if count == 1 else 'are'} finished"
        raise KeyboardInterrupt(f"{finished}; the same command resumes where this one stopped") from stopped


def digest(values: Mapping[str, Any], image_uri: str, channels: Mapping[str, str]) -> str:
    """Return a digest of everything that determines a run's result, so that a later call finds the result.

    Args:
        values: hyperparameters.
        image_uri: the image's URI.
        channels: name → URI.
    """
    decisive = {
        "image": image_uri,
        "channels": dict(channels),
        "values": {name: str(value) for name, value in values.items()},
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:8]


def job_name(cell: Cell) -> str:
    """Return the cell's name with letters, digits and single hyphens only, as job names require."""
    return "-".join(
        filter(None, "".join(c if c.isascii() and c.isalnum() else "-" for c in cell.name).split("-"))
    )

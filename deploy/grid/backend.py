"""The interface of the backends that run a plan's cells (this machine, containers, SageMaker), and shared functions."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from deploy.grid.plan import Cell
from deploy.results.compare import Lost, Run

LONGEST_NAME = 29
"""Longest beginning of a job's name that leaves room for the cell's own part."""
Ended = tuple[Cell, Run | Lost]
"""A cell and its result."""


class Backend(Protocol):
    """Runs cells."""

    def run(self, cells: Sequence[Cell]) -> Iterator[Ended]:
        """Yield each cell as it ends. A backend that keeps results yields cells with earlier results first."""


def collect(ended: Iterable[Ended], cells: Sequence[Cell]) -> tuple[list[Run], list[Lost]]:
    """Wait for all cells; return the runs, and the cells without results with the reason, each in the plan's order."""
    outcomes = dict(ended)
    found = [outcomes[cell] for cell in cells]
    return [one for one in found if isinstance(one, Run)], [one for one in found if isinstance(one, Lost)]


def digest(cell: Cell, image_uri: str, channels: Mapping[str, str]) -> str:
    """Return a digest of everything that determines a cell's result, so that a later call finds the result."""
    decisive = {
        "image": image_uri,
        "channels": dict(channels),
        "values": {name: str(value) for name, value in cell.values.items()},
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:8]


def job_name(cell: Cell) -> str:
    """Return the cell's name with letters, digits and single hyphens only, as job names require."""
    return "-".join(
        filter(None, "".join(c if c.isascii() and c.isalnum() else "-" for c in cell.name).split("-"))
    )

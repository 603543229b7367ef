"""Where the cells of a plan run: on this machine, in containers, or on SageMaker; what all three have in common."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from deploy.grid.plan import Cell
from deploy.results.compare import Lost, Run

Ended = tuple[Cell, Run | Lost]
"""A cell, and what became of it."""


class Backend(Protocol):
    """Runs cells."""

    def run(self, cells: Sequence[Cell]) -> Iterator[Ended]:
        """Every cell when it has ended, in the order of that; a backend that keeps results gives those it has first."""


def collect(ended: Iterable[Ended], cells: Sequence[Cell]) -> tuple[list[Run], list[Lost]]:
    """Wait for all cells: the results of those that have some, and why the others have none, in the plan's order."""
    outcomes = dict(ended)
    found = [outcomes[cell] for cell in cells]
    return [one for one in found if isinstance(one, Run)], [one for one in found if isinstance(one, Lost)]


def digest(cell: Cell, image_uri: str, channels: Mapping[str, str]) -> str:
    """Of everything that decides a cell's result, so that a later call finds it."""
    decisive = {
        "image": image_uri,
        "channels": dict(channels),
        "values": {name: str(value) for name, value in cell.values.items()},
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:8]


def job_name(cell: Cell) -> str:
    """The cell's name where dots and the like have no place."""
    return "-".join(
        filter(None, "".join(c if c.isascii() and c.isalnum() else "-" for c in cell.name).split("-"))
    )

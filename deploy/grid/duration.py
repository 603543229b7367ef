"""Estimates how long the runs of a plan take, from a measured first step and from the runs that have ended."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deploy.grid.plan import Cell, passes
from deploy.results.compare import Lost, Run
from subset_trainer.config import hyperparameters


@dataclass(frozen=True)
class Pace:
    """What was measured before the first run."""

    start: float
    """Seconds of a run before its first step: the program's start and the reading of the data."""
    epoch: float
    """Seconds of an epoch on all of the data, with its evaluation."""

    def seconds(self, cell: Cell) -> float:
        """Return the estimated seconds of a cell, without what it needs for its selection."""
        return self.start + work(cell) * self.epoch


def work(cell: Cell) -> float:
    """Return the samples that a cell sees, in passes over all examples."""
    hp = hyperparameters.parse(cell.values)
    return passes(hp, hp.share if hp.spec.takes_fraction else 1.0)


def seconds_left(
    cells: Iterable[Cell], ended: Mapping[Cell, Run | Lost], pace: Pace | None = None
) -> float | None:
    """Return how long cells take one after another; None if nothing is known.

    A cell takes as long as those of its row and fraction that ended; else as long as others for the samples that it
    sees, with the time that its row needed for its selection where that is known.
    """
    known = {cell: run.summary["seconds"]["total"] for cell, run in ended.items() if isinstance(run, Run)}
    total = 0.0
    for cell in cells:
        alike = [s for k, s in known.items() if (k.row, k.fraction) == (cell.row, cell.fraction)]
        if alike:
            total += sum(alike) / len(alike)
            continue
        row = {k: s for k, s in known.items() if k.row == cell.row} or known
        if pace is not None:
            own = sum(row.values()) / sum(pace.seconds(k) for k in row) if row else 1.0
            total += own * pace.seconds(cell)
        elif row:
            total += sum(row.values()) / sum(map(work, row)) * work(cell)
        else:
            return None
    return total


def in_words(seconds: float) -> str:
    """`40 s`, `12 min` or `3 h 05 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"

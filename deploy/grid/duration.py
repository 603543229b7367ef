"""Estimates how long the runs of a plan take, from a measured first step and from the runs that have ended."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deploy.grid.plan import Cell, passes
from deploy.results.compare import Lost, Run
from subset_trainer.config import hyperparameters


@dataclass(frozen=True)
class Pace:
    """What was measured before the first run, in seconds."""

    boot: float
    """Start of the program, until it reads the data."""
    reading: float
    """Reading the data and building the model."""
    epoch: float
    """Training steps of an epoch on all of the data."""
    evaluation: float
    """Evaluation after an epoch."""

    def seconds(self, cell: Cell) -> float:
        """Return the estimated total time of a cell, without its start and what it needs for its selection."""
        epochs = hyperparameters.parse(cell.values).epochs
        return self.reading + work(cell) * self.epoch + epochs * self.evaluation


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
        total += pace.boot if pace is not None else 0.0
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

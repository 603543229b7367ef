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


def seconds(run: Run) -> float:
    """Return how long a run took, on SageMaker with the transfer of its data and results."""
    own = float(run.summary["seconds"]["total"])
    return own if run.job is None or run.job.seconds is None else max(own, run.job.seconds)


def dollars_a_second(ended: Mapping[Cell, Run | Lost], prices: Mapping[str, float]) -> float | None:
    """Return what a second of the runs that ended costs; None if it is not known.

    Args:
        ended: the results so far.
        prices: instance type → dollars an hour.
    """
    known = [run for run in ended.values() if isinstance(run, Run)]
    paid = [(cost, seconds(run)) for run in known if (cost := run.cost(prices)) is not None]
    return sum(cost for cost, _ in paid) / sum(took for _, took in paid) if paid else None


def seconds_left(
    cells: Iterable[Cell], ended: Mapping[Cell, Run | Lost], pace: Pace | None = None
) -> float | None:
    """Return how long cells take one after another; None if nothing is known.

    A cell takes as long as those of its row and fraction that ended; else as long as others for the samples that it
    sees, with the time that its row needed for its selection where that is known.
    """
    runs = {cell: run for cell, run in ended.items() if isinstance(run, Run)}
    known = {cell: run.summary["seconds"]["total"] for cell, run in runs.items()}
    beside = [seconds(run) - known[cell] for cell, run in runs.items()]
    start = pace.boot if pace is not None else sum(beside) / max(1, len(beside))
    total = 0.0
    for cell in cells:
        total += start
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

"""Carries out an agenda on any backend: says what is left, keeps the first answer's seeds, and settles the rest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from deploy.grid import studies
from deploy.grid.agenda import Agenda, judge
from deploy.grid.backend import Backend, work
from deploy.grid.duration import Pace, dollars_a_second, seconds, seconds_left
from deploy.grid.plan import Cell
from deploy.results import settling
from deploy.results.answers import answer
from deploy.results.compare import Lost, Run, money
from deploy.results.judging import LEAST_SEEDS
from deploy.text import runs
from subset_trainer.tracking.metrics import spoken_time


@dataclass(frozen=True)
class Course:
    """A comparison's agenda, and how it is carried out."""

    agenda: Agenda
    tolerance: float
    """Accepted loss, a share."""
    folder: Path
    """Folder whose `study.json` keeps the seeds of the first answer."""
    first_seeds: Sequence[int] | None
    """The seeds of the first answer; None where the planned ones are too few for one."""
    jobs: int = 1
    """Runs at a time."""
    pace: Pace | None = None
    """What was measured before the first run; None where the first run that ends is the measurement."""
    prices: Mapping[str, float] = field(default_factory=dict)
    """Instance type → dollars an hour; `local` for this machine."""
    say: Callable[[str], None] = print

    def run(
        self,
        backend: Backend,
        settle: bool = False,
        look_up: Callable[[Agenda], object] = lambda agenda: None,
    ) -> None:
        """Run what the answer needs; with `settle` also what would probably settle what is not yet known.

        Args:
            look_up: records results of an earlier call for cells that were added.
        """
        self._say(self._left())
        work(backend, self.agenda, self._ended)
        self._keep()
        if settle:
            further = settling_cells(self.agenda, self.tolerance, self.first_seeds)
            self.agenda.extend(further)
            look_up(self.agenda)
            said = f"to settle what is not yet known: {runs(len(further))}"
            self.say(said if further else "nothing is left to settle")
            self._say(self._left())
            work(backend, self.agenda, self._ended)
            self._keep()
        if spared := self.agenda.spared():
            self.say(
                f"{len(spared)} of {len(self.agenda.cells)} runs were not needed for the answer (--all runs them)"
            )

    def _keep(self) -> None:
        """Keep the seeds of the first answer: later ones, with more seeds, are judged more strictly."""
        seeds = sorted({cell.seed for cell in self.agenda.cells})
        if studies.first_seeds(self.folder) is None and len(seeds) >= LEAST_SEEDS:
            studies.keep(self.folder, studies.FIRST_SEEDS, seeds)

    def _ended(self, cell: Cell, outcome: Run | Lost) -> None:
        first = (
            isinstance(outcome, Run)
            and sum(isinstance(one, Run) for one in self.agenda.outcomes.values()) == 1
        )
        line = self._left()
        if isinstance(outcome, Run) and self.jobs > 1:
            line = "; ".join(filter(None, (f"{cell.name}: {spoken_time(seconds(outcome))}", line)))
        if first and self.pace is None and line is not None:
            every = [*self.agenda.needed(), cell]
            line += f"; these {len(every)} take {self._costs(seconds_left(every, self.agenda.outcomes) or 0.0)} in all"
        self._say(line)

    def _left(self) -> str | None:
        """Return how much is left, how long it takes and what it costs; None if nothing is left."""
        needed, possible = self.agenda.needed(), self.agenda.possible()
        if not needed:
            return None
        first, most = (seconds_left(cells, self.agenda.outcomes, self.pace) for cells in (needed, possible))
        if first is None or most is None:
            return f"left: {runs(len(needed))}"
        at_most = f", at most {len(possible)} in {self._costs(most)}" if len(possible) > len(needed) else ""
        return f"left: {runs(len(needed))}, about {self._costs(first)}{at_most}"

    def _costs(self, total: float) -> str:
        """Say what runs cost. total: their seconds, one after another."""
        rate = dollars_a_second(self.agenda.outcomes, self.prices)
        return spoken_time(total / self.jobs) + (f" and {money(rate * total)}" if rate is not None else "")

    def _say(self, line: str | None) -> None:
        if line:
            self.say(line)


def begun(cells: Sequence[Cell], tolerance: float, folder: Path, everything: bool = False) -> Course:
    """Return the course of a plan's cells, whose answers are judged as in `deploy.results.judging`.

    Args:
        cells: the plan's cells.
        tolerance: accepted loss, a share.
        folder: folder whose `study.json` keeps the seeds of the first answer, where an earlier call had one.
        everything: whether cells on which the answer does not depend are run, too.
    """
    seeds = sorted({cell.seed for cell in cells})
    first = studies.first_seeds(folder) or (seeds if len(seeds) >= LEAST_SEEDS else None)
    return Course(Agenda(cells, None if everything else judge(tolerance, first)), tolerance, folder, first)


def settling_cells(agenda: Agenda, tolerance: float, first_seeds: Sequence[int] | None = None) -> list[Cell]:
    """Return cells for the runs that would probably settle what the results leave open."""
    found = answer(agenda.results()[0], tolerance, first_seeds)
    if isinstance(found, str):
        return []
    planned = {cell.name: cell for cell in agenda.cells}
    cells = []
    for run in settling.runs(settling.settling(found)):
        like = planned[run.like]
        seed = str(run.seed)
        name = f"{like.name.removesuffix(f'-seed-{like.seed}')}-seed-{seed}"
        if name not in planned:
            cells.append(replace(like, name=name, seed=run.seed, values={**like.values, "seed": seed}))
    return cells


def announced(agenda: Agenda) -> list[str]:
    """Return what is said of a plan before anything runs, without what depends on its place."""
    seeds = {cell.seed for cell in agenda.cells}
    if agenda.settles_early and len(agenda.needed()) < len(agenda.possible()):
        return [
            f"{runs(len(agenda.needed()))} first; smaller fractions only where the larger one is enough (--all: all)"
        ]
    return [f"an answer in words takes {LEAST_SEEDS} seeds or more"] if len(seeds) < LEAST_SEEDS else []


def planned(agenda: Agenda) -> str:
    """Return the rows and seeds of a plan in words."""
    rows = dict.fromkeys(cell.row for cell in agenda.cells)
    seeds = dict.fromkeys(cell.seed for cell in agenda.cells)
    return f"{', '.join(rows)}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"

"""Which of a plan's cells run next, given the results so far: the one planner for every backend.

An answer judges each row (a strategy) from its largest fraction to its smallest, and stops at the first that is not
enough (`deploy.results.judging`). So a smaller fraction is trained only once the larger one is known to be enough, for
all seeds, and nothing is trained that cannot change the answer. A cell is judged once all of its seeds have ended:
a user who looks at each seed and stops when it suits finds 'enough' too often.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence

from deploy.grid.plan import Cell
from deploy.results.answers import answer
from deploy.results.compare import Lost, Run
from deploy.results.judging import LEAST_SEEDS, State
from subset_selection.catalogue import REFERENCE

Judge = Callable[[Sequence[Run]], Collection[str]]
"""Finished runs → the names of those whose strategy and fraction are enough."""


class Agenda:
    """The cells of a plan, and what came of them.

    Args:
        cells: the plan's cells, in the order in which they run where nothing else decides.
        judge: says which results are enough; None runs every cell.
    """

    def __init__(self, cells: Sequence[Cell], judge: Judge | None = None) -> None:
        self.cells: tuple[Cell, ...] = ()
        self.outcomes: dict[Cell, Run | Lost] = {}
        self._taken: set[Cell] = set()
        self._levels: dict[str, dict[float, list[Cell]]] = defaultdict(lambda: defaultdict(list))
        """Row → fraction → cells of all seeds, without the full runs."""
        self._full: list[Cell] = []
        self.extend(cells)
        self._judge = judge if len(self._full) >= LEAST_SEEDS else None

    def extend(self, cells: Sequence[Cell]) -> None:
        """Add cells, such as further seeds. A row and fraction with new cells is judged again once these have ended."""
        self.cells += tuple(cells)
        for cell in cells:
            full = cell.row == REFERENCE and cell.fraction == 1
            (self._full if full else self._levels[cell.row][cell.fraction]).append(cell)

    @property
    def settles_early(self) -> bool:
        """Whether cells are left out once the answer does not depend on them."""
        return self._judge is not None

    def take(self) -> Cell | None:
        """Return the next cell to run; None if none is needed, or none before an active one has ended."""
        needed = self.needed()
        cell = next((cell for cell in needed if cell not in self._taken), None)
        if cell is not None:
            self._taken.add(cell)
        return cell

    def record(self, cell: Cell, outcome: Run | Lost) -> None:
        """Record what came of a cell, also of one that was not taken because an earlier call ran it."""
        self._taken.add(cell)
        self.outcomes[cell] = outcome

    def needed(self) -> list[Cell]:
        """Return the cells without a result that the answer needs, as far as is known, in the plan's order."""
        open_cells = self._open()
        return [cell for cell in self.cells if cell in open_cells and cell not in self.outcomes]

    def possible(self) -> list[Cell]:
        """Return the cells without a result that the answer may come to need, in the plan's order."""
        open_cells = self._open(possible=True)
        return [cell for cell in self.cells if cell in open_cells and cell not in self.outcomes]

    def spared(self) -> list[Cell]:
        """Return the cells that ran in no call, because the answer does not depend on them any more."""
        possible = set(self.possible())
        return [cell for cell in self.cells if cell not in self.outcomes and cell not in possible]

    def count(self) -> str:
        """Return what stands before a line on the next cell that ends: `[4/30]`, its number of at most 30."""
        return f"[{len(self.outcomes) + 1}/{len(self.outcomes) + len(self.possible())}]"

    def results(self) -> tuple[list[Run], list[Lost]]:
        """Return the runs, and the cells without results with the reason, each in the plan's order."""
        found = [self.outcomes[cell] for cell in self.cells if cell in self.outcomes]
        return [one for one in found if isinstance(one, Run)], [one for one in found if isinstance(one, Lost)]

    def _open(self, possible: bool = False) -> set[Cell]:
        """Return the cells of each row down to the first fraction that is not enough, or whose seeds have not all
        ended; with `possible` also those below one that may still become enough."""
        if self._judge is None:
            return set(self.cells)
        known = [self.outcomes[cell] for cell in self.cells if cell in self.outcomes]
        enough = set(self._judge([run for run in known if isinstance(run, Run)])) if known else set()
        ended = all(cell in self.outcomes for cell in self._full)
        found = set(self._full)
        for levels in self._levels.values():
            for fraction in sorted(levels, reverse=True):
                found.update(levels[fraction])
                if not (ended and all(cell in self.outcomes for cell in levels[fraction])):
                    if not possible:
                        break
                elif not all(cell.name in enough for cell in levels[fraction]):
                    break
        return found


def judge(tolerance: float, first_seeds: Collection[int] | None = None) -> Judge:
    """Return the judge of a comparison, which judges as the answer in words does: `deploy.results.answers`.

    Args:
        tolerance: accepted loss, a share.
        first_seeds: the seeds of the first answer; see `deploy.results.judging.judge`. None: all seeds.
    """

    def enough(runs: Sequence[Run]) -> set[str]:
        found = answer(runs, tolerance, first_seeds)
        if isinstance(found, str):
            return set()
        pairs = zip(found.rows, found.judged, strict=True)
        return {
            run.name for row, judged in pairs if judged.state == State.ENOUGH for run in row.runs.values()
        }

    return enough

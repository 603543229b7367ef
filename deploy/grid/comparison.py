"""A comparison on this machine: from its data and its plan to the runs."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from deploy.grid import pace, program, studies
from deploy.grid.agenda import Agenda, judge
from deploy.grid.backend import resumable, work
from deploy.grid.duration import Pace, in_words, seconds_left
from deploy.grid.here import Here
from deploy.grid.plan import Cell
from deploy.results import folders, settling
from deploy.results.answers import answer
from deploy.results.compare import Lost, Run
from deploy.results.judging import LEAST_SEEDS
from subset_trainer.data.machine import cpu_count
from subset_trainer.errors import UserError


@dataclass(frozen=True)
class Wanted:
    """A comparison that is to be made."""

    channels: Mapping[str, Path]
    cells: Sequence[Cell]
    settings: Mapping[str, Any]
    """Hyperparameters that all runs share."""
    folder: Path
    """The study's folder or the one below which it lies."""
    below: bool
    """Whether the study always has a folder of its own below `folder`."""
    tolerance: float
    """Accepted loss, a share."""
    everything: bool = False
    """Whether runs on which the answer does not depend are run, too."""
    overwrite: bool = False
    """Whether earlier runs of this comparison are removed and run again."""
    jobs: int = 1
    """Runs at a time, which share the processors."""
    settle: bool = False
    """Whether the runs follow that would probably settle what is not yet known."""


def channels_of(data: Path) -> dict[str, Path]:
    """Return the channels in a folder or file: those below it, or itself as the training data.

    Raises UserError if there is nothing at the path.
    """
    from subset_trainer.data import inspecting  # the formats take a moment to import

    if not data.exists():
        raise UserError(f"there is no file or folder {str(data)!r}")
    return inspecting.channels_below(data)


def is_of_runs(path: Path) -> bool:
    """Whether a path is a folder of runs, or of studies, and not of data."""
    return path.is_dir() and folders.holds_runs(path)


def run(wanted: Wanted, say: Callable[[str], None] = print) -> tuple[Path, Agenda]:
    """Run what the answer needs and what earlier calls have not run; return the study's folder and the results.

    Raises UserError or AlgorithmError with the run's name if a run fails; finished runs are kept.
    """
    program.check_channels(wanted.channels)
    study = studies.study(wanted.channels, wanted.settings)
    _check_different(study)
    folder = wanted.folder / study.name if wanted.below else studies.place(wanted.folder, study)
    study.write(folder)
    here = Here(
        folder / studies.RUNS,
        wanted.channels,
        jobs=wanted.jobs,
        overwrite=wanted.overwrite,
        stop_at_failure=True,
        progress=True,
    )
    agenda = Agenda(wanted.cells, None if wanted.everything else judge(wanted.tolerance))
    known = here.look_up(agenda)
    for line in _announced(agenda, known, folder):
        say(line)
    with resumable(agenda):
        _work(here, folder, agenda, wanted, say)
    if spared := agenda.spared():
        say(
            f"the answer is settled: {len(spared)} of {len(agenda.cells)} runs were not needed (--all runs them)"
        )
    return folder, agenda


def _check_different(study: studies.Study) -> None:
    """Refuse to test or validate on what is trained on. Raises UserError with both channels."""
    training = study.data["training"]
    for name, channel in study.data.items():
        if name != "training" and channel["digest"] == training["digest"]:
            raise UserError(
                f"channel {name!r}: {channel['path']!r} holds the same files as the training data, "
                f"{training['path']!r}; expected other examples (without --{name} a part of the training data is set "
                "aside)"
            )


def _work(here: Here, folder: Path, agenda: Agenda, wanted: Wanted, say: Callable[[str], None]) -> None:
    """Run what the answer needs and, with `settle`, what would settle what it leaves open."""
    found = _pace(folder, wanted, agenda, say) if agenda.needed() else Kept()
    here = replace(here, threads=found.threads)

    def left(cell: Cell | None = None, outcome: Run | Lost | None = None) -> None:
        line = _left(agenda, found.pace, wanted.jobs)
        if cell is not None and isinstance(outcome, Run) and wanted.jobs > 1:
            line = "; ".join(filter(None, (f"{cell.name}: {outcome.seconds:.0f} s", line)))
        if line:
            say(line)

    left()
    work(here, agenda, left)
    if wanted.settle:
        further = settling_cells(agenda, wanted.tolerance)
        agenda.extend(further)
        here.look_up(agenda)
        say(
            f"to settle what is not yet known: {_runs(len(further))}"
            if further
            else "nothing is left to settle"
        )
        work(here, agenda, left)
        if further:
            studies.keep(folder, studies.FIRST_SEEDS, sorted({cell.seed for cell in wanted.cells}))


def settling_cells(agenda: Agenda, tolerance: float) -> list[Cell]:
    """Return cells for the runs that would probably settle what the results leave open."""
    found = answer(agenda.results()[0], tolerance)
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


@dataclass(frozen=True)
class Kept:
    """What a study keeps of its measured first steps."""

    pace: Pace | None = None
    threads: int | None = None


def _pace(folder: Path, wanted: Wanted, agenda: Agenda, say: Callable[[str], None]) -> Kept:
    """Return the measured pace: an earlier call's, whose threads the runs that go on keep; else a new one."""
    kept = (studies.read(folder) or {}).get("first_steps")
    if kept is not None:
        return Kept(Pace(**kept["pace"]), None if pace.GIVEN in os.environ else kept["threads"])
    largest = max(agenda.cells, key=lambda cell: cell.fraction)
    share = None if wanted.jobs == 1 else max(1, cpu_count() // wanted.jobs)
    measured = pace.measure(folder, wanted.channels, largest.values, share)
    if measured is None:
        return Kept()
    if line := str(measured):
        say(line)
    studies.keep(folder, "first_steps", {"pace": asdict(measured.pace), "threads": measured.threads})
    return Kept(measured.pace, measured.threads)


def _announced(agenda: Agenda, known: int, folder: Path) -> list[str]:
    rows = list(dict.fromkeys(cell.row for cell in agenda.cells))
    seeds = list(dict.fromkeys(cell.seed for cell in agenda.cells))
    lines = [
        f"up to {_runs(len(agenda.cells))} in {folder}: {', '.join(rows)}, "
        f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    ]
    if known:
        lines.append(
            f"{known} of {len(agenda.cells)} runs are finished and used again (--overwrite trains them again)"
        )
    if agenda.settles_early and len(agenda.needed()) < len(agenda.possible()):
        lines.append(
            f"{_runs(len(agenda.needed()))} first; smaller fractions only where the larger one is enough (--all: all)"
        )
    elif len(seeds) < LEAST_SEEDS:
        lines.append(f"an answer in words takes {LEAST_SEEDS} seeds or more")
    return lines


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def _left(agenda: Agenda, known: Pace | None, jobs: int) -> str | None:
    """Return how much is left, and how long it takes; None if nothing is."""
    needed, possible = agenda.needed(), agenda.possible()
    if not needed:
        return None
    first, most = (seconds_left(cells, agenda.outcomes, known) for cells in (needed, possible))
    if first is None or most is None:
        return f"left: {_runs(len(needed))}"
    at_most = f", at most {len(possible)} and {in_words(most / jobs)}" if len(possible) > len(needed) else ""
    return f"left: {_runs(len(needed))}, about {in_words(first / jobs)}{at_most}"

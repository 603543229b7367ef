"""A comparison on this machine: from its data and its plan to the runs."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from deploy.grid import pace, program, studies
from deploy.grid.agenda import Agenda
from deploy.grid.backend import resumable
from deploy.grid.course import announced, begun, planned
from deploy.grid.duration import Pace
from deploy.grid.here import Here
from deploy.grid.plan import Cell
from deploy.results import folders
from deploy.text import runs
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
    prices: Mapping[str, float] = field(default_factory=dict)
    """What an hour costs, in dollars: `local`."""


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
    course = begun(wanted.cells, wanted.tolerance, folder, wanted.everything)
    agenda = course.agenda
    known = here.look_up(agenda)
    say(f"up to {runs(len(agenda.cells))} in {folder}: {planned(agenda)}")
    if known:
        say(
            f"{known} of {len(agenda.cells)} runs are finished and used again (--overwrite trains them again)"
        )
    for line in announced(agenda):
        say(line)
    with resumable(agenda):
        found = _pace(folder, wanted, agenda, say) if agenda.needed() else Kept()
        here = replace(here, threads=found.threads)
        course = replace(course, jobs=wanted.jobs, pace=found.pace, prices=wanted.prices, say=say)
        course.run(here, wanted.settle, here.look_up)
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
    for line in filter(None, (str(measured), measured.hint)):
        say(line)
    studies.keep(folder, "first_steps", {"pace": asdict(measured.pace), "threads": measured.threads})
    return Kept(measured.pace, measured.threads)

"""Finds the runs in folders: of one run, of a study, or of several of either."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from deploy.aws import jobs
from deploy.grid import program, studies
from deploy.results import compare
from deploy.results.compare import Lost, Run
from subset_trainer.errors import UserError


def read(folders: Sequence[Path]) -> tuple[list[Run], list[Lost]]:
    """Return the runs in the folders, in their order, and the runs among them that have no results yet.

    A run is called by its folder. Where two have the same name, all are called by the folders above them, too.

    Args:
        folders: each a run's folder, or one with runs anywhere below it, such as a study's.

    Raises:
        UserError: there is no such folder, or it holds no run.
    """
    places: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"there is no folder {str(folder)!r}")
        found = [place for place in _runs(folder.resolve()) if place not in places]
        if not found:
            # The sentence on a single run says where its results were expected.
            compare.read_run(folder)
        places += found
    runs, lost = [], []
    for place, name in zip(places, _names(places), strict=True):
        if jobs.find(place, "summary.json") is None:
            lost.append(Lost(name, "it has no summary.json: it did not end, or is still running"))
        else:
            runs.append(replace(compare.read_run(place), name=name))
    if not runs and lost:
        raise UserError(f"none of the {len(lost)} runs has results, first {lost[0].name}: {lost[0].reason}")
    return runs, lost


def holds_runs(folder: Path) -> bool:
    """Whether a run lies in a folder or below it."""
    return next(_runs(folder.resolve()), None) is not None


def data_of(folders: Sequence[Path]) -> list[str]:
    """Return the training data, each once, of the studies that the folders belong to or hold."""
    found: dict[str, str] = {}
    for place in _studies(folders):
        # A sweep's data lie elsewhere.
        if training := (studies.read(place) or {}).get("data", {}).get("training"):
            found.setdefault(training["digest"], training["path"])
    return list(found.values())


def first_seeds(folders: Sequence[Path]) -> list[int] | None:
    """Return the seeds of the first answers of all studies in the folders that keep them; None if none does.

    Only seeds that all of these answers had are a first judgement of their runs together.
    """
    found = [set(seeds) for place in _studies(folders) if (seeds := studies.first_seeds(place)) is not None]
    return sorted(set.intersection(*found)) if found else None


def _studies(folders: Sequence[Path]) -> list[Path]:
    """Return the folders of the studies, each once, to which the runs in the folders belong."""
    found: dict[Path, None] = {}
    for folder in folders:
        for run in _runs(folder.resolve()):
            # Of a sweep in containers, runs lie in the study's own folder.
            found |= {
                place: None for place in (run.parent.parent, run.parent) if studies.read(place) is not None
            }
    return list(found)


def _runs(folder: Path) -> Iterator[Path]:
    """Yield the folders of runs at and below a folder, sorted. Nothing below a run is searched, and of a study only its
    own runs: below it there may be one of other settings."""
    if studies.read(folder) is not None and (folder / studies.RUNS).is_dir():
        folder /= studies.RUNS
    if jobs.find(folder, "summary.json") is not None or program.given(folder) is not None:
        yield folder
        return
    for below in sorted(folder.iterdir()) if folder.is_dir() else ():
        if below.is_dir() and not below.is_symlink() and not below.name.startswith("."):
            yield from _runs(below)


def _names(places: Sequence[Path]) -> list[str]:
    """Return a name for each folder: as few of the last parts of all as tell each from the others."""
    names = [place.name for place in places]
    for depth in range(2, max((len(place.parts) for place in places), default=0) + 1):
        if len(set(names)) == len(names):
            break
        # All of them alike, so that a table's rows can be told apart at a glance. What lies between is the same for all
        # runs of a study.
        names = [
            "/".join([*(part for part in place.parts[-depth:-1] if part != studies.RUNS), place.name])
            for place in places
        ]
    return names

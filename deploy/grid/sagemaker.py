"""The article's experiment on SageMaker: jobs on all of the data and on fractions of it, compared when they ended.

Every job is a Run of one SageMaker Experiment. A job's name says what it is and is made from everything that decides
its result, so that the same sweep started again finds the jobs that ran or run, and starts the others.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sagemaker.estimator import Estimator
from sagemaker.session import Session

from deploy.aws import jobs
from deploy.aws.jobs import Job
from deploy.results import compare, experiments
from subset_trainer import hyperparameters
from subset_trainer.errors import TrainingError, UserError

POLL_SECONDS = 30.0
NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,28}")


@dataclass(frozen=True)
class Cell:
    """One training of the sweep."""

    name: str
    values: Mapping[str, Any]
    """Hyperparameters."""


def plan(
    fractions: Sequence[float],
    strategies: Sequence[str],
    seeds: Sequence[int],
    settings: Mapping[str, Any],
    baselines: bool = True,
) -> list[Cell]:
    """The cells, seed by seed.

    Args:
        fractions: 1 is full data, for all the epochs.
        strategies: each at every fraction below 1.
        seeds: of the runs.
        settings: hyperparameters that all share.
        baselines: whether each fraction also has full data for as many epochs as make the same visits, and `rs2`.

    Raises:
        UserError: a hyperparameter is wrong.
    """
    epochs = hyperparameters.parse(settings).epochs
    cells = []
    for seed in seeds:
        for fraction in fractions:
            rows: dict[str, dict[str, Any]] = {}
            if fraction == 1:
                rows["full"] = {"strategy": "full"}
            else:
                for strategy in dict.fromkeys([*strategies, *(["rs2"] if baselines else [])]):
                    rows[f"{strategy}-{fraction:g}"] = {"strategy": strategy, "fraction": f"{fraction:g}"}
                if baselines:
                    short = {"strategy": "full", "epochs": str(max(1, round(epochs * fraction)))}
                    rows[f"full-at-{fraction:g}"] = short
            for name, own in rows.items():
                values = {**settings, **own, "seed": str(seed)}
                hyperparameters.parse(values)
                suffix = f"-seed-{seed}" if len(seeds) > 1 else ""
                cells.append(Cell(f"{name}{suffix}".replace(".", "-"), values))
    return cells


def digest(cell: Cell, image_uri: str, channels: Mapping[str, str]) -> str:
    """Of everything that decides a cell's result."""
    decisive = {
        "image": image_uri,
        "channels": dict(channels),
        "values": {name: str(value) for name, value in cell.values.items()},
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:8]


def check_name(name: str) -> None:
    """Raises UserError for what cannot begin a job's name."""
    if not NAME.fullmatch(name):
        raise UserError(f"the name {name!r}: expected up to 29 letters and digits, with hyphens between")


class Sweep:
    """Starts the cells' jobs, a few at a time, and follows them.

    Args:
        name: of the Experiment, and the beginning of every job's name.
        image_uri: of the image.
        make: hyperparameters, and a name that is the same in every attempt → an `Estimator` for them.
        channels: name → S3 URI.
        session: the SDK's.
        say: takes a line about what happens.
    """

    def __init__(
        self,
        name: str,
        image_uri: str,
        make: Callable[[Mapping[str, Any], str], Estimator],
        channels: Mapping[str, str],
        session: Session,
        say: Callable[[str], None] = print,
    ) -> None:
        check_name(name)
        self.name = name
        self._image_uri = image_uri
        self._make = make
        self._channels = dict(channels)
        self._session = session
        self._client = session.sagemaker_client
        self._say = say

    def run(self, cells: Sequence[Cell], parallel: int, poll: float = POLL_SECONDS) -> list[Job]:
        """Every cell's job when all have ended; those that ran before, or run, are not started again.

        Where this is interrupted, the jobs that were started run on, and the next call finds them.
        """
        waiting = list(cells)
        active: dict[str, Job] = {}
        ended: dict[str, Job] = {}
        while waiting or active:
            while waiting and len(active) < parallel:
                cell = waiting.pop(0)
                known = self._latest(cell)
                if known is None or known.status in jobs.ENDED[1:]:
                    known = self._start(cell, known)
                    self._say(f"{cell.name}: started as {known.name}")
                active[cell.name] = known
            before = len(ended)
            for name, job in list(active.items()):
                now = jobs.describe(self._client, job.name)
                if now.status in jobs.ENDED:
                    ended[name] = now
                    del active[name]
                    self._say(f"[{len(ended)}/{len(cells)}] {name}: {now}")
            if active and len(ended) == before:
                time.sleep(poll)
        return [ended[cell.name] for cell in cells]

    def _prefix(self, cell: Cell) -> str:
        own = digest(cell, self._image_uri, self._channels)
        return f"{f'{self.name}-{cell.name}'[:50].rstrip('-')}-{own}"

    def _latest(self, cell: Cell) -> Job | None:
        found = self._client.list_training_jobs(
            NameContains=self._prefix(cell), SortBy="CreationTime", SortOrder="Descending"
        )["TrainingJobSummaries"]
        return jobs.describe(self._client, found[0]["TrainingJobName"]) if found else None

    def _start(self, cell: Cell, failed: Job | None) -> Job:
        # Names cannot be used twice; what comes after the digest counts the attempts.
        attempt = 1 + int(failed.name.rpartition("-")[2]) if failed else 1
        name = f"{self._prefix(cell)}-{attempt}"
        with experiments.run_of_job(self.name, cell.name, name, self._session):
            self._make(cell.values, self._prefix(cell)).fit(self._channels, wait=False, job_name=name)
        return Job(name, "InProgress")


def run_here(
    cells: Sequence[Cell],
    image_uri: str,
    make: Callable[[Mapping[str, Any], Path], Estimator],
    channels: Mapping[str, str],
    folder: Path,
    say: Callable[[str], None] = print,
) -> tuple[list[compare.Run], list[compare.Lost]]:
    """The cells in local mode, one after the other; those that left results in `folder` before are not run again.

    Args:
        make: hyperparameters, and the folder of the results → an `Estimator` of local mode.
    """
    runs, lost = [], []
    for number, cell in enumerate(cells, 1):
        results = folder / f"{cell.name}-{digest(cell, image_uri, channels)}"
        say(f"[{number}/{len(cells)}] {cell.name}")
        try:
            if not (results / "summary.json").exists():
                job = make(cell.values, results)
                jobs.fit_here(job, channels, results)
            runs.append(replace(compare.read_run(results), name=cell.name))
        except TrainingError as error:
            say(f"{cell.name}: {error}")
            lost.append(compare.Lost(cell.name, str(error)))
    return runs, lost

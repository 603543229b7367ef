"""Runs cells as training jobs on SageMaker, each a Run of one Experiment.

A job's name contains the cell's name and a digest of everything that determines its result. So if the same plan is
started again, it finds the jobs that have ended or are running, and only starts the others.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagemaker.estimator import Estimator
from sagemaker.session import Session

from deploy.aws import jobs
from deploy.aws.jobs import Job
from deploy.aws.requests import check_name
from deploy.grid.agenda import Agenda
from deploy.grid.backend import LONGEST_NAME, Ended, digest
from deploy.grid.plan import Cell
from deploy.results import experiments

POLL_SECONDS = 30.0


@dataclass(frozen=True)
class SageMaker:
    """Starts the cells' jobs, a few at a time, and waits for them.

    Raises UserError if a job's name cannot begin with `name`.
    """

    name: str
    """Name of the Experiment, and prefix of the jobs' names."""
    image_uri: str
    make: Callable[[Mapping[str, Any], str], Estimator]
    """(hyperparameters, a name that is the same in every attempt) → an `Estimator`."""
    channels: Mapping[str, str]
    """Name → S3 URI."""
    session: Session
    folder: Path
    """Folder for the results; each job has its own subfolder."""
    parallel: int = 4
    """Number of jobs at a time."""
    poll: float = POLL_SECONDS
    """Seconds between two queries of the jobs."""
    say: Callable[[str], None] = print
    """Called with each progress message."""

    def __post_init__(self) -> None:
        check_name(self.name, LONGEST_NAME)

    def run(self, agenda: Agenda) -> Iterator[Ended]:
        """Yield each cell as its job ends. Jobs of an earlier call that completed or are running are not started again.

        On an interruption the started jobs keep running, and the next call finds them.
        """
        client = self.session.sagemaker_client
        active: dict[Cell, Job] = {}
        while True:
            while len(active) < self.parallel and (cell := agenda.take()) is not None:
                known = self._latest(cell)
                if known is None or known.status in jobs.ENDED[1:]:
                    known = self._start(cell, known)
                    self.say(f"{cell.name}: started as {known.name}")
                active[cell] = known
            if not active:
                return
            waiting = True
            for cell, job in list(active.items()):
                now = jobs.describe(client, job.name)
                if now.status in jobs.ENDED:
                    waiting = False
                    del active[cell]
                    self.say(f"{agenda.count()} {cell.name}: {now}")
                    yield cell, experiments.result(cell.name, now, self.session, self.folder)
            if active and waiting:
                time.sleep(self.poll)

    def _prefix(self, cell: Cell) -> str:
        own = digest(cell.values, self.image_uri, self.channels)
        return f"{f'{self.name}-{cell.name}'[:50].rstrip('-')}-{own}"

    def _latest(self, cell: Cell) -> Job | None:
        found = self.session.sagemaker_client.list_training_jobs(
            NameContains=self._prefix(cell), SortBy="CreationTime", SortOrder="Descending"
        )["TrainingJobSummaries"]
        return jobs.describe(self.session.sagemaker_client, found[0]["TrainingJobName"]) if found else None

    def _start(self, cell: Cell, failed: Job | None) -> Job:
        # SageMaker does not allow a name twice, so the number after the digest counts the attempts.
        attempt = 1 + int(failed.name.rpartition("-")[2]) if failed else 1
        name = f"{self._prefix(cell)}-{attempt}"
        with experiments.run_of_job(self.name, cell.name, name, self.session):
            self.make(cell.values, self._prefix(cell)).fit(self.channels, wait=False, job_name=name)
        return Job(name, "InProgress")

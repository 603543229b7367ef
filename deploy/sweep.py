"""The article's experiment on SageMaker: jobs on all of the data and on fractions of it, compared when they ended.

Every job is a Run of one SageMaker Experiment. A job's name says what it is and is made from everything that decides
its result, so that the same sweep started again finds the jobs that ran or run, and starts the others.
"""

import hashlib
import io
import json
import re
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagemaker.estimator import Estimator
from sagemaker.experiments.run import Run as ExperimentRun
from sagemaker.session import Session

from deploy import compare
from subset_trainer import hyperparameters
from subset_trainer.errors import UserError

POLL_SECONDS = 30.0
NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,28}")
RESULTS = ("summary.json", "history.jsonl")
ENDED_WELL = "Completed"
ENDED = (ENDED_WELL, "Failed", "Stopped")


@dataclass(frozen=True)
class Cell:
    """One training of the sweep."""

    name: str
    values: Mapping[str, Any]
    """Hyperparameters."""


@dataclass(frozen=True)
class Job:
    """The job of a cell, as SageMaker describes it."""

    cell: Cell
    name: str
    status: str
    reason: str = ""
    """Why it failed."""
    results: str = ""
    """The URI of output.tar.gz."""


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


class Sweep:
    """Starts the cells' jobs, a few at a time, and follows them.

    Args:
        name: of the Experiment, and the beginning of every job's name.
        image_uri: of the image.
        make: hyperparameters → an `Estimator` for them.
        channels: name → S3 URI.
        session: the SDK's.
        say: takes a line about what happens.
    """

    def __init__(
        self,
        name: str,
        image_uri: str,
        make: Callable[[Mapping[str, Any]], Estimator],
        channels: Mapping[str, str],
        session: Session,
        say: Callable[[str], None] = print,
    ) -> None:
        if not NAME.fullmatch(name):
            raise UserError(
                f"the sweep's name {name!r}: expected up to 29 letters and digits, with hyphens between"
            )
        self.name = name
        self._image_uri = image_uri
        self._make = make
        self._channels = dict(channels)
        self._session = session
        self._client = session.sagemaker_client
        self._s3 = session.boto_session.client("s3")
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
                if known is None or known.status in ENDED[1:]:
                    known = self._start(cell, known)
                    self._say(f"{cell.name}: started as {known.name}")
                active[cell.name] = known
            before = len(ended)
            for name, job in list(active.items()):
                now = self._described(job.cell, job.name)
                if now.status in ENDED:
                    ended[name] = now
                    del active[name]
                    self._say(f"[{len(ended)}/{len(cells)}] {name}: {_sentence(now)}")
            if active and len(ended) == before:
                time.sleep(poll)
        return [ended[cell.name] for cell in cells]

    def results(self, jobs: Sequence[Job], directory: Path) -> list[compare.Run]:
        """Fetch what the jobs that ended well left, each into a folder of its own, and read it.

        A job without readable results is said and left out.
        """
        runs = []
        for job in jobs:
            if job.status != ENDED_WELL:
                continue
            try:
                self._fetch(job.results, directory / job.cell.name)
                runs.append(compare.read_run(directory / job.cell.name))
            except (UserError, tarfile.TarError, self._s3.exceptions.ClientError) as error:
                self._say(f"{job.cell.name}: no results in {job.results} ({error})")
        return runs

    def _fetch(self, uri: str, folder: Path) -> None:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        body = self._s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            for name in RESULTS:
                # By name and content alone: whatever else the archive holds stays in it.
                member = next((m for m in archive if Path(m.name).name == name and m.isfile()), None)
                file = archive.extractfile(member) if member else None
                if file is not None:
                    (folder / name).write_bytes(file.read())

    def _prefix(self, cell: Cell) -> str:
        decisive = {
            "image": self._image_uri,
            "channels": self._channels,
            "values": {name: str(value) for name, value in cell.values.items()},
        }
        digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:8]
        return f"{f'{self.name}-{cell.name}'[:50].rstrip('-')}-{digest}"

    def _latest(self, cell: Cell) -> Job | None:
        found = self._client.list_training_jobs(
            NameContains=self._prefix(cell), SortBy="CreationTime", SortOrder="Descending"
        )["TrainingJobSummaries"]
        return self._described(cell, found[0]["TrainingJobName"]) if found else None

    def _start(self, cell: Cell, failed: Job | None) -> Job:
        # Names cannot be used twice; what comes after the digest counts the attempts.
        attempt = 1 + int(failed.name.rpartition("-")[2]) if failed else 1
        name = f"{self._prefix(cell)}-{attempt}"
        with ExperimentRun(experiment_name=self.name, run_name=cell.name, sagemaker_session=self._session):
            self._make(cell.values).fit(self._channels, wait=False, job_name=name)
        return Job(cell, name, "InProgress")

    def _described(self, cell: Cell, name: str) -> Job:
        job = self._client.describe_training_job(TrainingJobName=name)
        base = job["OutputDataConfig"]["S3OutputPath"].rstrip("/")
        return Job(
            cell,
            name,
            job["TrainingJobStatus"],
            job.get("FailureReason", ""),
            f"{base}/{name}/output/output.tar.gz",
        )


def _sentence(job: Job) -> str:
    return f"{job.status}: {job.reason}" if job.reason else job.status

"""SageMaker's automatic model tuning of the fraction and any other hyperparameter of the image."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sagemaker.estimator import Estimator
from sagemaker.parameter import CategoricalParameter, ContinuousParameter, IntegerParameter, ParameterRange
from sagemaker.session import Session
from sagemaker.tuner import HyperparameterTuner, WarmStartConfig, WarmStartTypes

from deploy.aws import jobs
from deploy.aws.jobs import Job
from deploy.aws.requests import check_name
from deploy.grid.ranges import LONGEST_NAME, Listed, Range, objective_type
from deploy.results import experiments
from deploy.results.compare import Lost, Run
from subset_trainer.errors import UserError
from subset_trainer.tracking.metrics import metric_definitions

ENDED = ("Completed", "Failed", "Stopped")


def of_sdk(one: Range) -> ParameterRange:
    """Return a range as the SDK has it."""
    if isinstance(one, Listed):
        return CategoricalParameter(list(one.values))
    kind = IntegerParameter if isinstance(one.low, int) else ContinuousParameter
    return kind(one.low, one.high, one.scale)


class Tuning:
    """One tuning job.

    Args:
        name: name of the tuning job; if it exists already, it is followed.
        session: session of the SageMaker SDK.
        say: called with each progress message.
    """

    def __init__(self, name: str, session: Session, say: Callable[[str], None] = print) -> None:
        check_name(name, LONGEST_NAME)
        self.name = name
        self._session = session
        self._client = session.sagemaker_client
        self._say = say

    def start(
        self,
        estimator: Estimator,
        tuned: Mapping[str, Range],
        channels: Mapping[str, str],
        *,
        objective: str,
        count: int,
        parallel: int,
        search: str = "Bayesian",
        early_stopping: bool = False,
        warm_start: Sequence[str] = (),
        transfer: bool = False,
    ) -> None:
        """Start the tuning job, unless it exists already.

        Args:
            estimator: has the values of the hyperparameters that are not tuned.
            tuned: hyperparameter → range, as returned by `ranges`.
            channels: name → S3 URI.
            objective: metric to optimise.
            count: total number of training jobs, as returned by `job_count`.
            parallel: number of training jobs at a time.
            search: Bayesian, Random, Grid or Hyperband.
            early_stopping: whether SageMaker stops jobs that are unlikely to become the best.
            warm_start: names of earlier tuning jobs whose results are used.
            transfer: whether the data, image or ranges differ from those of the earlier tuning jobs.
        """
        if self._described() is not None:
            self._say(f"{self.name} is there already: following it")
            return
        kind = WarmStartTypes.TRANSFER_LEARNING if transfer else WarmStartTypes.IDENTICAL_DATA_AND_ALGORITHM
        HyperparameterTuner(
            estimator,
            objective,
            {name: of_sdk(one) for name, one in tuned.items()},
            [{**definition} for definition in metric_definitions()],
            strategy=search,
            objective_type=objective_type(objective),
            max_jobs=count,
            max_parallel_jobs=parallel,
            early_stopping_type="Auto" if early_stopping else "Off",
            warm_start_config=WarmStartConfig(kind, set(warm_start)) if warm_start else None,
        ).fit(dict(channels), job_name=self.name, wait=False)
        self._say(f"{self.name}: started")

    def wait(self, poll: float) -> dict[str, Job]:
        """Wait until the tuning job has ended; return number → training job.

        Args:
            poll: seconds between two queries.

        Raises UserError with SageMaker's reason if the tuning job failed without any training job.
        """
        said = ""
        while True:
            tuning = self._described() or {}
            counts = tuning.get("TrainingJobStatusCounters", {})
            line = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
            if line and line != said:
                said = line
                self._say(f"{self.name}: {line}")
            if tuning.get("HyperParameterTuningJobStatus") in ENDED:
                break
            time.sleep(poll)
        found = self._jobs()
        if tuning["HyperParameterTuningJobStatus"] == "Failed" and not found:
            raise UserError(f"{self.name}: Failed: {tuning.get('FailureReason', 'no reason given')}")
        return found

    def results(
        self, named: Mapping[str, Job], tuned: Sequence[str], directory: Path
    ) -> tuple[list[Run], list[Lost]]:
        """Download and read the results of training jobs.

        Args:
            named: number → training job, as returned by `wait`.
            tuned: names of the tuned hyperparameters, whose values become part of a run's name.
            directory: where each job's results are written, in its own subfolder.

        Returns:
            The runs, the best first by the validation set and their `metric`, and the jobs without results.
        """
        runs, lost = experiments.results(named, self._session, directory)
        runs = [replace(run, name=f"{run.name} {_values(run, tuned)}") for run in runs]
        runs.sort(key=lambda run: -(run.measure(run.metric, tested=False) or 0.0))
        return runs, lost

    def _described(self) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = self._client.describe_hyper_parameter_tuning_job(
                HyperParameterTuningJobName=self.name
            )
        except self._client.exceptions.ResourceNotFound:
            return None
        return answer

    def _jobs(self) -> dict[str, Job]:
        pages = self._client.get_paginator("list_training_jobs").paginate(
            NameContains=self.name, SortBy="CreationTime", SortOrder="Ascending"
        )
        # SageMaker's names of the training jobs: the tuning job's name, a number, and eight more characters.
        own = re.compile(rf"{re.escape(self.name)}-(\d+)-\w+")
        found = {}
        for page in pages:
            for job in page["TrainingJobSummaries"]:
                if match := own.fullmatch(job["TrainingJobName"]):
                    found[match[1]] = jobs.describe(self._client, job["TrainingJobName"])
        return found


def _values(run: Run, tuned: Sequence[str]) -> str:
    own = run.summary.get("hyperparameters", {})
    return " ".join(
        f"{name}={own[name]:.3g}" if isinstance(own.get(name), float) else f"{name}={own.get(name)}"
        for name in tuned
    )

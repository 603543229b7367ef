"""SageMaker's automatic model tuning of the fraction and any other hyperparameter of the image."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from sagemaker.estimator import Estimator
from sagemaker.parameter import CategoricalParameter, ContinuousParameter, IntegerParameter, ParameterRange
from sagemaker.session import Session
from sagemaker.tuner import HyperparameterTuner, WarmStartConfig, WarmStartTypes

from deploy.aws import jobs
from deploy.aws.jobs import Job
from deploy.results import experiments
from deploy.results.compare import Lost, Run
from subset_trainer.config import hyperparameters
from subset_trainer.errors import UserError
from subset_trainer.tracking.metrics import FORMATS, SPOKEN, metric_definitions

NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,31}")
SCALES = {"log": "Logarithmic", "reverse-log": "ReverseLogarithmic", "linear": "Linear", "": "Auto"}
ENDED = ("Completed", "Failed", "Stopped")


def check_name(name: str) -> None:
    """Raise UserError if SageMaker would refuse the name for a tuning job."""
    if not NAME.fullmatch(name):
        raise UserError(f"the name {name!r}: expected up to 32 letters and digits, with hyphens between")


def ranges(texts: Mapping[str, str], settings: Mapping[str, Any]) -> dict[str, ParameterRange]:
    """Parse ranges such as `0.05:0.5`, `0.001:0.1:log` and `glister,rs2`; return hyperparameter → range.

    Args:
        texts: hyperparameter → text of its range.
        settings: values of the other hyperparameters, with which both ends of each range must be valid.

    Raises:
        UserError: a range has another form, or the image would refuse one of its ends.
    """
    found: dict[str, ParameterRange] = {}
    for name, text in texts.items():
        if name in settings:
            raise UserError(f"{name} is both set and tuned")
        field = hyperparameters.Hyperparameters.model_fields.get(name)
        kinds = {field.annotation, *get_args(field.annotation)} if field else set()
        number = int if int in kinds else float if float in kinds else None
        if "," in text:
            ends: Sequence[str] = text.split(",")
            found[name] = CategoricalParameter(list(ends))
        elif number is not None and (match := re.fullmatch(r"([^:]+):([^:]+)(?::(.+))?", text)):
            low, high, scale = match[1], match[2], match[3] or ""
            ends = (low, high)
            hyperparameters.parse({**settings, name: low})
            hyperparameters.parse({**settings, name: high})
            if scale not in SCALES or not number(low) < number(high):
                raise UserError(f"{name}={text}: expected LOW:HIGH or LOW:HIGH:log, the lower end first")
            kind = IntegerParameter if number is int else ContinuousParameter
            found[name] = kind(number(low), number(high), SCALES[scale])
        else:
            raise UserError(
                f"{name}={text}: expected values separated by commas"
                + (", or LOW:HIGH, or LOW:HIGH:log" if number is not None else "")
            )
        for end in ends:
            hyperparameters.parse({**settings, name: end})
    return found


def objective_type(metric: str) -> str:
    """Return `Maximize` or `Minimize` for a metric of the image.

    Raises UserError for any other metric, and for metrics of the test set.
    """
    if metric not in FORMATS or not metric.startswith(("train:", "validation:")):
        known = ", ".join(name for name in FORMATS if name.startswith("validation:"))
        why = (
            ": what is tuned by the test set can no longer be judged by it"
            if metric.startswith("test:")
            else ""
        )
        raise UserError(f"the objective {metric!r}: expected one of {known}{why}")
    return "Maximize" if metric.split(":")[1] in SPOKEN else "Minimize"


class Tuning:
    """One tuning job.

    Args:
        name: name of the tuning job; if it exists already, it is followed.
        session: session of the SageMaker SDK.
        say: called with each progress message.
    """

    def __init__(self, name: str, session: Session, say: Callable[[str], None] = print) -> None:
        check_name(name)
        self.name = name
        self._session = session
        self._client = session.sagemaker_client
        self._say = say

    def start(
        self,
        estimator: Estimator,
        tuned: Mapping[str, ParameterRange],
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
            count: total number of training jobs.
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
        # SageMaker takes no limit for a grid: the grid determines the number of jobs.
        limit: dict[str, Any] = {} if search == "Grid" else {"max_jobs": count}
        HyperparameterTuner(
            estimator,
            objective,
            {str(name): tuned[name] for name in tuned},
            [{**definition} for definition in metric_definitions()],
            strategy=search,
            objective_type=objective_type(objective),
            **limit,
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

"""SageMaker Experiments on the launcher's side: creates a job's Run, and reads the results of an Experiment's Runs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from sagemaker.analytics import ExperimentAnalytics
from sagemaker.experiments.run import Run as ExperimentRun
from sagemaker.session import Session

from deploy.aws import jobs
from deploy.aws.jobs import Job
from deploy.results import compare
from deploy.results.compare import Lost, Run
from subset_trainer.errors import UserError
from subset_trainer.tracking.experiments import JOB_PARAMETER


@contextmanager
def run_of_job(experiment: str, name: str, job: str, session: Session) -> Iterator[None]:
    """Context in which a started job belongs to the Run `name`. The Run records the name of the job."""
    with ExperimentRun(experiment_name=experiment, run_name=name, sagemaker_session=session) as run:
        run.log_parameter(JOB_PARAMETER, job)
        yield


class Analytics(ExperimentAnalytics):
    """The SDK's `ExperimentAnalytics` without SageMaker Search.

    The search index lags by seconds to minutes; the description of a trial component is up to date.
    """

    def __init__(self, experiment: str, session: Session) -> None:
        super().__init__(experiment_name=experiment, sagemaker_session=session)

    def components(self) -> list[dict[str, Any]]:
        """Return the Experiment's trial components in the form of `Search`'s results, oldest first.

        Raises UserError if there is no such Experiment or it has no Runs.
        """
        if self._trial_components is None:
            client, name = self._sage_client, self._experiment_name
            try:
                trials = list(_pages(client, "list_trials", "TrialSummaries", ExperimentName=name))
            except client.exceptions.ResourceNotFound:
                trials = []
            if not trials:
                raise UserError(
                    f"there is no file or folder {name!r}, and no Experiment of that name with Runs in this account "
                    "and region"
                )
            found: dict[str, dict[str, Any]] = {}
            for trial in trials:
                parent = {"TrialName": trial["TrialName"], "ExperimentName": name}
                listed = _pages(
                    client, "list_trial_components", "TrialComponentSummaries", TrialName=trial["TrialName"]
                )
                for summary in listed:
                    own = summary["TrialComponentName"]
                    if own not in found:
                        described = client.describe_trial_component(TrialComponentName=own)
                        found[own] = {**described, "Parents": []}
                    found[own]["Parents"].append(parent)
            self._trial_components = sorted(found.values(), key=lambda component: component["CreationTime"])
        return list(self._trial_components)

    def _get_trial_components(self, force_refresh: bool = False) -> list[dict[str, Any]]:
        if force_refresh:
            self.clear_cache()
        return self.components()

    def frame(self, sort_by: str | None = None, ascending: bool = False) -> pd.DataFrame:
        """Return one row for each trial component, with the SDK's columns.

        Args:
            sort_by: as the SDK's `sort_by`: `metrics.validation:accuracy.max`, `parameters.fraction`, `CreationTime`.
            ascending: whether the smallest value comes first.

        Raises:
            UserError: there is no column of that name.
        """
        frame = self.dataframe()
        if sort_by is None:
            return frame
        kind, _, rest = sort_by.partition(".")
        if kind == "metrics":
            metric, _, statistic = rest.rpartition(".")
            wanted = f"{metric} - {statistic}".lower()
        else:
            wanted = rest.lower() if kind == "parameters" else sort_by.lower()
        if wanted == "creationtime":
            return frame if ascending else frame.iloc[::-1]
        by_name = {column.lower(): column for column in frame.columns}
        if wanted not in by_name:
            metrics = sorted({name.split(" - ")[0] for name in frame.columns if name.endswith(" - Max")})
            raise UserError(
                f"--sort-by {sort_by}: expected metrics.NAME.max (or min, avg, last, count), parameters.NAME, "
                f"DisplayName or CreationTime; the metrics are {', '.join(metrics) or 'none'}"
            )
        return frame.sort_values(by_name[wanted], ascending=ascending, kind="stable")


def experiment_frame(experiment: str, session: Session, sort_by: str | None = None) -> pd.DataFrame:
    """Return the records of an Experiment's Runs, one row each; `sort_by` as in `Analytics.frame`."""
    return Analytics(experiment, session).frame(sort_by)


def jobs_of(analytics: Analytics) -> dict[str, Job]:
    """Return the Runs that are jobs of this image: name → job, oldest first."""
    client = analytics._sage_client
    found = {}
    for component in analytics.components():
        name = component.get("Parameters", {}).get(JOB_PARAMETER, {}).get("StringValue")
        if name:
            shown = component.get("DisplayName") or component["TrialComponentName"]
            found[run_name(shown, analytics.name)] = jobs.describe(client, name)
    return found


def run_name(shown: str, experiment: str) -> str:
    """Return the Run's name, given its trial component's name: the SDK prefixes it with the Experiment's name."""
    return shown.removeprefix(f"{experiment}-")


def result(name: str, job: Job, session: Session, directory: Path) -> Run | Lost:
    """Download an ended job's results into a subfolder of `directory` and read them; else return why there are none."""
    if job.status != jobs.ENDED_WELL:
        return Lost(name, str(job))
    folder = directory / job.name
    try:
        jobs.fetch_results(session.boto_session.client("s3"), job.results, folder)
        return replace(compare.read_run(folder), name=name, job=job)
    except UserError as error:
        return Lost(name, str(error))


def results(named: Mapping[str, Job], session: Session, directory: Path) -> tuple[list[Run], list[Lost]]:
    """Download and read the results of several jobs; return the runs with results, and those without."""
    found = [result(name, job, session, directory) for name, job in named.items()]
    return [one for one in found if isinstance(one, Run)], [one for one in found if isinstance(one, Lost)]


def _pages(client: Any, operation: str, key: str, **arguments: Any) -> Iterator[dict[str, Any]]:
    for page in client.get_paginator(operation).paginate(**arguments):
        yield from page[key]

"""`launch`: starts one training job."""

import argparse
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.commands import job, options, results
from deploy.results import compare
from subset_trainer.errors import UserError

if TYPE_CHECKING:
    from sagemaker.estimator import Estimator


def add(commands: options.Commands) -> None:
    """Add the command."""
    start = commands.add(
        "launch", run, "Run one training job on SageMaker, or with --local in a container on this machine."
    )
    start.add_argument("--dry-run", action="store_true", help="print the request and start nothing")
    start.add_argument(
        "--wait", action="store_true", help="follow the job's log to its end, then print its results"
    )
    start.add_argument("--experiment", metavar="NAME", help="SageMaker Experiment to record the job in")
    options.add_prices(start)
    options.add_job(start)


def run(given: argparse.Namespace) -> None:
    """Start the job, on SageMaker or in a local container."""
    from subset_trainer.config import hyperparameters

    # Checked first, because the check needs nothing else and these are the most frequent mistakes.
    hyperparameters.parse(given.set)
    if given.local and (given.dry_run or given.experiment):
        what = "--dry-run" if given.dry_run else "--experiment"
        raise UserError(f"{what}: only for jobs on SageMaker, not with --local")
    ready = job.prepare(given, send=not given.dry_run)
    if given.local:
        _run_here(given, ready)
        return
    from sagemaker.utils import name_from_base

    from deploy.aws import calls, jobs, launch

    name = name_from_base(launch.job_prefix(given.set))
    estimator = ready.make(given.set, name)
    if given.dry_run:
        launch.stop_before_the_request(ready.session)
        try:
            estimator.fit(dict(ready.uris), wait=False, job_name=name)
        except launch.Request as request:
            print(json.dumps(request.parameters, indent=2))
        return
    with _experiment(given, ready, name):
        estimator.fit(dict(ready.uris), wait=False, job_name=name)
    print(name)
    if not given.wait:
        return
    ended = launch.follow(ready.session, name)
    calls.reported()
    if ended.status != jobs.ENDED_WELL:
        raise UserError(f"{name}: {ended}")
    folder = options.BUILD / "jobs" / name
    jobs.fetch_results(ready.session.boto_session.client("s3"), ended.results, folder)
    _sum_up(given, estimator, folder, ended)


def _run_here(given: argparse.Namespace, ready: job.Jobs) -> None:
    from deploy.aws import jobs

    output = Path(given.output or job.LOCAL_OUTPUT)
    estimator = ready.make_here(given.set, output)
    jobs.fit_here(estimator, ready.uris, output)
    _sum_up(given, estimator, output, None)


def _sum_up(given: argparse.Namespace, estimator: "Estimator", folder: Path, ended: Any) -> None:
    finished = compare.read_run(folder)
    finished = replace(finished, name=finished.summary["strategy"], job=ended)
    results.show([finished], folder, folder.name, given.prices)
    print(f"model: {estimator.model_data}")


def _experiment(given: argparse.Namespace, ready: job.Jobs, name: str) -> Any:
    if given.experiment is None:
        return nullcontext()
    from deploy.results.experiments import run_of_job

    return run_of_job(given.experiment, name, name, ready.session)

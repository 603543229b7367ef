"""`launch`: starts one training job."""

import json
import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from deploy.commands import job, options, results
from deploy.commands.declared import Answering, Command, Option
from subset_trainer.errors import UserError

if TYPE_CHECKING:
    from sagemaker.estimator import Estimator

    from subset_trainer.config import Hyperparameters


@dataclass(frozen=True, kw_only=True)
class Given(options.Prices, options.Job, Answering):
    """What `launch` takes."""

    dry_run: Annotated[bool, Option("print the request and start nothing")] = False
    wait: Annotated[bool, Option("follow the job's log to its end, then print its results")] = False
    experiment: Annotated[str | None, Option("SageMaker Experiment to record the job in", "NAME")] = None


def run(given: Given) -> Any:
    """Start the job, on SageMaker or in a local container."""
    from subset_trainer.config import hyperparameters

    # Checked first, because the check needs nothing else and these are the most frequent mistakes.
    parsed = hyperparameters.parse(given.set)
    if given.local and (given.dry_run or given.experiment):
        what = "--dry-run" if given.dry_run else "--experiment"
        raise UserError(f"{what}: only for jobs on SageMaker, not with --local")
    ready = job.prepare(given, send=not given.dry_run)
    if parsed.fraction == "auto":
        _announce(parsed)
    if given.local:
        return _run_here(given, ready)
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
            return request.parameters
        raise AssertionError("the request of a dry run is caught before it is sent")
    with _experiment(given, ready, name):
        estimator.fit(dict(ready.uris), wait=False, job_name=name)
    print(name)
    if not given.wait:
        return {"job": name}
    ended = launch.follow(ready.session, name)
    calls.reported()
    if ended.status != jobs.ENDED_WELL:
        raise UserError(f"{name}: {ended}")
    folder = options.BUILD / "jobs" / name
    jobs.fetch_results(ready.session.boto_session.client("s3"), ended.results, folder)
    return {"job": name, **_sum_up(given, estimator, folder, ended)}


def _announce(parsed: "Hyperparameters") -> None:
    """Say what a search will cost, on stderr, because scripts read the job's name from stdout."""
    from subset_trainer.insight import enough
    from subset_trainer.tracking.metrics import SPOKEN

    said = enough.announcement(parsed.max_cost, parsed.tolerance, SPOKEN[parsed.metric], parsed.question)
    print(said, file=sys.stderr, flush=True)


def _run_here(given: Given, ready: job.Jobs) -> Any:
    from deploy.aws import jobs

    output = Path(given.output or job.LOCAL_OUTPUT)
    estimator = ready.make_here(given.set, output)
    jobs.fit_here(estimator, ready.uris, output)
    return _sum_up(given, estimator, output, None)


def _sum_up(given: Given, estimator: "Estimator", folder: Path, ended: Any) -> dict[str, Any]:
    from deploy.results import compare

    finished = compare.read_run(folder)
    finished = replace(finished, name=finished.summary["strategy"], job=ended)
    results.show([finished], folder, folder.name, given.prices)
    (row,) = compare.rows([finished], given.prices)
    if row.answer is not None:
        print(f"\n{row.answer}\n")
    print(f"model: {estimator.model_data}")
    return {"model": estimator.model_data, "results": asdict(row)}


def _experiment(given: Given, ready: job.Jobs, name: str) -> Any:
    if given.experiment is None:
        return nullcontext()
    from deploy.results.experiments import run_of_job

    return run_of_job(given.experiment, name, name, ready.session)


COMMANDS = (
    Command(
        "launch",
        run,
        Given,
        "Run one training job on SageMaker, or with --local in a container on this machine.",
        (
            "launch --image-uri $IMAGE --role me --training abc --dry-run",
            "launch --local --image-uri subset-trainer --training photos",
        ),
    ),
)

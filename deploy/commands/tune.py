"""`tune`: searches for hyperparameters with SageMaker's automatic model tuning."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from deploy.commands import job, options, results
from deploy.commands.declared import Answering, Command, Option
from subset_trainer.errors import UserError

SEARCHES = {"bayesian": "Bayesian", "random": "Random", "grid": "Grid", "hyperband": "Hyperband"}


@dataclass(frozen=True, kw_only=True)
class Given(results.Presentation, options.Poll, options.Job, Answering):
    """What `tune` takes."""

    name: Annotated[str, Option("name of the tuning job")]
    tune: Annotated[
        Mapping[str, str],
        Option(
            "ranges to search, such as fraction=0.05:0.3 learning_rate=0.001:0.1:log strategy=glister,rs2",
            "NAME=RANGE",
            options.pairs,
            many=True,
        ),
    ]
    objective: Annotated[
        str | None,
        Option(
            "metric of the image to optimise (the validation set's, by the hyperparameter `metric`)", "METRIC"
        ),
    ] = None
    jobs: Annotated[
        int | None,
        Option("number of jobs (12; with --search grid the number of combinations)", "N", options.count),
    ] = None
    parallel: Annotated[int, Option("jobs at a time", "N", options.count)] = 3
    search: Annotated[str, Option("how values are chosen", choices=tuple(SEARCHES))] = "bayesian"
    early_stopping: Annotated[bool, Option("let SageMaker stop jobs that will not be the best")] = False
    warm_start: Annotated[
        tuple[str, ...], Option("earlier tuning jobs whose results are used", "NAME", many=True)
    ] = ()
    transfer: Annotated[
        bool, Option("the earlier tuning jobs had other data, another image or other ranges")
    ] = False


def run(given: Given) -> Any:
    """Start or follow the tuning job, wait for it, and compare its training jobs."""
    if given.local:
        raise UserError("--local: tuning runs on SageMaker only; `sweep --local` compares fractions locally")
    if given.transfer and not given.warm_start:
        raise UserError("--transfer goes with --warm-start")
    if given.early_stopping and given.search == "hyperband":
        raise UserError("--early-stopping does not go with --search hyperband, which stops jobs itself")
    from deploy.aws import requests
    from deploy.grid import ranges
    from subset_trainer.config import hyperparameters

    requests.check_name(given.name, ranges.LONGEST_NAME)
    tuned = ranges.ranges(given.tune, given.set)
    count = ranges.job_count(SEARCHES[given.search], tuned, given.jobs)
    ranges.check_sizes(tuned, given.warm_start)
    metric = hyperparameters.parse({"metric": given.set.get("metric")}).metric
    objective = given.objective or f"validation:{metric}"
    ranges.objective_type(objective)
    ready = job.prepare(given)
    # The SDK takes seconds to import, so errors that do not need it are reported before.
    from deploy.aws import calls
    from deploy.grid import tune

    tuning = tune.Tuning(given.name, ready.session)
    tuning.start(
        ready.make(given.set, given.name),
        tuned,
        ready.uris,
        objective=objective,
        count=count,
        parallel=given.parallel,
        search=SEARCHES[given.search],
        early_stopping=given.early_stopping,
        warm_start=given.warm_start,
        transfer=given.transfer,
    )
    jobs = tuning.wait(given.poll)
    folder = options.BUILD / "tuning" / given.name
    runs, lost = tuning.results(jobs, list(tuned), folder / "runs")
    answer = results.present(given, runs, lost, folder, f"Tuning {given.name}, best first")
    if not runs:
        calls.reported()
        reason = f", first {lost[0].name}: {lost[0].reason}" if lost else ""
        raise UserError(f"none of the {len(jobs)} jobs of {given.name} has results{reason}")
    return {"name": given.name, **answer}


COMMANDS = (
    Command(
        "tune",
        run,
        Given,
        "Search for hyperparameters with SageMaker's automatic model tuning, and compare the jobs. Accuracy alone "
        "favours the largest fraction, so set an upper bound. With the name of an existing tuning job, the command "
        "follows that job.",
        ("tune --name a --image-uri $IMAGE --training b --tune epochs=2:9",),
    ),
)

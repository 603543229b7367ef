"""`tune`: searches for hyperparameters with SageMaker's automatic model tuning."""

import argparse

from deploy.aws import requests
from deploy.commands import job, options, results
from deploy.grid import ranges
from subset_trainer.config import hyperparameters
from subset_trainer.errors import UserError

SEARCHES = {"bayesian": "Bayesian", "random": "Random", "grid": "Grid", "hyperband": "Hyperband"}


def add(commands: options.Commands) -> None:
    """Add the command."""
    tune = commands.add(
        "tune",
        run,
        "Search for hyperparameters with SageMaker's automatic model tuning, and compare the jobs. Accuracy alone "
        "favours the largest fraction, so set an upper bound. With the name of an existing tuning job, the command "
        "follows that job.",
    )
    tune.add_argument("--name", required=True, help="name of the tuning job")
    options.add_pairs(
        tune,
        "--tune",
        "ranges to search, such as fraction=0.05:0.3 learning_rate=0.001:0.1:log strategy=glister,rs2",
        "NAME=RANGE",
        required=True,
    )
    tune.add_argument(
        "--objective",
        help="metric of the image to optimise (the validation set's, by the hyperparameter `metric`)",
    )
    tune.add_argument(
        "--jobs",
        type=options.count,
        metavar="N",
        help="number of jobs (12; with --search grid the number of combinations)",
    )
    tune.add_argument("--parallel", type=options.count, default=3, metavar="N", help="jobs at a time")
    tune.add_argument("--search", choices=tuple(SEARCHES), default="bayesian", help="how values are chosen")
    tune.add_argument(
        "--early-stopping", action="store_true", help="let SageMaker stop jobs that will not be the best"
    )
    tune.add_argument(
        "--warm-start",
        nargs="+",
        default=[],
        metavar="NAME",
        help="earlier tuning jobs whose results are used",
    )
    tune.add_argument(
        "--transfer",
        action="store_true",
        help="the earlier tuning jobs had other data, another image or other ranges",
    )
    tune.add_argument(
        "--poll", type=float, default=30.0, metavar="SECONDS", help="time between two queries of the job"
    )
    results.add_presentation(tune)
    options.add_job(tune)


def run(given: argparse.Namespace) -> None:
    """Start or follow the tuning job, wait for it, and compare its training jobs."""
    if given.local:
        raise UserError("--local: tuning runs on SageMaker only; `sweep --local` compares fractions locally")
    if given.transfer and not given.warm_start:
        raise UserError("--transfer goes with --warm-start")
    if given.early_stopping and given.search == "hyperband":
        raise UserError("--early-stopping does not go with --search hyperband, which stops jobs itself")
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
    results.present(given, runs, lost, folder, f"Tuning {given.name}, best first")
    if not runs:
        calls.reported()
        reason = f", first {lost[0].name}: {lost[0].reason}" if lost else ""
        raise UserError(f"none of the {len(jobs)} jobs of {given.name} has results{reason}")

"""`sweep`: the article's experiment."""

import argparse
from pathlib import Path

from deploy.commands import job, options, results
from subset_trainer.errors import UserError


def add(commands: options.Commands) -> None:
    """Add the command."""
    sweep = commands.add(
        "sweep",
        run,
        "Train at several fractions, on SageMaker each job a Run of one Experiment, or with --local in containers "
        "on this machine, and compare. Started again, it goes on where it was.",
    )
    sweep.add_argument("--name", required=True, help="of the Experiment")
    sweep.add_argument(
        "--fractions", type=options.fractions, default="1,0.5,0.3,0.1", metavar="LIST", help="1 is all"
    )
    sweep.add_argument(
        "--strategies", type=options.names, default="glister", metavar="LIST", help="with commas between"
    )
    sweep.add_argument(
        "--seeds", type=options.seeds, default="0", metavar="LIST", help="three or more for an answer"
    )
    sweep.add_argument(
        "--no-baselines", action="store_true", help="without rs2, and full data at the same visits"
    )
    sweep.add_argument("--parallel", type=options.count, default=4, metavar="N", help="jobs at a time")
    sweep.add_argument(
        "--poll", type=float, default=30.0, metavar="SECONDS", help="between two looks at the jobs"
    )
    results.add_presentation(sweep)
    options.add_job(sweep)


def run(given: argparse.Namespace) -> None:
    """Start what is missing, wait, and compare."""
    from deploy.aws import calls
    from deploy.grid.sagemaker import Sweep, check_name, plan, run_here
    from deploy.results import experiments

    check_name(given.name)
    cells = plan(given.fractions, given.strategies, given.seeds, given.set, baselines=not given.no_baselines)
    ready = job.prepare(given)
    folder = options.BUILD / "sweeps" / given.name
    if given.local:
        where = Path(given.output) if given.output else folder / "local"
        runs, lost = run_here(cells, given.image_uri, ready.make_here, ready.uris, where)
    else:
        sweep = Sweep(given.name, given.image_uri, ready.make, ready.uris, ready.session)
        jobs = sweep.run(cells, given.parallel, given.poll)
        named = {cell.name: job for cell, job in zip(cells, jobs, strict=True)}
        runs, lost = experiments.results(named, ready.session, folder / "runs")
    results.present_jobs(given, runs, lost, folder, f"Sweep {given.name}", given.tolerance)
    if lost:
        calls.reported()
        raise UserError(
            f"{len(lost)} of {len(cells)} runs have no results, first {lost[0].name}: {lost[0].reason}"
        )

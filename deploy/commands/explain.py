"""`explain`: shows why a finished run's model makes errors, or which features its predictions depend on."""

import argparse

from deploy.commands import options
from subset_trainer.errors import UserError


def add(commands: options.Commands) -> None:
    """Add the command."""
    explain = commands.add(
        "explain",
        run,
        "Show the explanations of errors that a run has written (explain=N), or with --clarify compute SHAP values "
        "of a table's features by SageMaker Clarify.",
    )
    explain.add_argument(
        "job", help="name of a training job; without --clarify also a run's folder or its output.tar.gz"
    )
    explain.add_argument(
        "--clarify", action="store_true", help="start a Clarify processing job, with an endpoint of its own"
    )
    clarify = explain.add_argument_group("with --clarify")
    clarify.add_argument(
        "--data",
        metavar="URI",
        help="CSV in S3 to explain, with the label in the same column as in training (required)",
    )
    clarify.add_argument("--output", metavar="URI", help="S3 folder for the analysis (required)")
    clarify.add_argument(
        "--baseline", metavar="URI", help="CSV in S3 with the rows of SHAP's baseline, without labels"
    )
    clarify.add_argument(
        "--samples", type=options.count, help="synthetic rows that SHAP draws for each example"
    )
    clarify.add_argument("--seed", type=int, default=0, help="seed of SHAP's samples")
    clarify.add_argument(
        "--instance-type",
        default="ml.m5.xlarge",
        help="instance type of the processing job and of the endpoint",
    )
    options.add_region(explain)


def run(given: argparse.Namespace) -> None:
    """Show the run's explanations, or start Clarify's processing job."""
    if not given.clarify:
        _show(given)
        return
    for name in ("data", "output", "baseline"):
        value = getattr(given, name)
        if value is None and name != "baseline":
            raise UserError(f"--{name}: an s3:// URI is needed with --clarify")
        if value is not None and not value.startswith("s3://"):
            raise UserError(f"--{name}: expected an s3:// URI, got {value!r}")
    from deploy.aws import calls, clarify, launch

    session = launch.sagemaker_session(boto_session=calls.boto_session(given.region))
    trained = clarify.find(session.sagemaker_client, session.boto_session.client("s3"), given.job)
    analysis = clarify.Analysis(
        given.data, given.output, given.instance_type, given.samples, given.baseline, given.seed
    )
    name = clarify.start(session, trained, analysis)
    print(f"processing job: {name}\nresults: {given.output} (analysis.json, report.html, explanations_shap)")


def _show(given: argparse.Namespace) -> None:
    for name in ("data", "output", "baseline", "samples"):
        if getattr(given, name) is not None:
            raise UserError(f"--{name} goes with --clarify only")
    from deploy.results import explanations

    print("\n".join(explanations.lines(given.job, given.region)))

"""`explain`: which features decide, of a finished job's model."""

import argparse

from deploy.commands import options
from subset_trainer.errors import UserError


def add(commands: options.Commands) -> None:
    """Add the command."""
    explain = commands.add(
        "explain", run, "Explain a training job's model: SHAP values by SageMaker Clarify, for tables."
    )
    explain.add_argument("job", help="the training job's name")
    explain.add_argument(
        "--clarify",
        action="store_true",
        required=True,
        help="by a Clarify processing job, with an endpoint of its own",
    )
    explain.add_argument(
        "--data",
        required=True,
        metavar="URI",
        help="CSV in S3 to explain, with the label where training had it",
    )
    explain.add_argument("--output", required=True, metavar="URI", help="where in S3 the analysis goes")
    explain.add_argument(
        "--baseline", metavar="URI", help="CSV in S3 of rows to compare with, without the label"
    )
    explain.add_argument("--samples", type=options.count, help="rows that SHAP makes of each example")
    explain.add_argument("--seed", type=int, default=0, help="of SHAP's samples")
    explain.add_argument(
        "--instance-type", default="ml.m5.xlarge", help="of the processing job and the endpoint"
    )
    options.add_region(explain)


def run(given: argparse.Namespace) -> None:
    """Start it."""
    for name in ("data", "output", "baseline"):
        value = getattr(given, name)
        if value is not None and not value.startswith("s3://"):
            raise UserError(f"--{name}: expected an s3:// URI, got {value!r}")
    from deploy import aws, clarify, launch

    session = launch.sagemaker_session(boto_session=aws.boto_session(given.region))
    trained = clarify.find(session.sagemaker_client, session.boto_session.client("s3"), given.job)
    analysis = clarify.Analysis(
        given.data, given.output, given.instance_type, given.samples, given.baseline, given.seed
    )
    name = clarify.start(session, trained, analysis)
    print(f"processing job: {name}\nresults: {given.output} (analysis.json, report.html, explanations_shap)")

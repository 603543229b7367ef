"""`explain`: shows why a finished run's model makes errors, or which features its predictions depend on."""

from dataclasses import dataclass
from typing import Annotated, Any

from deploy.aws import storage
from deploy.commands import options
from deploy.commands.declared import Answering, Command, Option
from subset_trainer.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Given(options.Region, Answering):
    """What `explain` takes."""

    job: Annotated[
        str,
        Option(
            "name of a training job; without --clarify also a run's folder or its output.tar.gz",
            argument=True,
        ),
    ]
    clarify: Annotated[bool, Option("start a Clarify processing job, with an endpoint of its own")] = False
    data: Annotated[
        str | None,
        Option(
            "with --clarify: CSV in S3 to explain, with the label in the same column as in training", "URI"
        ),
    ] = None
    output: Annotated[str | None, Option("with --clarify: S3 folder for the analysis", "URI")] = None
    baseline: Annotated[
        str | None,
        Option("with --clarify: CSV in S3 with the rows of SHAP's baseline, without labels", "URI"),
    ] = None
    samples: Annotated[
        int | None,
        Option("with --clarify: synthetic rows that SHAP draws for each example", "N", options.count),
    ] = None
    seed: Annotated[int, Option("with --clarify: seed of SHAP's samples", "N")] = 0
    instance_type: Annotated[
        str, Option("with --clarify: instance type of the processing job and of the endpoint", "TYPE")
    ] = "ml.m5.xlarge"


def run(given: Given) -> Any:
    """Show the run's explanations, or start Clarify's processing job."""
    if not given.clarify:
        return _show(given)
    from deploy.aws import requests

    data, output = _uri("data", given.data), _uri("output", given.output)
    baseline = given.baseline and _uri("baseline", given.baseline)
    requests.refuse(requests.instance_faults(given.instance_type))
    # The SDK takes seconds to import, so errors that do not need it are reported before.
    from deploy.aws import calls, clarify, launch

    session = launch.sagemaker_session(boto_session=calls.boto_session(given.region))
    trained = clarify.find(session.sagemaker_client, session.boto_session.client("s3"), given.job)
    analysis = clarify.Analysis(data, output, given.instance_type, given.samples, baseline, given.seed)
    name = clarify.start(session, trained, analysis)
    print(f"processing job: {name}\nresults: {output} (analysis.json, report.html, explanations_shap)")
    return {"processing_job": name, "results": output}


def _uri(name: str, value: str | None) -> str:
    if value is None:
        raise UserError(f"--{name}: an s3:// URI is needed with --clarify")
    if fault := storage.uri_fault(value):
        raise UserError(f"--{name}: {fault}, got {value!r}")
    return value


def _show(given: Given) -> Any:
    for name in ("data", "output", "baseline", "samples"):
        if getattr(given, name) is not None:
            raise UserError(f"--{name} goes with --clarify only")
    from deploy.results import explanations

    lines = explanations.lines(given.job, given.region)
    print("\n".join(lines))
    return {"job": given.job, "lines": list(lines)}


COMMANDS = (
    Command(
        "explain",
        run,
        Given,
        "Show the explanations of errors that a run has written (explain=N), or with --clarify compute SHAP values "
        "of a table's features by SageMaker Clarify.",
        (
            "explain build/demo/runs/full",
            "explain job --clarify --data s3://abc/a.csv --output s3://abc",
        ),
    ),
)

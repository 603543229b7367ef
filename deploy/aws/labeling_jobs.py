"""A Ground Truth labelling job as SageMaker describes it, its CloudWatch metrics, and the end of its log."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from subset_trainer.errors import UserError

LOG_GROUP = "/aws/sagemaker/LabelingJobs"
"""Log group of labelling jobs. The names of a job's streams begin with the job's name."""
DIMENSION = "LabelingJobName"
COUNTED = "DatasetObjects"
"""Part of the names of cumulative metrics, which count objects labelled so far: their total is the largest value. Other
metrics count events: their total is the sum."""
PERIOD = 3600
"""Period of a metric's values, in seconds."""
MOST_VALUES = 500
"""Largest number of metrics in one query to CloudWatch."""
DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")


@dataclass(frozen=True)
class Status:
    """The state of a labelling job, its metrics and the end of its log."""

    name: str
    state: str
    """Initializing, InProgress, Completed, Failed, Stopping or Stopped."""
    reason: str
    """SageMaker's failure reason; empty if the job did not fail."""
    counts: dict[str, int]
    """Numbers of objects: TotalLabeled, HumanLabeled, MachineLabeled, FailedNonRetryableError and Unlabeled."""
    created: datetime.datetime
    modified: datetime.datetime
    attribute: str
    manifest: str
    """URI of the input manifest, or ARN of the SNS topic that sends the input."""
    output: str
    """URI of the output manifest, or of the output folder until there is a manifest."""
    metrics: dict[str, float] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """Why the metrics or the log are missing, one sentence each."""


def status(session: Any, name: str, lines: int) -> Status:
    """Query SageMaker for a labelling job, and CloudWatch for its metrics and the last `lines` lines of its log.

    If CloudWatch refuses the metrics or the log, the rest is returned and `unknown` gives the reason.

    Raises UserError if there is no such labelling job.
    """
    sagemaker = session.client("sagemaker")
    try:
        job = sagemaker.describe_labeling_job(LabelingJobName=name)
    except ClientError as error:
        code, message = _answer(error)
        if code != "ResourceNotFound" and not (
            code == "ValidationException" and "not find" in message.lower()
        ):
            raise
        region = sagemaker.meta.region_name
        raise UserError(f"there is no labelling job {name!r} in {region} and this account") from error
    unknown: list[str] = []
    metrics: dict[str, float] = {}
    log: list[str] = []
    try:
        metrics = _metrics(session.client("cloudwatch"), name, job)
    except ClientError as error:
        unknown.append(_missing("metrics", error))
    try:
        log = _log(session.client("logs"), name, lines)
    except ClientError as error:
        unknown.append(_missing("log", error))
    data = job["InputConfig"]["DataSource"]
    manifest = data.get("S3DataSource", {}).get("ManifestS3Uri") or data.get("SnsDataSource", {}).get(
        "SnsTopicArn", ""
    )
    folder = f"{job['OutputConfig']['S3OutputPath'].rstrip('/')}/{name}"
    return Status(
        name=name,
        state=job["LabelingJobStatus"],
        reason=" ".join(job.get("FailureReason", "").split()),
        counts=dict(job["LabelCounters"]),
        created=job["CreationTime"],
        modified=job["LastModifiedTime"],
        attribute=job.get("LabelAttributeName", ""),
        manifest=manifest,
        output=job.get("LabelingJobOutput", {}).get("OutputDatasetS3Uri") or folder,
        metrics=metrics,
        log=log,
        unknown=unknown,
    )


def _metrics(cloudwatch: Any, name: str, job: Mapping[str, Any]) -> dict[str, float]:
    """Return metric → its total since the job was created.

    The metrics are listed first, because their namespace is not documented.
    """
    found = [
        metric
        for page in cloudwatch.get_paginator("list_metrics").paginate(
            Dimensions=[{"Name": DIMENSION, "Value": name}]
        )
        for metric in page["Metrics"]
    ][:MOST_VALUES]
    if not found:
        return {}
    queries = [
        {
            "Id": f"m{number}",
            "MetricStat": {
                "Metric": {key: metric[key] for key in ("Namespace", "MetricName", "Dimensions")},
                "Period": PERIOD,
                "Stat": _statistic(metric["MetricName"]),
            },
        }
        for number, metric in enumerate(found)
    ]
    pages = cloudwatch.get_paginator("get_metric_data").paginate(
        MetricDataQueries=queries,
        StartTime=job["CreationTime"],
        EndTime=datetime.datetime.now(datetime.UTC),
    )
    values: dict[str, list[float]] = {}
    for page in pages:
        for result in page["MetricDataResults"]:
            values.setdefault(result["Id"], []).extend(result["Values"])
    totals = {}
    for number, metric in enumerate(found):
        own = values.get(f"m{number}")
        if own:
            totals[_title(metric)] = float(max(own) if _counts(metric["MetricName"]) else sum(own))
    return totals


def _counts(metric: str) -> bool:
    return COUNTED in metric


def _statistic(metric: str) -> str:
    return "Maximum" if _counts(metric) else "Sum"


def _title(metric: Mapping[str, Any]) -> str:
    """Return the metric's name with its other dimensions, such as a work team."""
    others = [f"{each['Name']}={each['Value']}" for each in metric["Dimensions"] if each["Name"] != DIMENSION]
    return f"{metric['MetricName']} ({', '.join(sorted(others))})" if others else metric["MetricName"]


def _log(logs: Any, name: str, lines: int) -> list[str]:
    """Return the last lines of the job's log streams, by time; none if there are no streams."""
    try:
        streams = logs.describe_log_streams(logGroupName=LOG_GROUP, logStreamNamePrefix=name)["logStreams"]
    except logs.exceptions.ResourceNotFoundException:
        return []
    events: list[tuple[int, str]] = []
    for stream in streams:
        # One job's name may be a prefix of another's.
        if stream["logStreamName"] != name and not stream["logStreamName"].startswith(f"{name}/"):
            continue
        page = logs.get_log_events(
            logGroupName=LOG_GROUP, logStreamName=stream["logStreamName"], limit=lines, startFromHead=False
        )
        events += [(event["timestamp"], event["message"].rstrip("\n")) for event in page["events"]]
    return [message for _, message in sorted(events, key=lambda event: event[0])[-lines:]]


def _missing(what: str, error: ClientError) -> str:
    code, message = _answer(error)
    if code in DENIED:
        return (
            f"the job's {what} cannot be read: AWS refused {error.operation_name}; "
            "`python -m deploy policy launcher` prints the rights that are needed"
        )
    return f"the job's {what} cannot be read: AWS refused {error.operation_name} ({code}): {message}"


def _answer(error: ClientError) -> tuple[str, str]:
    answer = error.response.get("Error", {})
    return answer.get("Code", ""), " ".join(str(answer.get("Message", "")).split())

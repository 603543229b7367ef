"""SageMaker Experiments: a job's parameters, metrics and artefacts, in the Run that launched it.

This needs permissions for DescribeTrainingJob, BatchPutMetrics and UpdateTrialComponent only, because the job's
description names the Run, and a Run is a trial component. The SDK's ``load_run`` is not used: it would need permissions
to create experiments and trials, and it blocks training while it sends a metric.
"""

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from subset_trainer.tracking.background import Background, Backlog

logger = logging.getLogger(__name__)
JOB_VARIABLE = "TRAINING_JOB_ARN"
JOB_PARAMETER = "training_job"
"""The Run's parameter that names its job. Comparisons use it to find the job's results."""
BATCH = 10
"""The maximum number of metrics per BatchPutMetrics call."""
TEXT = 2_500
"""The maximum length of a parameter in characters."""
THROTTLING = ("ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded")


class Experiments(Background):
    """Records one job. Does nothing where ``job_arn`` is None.

    Args:
        job_arn: the ARN of this training job.
        connect: maps a service and a region to a boto3 client.
    """

    def __init__(self, job_arn: str | None, connect: Callable[[str, str], Any] | None = None) -> None:
        self._connect = connect or _client
        super().__init__("SageMaker Experiments", (lambda: self._open(job_arn)) if job_arn else None)

    @classmethod
    def of_this_job(cls) -> "Experiments":
        """A tracker for the job named by SageMaker's environment. Outside SageMaker it does nothing."""
        return cls(os.environ.get(JOB_VARIABLE))

    def _open(self, job_arn: str) -> "_Sender | None":
        region, name = job_arn.split(":")[3], job_arn.rpartition("/")[2]
        sagemaker = self._connect("sagemaker", region)
        job = sagemaker.describe_training_job(TrainingJobName=name)
        run = job.get("ExperimentConfig", {}).get("RunName")
        if not run:
            logger.info(
                "this job belongs to no Run of SageMaker Experiments: its metrics are only in the log"
            )
            return None
        sender = _Sender(sagemaker, self._connect("sagemaker-metrics", region), run, self.complain)
        sender.describe(job)
        return sender


class _Sender:
    """Sends data to one Run."""

    def __init__(self, sagemaker: Any, metrics: Any, run: str, complain: Callable[[str], None]) -> None:
        self._sagemaker = sagemaker
        self._metrics = metrics
        self._run = run
        self._complain = complain
        # Each update sends all parameters. AWS does not document whether an update keeps parameters that it omits.
        self._parameters: dict[str, Any] = {}

    def describe(self, job: Mapping[str, Any]) -> None:
        """Record the job's name and the locations of its archives."""
        base = f"{job['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{job['TrainingJobName']}/output"
        archives = {"model": f"{base}/model.tar.gz", "data": f"{base}/output.tar.gz"}
        self._parameters[JOB_PARAMETER] = _parameter(job["TrainingJobName"])
        self._sagemaker.update_trial_component(
            TrialComponentName=self._run,
            Parameters=self._parameters,
            OutputArtifacts={
                name: {"MediaType": "application/gzip", "Value": uri} for name, uri in archives.items()
            },
        )

    def send(self, backlog: Backlog) -> None:
        if backlog.parameters:
            self._parameters |= {name: _parameter(value) for name, value in backlog.parameters.items()}
            self._sagemaker.update_trial_component(TrialComponentName=self._run, Parameters=self._parameters)
            backlog.parameters.clear()
        while metrics := backlog.metrics[:BATCH]:
            data = [
                {"MetricName": m.name, "Timestamp": m.time, "Step": m.step, "Value": m.value} for m in metrics
            ]
            answer = self._metrics.batch_put_metrics(TrialComponentName=self._run, MetricData=data)
            del backlog.metrics[:BATCH]
            if errors := answer.get("Errors"):
                refused = metrics[errors[0].get("MetricIndex", 0)].name
                self._complain(f"{refused} was refused: {errors[0].get('Code')}")

    def passing(self, error: Exception) -> bool:
        """Whether AWS is unreachable, throttling or failing internally, rather than refusing the request."""
        from botocore.exceptions import ClientError, HTTPClientError

        if isinstance(error, ClientError):
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return status >= 500 or error.response.get("Error", {}).get("Code") in THROTTLING
        return isinstance(error, HTTPClientError)


def _client(service: str, region: str) -> Any:
    import boto3
    from botocore.config import Config

    # Its standard mode waits longer from one attempt to the next.
    config = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 4})
    return boto3.client(service, region_name=region, config=config)


def _parameter(value: Any) -> dict[str, Any]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"NumberValue": value}
    return {"StringValue": str(value)[:TEXT]}

"""SageMaker Experiments: a job's parameters, metrics and artefacts, in the Run that launched it.

The light path, for which DescribeTrainingJob, BatchPutMetrics and UpdateTrialComponent are rights enough: the job's
description names the Run, and a Run is a trial component. The SDK's ``load_run`` makes experiment and trial again at
every load, and sends each metric while training waits.

Whatever AWS does, training goes on: everything is sent from a thread of its own, what fails is said once in the log,
and at the end the job waits a bounded time for the rest.
"""

import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

logger = logging.getLogger(__name__)
JOB_VARIABLE = "TRAINING_JOB_ARN"
BATCH = 10
"""Metrics that BatchPutMetrics takes at once."""
TEXT = 2_500
"""Characters that a parameter may have."""
DRAIN_SECONDS = 10.0
THROTTLING = ("ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded")


@dataclass(frozen=True)
class _News:
    """What is to be sent: any of these."""

    metrics: Sequence[Mapping[str, Any]] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)


class Experiments:
    """Records one job. Does nothing where ``job_arn`` is None.

    Args:
        job_arn: of this training job.
        connect: service and region → a boto3 client.
    """

    def __init__(self, job_arn: str | None, connect: Callable[[str, str], Any] | None = None) -> None:
        self._connect = connect or _client
        self._news: queue.SimpleQueue[_News | None] = queue.SimpleQueue()
        self._complained = False
        self._thread: threading.Thread | None = None
        if job_arn:
            # A daemon: a call that hangs does not keep the process.
            self._thread = threading.Thread(
                target=self._work, args=(job_arn,), name="experiments", daemon=True
            )
            self._thread.start()

    @classmethod
    def of_this_job(cls) -> "Experiments":
        """The job that SageMaker's environment names; elsewhere one that does nothing."""
        return cls(os.environ.get(JOB_VARIABLE))

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Name → number or text; what is None is left out."""
        self._put(_News(parameters={name: value for name, value in values.items() if value is not None}))

    def metrics(self, epoch: int, values: Mapping[str, float]) -> None:
        """The metrics of an epoch, which becomes their step."""
        now = datetime.now(UTC)
        self._put(
            _News(
                metrics=[
                    {"MetricName": name, "Timestamp": now, "Step": epoch, "Value": float(value)}
                    for name, value in values.items()
                ]
            )
        )

    def _put(self, news: _News) -> None:
        if self._thread is not None:
            self._news.put(news)

    def close(self, seconds: float = DRAIN_SECONDS) -> None:
        """Wait until all is sent, or so long."""
        if self._thread is None:
            return
        self._news.put(None)
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._complain(f"not everything had been sent after {seconds:g} s")

    def _work(self, job_arn: str) -> None:
        try:
            self._send_all(job_arn)
        except Exception as error:
            self._complain(_reason(error))

    def _send_all(self, job_arn: str) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        region, name = job_arn.split(":")[3], job_arn.rpartition("/")[2]
        sagemaker = self._connect("sagemaker", region)
        job = sagemaker.describe_training_job(TrainingJobName=name)
        run = job.get("ExperimentConfig", {}).get("RunName")
        if not run:
            logger.info(
                "this job belongs to no Run of SageMaker Experiments: its metrics are in the log alone"
            )
            return
        sender = _Sender(sagemaker, self._connect("sagemaker-metrics", region), run, self._complain)
        sender.artifacts(job)
        for news in self._batches():
            try:
                sender.send(news)
            except (BotoCoreError, ClientError) as error:
                if not _passing(error):
                    raise
                self._complain(f"{_reason(error)}; trying again")

    def _batches(self) -> Iterator[_News]:
        """What has gathered since the last time, until there is no more to come."""
        last = False
        while not last:
            gathered = [self._news.get()]
            while not self._news.empty():
                gathered.append(self._news.get())
            last = None in gathered
            known = [news for news in gathered if news is not None]
            yield _News(
                [metric for news in known for metric in news.metrics],
                {name: value for news in known for name, value in news.parameters.items()},
            )

    def _complain(self, reason: str) -> None:
        if not self._complained:
            self._complained = True
            logger.warning(
                "SageMaker Experiments: %s; training goes on, and its metrics are in the log", reason
            )


class _Sender:
    """Sends to one Run."""

    def __init__(self, sagemaker: Any, metrics: Any, run: str, complain: Callable[[str], None]) -> None:
        self._sagemaker = sagemaker
        self._metrics = metrics
        self._run = run
        self._complain = complain
        self._unsent = _News()

    def artifacts(self, job: Mapping[str, Any]) -> None:
        """Name the archives that the job will leave."""
        base = f"{job['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{job['TrainingJobName']}/output"
        archives = {"model": f"{base}/model.tar.gz", "data": f"{base}/output.tar.gz"}
        self._sagemaker.update_trial_component(
            TrialComponentName=self._run,
            OutputArtifacts={
                name: {"MediaType": "application/gzip", "Value": uri} for name, uri in archives.items()
            },
        )

    def send(self, news: _News) -> None:
        """Send it, after what an error left of the time before. Raises the SDK's errors."""
        parameters = {**self._unsent.parameters, **news.parameters}
        metrics = [*self._unsent.metrics, *news.metrics]
        self._unsent = _News(metrics, parameters)
        if parameters:
            self._sagemaker.update_trial_component(
                TrialComponentName=self._run,
                Parameters={name: _parameter(value) for name, value in parameters.items()},
            )
        for start in range(0, len(metrics), BATCH):
            self._unsent = _News(metrics[start:])
            batch = metrics[start : start + BATCH]
            answer = self._metrics.batch_put_metrics(TrialComponentName=self._run, MetricData=batch)
            if errors := answer.get("Errors"):
                refused = batch[errors[0].get("MetricIndex", 0)]["MetricName"]
                self._complain(f"{refused} was refused: {errors[0].get('Code')}")
        self._unsent = _News()


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


def _passing(error: Exception) -> bool:
    """Whether trying again may help: AWS is out of reach, busy or ill, but has not refused."""
    from botocore.exceptions import ClientError, HTTPClientError

    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or error.response.get("Error", {}).get("Code") in THROTTLING
    return isinstance(error, HTTPClientError)


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

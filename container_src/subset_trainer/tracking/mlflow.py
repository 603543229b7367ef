"""MLflow: a job's parameters, metrics, tags and status in a run, on any server or on SageMaker's managed MLflow.

MLflow's own variables set the destination: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME or MLFLOW_EXPERIMENT_ID, and
MLFLOW_RUN_ID to continue an existing run. MLFLOW_RUN_NAME names a new run, which otherwise has the training job's name.
For the ARN of a managed server or app, the plugin sagemaker-mlflow signs each request with the job's role.
"""

import logging
import os
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from subset_trainer import __version__
from subset_trainer.tracking.background import Background, Backlog, reason

logger = logging.getLogger(__name__)
URI_VARIABLE = "MLFLOW_TRACKING_URI"
PARAMETERS = 100
"""The maximum number of parameters per request."""
METRICS = 1_000
"""The maximum number of metrics per request."""
TEXT = 500
"""The maximum length of a parameter in characters that all server versions accept."""
STATUS = {"completed": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
SETTINGS = {
    # The tracker itself retries, and each retry of the client would be logged.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""The client's settings, unless the job's environment sets them."""


class MLflow(Background):
    """Records one job. Does nothing where ``uri`` is None.

    Args:
        uri: a tracking URI, or the ARN of a managed MLflow server or app.
        environment: contains MLflow's and the platform's variables.
    """

    def __init__(self, uri: str | None, environment: Mapping[str, str] = os.environ) -> None:
        if not uri:
            super().__init__("MLflow", None)
            return
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        super().__init__("MLflow", lambda: _Sender(uri, environment, self.complain), imports=["mlflow"])


class _Sender:
    """Sends data to one run. The run starts with the first metrics or parameters."""

    def __init__(self, uri: str, environment: Mapping[str, str], complain: Callable[[str], None]) -> None:
        import mlflow

        if not uri.startswith("arn:"):
            # SageMaker's plugin handles every request, and would log a warning for each URI that is not an ARN.
            logging.getLogger("mlflow.tracking.request_header.registry").setLevel(logging.ERROR)
        # Set here and not as the client's argument, because the plugin that signs requests reads the ARN from here.
        mlflow.set_tracking_uri(uri)
        self._client = mlflow.MlflowClient()
        self._environment = environment
        self._complain = complain
        self._run: str | None = None

    def send(self, backlog: Backlog) -> None:
        if self._run is None:
            self._run = self._begin()
        self._send_parameters(self._run, backlog.parameters)
        self._send_metrics(self._run, backlog)
        if backlog.outcome is not None:
            self._client.set_terminated(self._run, STATUS[backlog.outcome])

    def passing(self, error: Exception) -> bool:
        from mlflow.exceptions import MlflowException

        if not isinstance(error, MlflowException):
            return False
        status = error.get_http_status_code()
        return status >= 500 or status == 429

    def _begin(self) -> str:
        if existing := self._environment.get("MLFLOW_RUN_ID"):
            run = self._client.get_run(existing)
            self._client.update_run(existing, status="RUNNING")
            for name, value in self._tags().items():
                self._client.set_tag(existing, name, value)
        else:
            run_name = self._environment.get("MLFLOW_RUN_NAME") or self._environment.get("TRAINING_JOB_NAME")
            run = self._client.create_run(self._experiment(), tags=self._tags(), run_name=run_name)
        info = run.info
        logger.info("MLflow: run %s (%s) of experiment %s", info.run_name, info.run_id, info.experiment_id)
        return str(info.run_id)

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        name = self._environment.get("MLFLOW_EXPERIMENT_NAME")
        if not name:
            return self._environment.get("MLFLOW_EXPERIMENT_ID") or "0"
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException as error:
                # Another job of the same sweep may have created it first.
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                experiment = self._client.get_experiment_by_name(name)
                if experiment is None:
                    raise
        return str(experiment.experiment_id)

    def _tags(self) -> dict[str, str]:
        job = {
            "training_job": self._environment.get("TRAINING_JOB_NAME"),
            "training_job_arn": self._environment.get("TRAINING_JOB_ARN"),
        }
        return {
            "mlflow.source.name": "subset-trainer",
            "mlflow.source.type": "JOB",
            "image_version": __version__,
            **{name: value for name, value in job.items() if value},
        }

    def _send_parameters(self, run: str, parameters: dict[str, Any]) -> None:
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException

        while batch := dict(islice(parameters.items(), PARAMETERS)):
            try:
                self._client.log_batch(
                    run, params=[Param(name, str(value)[:TEXT]) for name, value in batch.items()]
                )
            except MlflowException as error:
                # Parameters of an existing run cannot be changed. The metrics are still sent.
                if error.error_code != "INVALID_PARAMETER_VALUE":
                    raise
                self._complain(f"parameters were refused: {reason(error)}")
            for name in batch:
                del parameters[name]

    def _send_metrics(self, run: str, backlog: Backlog) -> None:
        from mlflow.entities import Metric

        while batch := backlog.metrics[:METRICS]:
            # Older servers refuse a colon in a name, and their pages group charts by a slash.
            metrics = [
                Metric(m.name.replace(":", "/"), m.value, int(m.time.timestamp() * 1000), m.step)
                for m in batch
            ]
            self._client.log_batch(run, metrics=metrics)
            del backlog.metrics[:METRICS]

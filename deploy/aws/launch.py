"""Launches the image on SageMaker with the SDK's generic `Estimator`, or in its local mode."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import boto3
from sagemaker.config import load_sagemaker_config
from sagemaker.debugger import TensorBoardOutputConfig
from sagemaker.estimator import Estimator
from sagemaker.exceptions import UnexpectedStatusException
from sagemaker.local import LocalSession
from sagemaker.session import Session

from deploy.aws import calls, jobs
from deploy.aws.jobs import Job
from subset_selection.catalogue import REFERENCE
from subset_trainer.config import hyperparameters as knobs
from subset_trainer.errors import UserError
from subset_trainer.tracking.metrics import metric_definitions

LOCAL_TYPES = ("local", "local_gpu")
TENSORBOARD = "subset-trainer/tensorboard"
"""Prefix in the session's bucket for event files, which are written if the hyperparameter `tensorboard` is set."""
LOCAL_SHARED_MEMORY = "1G"
"""Size of /dev/shm in local mode. Docker's default of 64 MB is too small for workers that load images."""


def estimator(
    image_uri: str,
    hyperparameters: Mapping[str, Any],
    role: str,
    instance_type: str = "ml.g5.xlarge",
    *,
    session: Session | None = None,
    **settings: Any,
) -> Estimator:
    """Return a ready `sagemaker.estimator.Estimator` for the image.

    The hyperparameters are validated before any call to AWS, as the image validates them. With `entry_point` among
    the settings they belong to the user's script and are not validated. Metric definitions are always set. The
    debugger and profiler, which the image does not use, are off unless `settings` turn them on.

    Args:
        image_uri: URI of the image in ECR.
        hyperparameters: name → value.
        role: IAM role of the job, by name or ARN.
        instance_type: a SageMaker instance type, or `local` or `local_gpu`.
        session: the SDK's session; by default a new one.
        settings: passed to `Estimator` unchanged: `max_run`, `use_spot_instances`, `subnets`, `output_path`, ….

    Raises UserError naming every invalid hyperparameter.
    """
    values = dict(hyperparameters)
    parsed = None if "entry_point" in settings else knobs.parse(values)
    if parsed is not None and parsed.backend == "cords" and settings.get("instance_count", 1) > 1:
        raise UserError("instance_count: backend='cords' runs in one process, on one instance")
    local = instance_type in LOCAL_TYPES
    session = session or sagemaker_session(local=local)
    defaults: dict[str, Any] = {
        "instance_count": 1,
        "base_job_name": job_prefix(values),
        "metric_definitions": metric_definitions(),
        "debugger_hook_config": False,
        "disable_profiler": True,
    }
    if parsed is not None and parsed.tensorboard and not local:
        # Without this setting SageMaker does not upload the event files.
        place = f"s3://{session.default_bucket()}/{TENSORBOARD}"
        defaults["tensorboard_output_config"] = TensorBoardOutputConfig(s3_output_path=place)
    return Estimator(
        image_uri=image_uri,
        role=role,
        instance_type=instance_type,
        sagemaker_session=session,
        hyperparameters=values,
        **{**defaults, **settings},
    )


def follow(session: Session, name: str) -> Job:
    """Print the job's log as it is written, until the job ends; return the ended job."""
    # The SDK's exception for a failed job only repeats the job's failure reason and adds a link to a guide.
    with suppress(UnexpectedStatusException):
        session.logs_for_job(name, wait=True)
    return jobs.describe(session.sagemaker_client, name)


class Request(Exception):  # noqa: N818 - nothing went wrong
    """Carries the parameters of the request that would have created a training job."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        super().__init__(parameters)
        self.parameters = parameters


def stop_before_the_request(session: Session) -> None:
    """Make the session raise `Request` instead of creating a training job."""

    def stop(params: Mapping[str, Any], **_: Any) -> None:
        raise Request(params)

    session.sagemaker_client.meta.events.register("provide-client-params.sagemaker.CreateTrainingJob", stop)


def job_prefix(values: Mapping[str, Any]) -> str:
    """Return a job-name prefix that distinguishes runs in the console, such as `subset-trainer-glister-0-3`."""
    # Parsed, because a value may be written with quotes or in another case, which no job's name can have. The
    # hyperparameters of a user's script are not the image's.
    known = {name: values[name] for name in ("strategy", "fraction") if name in values}
    try:
        parsed = knobs.parse(known)
    except UserError:
        return "subset-trainer"
    auto = isinstance(parsed.fraction, str)
    strategy = parsed.strategy
    fraction = "auto" if auto else f"{parsed.fraction:g}".replace(".", "-")
    return f"subset-trainer-{strategy}" + ("" if strategy == REFERENCE else f"-{fraction}")


def sagemaker_session(
    local: bool = False, bucket: str | None = None, boto_session: "boto3.Session | None" = None
) -> Session:
    """Return a session of the SageMaker SDK. Telemetry is off unless the user's SDK configuration turns it on.

    Args:
        local: whether the session is for local mode, which needs a region but no credentials.
        bucket: bucket for outputs; by default the SDK's `sagemaker-REGION-ACCOUNT`.
        boto_session: by default a new one.
    """
    boto_session = boto_session or calls.boto_session()
    config = load_sagemaker_config() or {}
    config.setdefault("SchemaVersion", "1.0")
    modules = config.setdefault("SageMaker", {}).setdefault("PythonSDK", {}).setdefault("Modules", {})
    modules.setdefault("TelemetryOptOut", True)
    if not local:
        return Session(boto_session, default_bucket=bucket, sagemaker_config=config)
    session = LocalSession(boto_session, default_bucket=bucket, sagemaker_config=config)
    session.config = {
        "local": {"local_code": True, "container_config": {"shm_size": LOCAL_SHARED_MEMORY}},
    }
    return session

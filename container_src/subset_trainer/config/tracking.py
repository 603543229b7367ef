"""The hyperparameters that send metrics elsewhere, in addition to the log and SageMaker Experiments."""

import re

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from subset_trainer.config.knobs import Knobs

MLFLOW_SERVER = (
    r"https?://[^/@\s]+(/\S*)?"
    r"|arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:[0-9]{12}:mlflow-(tracking-server|app)/\S+"
)


class TrackingKnobs(Knobs):
    """Where metrics are recorded."""

    tensorboard: bool = Field(
        False, description="write TensorBoard event files to `/opt/ml/output/tensorboard`"
    )
    mlflow_tracking_uri: str | None = Field(
        None,
        description="the MLflow server that records the run: a URL without a password, or the ARN of a managed "
        "server (`mlflow-tracking-server` or `mlflow-app`); default: the environment variable "
        "`MLFLOW_TRACKING_URI`",
    )

    @field_validator("mlflow_tracking_uri")
    @classmethod
    def _names_a_server(cls, uri: str | None) -> str | None:
        # The value is written to logs and artefacts, so it must not contain a password. For the same reason the
        # message does not repeat it.
        if uri is not None and not re.fullmatch(MLFLOW_SERVER, uri):
            raise PydanticCustomError(
                "mlflow_server",
                "hyperparameter mlflow_tracking_uri: expected http://… or https://… without a user or password "
                "(set those as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment), or the ARN "
                "of a managed one, arn:aws:sagemaker:REGION:ACCOUNT:mlflow-tracking-server/NAME or …:mlflow-app/NAME",
            )
        return uri

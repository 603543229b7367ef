"""What every call to AWS shares: the session, and an AWS failure as one sentence."""

import os

import boto3
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)

from subset_trainer.errors import PlatformError, TrainingError, UserError

AWS_ERRORS = (BotoCoreError, ClientError)

_THROTTLED = {"Throttling", "ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"}


def boto_session(region: str | None = None) -> "boto3.Session":
    """A boto3 session; its region is the argument, AWS_REGION, or the user's configured one.

    Raises UserError without any.
    """
    session = boto3.Session(region_name=region or os.environ.get("AWS_REGION"))
    if session.region_name is None:
        raise UserError("no AWS region: give --region, or set AWS_REGION, or run `aws configure`")
    return session


def as_training_error(error: BaseException) -> TrainingError:
    """An exception of botocore's as one sentence, sorted by who can mend it."""
    if isinstance(error, NoRegionError):
        return UserError("no AWS region: give --region, or set AWS_REGION, or run `aws configure`")
    if isinstance(error, NoCredentialsError | PartialCredentialsError | ProfileNotFound):
        return UserError(f"no usable AWS credentials ({error}): run `aws configure`, or set AWS_PROFILE")
    if isinstance(error, EndpointConnectionError):
        return PlatformError(f"AWS cannot be reached: {error}")
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code", "")
        message = error.response.get("Error", {}).get("Message", str(error))
        what = f"AWS refused {error.operation_name} ({code}): {message}"
        if code in _THROTTLED:
            return PlatformError(f"{what}; try again in a while")
        if code in _EXPIRED:
            return UserError(f"{what}; renew the credentials, for example with `aws sso login`")
        return UserError(what)
    return PlatformError(f"AWS: {error}")

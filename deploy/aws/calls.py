"""What all calls to AWS share: the session, a record of created resources, and errors as one sentence."""

import os
from collections.abc import Iterator
from typing import Any

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

_THROTTLED = {"Throttling", "ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"}
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
_ELSEWHERE = {
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "301",
}
_NO_REGION = "no AWS region: give --region, or set AWS_REGION, or run `aws configure`"

_made: list[str] = []


def boto_session(region: str | None = None, otherwise: str | None = None) -> "boto3.Session":
    """Return a boto3 session. Its region is the argument, else AWS_REGION, else the user's configured region.
    `otherwise` is for where none is configured.

    Everything that its clients create, also through the SageMaker SDK, is recorded in `made`.

    Raises UserError if no region is configured.
    """
    session = boto3.Session(region_name=region or os.environ.get("AWS_REGION"))
    if session.region_name is None and otherwise is not None:
        session = boto3.Session(region_name=otherwise)
    if session.region_name is None:
        raise UserError(_NO_REGION)
    session.events.register("after-call", _note)
    return session


def made() -> list[str]:
    """Return the ARNs (for a bucket, its name) of the resources that sessions created, in order of creation."""
    return list(dict.fromkeys(_made))


def reported() -> None:
    """Clear the record of created resources: they were reported, so later errors need not list them."""
    _made.clear()


def _note(http_response: Any, parsed: dict[str, Any], model: Any, **_: Any) -> None:
    if model.name.startswith("Create") and http_response.status_code < 300:
        _made.extend(list(_names(parsed))[:1])


def _names(answer: Any) -> Iterator[str]:
    """Yield the ARNs in a response, outermost first."""
    if isinstance(answer, dict):
        for name, value in answer.items():
            if isinstance(value, str) and (name.lower().endswith("arn") or name == "Location"):
                yield value.strip("/")
        for value in answer.values():
            yield from _names(value)


def as_training_error(error: BaseException) -> TrainingError | None:
    """Convert an exception of botocore to a one-sentence error; return None for any other exception.

    Errors that the user can fix become UserError, all others PlatformError.
    """
    if isinstance(error, NoRegionError):
        return UserError(_NO_REGION)
    if isinstance(error, NoCredentialsError | PartialCredentialsError | ProfileNotFound):
        return UserError(f"no usable AWS credentials ({error}): run `aws configure`, or set AWS_PROFILE")
    if isinstance(error, EndpointConnectionError):
        return PlatformError(f"AWS cannot be reached: {error}")
    if isinstance(error, ClientError):
        return _refusal(error)
    if isinstance(error, BotoCoreError):
        return PlatformError(f"AWS: {error}")
    return None


def _refusal(error: ClientError) -> TrainingError:
    answer = error.response.get("Error", {})
    code, message = answer.get("Code", ""), answer.get("Message", str(error)).strip().rstrip(".")
    what = f"AWS refused {error.operation_name} ({code}): {' '.join(message.split())}"
    if code in _THROTTLED:
        return PlatformError(f"{what}; try again in a while")
    if code in _EXPIRED:
        return UserError(f"{what}; renew the credentials, for example with `aws sso login`")
    if code in _DENIED:
        return UserError(f"{what}; `python -m deploy policy launcher` prints the rights that are needed")
    if code in _ELSEWHERE:
        return UserError(f"{what}; the bucket is in another region than --region")
    if code == "NoSuchEntity" and error.operation_name == "GetRole":
        return UserError(f"{what}; give --role the name or ARN of a role that is there")
    return UserError(what)

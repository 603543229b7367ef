"""What SageMaker would refuse of a job's options, found without its SDK and before anything is sent.

Most limits are those of the API's own model, as botocore has it. Its documentation alone has the others.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from deploy.aws.storage import bucket_fault, uri_fault
from subset_trainer.errors import UserError, shown

IMAGE = re.compile(
    r"\d{12}\.dkr[.-]ecr(-fips)?\.(?P<region>[a-z0-9-]+)\.[a-z0-9.-]+/[a-z0-9]+(?:[._/-]+[a-z0-9]+)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
"""URI of an image in Amazon ECR."""
ROLE_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{1,64}")
DAYS = 28
"""SageMaker's longest job."""
GIGABYTES = 16_384
"""The largest disk that SageMaker attaches to an instance."""
LIMITS = {
    "keep_alive": ("ResourceConfig.KeepAlivePeriodInSeconds", "seconds"),
    "subnets": ("VpcConfig.Subnets", "subnets"),
    "security_groups": ("VpcConfig.SecurityGroupIds", "security groups"),
    "tags": ("Tags", "tags"),
    "env": ("Environment", "variables"),
    "set": ("HyperParameters", "hyperparameters"),
    "kms_key": ("OutputDataConfig.KmsKeyId", "characters"),
    "experiment": ("ExperimentConfig.ExperimentName", "characters"),
}
"""Option → its place in a request that creates a training job, and what its length counts."""


def check(given: Any, region: str) -> None:
    """Check the options of a job on SageMaker.

    Args:
        given: the options of `add_job`, and `experiment` where the command has it.
        region: the job's.

    Raises:
        UserError: names every option that SageMaker would refuse.
    """
    refuse(_faults(given, region))


def check_local(given: Any) -> None:
    """Check the options of a job in a container on this machine. Raises UserError as `check` does."""
    if given.instance_type is not None:
        raise UserError(
            f"--instance-type {given.instance_type}: only for jobs on SageMaker, not with --local"
        )


def refuse(faults: Iterable[str]) -> None:
    """Raise UserError with all faults in one sentence, if there are any."""
    if found := list(faults):
        raise UserError("; ".join(found))


def _faults(given: Any, region: str) -> Iterator[str]:
    yield from image_faults(given.image_uri, region)
    if given.role is not None:
        yield from role_faults(given.role)
    if given.instance_type is not None:
        yield from instance_faults(given.instance_type)
    for option in ("output", "checkpoints"):
        if (value := getattr(given, option)) is not None and (fault := uri_fault(value)):
            yield f"--{option} {shown(value)}: {fault}"
    if given.bucket is not None and (fault := bucket_fault(given.bucket)):
        yield f"--bucket {shown(given.bucket)}: {fault}"
    longest = DAYS * 86_400
    if given.max_run is not None and given.max_run > longest:
        yield f"--max-run {given.max_run}: expected at most {longest} seconds, {DAYS} days"
    if given.volume is not None and given.volume > GIGABYTES:
        yield f"--volume {given.volume}: expected at most {GIGABYTES} GB"
    for option, (path, unit) in LIMITS.items():
        value = getattr(given, option, None)
        if value is not None and (fault := limit_fault(path, value, unit)):
            yield f"--{option.replace('_', '-')}{fault}"


def image_faults(uri: str, region: str) -> Iterator[str]:
    """Yield what is wrong with the URI of a job's image."""
    match = IMAGE.fullmatch(uri)
    if match is None or len(uri) > 255:
        yield (
            f"--image-uri {shown(uri)}: expected the URI of an image in Amazon ECR, such as "
            "ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME@sha256:…, as `image push` prints it"
        )
    elif match["region"] != region:
        yield (
            f"--image-uri: the image is in {match['region']}, and a job in {region} can only use images of its own "
            f"region; give --region {match['region']}, or push the image to {region}"
        )


def check_name(name: str, longest: int) -> None:
    """Raise UserError if a job's name cannot be, or begin with, this name."""
    if not re.fullmatch(rf"[a-zA-Z0-9](-*[a-zA-Z0-9]){{0,{longest - 1}}}", name):
        raise UserError(
            f"the name {name!r}: expected up to {longest} letters and digits, with hyphens between"
        )


def role_faults(role: str, option: str = "--role", arn: bool = True) -> Iterator[str]:
    """Yield what is wrong with a role, which is a name or, unless `arn` is False, an ARN."""
    if arn and role.startswith("arn:"):
        if not re.fullmatch(str(_shape("RoleArn").metadata["pattern"]), role):
            kind = role.split(":", 5)[-1].partition("/")[0]
            what = f", got that of a {kind}" if kind in ("user", "group", "policy", "assumed-role") else ""
            yield f"{option} {shown(role)}: expected a role's ARN, arn:aws:iam::ACCOUNT:role/NAME{what}"
    elif not ROLE_NAME.fullmatch(role):
        yield (
            f"{option} {shown(role)}: expected a role's name, up to 64 letters, digits and any of _+=,.@- without its "
            f"path{', or its ARN' if arn else ''}"
        )


def instance_faults(kind: str, option: str = "--instance-type") -> Iterator[str]:
    """Yield what is wrong with an instance type. Newer families than this botocore knows are accepted."""
    if kind in ("local", "local_gpu"):
        yield f"{option} {kind}: expected a type such as ml.g5.xlarge; --local runs on this machine"
        return
    known: list[str] = _shape("ResourceConfig.InstanceType").metadata["enum"]
    if kind in known:
        return
    sizes = {name.rpartition(".")[2] for name in known}
    match = re.fullmatch(r"ml\.[a-z0-9-]+\.([a-z0-9-]+)", kind)
    if match is None or match[1] not in sizes:
        near = difflib.get_close_matches(kind if kind.startswith("ml.") else f"ml.{kind}", known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        yield f"{option} {shown(kind)}: expected a SageMaker type such as ml.g5.xlarge{hint}"


def limit_fault(path: str, value: Any, unit: str) -> str | None:
    """Return how a value breaks the API's limits, the value included; None if it does not.

    Args:
        path: place of the value in a request that creates a training job, such as `VpcConfig.Subnets`.
        value: a number, a text, a list or a mapping of texts.
        unit: what its size counts.
    """
    shape = _shape(path)
    most = shape.metadata.get("max")
    size = value if isinstance(value, int) else len(value)
    if most is not None and size > most:
        return (
            f" {value}: expected at most {most} {unit}"
            if size is value
            else f": {size} {unit}, at most {most}"
        )
    if isinstance(value, str):
        return None if _matches(shape, value) else f" {shown(value)}: {_expected(shape)}"
    if isinstance(value, Mapping):
        # Tags are a list of keys and values in the request.
        member = (
            shape.member.members if shape.type_name == "list" else {"Key": shape.key, "Value": shape.value}
        )
        for name, text in value.items():
            for part, kind in ((name, member["Key"]), (str(text), member["Value"])):
                if len(part) > kind.metadata.get("max", len(part)) or not _matches(kind, part):
                    return f" {shown(name, 80)}: {_expected(kind)}, got {shown(part, 80)}"
    elif not isinstance(value, int):
        for part in value:
            if not _matches(shape.member, part):
                return f" {shown(part)}: {_expected(shape.member)}"
    return None


def _matches(shape: Any, text: str) -> bool:
    """Whether a text has a shape's pattern. Python knows no classes of Unicode, so letters of any script are \\w."""
    pattern = shape.metadata.get("pattern", ".*")
    pattern = pattern.replace(r"\p{L}\p{Z}\p{N}", r"\w\s")
    return re.fullmatch(pattern, text, re.DOTALL) is not None and len(text) <= shape.metadata.get(
        "max", len(text)
    )


def _expected(shape: Any) -> str:
    most = shape.metadata.get("max")
    return f"expected {f'up to {most} ' if most else ''}characters that match {shape.metadata.get('pattern', '.*')}"


@cache
def _model() -> Any:
    from botocore.loaders import Loader
    from botocore.model import ServiceModel

    return ServiceModel(Loader().load_service_model("sagemaker", "service-2"))


@cache
def _shape(path: str) -> Any:
    """The shape of a place in a request that creates a training job."""
    shape = _model().operation_model("CreateTrainingJob").input_shape
    for part in path.split("."):
        shape = shape.members[part]
    return shape

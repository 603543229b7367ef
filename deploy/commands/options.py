"""Options that several commands share, what parses them, and the settings of a job that they stand for."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from deploy.aws import scan, storage
from deploy.commands.declared import Option, Options
from subset_trainer.errors import UserError

DATA = ("training", "validation", "test")
"""Channels of examples."""
CHANNELS = (*DATA, "pretrained")
BUILD = Path("build")
"""Default folder for results."""
INSTANCE_TYPE = "ml.g5.xlarge"
DAY = 86_400
"""SageMaker's default time limit of a job, in seconds."""


def fractions(text: str) -> tuple[float, ...]:
    """Parse different fractions above 0 and at most 1, separated by commas."""
    values = []
    for part in text.split(","):
        try:
            value = float(part)
        except ValueError:
            value = 0.0
        if not 0 < value <= 1:
            raise ValueError(
                f"{part!r}: expected numbers above 0 and at most 1 separated by commas, such as 1,0.5,0.3,0.1"
            )
        values.append(value)
    if len(set(values)) < len(values):
        raise ValueError(f"{text!r} names a fraction twice")
    return tuple(values)


def names(text: str) -> tuple[str, ...]:
    """Parse words separated by commas."""
    return tuple(part for part in text.split(",") if part)


def seeds(text: str) -> tuple[int, ...]:
    """Parse different whole numbers separated by commas."""
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise ValueError(f"{text!r}: expected different whole numbers separated by commas")
    return tuple(int(part) for part in parts)


def count(text: str) -> int:
    """Parse a whole number of at least 1."""
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise ValueError(f"{text!r}: expected a whole number of at least 1")
    return value


def points(text: str) -> float:
    """Parse percentage points from 0 to 100."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise ValueError(f"{text!r}: expected percentage points, from 0 to 100")
    return value


def folder(text: str) -> Path:
    """Parse the path of a folder to write into, which need not exist."""
    path = Path(text)
    if fault := folder_fault(path):
        raise ValueError(fault)
    return path


def folder_fault(path: Path) -> str | None:
    """Return why a path cannot be a folder to write into; None if it can."""
    for part in (path, *path.parents):
        if part.exists() and not part.is_dir():
            return f"{str(part)!r} is a file; expected a folder"
    return None


def file(text: str) -> Path:
    """Parse the path of a file to write, which need not exist."""
    path = Path(text)
    if path.is_dir():
        raise ValueError(f"{text!r} is a folder; expected the name of a file")
    folder(str(path.parent))
    return path


def bucket(text: str) -> str:
    """Parse the name of an S3 bucket."""
    if fault := storage.bucket_fault(text):
        raise ValueError(f"{text!r}: {fault}")
    return text


def account(text: str) -> str:
    """Parse an AWS account's number of twelve digits."""
    if not (len(text) == 12 and text.isdecimal()):
        raise ValueError(f"{text!r}: expected twelve digits")
    return text


def pairs(texts: Sequence[str]) -> dict[str, str]:
    """Parse NAME=VALUE, of which the last of a name counts."""
    gathered = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"{text!r}: expected NAME=VALUE")
        gathered[name] = value
    return gathered


def dollars(texts: Sequence[str]) -> dict[str, float]:
    """Parse TYPE=DOLLARS, dollars above 0."""
    found = {}
    for name, text in pairs(texts).items():
        try:
            found[name] = float(text)
        except ValueError:
            found[name] = -1.0
        if not 0 < found[name] < math.inf:
            raise ValueError(f"'{name}={text}': expected dollars an hour")
    return found


def seconds(text: str) -> float:
    """Parse seconds, at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise ValueError(f"{text!r}: expected seconds, at least 0")
    return value


@dataclass(frozen=True, kw_only=True)
class Region(Options):
    """For commands that call AWS."""

    region: Annotated[str | None, Option("AWS region; default: AWS_REGION or your AWS configuration")] = None


@dataclass(frozen=True, kw_only=True)
class Settings(Options):
    """For commands that know hyperparameters."""

    set: Annotated[
        Mapping[str, str],
        Option(
            "hyperparameters, such as epochs=30 seed=1; `python -m subset_trainer.config` lists them",
            "NAME=VALUE",
            pairs,
            many=True,
        ),
    ] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Prices(Options):
    """For commands that show costs."""

    prices: Annotated[
        Mapping[str, float],
        Option(
            "price of an instance type in dollars an hour, such as ml.g5.xlarge=1.41 (or local=0.2); adds estimated "
            "costs",
            "TYPE=DOLLARS",
            dollars,
            many=True,
        ),
    ] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ScanSeverity(Options):
    """For commands that push an image."""

    scan_severity: Annotated[
        str,
        Option(
            "least severity of a finding of ECR's scan that keeps the image from its tag, one of "
            f"{', '.join(scan.SEVERITIES)}; {scan.OPEN}: none does",
            "SEVERITY",
            choices=(*scan.SEVERITIES, scan.OPEN),
        ),
    ] = scan.DEFAULT


@dataclass(frozen=True, kw_only=True)
class Poll(Options):
    """For commands that wait for jobs."""

    poll: Annotated[float, Option("time between two queries of the jobs", "SECONDS", seconds)] = 30.0


@dataclass(frozen=True, kw_only=True)
class Job(Settings, Region):
    """A job's image, role, channels, instances, storage and network."""

    image_uri: Annotated[
        str,
        Option("the image's URI, as `image push` prints it; the one with the digest never changes", "URI"),
    ]
    role: Annotated[str | None, Option("IAM role of the job: its name or ARN; not with --local")] = None
    training: Annotated[
        str, Option("training data: s3://…, or a path on this machine, which is uploaded", "URI")
    ]
    validation: Annotated[str | None, Option("validation data, as --training", "URI")] = None
    test: Annotated[str | None, Option("test data, as --training", "URI")] = None
    pretrained: Annotated[str | None, Option("a pretrained model, as --training", "URI")] = None
    local: Annotated[
        bool,
        Option("run in Docker on this machine (SageMaker's local mode), without an AWS account"),
    ] = False
    instance_type: Annotated[
        str | None, Option(f"instance type to train on ({INSTANCE_TYPE}); not with --local", "TYPE")
    ] = None
    instance_count: Annotated[int, Option("instances for each job", "N", count)] = 1
    bucket: Annotated[str | None, Option("S3 bucket for uploads and results (sagemaker-REGION-ACCOUNT)")] = (
        None
    )
    output: Annotated[
        str | None, Option("where results are written: s3://…, or a folder with --local", "URI")
    ] = None
    max_run: Annotated[int | None, Option("time limit of each job (86400, a day)", "SECONDS", count)] = None
    spot: Annotated[bool, Option("use spot instances; an interrupted job resumes from its checkpoint")] = (
        False
    )
    max_wait: Annotated[
        int | None,
        Option(
            "limit on waiting for spot instances and training together (twice --max-run)", "SECONDS", count
        ),
    ] = None
    checkpoints: Annotated[
        str | None, Option("s3://… folder for checkpoints; --spot has one by default", "URI")
    ] = None
    volume: Annotated[int | None, Option("size of the disk for data and results (30)", "GB", count)] = None
    keep_alive: Annotated[
        int | None, Option("keep the instance for the next job (a warm pool)", "SECONDS", count)
    ] = None
    subnets: Annotated[
        tuple[str, ...], Option("subnets of your VPC; with --security-groups", "ID", many=True)
    ] = ()
    security_groups: Annotated[
        tuple[str, ...], Option("security groups of your VPC; with --subnets", "ID", many=True)
    ] = ()
    isolated: Annotated[bool, Option("run the container without a network")] = False
    encrypt_traffic: Annotated[bool, Option("encrypt the traffic between the instances of a job")] = False
    kms_key: Annotated[str | None, Option("KMS key that encrypts the disk and the results", "KEY")] = None
    tags: Annotated[Mapping[str, str], Option("tags of the job", "NAME=VALUE", pairs, many=True)] = field(
        default_factory=dict
    )
    env: Annotated[
        Mapping[str, str],
        Option(
            "environment variables of the container, such as MLFLOW_EXPERIMENT_NAME=cifar-10",
            "NAME=VALUE",
            pairs,
            many=True,
        ),
    ] = field(default_factory=dict)


def job_settings(options: Job) -> dict[str, Any]:
    """Return the options on instances, storage and network as arguments of `Estimator`.

    Raises UserError if options contradict each other.
    """
    settings: dict[str, Any] = {
        "instance_count": options.instance_count,
        "max_run": options.max_run,
        "use_spot_instances": options.spot or None,
        "max_wait": options.max_wait or (2 * (options.max_run or DAY) if options.spot else None),
        "checkpoint_s3_uri": options.checkpoints,
        "environment": options.env or None,
        "volume_size": options.volume,
        "keep_alive_period_in_seconds": options.keep_alive,
        "subnets": list(options.subnets) or None,
        "security_group_ids": list(options.security_groups) or None,
        "enable_network_isolation": options.isolated or None,
        "encrypt_inter_container_traffic": options.encrypt_traffic or None,
        "output_kms_key": options.kms_key,
        "volume_kms_key": options.kms_key,
        "tags": [{"Key": key, "Value": value} for key, value in options.tags.items()] or None,
    }
    given = {name: value for name, value in settings.items() if value is not None}
    if options.max_wait and not options.spot:
        raise UserError("--max-wait goes with --spot")
    if options.spot and given["max_wait"] < (options.max_run or DAY):
        raise UserError(
            f"--max-wait {options.max_wait}: expected at least --max-run's {options.max_run or DAY} seconds"
        )
    if options.spot and options.keep_alive:
        raise UserError("--keep-alive does not go with --spot: SageMaker keeps no spot instances warm")
    if bool(options.subnets) != bool(options.security_groups):
        raise UserError("--subnets and --security-groups go together")
    if options.local and (elsewhere := given.keys() - {"instance_count", "environment"}):
        what = ", ".join(sorted(elsewhere))
        raise UserError(f"{what}: only for jobs on SageMaker, not with --local")
    return given

"""Parsers and groups of options that the commands share, and the settings of a job that they stand for."""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from deploy.aws import scan, storage
from subset_trainer.errors import UserError

CHANNELS = ("training", "validation", "test")
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
            raise argparse.ArgumentTypeError(
                f"{part!r}: expected numbers above 0 and at most 1 separated by commas, such as 1,0.5,0.3,0.1"
            )
        values.append(value)
    if len(set(values)) < len(values):
        raise argparse.ArgumentTypeError(f"{text!r} names a fraction twice")
    return tuple(values)


def names(text: str) -> tuple[str, ...]:
    """Parse words separated by commas."""
    return tuple(part for part in text.split(",") if part)


def seeds(text: str) -> tuple[int, ...]:
    """Parse different whole numbers separated by commas."""
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise argparse.ArgumentTypeError(f"{text!r}: expected different whole numbers separated by commas")
    return tuple(int(part) for part in parts)


def count(text: str) -> int:
    """Parse a whole number of at least 1."""
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of at least 1")
    return value


def points(text: str) -> float:
    """Parse percentage points from 0 to 100."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r}: expected percentage points, from 0 to 100")
    return value


def folder(text: str) -> Path:
    """Parse the path of a folder to write into, which need not exist."""
    path = Path(text)
    if fault := folder_fault(path):
        raise argparse.ArgumentTypeError(fault)
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
        raise argparse.ArgumentTypeError(f"{text!r} is a folder; expected the name of a file")
    folder(str(path.parent))
    return path


def bucket(text: str) -> str:
    """Parse the name of an S3 bucket."""
    if fault := storage.bucket_fault(text):
        raise argparse.ArgumentTypeError(f"{text!r}: {fault}")
    return text


def account(text: str) -> str:
    """Parse an AWS account's number of twelve digits."""
    if not (len(text) == 12 and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r}: expected twelve digits")
    return text


class Settings(argparse.Action):
    """Collects NAME=VALUE pairs in a dict."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        gathered = dict(getattr(namespace, self.dest))
        for pair in values or ():
            name, equals, value = pair.partition("=")
            if not equals or not name:
                parser.error(f"{option_string}: expected NAME=VALUE, got {pair!r}")
            gathered[name] = value
        setattr(namespace, self.dest, gathered)


class Prices(Settings):
    """Collects NAME=VALUE pairs in a dict, with values that are numbers above 0."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        super().__call__(parser, namespace, values, option_string)
        prices = {}
        for name, text in getattr(namespace, self.dest).items():
            try:
                prices[name] = float(text)
            except ValueError:
                prices[name] = -1.0
            if not 0 < prices[name] < math.inf:
                parser.error(f"{option_string}: expected dollars an hour, got {name}={text}")
        setattr(namespace, self.dest, prices)


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default only if it is neither None nor empty."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return super()._get_help_string(action) if action.default else action.help


class Parser(argparse.ArgumentParser):
    """Reports an invalid argument like any other error of the user: one sentence, exit code 1."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see `{self.prog} --help`)")


class Commands:
    """A group of commands, to which each command's module adds itself."""

    def __init__(self, parser: argparse.ArgumentParser, metavar: str = "COMMAND") -> None:
        self._parsers = parser.add_subparsers(required=True, metavar=metavar)

    def add(
        self, name: str, run: Callable[[argparse.Namespace], None] | None, text: str
    ) -> argparse.ArgumentParser:
        """Add a command; return the parser for its own options.

        Args:
            name: name of the command.
            run: function that the command runs; None for a group, whose parser is passed to `Commands`.
            text: description of the command.
        """
        added = self._parsers.add_parser(
            name, help=text.replace("%", "%%"), description=text, formatter_class=Help
        )
        added.set_defaults(command=run)
        return added


def add_settings(to: argparse.ArgumentParser) -> None:
    """Add `--set`, for hyperparameters."""
    add_pairs(
        to,
        "--set",
        "hyperparameters, such as epochs=30 seed=1; `python -m subset_trainer.config` lists them",
    )


def add_pairs(
    to: argparse.ArgumentParser,
    option: str,
    text: str,
    metavar: str = "NAME=VALUE",
    action: type[Settings] = Settings,
    required: bool = False,
) -> None:
    """Add an option that collects NAME=VALUE pairs; by default there are none."""
    to.add_argument(
        option, nargs="+", action=action, default={}, metavar=metavar, required=required, help=text
    )


def add_scan_severity(to: argparse.ArgumentParser) -> None:
    """Add `--scan-severity`."""
    to.add_argument(
        "--scan-severity",
        metavar="SEVERITY",
        choices=(*scan.SEVERITIES, scan.OPEN),
        default=scan.DEFAULT,
        help="least severity of a finding of ECR's scan that keeps the image from its tag, one of "
        f"{', '.join(scan.SEVERITIES)}; {scan.OPEN}: none does",
    )


def add_region(to: argparse.ArgumentParser) -> None:
    """Add `--region`."""
    to.add_argument("--region", help="AWS region; default: AWS_REGION or your AWS configuration")


def add_tolerance(to: argparse.ArgumentParser) -> None:
    """Add `--tolerance`, the accepted loss of the runs' metric."""
    to.add_argument(
        "--tolerance",
        type=points,
        default=1.0,
        metavar="POINTS",
        help="accepted loss, in points of the runs' `metric` (accuracy)",
    )


def add_job(to: argparse.ArgumentParser) -> None:
    """Add the options of a job: image, role, channels, instances, storage, network and hyperparameters."""
    to.add_argument(
        "--image-uri",
        required=True,
        help="the image's URI, as `image push` prints it; the one with the digest never changes",
    )
    to.add_argument("--role", help="IAM role of the job: its name or ARN; not with --local")
    for name in CHANNELS:
        to.add_argument(
            f"--{name}",
            required=name == "training",
            metavar="URI",
            help=f"{name} data: s3://…, or a path on this machine, which is uploaded",
        )
    to.add_argument(
        "--local",
        action="store_true",
        help="run in Docker on this machine (SageMaker's local mode), without an AWS account",
    )
    to.add_argument(
        "--instance-type",
        metavar="TYPE",
        help=f"instance type to train on ({INSTANCE_TYPE}); not with --local",
    )
    to.add_argument("--instance-count", type=count, default=1, metavar="N", help="instances for each job")
    to.add_argument("--bucket", help="S3 bucket for uploads and results (sagemaker-REGION-ACCOUNT)")
    add_region(to)
    to.add_argument(
        "--output", metavar="URI", help="where results are written: s3://…, or a folder with --local"
    )
    to.add_argument("--max-run", type=count, metavar="SECONDS", help="time limit of each job (86400, a day)")
    to.add_argument(
        "--spot",
        action="store_true",
        help="use spot instances; an interrupted job resumes from its checkpoint",
    )
    to.add_argument(
        "--max-wait",
        type=count,
        metavar="SECONDS",
        help="limit on waiting for spot instances and training together (twice --max-run)",
    )
    to.add_argument(
        "--checkpoints",
        metavar="URI",
        help="s3://… folder for checkpoints; --spot has one by default",
    )
    to.add_argument("--volume", type=count, metavar="GB", help="size of the disk for data and results (30)")
    to.add_argument(
        "--keep-alive", type=count, metavar="SECONDS", help="keep the instance for the next job (a warm pool)"
    )
    to.add_argument("--subnets", nargs="+", metavar="ID", help="subnets of your VPC; with --security-groups")
    to.add_argument(
        "--security-groups", nargs="+", metavar="ID", help="security groups of your VPC; with --subnets"
    )
    to.add_argument("--isolated", action="store_true", help="run the container without a network")
    to.add_argument(
        "--encrypt-traffic", action="store_true", help="encrypt the traffic between the instances of a job"
    )
    to.add_argument("--kms-key", metavar="KEY", help="KMS key that encrypts the disk and the results")
    add_pairs(to, "--tags", "tags of the job")
    add_pairs(to, "--env", "environment variables of the container, such as MLFLOW_EXPERIMENT_NAME=cifar-10")
    add_settings(to)


def job_settings(options: argparse.Namespace) -> dict[str, Any]:
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
        "subnets": options.subnets,
        "security_group_ids": options.security_groups,
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


def add_prices(to: argparse.ArgumentParser) -> None:
    """Add `--prices`, the instance types' prices an hour."""
    add_pairs(
        to,
        "--prices",
        "price of an instance type in dollars an hour, such as ml.g5.xlarge=1.41 (or local=0.2); adds estimated costs",
        "TYPE=DOLLARS",
        Prices,
    )

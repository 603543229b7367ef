"""`python -m deploy COMMAND`: the host side's commands.

Exit code 1 for what the user can mend, 2 for the rest.
"""

import argparse
import json
import signal
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from deploy import compare, experiment, verdict
from deploy.digits import write_digits
from subset_trainer.errors import AlgorithmError, TrainingError, UserError

if TYPE_CHECKING:
    from sagemaker.estimator import Estimator

CHANNELS = ("training", "validation", "test")
BUILD = Path("build")

# Fifteen epochs of resnet18 show the whole curve in under a minute; a mirrored digit is another sign. A tenth of the
# digits are 130 images: in batches of 128 they would make thirty updates in all, too few to learn from.
DEMO_SETTINGS = {
    "model": "resnet18",
    "epochs": 15,
    "augmentation": "crop",
    "batch_size": 32,
    "learning_rate": 0.01,
}
DAY = 86_400
"""Seconds after which SageMaker ends a job that was given no other limit."""
LOCAL_ROLE = "arn:aws:iam::000000000000:role/local-mode-uses-none"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the process's exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        options = _parser().parse_args(arguments)
        options.command(options)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    return 0


def _terminate(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _demo(options: argparse.Namespace) -> None:
    data = options.output / "digits"
    write_digits(data)
    channels = {"training": data / "training", "test": data / "test"}
    settings = {**DEMO_SETTINGS, **options.set}
    _train_and_compare(options, channels, (1.0, 0.5, 0.3, 0.1), "glister", settings, "scikit-learn's digits")


def _compare(options: argparse.Namespace) -> None:
    if options.local:
        runs = [compare.read_run(folder) for folder in options.local]
        _present(runs, options.output, "Comparison", options.tolerance)
        return
    channels = {name: getattr(options, name) for name in CHANNELS if getattr(options, name) is not None}
    _train_and_compare(
        options, channels, options.fractions, options.strategy, options.set, str(options.training)
    )


def _train_and_compare(
    options: argparse.Namespace,
    channels: dict[str, Path],
    fractions: Sequence[float],
    strategy: str,
    settings: dict[str, str],
    data: str,
) -> None:
    runs = experiment.run(options.output, channels, fractions, strategy, settings, options.baselines)
    facts = runs[0].summary
    examples = facts["examples"]["training"]
    title = f"{data}: {facts['model']}, {examples:,} training examples, seed {facts['seed']}"
    _present(runs, options.output, title)


def _present(runs: Sequence[compare.Run], output: Path, title: str, tolerance: float | None = None) -> None:
    chart = compare.write(runs, output, title)
    print(f"\n{title}\n\n{compare.table(compare.rows(runs))}\n\nchart: {chart}")
    if tolerance is not None:
        print(f"\n{verdict.sentence(runs, tolerance / 100)}")


def _push(options: argparse.Namespace) -> None:
    from deploy import aws, image

    try:
        tagged, by_digest = image.push(
            options.image, options.repository, options.tag, aws.boto_session(options.region)
        )
    except aws.AWS_ERRORS as error:
        raise aws.as_training_error(error) from error
    print(f"{tagged}\n{by_digest}")


def _policy(options: argparse.Namespace) -> None:
    from deploy import aws, policy

    names = policy.Names(
        account=options.account,
        region=aws.boto_session(options.region).region_name,
        bucket=options.bucket,
        role=options.role,
        repository=options.repository,
        project=options.project,
        data=tuple(options.data),
        partition=options.partition,
    )
    statements = policy.POLICIES[options.whose](names)
    if options.explain:
        print(policy.explanation(statements))
    else:
        print(json.dumps(policy.document(statements), indent=2))


def _launch(options: argparse.Namespace) -> None:
    from sagemaker.exceptions import UnexpectedStatusException

    from deploy import aws, launch
    from subset_trainer import hyperparameters

    # First of all: it needs nothing, and it is what is wrong most often.
    hyperparameters.parse(options.set)
    if options.local:
        options.output = options.output or str(BUILD / "local-mode")
    elif options.role is None:
        raise UserError("--role: the IAM role that the job runs under is needed, except with --local")
    channels = _channels(options, options.local)
    settings = _job_settings(options)
    if options.local and (settings or options.dry_run):
        what = ", ".join(sorted(settings)) or "dry_run"
        raise UserError(f"{what}: of jobs on SageMaker, and not with --local")
    if options.output is not None:
        settings["output_path"] = _output_uri(options.output, options.local)
    try:
        session = launch.sagemaker_session(options.local, options.bucket, aws.boto_session(options.region))
        if options.dry_run:
            launch.stop_before_the_request(session)
        job = launch.estimator(
            options.image_uri,
            options.set,
            options.role or LOCAL_ROLE,
            "local" if options.local else options.instance_type,
            session=session,
            **settings,
        )
        job.fit(channels, wait=options.local or options.wait)
    except launch.Request as request:
        print(json.dumps(request.parameters, indent=2))
        return
    except aws.AWS_ERRORS as error:
        raise aws.as_training_error(error) from error
    except UnexpectedStatusException as error:
        raise UserError(str(error)) from error
    except RuntimeError as error:
        if not options.local:
            raise
        raise _local_failure(Path(options.output), error) from error
    name = job.latest_training_job.name  # type: ignore[attr-defined]
    print(f"{name}: model in {job.model_data}" if options.local or options.wait else name)


def _sweep(options: argparse.Namespace) -> None:
    from deploy import aws, launch
    from deploy.sweep import Sweep, plan

    cells = plan(
        options.fractions, options.strategies, options.seeds, options.set, baselines=not options.no_baselines
    )
    channels = _channels(options, local=False)
    settings = _job_settings(options)
    if options.output is not None:
        settings["output_path"] = _output_uri(options.output, local=False)
    try:
        session = launch.sagemaker_session(
            bucket=options.bucket, boto_session=aws.boto_session(options.region)
        )

        def make(values: Mapping[str, Any]) -> "Estimator":
            return launch.estimator(
                options.image_uri, values, options.role, options.instance_type, session=session, **settings
            )

        sweep = Sweep(options.name, options.image_uri, make, channels, session)
        jobs = sweep.run(cells, options.parallel, options.poll)
        folder = BUILD / "sweeps" / options.name
        runs = sweep.results(jobs, folder / "runs")
    except aws.AWS_ERRORS as error:
        raise aws.as_training_error(error) from error
    if runs:
        _present(runs, folder, f"Sweep {options.name}", options.tolerance)
    if lost := [job for job in jobs if job.status != "Completed"]:
        raise UserError(
            f"{len(lost)} of {len(jobs)} jobs did not end well, first {lost[0].name}: "
            f"{lost[0].reason or lost[0].status}"
        )


def _channels(options: argparse.Namespace, local: bool) -> dict[str, str]:
    return {
        name: _channel_uri(name, getattr(options, name), local)
        for name in CHANNELS
        if getattr(options, name) is not None
    }


def _job_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The options that describe the machine and its surroundings, as `Estimator` takes them."""
    settings: dict[str, Any] = {
        "max_run": options.max_run,
        "use_spot_instances": options.spot or None,
        "max_wait": options.max_wait or (2 * (options.max_run or DAY) if options.spot else None),
        "volume_size": options.volume,
        "keep_alive_period_in_seconds": options.keep_alive,
        "subnets": options.subnets,
        "security_group_ids": options.security_groups,
        "enable_network_isolation": options.isolated or None,
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
    if bool(options.subnets) != bool(options.security_groups):
        raise UserError("--subnets and --security-groups go together")
    return given


def _channel_uri(name: str, value: str, local: bool) -> str:
    uri = _uri(f"--{name}", value, local)
    if "://" not in value and not Path(value).exists():
        raise UserError(f"--{name}: there is no file or folder {value!r}")
    return uri


def _output_uri(value: str, local: bool) -> str:
    uri = _uri("--output", value, local)
    if "://" not in value:
        Path(value).mkdir(parents=True, exist_ok=True)
    return uri


def _uri(option: str, value: str, local: bool) -> str:
    if value.startswith("s3://"):
        return value
    if not local:
        raise UserError(f"{option}: expected an s3:// URI, got {value!r}; a path here needs --local")
    return Path(value).resolve().as_uri()


def _local_failure(output: Path, error: RuntimeError) -> TrainingError:
    """What the container itself says; the SDK's exception carries only its exit code."""
    try:
        with tarfile.open(output / "output.tar.gz") as archive:
            member = archive.extractfile("failure")
            reason = member.read().decode(errors="replace").strip() if member else ""
    except (OSError, KeyError, tarfile.TarError):
        reason = ""
    kind = UserError if "exited with code: 1" in str(error) else AlgorithmError
    return kind(reason or f"local mode: {error}")


def _fractions(text: str) -> tuple[float, ...]:
    values = []
    for part in text.split(","):
        try:
            value = float(part)
        except ValueError:
            value = 0.0
        if not 0 < value <= 1:
            raise argparse.ArgumentTypeError(
                f"{part!r}: expected numbers above 0 and at most 1 with commas between, such as 1,0.5,0.3,0.1"
            )
        values.append(value)
    if len(set(values)) < len(values):
        raise argparse.ArgumentTypeError(f"{text!r} names a fraction twice")
    return tuple(values)


def _names(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


def _seeds(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise argparse.ArgumentTypeError(f"{text!r}: expected different whole numbers with commas between")
    return tuple(int(part) for part in parts)


def _count(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of at least 1")
    return value


def _points(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r}: expected percentage points, from 0 to 100")
    return value


def _account(text: str) -> str:
    if not (len(text) == 12 and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r}: expected twelve digits")
    return text


class _Settings(argparse.Action):
    """Gathers NAME=VALUE pairs into a dict."""

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


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Names a default only where there is one worth naming."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return super()._get_help_string(action) if action.default else action.help


class _Parser(argparse.ArgumentParser):
    """Reports a wrong argument as every other mistake is reported: one sentence, exit code 1."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see `{self.prog} --help`)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m deploy",
        description="Trains on chosen fractions of the data, here and on Amazon SageMaker, and compares.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name, help=text.replace("%", "%%"), description=text, formatter_class=_Help
        )
        added.set_defaults(command=run)
        return added

    def add_settings(to: argparse.ArgumentParser) -> None:
        to.add_argument(
            "--set",
            nargs="+",
            action=_Settings,
            default={},
            metavar="NAME=VALUE",
            help="hyperparameters, such as epochs=30 seed=1; "
            "`python -m subset_trainer.hyperparameters` lists them",
        )

    def add_baselines(to: argparse.ArgumentParser) -> None:
        to.add_argument(
            "--baselines",
            action="store_true",
            help="for each fraction, also full data at the same number of sample visits, and rs2",
        )

    demo = command(
        "demo", _demo, "Train on scikit-learn's digits: the full data, then GLISTER at 50%, 30%, 10%."
    )
    demo.add_argument(
        "--output", type=Path, default=BUILD / "demo", help="folder for the data, runs and results"
    )
    add_baselines(demo)
    add_settings(demo)

    comparison = command(
        "compare",
        _compare,
        "Train on your own data at several fractions on this machine, or read finished runs; compare.",
    )
    source = comparison.add_mutually_exclusive_group(required=True)
    source.add_argument("--training", type=Path, metavar="PATH", help="training data: a folder or file")
    source.add_argument(
        "--local", type=Path, nargs="+", metavar="FOLDER", help="output folders of finished runs"
    )
    for name in ("validation", "test"):
        comparison.add_argument(f"--{name}", type=Path, metavar="PATH", help=f"{name} data: a folder or file")
    comparison.add_argument(
        "--fractions",
        type=_fractions,
        default="1,0.5,0.3,0.1",
        metavar="LIST",
        help="shares of the training data, with commas between; 1 is full training, the measure of the rest",
    )
    comparison.add_argument("--strategy", default="glister", help="how the subsets are chosen")
    comparison.add_argument(
        "--tolerance",
        type=_points,
        default=1.0,
        metavar="POINTS",
        help="loss of accuracy that --local's runs are judged by, in percentage points",
    )
    comparison.add_argument(
        "--output", type=Path, default=BUILD / "compare", help="folder for runs and results"
    )
    add_baselines(comparison)
    add_settings(comparison)

    push = command(
        "push", _push, "Push the built image to Amazon ECR and print its URI, by tag and by digest."
    )
    push.add_argument("--image", default="subset-trainer", help="the local image")
    push.add_argument("--repository", default="subset-trainer", help="the ECR repository; created if need be")
    push.add_argument("--tag", help="by default the commit that the image was built from")
    push.add_argument("--region", help="the AWS region, if not your configuration's")

    rights = command(
        "policy",
        _policy,
        "Print a least-privilege IAM policy: the launcher's, the job role's or CodeBuild's.",
    )
    rights.add_argument("whose", choices=("launcher", "job", "codebuild"), help="whom it is for")
    rights.add_argument("--account", type=_account, required=True, help="the AWS account's twelve digits")
    rights.add_argument(
        "--bucket", required=True, help="of the results; the SDK's is sagemaker-REGION-ACCOUNT"
    )
    rights.add_argument("--role", default="subset-trainer", help="the training job's role, by name")
    rights.add_argument("--data", nargs="+", default=[], metavar="BUCKET", help="further buckets of channels")
    rights.add_argument("--repository", default="subset-trainer", help="the ECR repository")
    rights.add_argument("--project", default="subset-trainer", help="the CodeBuild project")
    rights.add_argument("--region", help="the AWS region, if not your configuration's")
    rights.add_argument("--partition", default="aws", help="aws, aws-cn or aws-us-gov")
    rights.add_argument("--explain", action="store_true", help="each statement with its reason, not JSON")

    def add_job(to: argparse.ArgumentParser) -> None:
        to.add_argument("--image-uri", required=True, help="as `push` prints it; by digest is the safest")
        to.add_argument("--instance-type", default="ml.g5.xlarge", help="the machine to train on")
        to.add_argument("--bucket", help="the SDK's bucket, if not sagemaker-REGION-ACCOUNT")
        to.add_argument("--region", help="the AWS region, if not your configuration's")
        to.add_argument("--max-run", type=_count, metavar="SECONDS", help="end the job after so long (a day)")
        to.add_argument(
            "--spot",
            action="store_true",
            help="spot instances; an interrupted job starts from its beginning",
        )
        to.add_argument(
            "--max-wait",
            type=_count,
            metavar="SECONDS",
            help="for spot instances and the job (twice --max-run)",
        )
        to.add_argument("--volume", type=_count, metavar="GB", help="disk for data and results (30)")
        to.add_argument("--keep-alive", type=_count, metavar="SECONDS", help="keep the instance: a warm pool")
        to.add_argument("--subnets", nargs="+", metavar="ID", help="of your VPC; with --security-groups")
        to.add_argument("--security-groups", nargs="+", metavar="ID", help="of your VPC; with --subnets")
        to.add_argument("--isolated", action="store_true", help="no network in the container")
        to.add_argument("--kms-key", metavar="KEY", help="encrypts the disk and the results")
        to.add_argument(
            "--tags", nargs="+", action=_Settings, default={}, metavar="NAME=VALUE", help="of the job"
        )
        add_settings(to)

    start = command("launch", _launch, "Train on SageMaker, or with --local in a container on this machine.")
    start.add_argument("--role", help="the IAM role that the job runs under: its name or ARN")
    for name in CHANNELS:
        start.add_argument(
            f"--{name}",
            required=name == "training",
            metavar="URI",
            help=f"{name} data: s3://…, or a path with --local",
        )
    start.add_argument(
        "--local", action="store_true", help="local mode: Docker on this machine, no AWS account"
    )
    start.add_argument("--output", metavar="URI", help="where results go: s3://…, or a folder with --local")
    start.add_argument("--dry-run", action="store_true", help="print the request, and start nothing")
    start.add_argument("--wait", action="store_true", help="follow the job's log to its end")
    add_job(start)

    sweep = command(
        "sweep",
        _sweep,
        "Train on SageMaker at several fractions, each job a Run of one Experiment, and compare. "
        "Started again, it goes on where it was.",
    )
    sweep.add_argument("--name", required=True, help="of the Experiment")
    sweep.add_argument("--role", required=True, help="the IAM role that the jobs run under: its name or ARN")
    for name in CHANNELS:
        sweep.add_argument(
            f"--{name}", required=name == "training", metavar="URI", help=f"{name} data: s3://…"
        )
    sweep.add_argument(
        "--fractions", type=_fractions, default="1,0.5,0.3,0.1", metavar="LIST", help="1 is all"
    )
    sweep.add_argument(
        "--strategies", type=_names, default="glister", metavar="LIST", help="with commas between"
    )
    sweep.add_argument(
        "--seeds", type=_seeds, default="0", metavar="LIST", help="three or more for an answer"
    )
    sweep.add_argument(
        "--no-baselines", action="store_true", help="without rs2, and full data at the same visits"
    )
    sweep.add_argument("--parallel", type=_count, default=4, metavar="N", help="jobs at a time")
    sweep.add_argument(
        "--poll", type=float, default=30.0, metavar="SECONDS", help="between two looks at the jobs"
    )
    sweep.add_argument("--output", metavar="URI", help="where the jobs' results go: s3://…")
    sweep.add_argument(
        "--tolerance", type=_points, default=1.0, metavar="POINTS", help="as `compare` takes it"
    )
    add_job(sweep)
    return parser


if __name__ == "__main__":
    sys.exit(main())

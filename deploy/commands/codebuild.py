"""`codebuild`: builds and tests the image on AWS."""

import argparse
import sys
from typing import TYPE_CHECKING

from deploy.commands import options
from subset_trainer.errors import TrainingError, UserError

if TYPE_CHECKING:
    import boto3

COMPUTE_TYPES = tuple(f"BUILD_GENERAL1_{size}" for size in ("SMALL", "MEDIUM", "LARGE", "XLARGE", "2XLARGE"))


def add(commands: options.Commands) -> None:
    """Add the command."""
    building = commands.add(
        "codebuild",
        run,
        "Build, test and push a commit's image in AWS CodeBuild, show the log, and print the URIs by tag and digest.",
    )
    building.add_argument(
        "--role", help="IAM role of CodeBuild: its name or ARN; `policy codebuild` prints its permissions"
    )
    building.add_argument(
        "--project", default="subset-trainer", help="CodeBuild project, which is created or updated"
    )
    building.add_argument(
        "--repository", default="subset-trainer", help="ECR repository, which is created if it is missing"
    )
    building.add_argument("--cuda", choices=("12", "13"), default="13", help="CUDA version of the image")
    building.add_argument("--commit", metavar="REV", help="commit to build (HEAD, if nothing is uncommitted)")
    building.add_argument("--bucket", help="S3 bucket for the source (sagemaker-REGION-ACCOUNT)")
    building.add_argument(
        "--compute-type", choices=COMPUTE_TYPES, default=COMPUTE_TYPES[1], help="compute type of the build"
    )
    options.add_scan_severity(building)
    building.add_argument("--no-wait", action="store_true", help="start the build and return")
    building.add_argument("--watch", metavar="BUILD", help="start nothing, and show the build with this id")
    options.add_region(building)


def run(given: argparse.Namespace) -> None:
    """Start a build, unless `--watch` names one, and show its log, unless `--no-wait` is given."""
    from deploy.aws import calls

    if not given.watch and not given.role:
        raise UserError("--role: expected the name or ARN of CodeBuild's service role")
    session = calls.boto_session(given.region)
    build_id = given.watch or _start(session, given)
    if given.no_wait:
        print(f"the build {build_id} is running; {_advice(build_id, session.region_name)}")
        return
    _watch(session, build_id)


def _start(session: "boto3.Session", given: argparse.Namespace) -> str:
    from deploy.aws import codebuild, image

    # Everything that can be checked is checked first, so that a mistake creates nothing.
    commit = codebuild.resolve(given.commit)
    bucket = codebuild.find_bucket(session, given.bucket)
    role = codebuild.role_arn(session, given.role)
    project = codebuild.Project(given.project, role, bucket, commit, given.compute_type)
    image.create_repository(given.repository, session)
    codebuild.prepare(session, project)
    build_id = codebuild.start(session, project, given.repository, given.cuda, given.scan_severity)
    print(f"building {commit} for CUDA {given.cuda}: {build_id}", flush=True)
    return build_id


def _watch(session: "boto3.Session", build_id: str) -> None:
    from deploy.aws import codebuild

    try:
        build = codebuild.follow(session, build_id, lambda line: print(line, flush=True))
    except TrainingError:
        raise
    except BaseException:
        # The build continues, whatever stopped the watching (usually an interruption).
        advice = _advice(build_id, session.region_name)
        print(f"\nno longer watching the build {build_id}; {advice}", file=sys.stderr)
        raise
    tagged, by_digest = codebuild.built_image(build)
    print(f"{tagged}\n{by_digest}")


def _advice(build_id: str, region: str) -> str:
    return (
        f"`python -m deploy codebuild --region {region} --watch {build_id}` shows it, "
        f"`aws codebuild stop-build --region {region} --id {build_id}` ends it"
    )

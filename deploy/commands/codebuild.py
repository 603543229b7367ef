"""`codebuild`: builds and tests the image on AWS."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from deploy.commands import options
from deploy.commands.declared import Answering, Command, Option
from subset_trainer.errors import TrainingError, UserError

if TYPE_CHECKING:
    import boto3

COMPUTE_TYPES = tuple(f"BUILD_GENERAL1_{size}" for size in ("SMALL", "MEDIUM", "LARGE", "XLARGE", "2XLARGE"))


@dataclass(frozen=True, kw_only=True)
class Given(options.ScanSeverity, options.Region, Answering):
    """What `codebuild` takes."""

    role: Annotated[
        str | None,
        Option("IAM role of CodeBuild: its name or ARN; `policy codebuild` prints its permissions"),
    ] = None
    project: Annotated[str, Option("CodeBuild project, which is created or updated")] = "subset-trainer"
    repository: Annotated[str, Option("ECR repository, which is created if it is missing")] = "subset-trainer"
    cuda: Annotated[str, Option("CUDA version of the image", choices=("12", "13"))] = "13"
    commit: Annotated[str | None, Option("commit to build (HEAD, if nothing is uncommitted)", "REV")] = None
    bucket: Annotated[str | None, Option("S3 bucket for the source (sagemaker-REGION-ACCOUNT)")] = None
    compute_type: Annotated[str, Option("compute type of the build", "TYPE", choices=COMPUTE_TYPES)] = (
        COMPUTE_TYPES[1]
    )
    no_wait: Annotated[bool, Option("start the build and return")] = False
    watch: Annotated[str | None, Option("start nothing, and show the build with this id", "BUILD")] = None


def run(given: Given) -> Any:
    """Start a build, unless `--watch` names one, and show its log, unless `--no-wait` is given."""
    from deploy.aws import calls

    if not given.watch and not given.role:
        raise UserError("--role: expected the name or ARN of CodeBuild's service role")
    session = calls.boto_session(given.region)
    build_id = given.watch or _start(session, given, str(given.role))
    if given.no_wait:
        print(f"the build {build_id} is running; {_advice(build_id, session.region_name)}")
        return {"build": build_id}
    tagged, by_digest = _watch(session, build_id)
    return {"build": build_id, "tagged": tagged, "by_digest": by_digest}


def _start(session: "boto3.Session", given: Given, role_name: str) -> str:
    from deploy.aws import codebuild, image

    # Everything that can be checked is checked first, so that a mistake creates nothing.
    commit = codebuild.resolve(given.commit)
    bucket = codebuild.find_bucket(session, given.bucket)
    role = codebuild.role_arn(session, role_name)
    project = codebuild.Project(given.project, role, bucket, commit, given.compute_type)
    image.create_repository(given.repository, session)
    codebuild.prepare(session, project)
    build_id = codebuild.start(session, project, given.repository, given.cuda, given.scan_severity)
    print(f"building {commit} for CUDA {given.cuda}: {build_id}", flush=True)
    return build_id


def _watch(session: "boto3.Session", build_id: str) -> tuple[str, str]:
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
    return tagged, by_digest


def _advice(build_id: str, region: str) -> str:
    return (
        f"`python -m deploy codebuild --region {region} --watch {build_id}` shows it, "
        f"`aws codebuild stop-build --region {region} --id {build_id}` ends it"
    )


COMMANDS = (
    Command(
        "codebuild",
        run,
        Given,
        "Build, test and push a commit's image in AWS CodeBuild, show the log, and print the URIs by tag and digest.",
        ("codebuild --role subset-trainer-codebuild", "codebuild --watch subset-trainer:0f1e2d3c"),
    ),
)

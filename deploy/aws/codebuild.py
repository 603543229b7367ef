"""Builds a commit in AWS CodeBuild with buildspec.yml: the source, the project, the build and its log."""

import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import boto3

from deploy.aws import image, scan
from subset_trainer.errors import PlatformError, TrainingError, UserError

SOURCES = "subset-trainer/source"
"""Prefix in the bucket for zip archives of commits."""
ARTEFACTS = "subset-trainer/builds"
"""Prefix in the bucket under which each build writes imageDetail.json, in its own folder."""
ENVIRONMENT_IMAGE = "aws/codebuild/amazonlinux-x86_64-standard:5.0"
MINUTES = 180
"""Time limit of a build. The first build takes longest, because it fills the cache."""
PAUSE = 5.0
"""Seconds between two queries of a build."""


@dataclass(frozen=True)
class Project:
    """A CodeBuild project, and the commit to build with it."""

    name: str
    role: str
    """ARN of CodeBuild's service role."""
    bucket: str
    """Bucket of the source and of imageDetail.json."""
    commit: str
    compute_type: str = "BUILD_GENERAL1_MEDIUM"

    @property
    def key(self) -> str:
        """Key of the commit's zip archive in the bucket."""
        return f"{SOURCES}/{self.commit}.zip"

    @property
    def location(self) -> str:
        """The archive's location in CodeBuild's notation, BUCKET/KEY."""
        return f"{self.bucket}/{self.key}"


def resolve(revision: str | None) -> str:
    """Return the full hash of a commit of the checkout.

    Without a revision it is HEAD, and there may be no uncommitted changes, because only the commit is built.

    Raises UserError if there are uncommitted changes or no such commit.
    """
    commit = (
        _git("rev-parse", "--verify", "--end-of-options", f"{revision or 'HEAD'}^{{commit}}").decode().strip()
    )
    if revision is None:
        changed = _git("status", "--porcelain").decode().splitlines()
        if changed:
            raise UserError(
                f"{len(changed)} files here differ from the last commit (such as {changed[0][3:]}), and only "
                "commits are built: commit them, or give --commit HEAD to build without them"
            )
    return commit


def pack(commit: str) -> bytes:
    """Return the commit's files as a zip archive."""
    return _git("archive", "--format=zip", commit)


def role_arn(session: "boto3.Session", role: str) -> str:
    """Return the ARN of a role that is given by name or ARN."""
    if role.startswith("arn:"):
        return role
    return str(session.client("iam").get_role(RoleName=role)["Role"]["Arn"])


def find_bucket(session: "boto3.Session", name: str | None = None) -> str:
    """Return the bucket's name, by default the SageMaker SDK's. Raises UserError if there is no such bucket."""
    if name is None:
        account = session.client("sts").get_caller_identity()["Account"]
        name = f"sagemaker-{session.region_name}-{account}"
    s3 = session.client("s3")
    try:
        s3.head_bucket(Bucket=name)
    except s3.exceptions.ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
            raise
        raise UserError(f"there is no bucket {name!r}: create it, or name another with --bucket") from error
    return name


def prepare(session: "boto3.Session", project: Project) -> None:
    """Upload the commit, and create the project or update an existing one to the same settings."""
    session.client("s3").put_object(Bucket=project.bucket, Key=project.key, Body=pack(project.commit))
    codebuild = session.client("codebuild")
    settings = _settings(project)
    try:
        codebuild.create_project(**settings)
    except codebuild.exceptions.ResourceAlreadyExistsException:
        codebuild.update_project(**settings)


def start(
    session: "boto3.Session",
    project: Project,
    repository: str,
    cuda: str = image.DEFAULT_CUDA,
    severity: str = scan.DEFAULT,
) -> str:
    """Start a build; return its id."""
    # The source is an object in S3, which does not record the commit, so buildspec.yml gets it as a variable.
    variables = {
        "REVISION": project.commit,
        "IMAGE_TAG": image.tag_of(project.commit, cuda),
        "REPOSITORY": repository,
        "CUDA": cuda,
        "SCAN_SEVERITY": severity,
    }
    build = session.client("codebuild").start_build(
        projectName=project.name,
        # Not taken from the project: another start may have changed its source in the meantime.
        sourceTypeOverride="S3",
        sourceLocationOverride=project.location,
        environmentVariablesOverride=[
            {"name": name, "value": value, "type": "PLAINTEXT"} for name, value in variables.items()
        ],
    )["build"]
    return str(build["id"])


def follow(
    session: "boto3.Session", build_id: str, show: Callable[[str], None] = print, pause: float | None = None
) -> dict[str, Any]:
    """Print a build's log and phases until it ends; return CodeBuild's description of it.

    Args:
        session: of boto3.
        build_id: id of the build.
        show: called with each line.
        pause: seconds between two queries; by default `PAUSE`.

    Raises UserError if there is no such build.
    """
    pause = PAUSE if pause is None else pause
    codebuild = session.client("codebuild")
    log = _Log(session.client("logs"), show)
    shown = 0
    while True:
        build = _describe(codebuild, build_id)
        if "endTime" in build:
            time.sleep(pause)  # the last lines of the log arrive late
        log.show(build.get("logs", {}))
        ended = [phase for phase in build.get("phases", ()) if "phaseStatus" in phase]
        for phase in ended[shown:]:
            seconds = phase.get("durationInSeconds", 0)
            show(f"== {phase['phaseType'].lower()}: {phase['phaseStatus'].lower()}, {seconds} s")
        shown = len(ended)
        if "endTime" in build:
            return build
        time.sleep(pause)


def built_image(build: Mapping[str, Any]) -> tuple[str, str]:
    """Return the URIs, by tag and by digest, of the image that an ended build has pushed.

    Raises:
        UserError: the build failed.
        PlatformError: the build failed because of AWS, or reported no image.
    """
    if build["buildStatus"] != "SUCCEEDED":
        raise _failure(build)
    exported = {entry["name"]: entry["value"] for entry in build.get("exportedEnvironmentVariables", ())}
    if not {"IMAGE_URI", "IMAGE_DIGEST"} <= exported.keys():
        raise PlatformError(f"the build {build['id']} succeeded, but reported no image")
    tagged = exported["IMAGE_URI"]
    return tagged, f"{tagged.rpartition(':')[0]}@{exported['IMAGE_DIGEST']}"


class _Log:
    """Reads a CloudWatch log stream from its beginning."""

    def __init__(self, client: Any, show: Callable[[str], None]) -> None:
        self._client = client
        self._show = show
        self._token: str | None = None

    def show(self, place: Mapping[str, Any]) -> None:
        """Show the lines that were written since the last call."""
        stream = {"logGroupName": place.get("groupName"), "logStreamName": place.get("streamName")}
        if not all(stream.values()):
            return  # the build is still waiting for a machine
        while True:
            further = {"nextToken": self._token} if self._token else {}
            try:
                page = self._client.get_log_events(**stream, startFromHead=True, **further)
            except self._client.exceptions.ResourceNotFoundException:
                return
            for event in page["events"]:
                self._show(event["message"].rstrip("\n"))
            # At the end of the stream CloudWatch returns the same token again.
            if page["nextForwardToken"] == self._token:
                return
            self._token = page["nextForwardToken"]


def _settings(project: Project) -> dict[str, Any]:
    return {
        "name": project.name,
        "description": "The subset trainer's image: buildspec.yml, from `python -m deploy codebuild`",
        "source": {"type": "S3", "location": project.location, "buildspec": "buildspec.yml"},
        "artifacts": {
            "type": "S3",
            "location": project.bucket,
            "path": ARTEFACTS,
            "namespaceType": "BUILD_ID",
            "name": "/",
            "packaging": "NONE",
        },
        # The image's build cache is in ECR. CodeBuild's own local cache lasts only minutes.
        "cache": {"type": "NO_CACHE"},
        "environment": {
            "type": "LINUX_CONTAINER",
            "image": ENVIRONMENT_IMAGE,
            "computeType": project.compute_type,
            "privilegedMode": True,  # it runs Docker
        },
        "serviceRole": project.role,
        "timeoutInMinutes": MINUTES,
        "logsConfig": {"cloudWatchLogs": {"status": "ENABLED"}},
    }


def _describe(codebuild: Any, build_id: str) -> dict[str, Any]:
    found = codebuild.batch_get_builds(ids=[build_id])["builds"]
    if not found:
        raise UserError(f"CodeBuild in {codebuild.meta.region_name} has no build {build_id!r}")
    return dict(found[0])


def _failure(build: Mapping[str, Any]) -> TrainingError:
    bad = [phase for phase in build.get("phases", ()) if phase.get("phaseStatus", "SUCCEEDED") != "SUCCEEDED"]
    status = build["buildStatus"].lower().replace("_", " ")
    sentence = f"the build {build['id']} ended as {status!r}"
    if bad:
        # Later phases fail because the first one did.
        contexts = bad[0].get("contexts", ())
        messages = [" ".join(context["message"].split()) for context in contexts if context.get("message")]
        sentence += f" in its phase {bad[0]['phaseType'].lower()}" + (
            f": {'; '.join(messages)}" if messages else ""
        )
    return (PlatformError if build["buildStatus"] == "FAULT" else UserError)(sentence)


def _git(*arguments: str) -> bytes:
    folder = image.checkout()
    try:
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, check=False)
    except FileNotFoundError as error:
        raise UserError(
            "the program `git` is not on PATH; it is needed to pack the commit to build"
        ) from error
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        raise UserError(
            f"git {arguments[0]} {arguments[-1]} in {folder}: {reason[-1] if reason else 'no message'}"
        )
    return done.stdout

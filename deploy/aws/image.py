"""Builds the image on this machine and pushes it to Amazon ECR: repository, login, push, and URI with digest."""

import base64
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import boto3

from deploy.aws import calls, scan
from subset_trainer.errors import PlatformError, UserError

CHECKOUT = Path(__file__).parents[2]
REVISION_LABEL = "org.opencontainers.image.revision"
CUDA_LABEL = "subset-trainer.cuda"
DEFAULT_CUDA = "13"
COMMIT = re.compile(r"[0-9a-f]{40}")

CACHE_TAG = "cache"
"""Tag of the build cache. It is mutable."""
CANDIDATE_TAG = "candidate"
"""Tag of the image that was pushed last, until it passes ECR's scan and gets its own tag. It is mutable too."""
MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.index.v1+json",
)
"""Media types of every kind of manifest that a tag can point to."""

LIFECYCLE = {
    "rules": [
        {
            "rulePriority": 1,
            "description": "Remove untagged images (of the build cache, and candidates that failed) after a week",
            "selection": {
                "tagStatus": "untagged",
                "countType": "sinceImagePushed",
                "countUnit": "days",
                "countNumber": 7,
            },
            "action": {"type": "expire"},
        }
    ]
}

IMMUTABLE: dict[str, Any] = {
    "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
    "imageTagMutabilityExclusionFilters": [
        {"filterType": "WILDCARD", "filter": tag} for tag in (CACHE_TAG, CANDIDATE_TAG)
    ],
}


def checkout() -> Path:
    """Return the project's folder. Raises UserError if deploy/ is installed outside a checkout."""
    if not (CHECKOUT / "docker/build.sh").is_file():
        raise UserError(
            f"{CHECKOUT} is not a checkout of the project (it has no docker/build.sh): run this command in one"
        )
    return CHECKOUT


def build(cuda: str | None = None, name: str | None = None, base_image: str | None = None) -> None:
    """Build the image with docker/build.sh, which has a default for each argument that is None.

    Raises UserError if the build fails.
    """
    given = {"CUDA": cuda, "TAG": name, "BASE_IMAGE": base_image}
    environment = {**os.environ, **{key: value for key, value in given.items() if value is not None}}
    # Output is not captured: it is the progress display.
    if subprocess.run([checkout() / "docker/build.sh"], env=environment, check=False).returncode != 0:
        raise UserError("docker/build.sh could not build the image: see its message above")


def tag_of(commit: str, cuda: str = DEFAULT_CUDA) -> str:
    """Return the tag of a commit's image: the commit, followed by the CUDA version if it is not the default."""
    return commit if cuda == DEFAULT_CUDA else f"{commit}-cuda{cuda}"


def create_repository(name: str, session: "boto3.Session | None" = None) -> str:
    """Create the ECR repository, or apply the same settings to an existing one; return its URI without a tag.

    Settings: scan on push; immutable tags, except for the build cache and the candidate; untagged images expire after
    a week.
    """
    ecr = (session or calls.boto_session()).client("ecr")
    try:
        repository = ecr.create_repository(
            repositoryName=name, imageScanningConfiguration={"scanOnPush": True}, **IMMUTABLE
        )["repository"]
    except ecr.exceptions.RepositoryAlreadyExistsException:
        repository = ecr.describe_repositories(repositoryNames=[name])["repositories"][0]
        ecr.put_image_scanning_configuration(
            repositoryName=name, imageScanningConfiguration={"scanOnPush": True}
        )
        ecr.put_image_tag_mutability(repositoryName=name, **IMMUTABLE)
    ecr.put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=json.dumps(LIFECYCLE))
    return str(repository["repositoryUri"])


def push(
    image: str,
    repository: str,
    tag: str | None = None,
    session: "boto3.Session | None" = None,
    severity: str = scan.DEFAULT,
    create: bool = True,
) -> tuple[str, str]:
    """Push a local image, wait for ECR's scan, tag the image, and return its URI by tag and its URI by digest.

    ECR can only scan an image that was pushed, and people launch images by tag. So the image is pushed as
    `CANDIDATE_TAG`, and gets its tag once it passes the scan. A tag that already exists in the repository is kept:
    tags name commits, and a commit does not change.

    Args:
        image: name of the local image, such as `subset-trainer`.
        repository: name of the ECR repository.
        tag: by default `tag_of` the commit and CUDA version in the image's labels.
        severity: least severity of a finding that blocks the tag, as in `scan.check`.
        create: create the repository if it is missing, and apply the settings of `create_repository`.

    Raises:
        UserError: there is no such local image, it was not built from a commit, or the scan has blocking findings.
        PlatformError: the push or the scan failed.
    """
    # Checked before anything is created or uploaded: a mistyped name must cost nothing.
    labels = _labels(image)
    tag = tag or _default_tag(image, *labels)
    session = session or calls.boto_session()
    ecr = session.client("ecr")
    if create:
        uri = create_repository(repository, session)
    else:
        uri = str(ecr.describe_repositories(repositoryNames=[repository])["repositories"][0]["repositoryUri"])
    tagged = f"{uri}:{tag}"
    digest = _digest(ecr, repository, tag)
    if digest is None:
        digest = _push_candidate(ecr, image, repository, f"{uri}:{CANDIDATE_TAG}")
        scan.check(ecr, repository, digest, severity)
        _put_tag(ecr, repository, digest, tag)
    return tagged, f"{uri}@{digest}"


def _push_candidate(ecr: Any, image: str, repository: str, candidate: str) -> str:
    """Upload the image; return its digest."""
    _login(ecr)
    _docker("image", "tag", image, candidate, purpose=f"tag {image!r} as {candidate!r}")
    # Output is not captured: it is the progress display.
    if subprocess.run(["docker", "push", candidate], check=False).returncode != 0:
        raise PlatformError(f"docker could not push {candidate!r}: see its message above")
    digest = _digest(ecr, repository, CANDIDATE_TAG)
    if digest is None:
        raise PlatformError(f"docker reported {candidate!r} as pushed, but ECR does not list it")
    pushed = _docker(
        "image",
        "inspect",
        "--format",
        '{{join .RepoDigests " "}}',
        candidate,
        purpose=f"read the digest of {candidate!r}",
    )
    if f"{candidate.rpartition(':')[0]}@{digest}" not in pushed.split():
        raise PlatformError(f"another push has taken the tag {candidate!r} in the meantime: push again")
    return digest


def _put_tag(ecr: Any, repository: str, digest: str, tag: str) -> None:
    """Add a tag to an image that is already in the repository."""
    found = ecr.batch_get_image(
        repositoryName=repository, imageIds=[{"imageDigest": digest}], acceptedMediaTypes=list(MANIFESTS)
    )["images"]
    if not found:
        raise PlatformError(
            f"the image {digest} is no longer in the ECR repository {repository!r}: push again"
        )
    media_type = found[0].get("imageManifestMediaType")
    try:
        ecr.put_image(
            repositoryName=repository,
            imageManifest=found[0]["imageManifest"],
            imageTag=tag,
            imageDigest=digest,
            **({"imageManifestMediaType": media_type} if media_type else {}),
        )
    except (
        ecr.exceptions.ImageTagAlreadyExistsException,
        ecr.exceptions.ImageAlreadyExistsException,
    ) as error:
        if _digest(ecr, repository, tag) == digest:
            return
        raise PlatformError(
            f"another push has given the tag {tag!r} to another image in the meantime: it stays as it is"
        ) from error


def uri(
    repository: str,
    tag: str | None = None,
    image: str = "subset-trainer",
    session: "boto3.Session | None" = None,
) -> str:
    """Return the URI, by digest, of an image in Amazon ECR.

    Args:
        repository: name of the ECR repository.
        tag: by default the tag that `push` would give the local image `image`.

    Raises:
        UserError: the repository or the tag does not exist.
    """
    tag = tag or _default_tag(image, *_labels(image))
    ecr = (session or calls.boto_session()).client("ecr")
    mend = "push it with `python -m deploy image push`"
    try:
        found = ecr.describe_repositories(repositoryNames=[repository])["repositories"][0]
    except ecr.exceptions.RepositoryNotFoundException as error:
        raise UserError(
            f"there is no ECR repository {repository!r} in {ecr.meta.region_name}, so no image {tag!r}: {mend}"
        ) from error
    digest = _digest(ecr, repository, tag)
    if digest is None:
        raise UserError(
            f"the ECR repository {repository!r} in {ecr.meta.region_name} has no image {tag!r}: {mend}"
        )
    return f"{found['repositoryUri']}@{digest}"


def _labels(image: str) -> tuple[str, str]:
    """Return the commit and the CUDA version in a local image's labels. Raises UserError if there is no such image."""
    template = " ".join(f'{{{{index .Config.Labels "{label}"}}}}' for label in (REVISION_LABEL, CUDA_LABEL))
    labels = _docker(
        "image",
        "inspect",
        "--format",
        template,
        image,
        purpose=f"find the local image {image!r}; build it with `python -m deploy image build`",
    )
    revision, _, cuda = labels.strip().partition(" ")
    return revision, cuda or DEFAULT_CUDA


def _default_tag(image: str, revision: str, cuda: str) -> str:
    if not COMMIT.fullmatch(revision):
        raise UserError(
            f"the image {image!r} was not built from a commit (its label {REVISION_LABEL} is {revision!r}); "
            "commit and run `python -m deploy image build` again, or give --tag"
        )
    return tag_of(revision, cuda)


def _digest(ecr: Any, repository: str, tag: str) -> str | None:
    try:
        found = ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])["imageDetails"]
    except ecr.exceptions.ImageNotFoundException:
        return None
    return str(found[0]["imageDigest"])


def _login(ecr: Any) -> None:
    grant = ecr.get_authorization_token()["authorizationData"][0]
    user, password = base64.b64decode(grant["authorizationToken"]).decode().split(":", 1)
    # Through stdin: every process on the machine can read the arguments.
    _docker(
        "login",
        "--username",
        user,
        "--password-stdin",
        grant["proxyEndpoint"],
        purpose="log in to ECR",
        stdin=password,
    )


def _docker(*arguments: str, purpose: str, stdin: str | None = None) -> str:
    try:
        done = subprocess.run(
            ["docker", *arguments], input=stdin, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise UserError("the program `docker` is not on PATH; install Docker first") from error
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()
        raise UserError(f"docker could not {purpose} ({reason[-1] if reason else 'no message'})")
    return done.stdout

"""Builds the image here and brings it to Amazon ECR: the repository, the login, the push, the URI with its digest."""

import base64
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import boto3

from deploy import aws
from subset_trainer.errors import PlatformError, UserError

CHECKOUT = Path(__file__).parents[1]
REVISION_LABEL = "org.opencontainers.image.revision"
CUDA_LABEL = "subset-trainer.cuda"
DEFAULT_CUDA = "13"
COMMIT = re.compile(r"[0-9a-f]{40}")

CACHE_TAG = "cache"
"""The one tag that may move: the build cache's."""

LIFECYCLE = {
    "rules": [
        {
            "rulePriority": 1,
            "description": "Remove untagged images (earlier states of the build cache) after a week",
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
    "imageTagMutabilityExclusionFilters": [{"filterType": "WILDCARD", "filter": CACHE_TAG}],
}


def checkout() -> Path:
    """The project's folder; UserError where deploy/ is not in one, but installed elsewhere."""
    if not (CHECKOUT / "docker/build.sh").is_file():
        raise UserError(
            f"{CHECKOUT} is no checkout of the project (there is no docker/build.sh in it): run this from one"
        )
    return CHECKOUT


def build(cuda: str | None = None, name: str | None = None, base_image: str | None = None) -> None:
    """Build the image with docker/build.sh, which has its defaults for what is not given."""
    given = {"CUDA": cuda, "TAG": name, "BASE_IMAGE": base_image}
    environment = {**os.environ, **{key: value for key, value in given.items() if value is not None}}
    # Its output is its progress display, so it goes to the terminal.
    if subprocess.run([checkout() / "docker/build.sh"], env=environment, check=False).returncode != 0:
        raise UserError("docker/build.sh could not build the image: its message stands above")


def tag_of(commit: str, cuda: str = DEFAULT_CUDA) -> str:
    """The tag of a commit's image: the commit; an image for another CUDA than the default says so behind it."""
    return commit if cuda == DEFAULT_CUDA else f"{commit}-cuda{cuda}"


def create_repository(name: str, session: "boto3.Session | None" = None) -> str:
    """Create the ECR repository, or bring an existing one to the same settings; return its URI without a tag.

    Settings: scan on push; tags that cannot be moved but for the build cache's; untagged images expire in a week.
    """
    ecr = (session or aws.boto_session()).client("ecr")
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
    image: str, repository: str, tag: str | None = None, session: "boto3.Session | None" = None
) -> tuple[str, str]:
    """Push a local image and return its URI by tag and its URI by digest.

    Args:
        image: the local image's name, such as `subset-trainer`.
        repository: the ECR repository's name; created if need be.
        tag: by default `tag_of` what the image was built from, as its labels say.

    A tag that is in the repository already is left as it is: tags name commits, and a commit does not change.
    """
    # Before anything is created or sent: a name that is mistyped must cost nothing.
    labels = _labels(image)
    tag = tag or _default_tag(image, *labels)
    session = session or aws.boto_session()
    ecr = session.client("ecr")
    uri = create_repository(repository, session)
    tagged = f"{uri}:{tag}"
    digest = _digest(ecr, repository, tag)
    if digest is None:
        _login(ecr)
        _docker("image", "tag", image, tagged, purpose=f"tag {image!r} as {tagged!r}")
        # Its output is its progress display, so it goes to the terminal.
        if subprocess.run(["docker", "push", tagged], check=False).returncode != 0:
            raise PlatformError(f"docker could not push {tagged!r}: its message stands above")
        digest = _digest(ecr, repository, tag)
        if digest is None:
            raise PlatformError(f"docker reported {tagged!r} as pushed, but ECR does not list it")
    return tagged, f"{uri}@{digest}"


def uri(
    repository: str,
    tag: str | None = None,
    image: str = "subset-trainer",
    session: "boto3.Session | None" = None,
) -> str:
    """The URI by digest of an image in Amazon ECR.

    Args:
        repository: the ECR repository's name.
        tag: by default that of the local image `image`, as for `push`.

    Raises UserError where the repository or the tag is not there.
    """
    tag = tag or _default_tag(image, *_labels(image))
    ecr = (session or aws.boto_session()).client("ecr")
    mend = "`python -m deploy image push` brings it there"
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
    """What a local image was built from, and for which CUDA; UserError when there is no such image."""
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
    # Through stdin: a password among the arguments can be read by every process of the machine.
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

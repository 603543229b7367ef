"""Brings a built image to Amazon ECR: the repository, the login, the push, and the URI with its digest."""

import base64
import json
import re
import subprocess
from typing import Any

import boto3

from deploy import aws
from subset_trainer.errors import PlatformError, UserError

REVISION_LABEL = "org.opencontainers.image.revision"
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
        tag: by default the commit that the image was built from, as its label says.

    A tag that is in the repository already is left as it is: tags name commits, and a commit does not change.
    """
    # Before anything is created or sent: a name that is mistyped must cost nothing.
    label = _revision(image)
    if tag is None:
        if not COMMIT.fullmatch(label):
            raise UserError(
                f"the image {image!r} was not built from a commit (its label {REVISION_LABEL} is {label!r}); "
                "commit and run `make image` again, or give --tag"
            )
        tag = label
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


def _revision(image: str) -> str:
    """The label of a local image that says what it was built from; UserError when there is no such image."""
    return _docker(
        "image",
        "inspect",
        "--format",
        f'{{{{index .Config.Labels "{REVISION_LABEL}"}}}}',
        image,
        purpose=f"find the local image {image!r}; build it with `make image`",
    ).strip()


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

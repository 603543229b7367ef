"""`image`: builds the image, pushes it to Amazon ECR, and prints its URI."""

from dataclasses import dataclass
from typing import Annotated, Any

from deploy.commands import options
from deploy.commands.declared import Answering, Command, Option, Options


@dataclass(frozen=True, kw_only=True)
class Build(Options):
    """What `image build` takes."""

    cuda: Annotated[str | None, Option("CUDA version of the image (13)", choices=("12", "13"))] = None
    tag: Annotated[
        str | None, Option("name of the local image (subset-trainer, or subset-trainer:cuda12)", "NAME")
    ] = None
    base_image: Annotated[
        str | None,
        Option(
            "Debian or Ubuntu image to build on (NVIDIA's, or one made from this machine's packages)", "NAME"
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Place(options.Region, Answering):
    """What `image push` and `image uri` take."""

    image: Annotated[str, Option("name of the local image")] = "subset-trainer"
    repository: Annotated[str, Option("ECR repository; `image push` creates it if it is missing")] = (
        "subset-trainer"
    )
    tag: Annotated[
        str | None, Option("tag in the repository (the commit that the local image was built from)")
    ] = None


@dataclass(frozen=True, kw_only=True)
class Push(options.ScanSeverity, Place):
    """What `image push` takes."""

    no_create: Annotated[bool, Option("use an existing repository and leave its settings alone")] = False


def build(given: Build) -> None:
    """Build the image."""
    from deploy.aws import image

    image.build(given.cuda, given.tag, given.base_image)


def push(given: Push) -> Any:
    """Push the image, and print its URIs."""
    from deploy.aws import calls, image

    session = calls.boto_session(given.region)
    tagged, by_digest = image.push(
        given.image, given.repository, given.tag, session, given.scan_severity, create=not given.no_create
    )
    print(f"{tagged}\n{by_digest}")
    return {"tagged": tagged, "by_digest": by_digest}


def uri(given: Place) -> Any:
    """Print the image's URI."""
    from deploy.aws import calls, image

    found = image.uri(given.repository, given.tag, given.image, calls.boto_session(given.region))
    print(found)
    return {"by_digest": found}


COMMANDS = (
    Command(
        "image build",
        build,
        Build,
        "Build the image on this machine, with its package settings.",
        ("image build", "image build --cuda 12 --tag subset-trainer:cuda12"),
        bare=True,
    ),
    Command(
        "image push",
        push,
        Push,
        "Push the image to Amazon ECR, wait for the scan, and print its URIs by tag and digest.",
        ("image push", "image push --repository team/trainer --scan-severity HIGH"),
        bare=True,
    ),
    Command(
        "image uri",
        uri,
        Place,
        "Print the URI, by digest, of an image in Amazon ECR.",
        ("image uri", "image uri --tag 3f9a01bc"),
        bare=True,
    ),
)

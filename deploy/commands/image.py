"""`image`: the image and its place in Amazon ECR."""

import argparse

from deploy.commands import options


def add(commands: options.Commands) -> None:
    """Add the commands."""
    group = options.Commands(
        commands.add("image", None, "The image: build it, push it to Amazon ECR, name it there."), "ACTION"
    )
    building = group.add("build", build, "Build the image here, with this machine's own package settings.")
    building.add_argument("--cuda", choices=("12", "13"), help="whose lock to take (13)")
    building.add_argument(
        "--tag", metavar="NAME", help="the local image's name (subset-trainer, or subset-trainer:cuda12)"
    )
    building.add_argument(
        "--base-image", metavar="NAME", help="a Debian or Ubuntu image, if not NVIDIA's or one that is made"
    )

    pushing = group.add(
        "push", push, "Push the built image to Amazon ECR and have it scanned; print its URIs."
    )
    _add_place(pushing, "the ECR repository; created if need be")
    options.add_scan_severity(pushing)
    pushing.add_argument(
        "--no-create", action="store_true", help="the repository is there, and its settings are left alone"
    )
    naming = group.add("uri", uri, "Print the URI, by digest, of an image that is in Amazon ECR.")
    _add_place(naming, "the ECR repository")


def _add_place(to: argparse.ArgumentParser, repository: str) -> None:
    to.add_argument("--image", default="subset-trainer", help="the local image")
    to.add_argument("--repository", default="subset-trainer", help=repository)
    to.add_argument("--tag", help="by default the commit that the local image was built from")
    options.add_region(to)


def build(given: argparse.Namespace) -> None:
    """Build."""
    from deploy.aws import image

    image.build(given.cuda, given.tag, given.base_image)


def push(given: argparse.Namespace) -> None:
    """Push, and print the URIs."""
    from deploy.aws import calls, image

    session = calls.boto_session(given.region)
    tagged, by_digest = image.push(
        given.image, given.repository, given.tag, session, given.scan_severity, create=not given.no_create
    )
    print(f"{tagged}\n{by_digest}")


def uri(given: argparse.Namespace) -> None:
    """Print the URI."""
    from deploy.aws import calls, image

    print(image.uri(given.repository, given.tag, given.image, calls.boto_session(given.region)))

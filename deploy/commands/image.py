"""`image`: builds the image, pushes it to Amazon ECR, and prints its URI."""

import argparse

from deploy.commands import options


def add(commands: options.Commands) -> None:
    """Add the commands."""
    group = options.Commands(
        commands.add("image", None, "Build the image, push it to Amazon ECR, or print its URI there."),
        "ACTION",
    )
    building = group.add("build", build, "Build the image on this machine, with its package settings.")
    building.add_argument("--cuda", choices=("12", "13"), help="CUDA version of the image (13)")
    building.add_argument(
        "--tag", metavar="NAME", help="name of the local image (subset-trainer, or subset-trainer:cuda12)"
    )
    building.add_argument(
        "--base-image",
        metavar="NAME",
        help="Debian or Ubuntu image to build on (NVIDIA's, or one made from this machine's packages)",
    )

    pushing = group.add(
        "push", push, "Push the image to Amazon ECR, wait for the scan, and print its URIs by tag and digest."
    )
    _add_place(pushing, "ECR repository, which is created if it is missing")
    options.add_scan_severity(pushing)
    pushing.add_argument(
        "--no-create", action="store_true", help="use an existing repository and leave its settings alone"
    )
    naming = group.add("uri", uri, "Print the URI, by digest, of an image in Amazon ECR.")
    _add_place(naming, "ECR repository")


def _add_place(to: argparse.ArgumentParser, repository: str) -> None:
    to.add_argument("--image", default="subset-trainer", help="name of the local image")
    to.add_argument("--repository", default="subset-trainer", help=repository)
    to.add_argument("--tag", help="tag in the repository (the commit that the local image was built from)")
    options.add_region(to)


def build(given: argparse.Namespace) -> None:
    """Build the image."""
    from deploy.aws import image

    image.build(given.cuda, given.tag, given.base_image)


def push(given: argparse.Namespace) -> None:
    """Push the image, and print its URIs."""
    from deploy.aws import calls, image

    session = calls.boto_session(given.region)
    tagged, by_digest = image.push(
        given.image, given.repository, given.tag, session, given.scan_severity, create=not given.no_create
    )
    print(f"{tagged}\n{by_digest}")


def uri(given: argparse.Namespace) -> None:
    """Print the image's URI."""
    from deploy.aws import calls, image

    print(image.uri(given.repository, given.tag, given.image, calls.boto_session(given.region)))

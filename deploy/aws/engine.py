"""Checks that Docker can run an image on this machine. Without SageMaker's SDK, whose exceptions are no sentences."""

import shutil
import subprocess

from deploy.aws.requests import IMAGE
from subset_trainer.errors import PlatformError, UserError, shown


def check(image: str) -> None:
    """Check the engine, Docker Compose and the image, as local mode needs them.

    Args:
        image: name of a local image, or a URI in Amazon ECR, which is pulled if it is not here.

    Raises:
        UserError: Docker or Docker Compose is not installed, no engine answers, or there is no such image.
        PlatformError: the engine does not answer in time.
    """
    if shutil.which("docker") is None:
        raise UserError("--local: the program `docker` is not on PATH; install Docker first")
    answer = _docker("version", "--format", "{{.Server.Version}}")
    if answer.returncode != 0:
        raise UserError(f"--local: no Docker engine answers ({_last(answer.stderr)}); start it first")
    compose = _docker("compose", "version")
    # SageMaker's SDK takes Compose for missing where its version does not begin with v2.
    if "v2" not in compose.stdout and shutil.which("docker-compose") is None:
        found = f" (found: {_last(compose.stdout)})" if compose.returncode == 0 else ""
        raise UserError(f"--local: SageMaker's local mode needs Docker Compose v2{found}; install it first")
    if _docker("image", "inspect", image).returncode == 0 or IMAGE.fullmatch(image):
        return
    raise UserError(
        f"--image-uri {shown(image)}: Docker has no such image on this machine; "
        "build it with `subset-trainer image build`, or give the URI of one in Amazon ECR"
    )


def _docker(*arguments: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=60)
    except subprocess.TimeoutExpired as error:
        raise PlatformError("--local: the Docker engine has not answered for a minute") from error


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1].rstrip(".")

"""buildspec.yml: what can be told without CodeBuild."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PHASES = ("install", "pre_build", "build", "post_build")


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "buildspec.yml").read_text())
    return content


def commands(spec: dict[str, Any]) -> list[tuple[str, str]]:
    return [(phase, command) for phase in PHASES for command in spec["phases"][phase]["commands"]]


def place(spec: dict[str, Any], pattern: str) -> int:
    """Where the only command that matches stands in the order of execution."""
    found = [number for number, (_, command) in enumerate(commands(spec)) if re.search(pattern, command)]
    assert len(found) == 1, f"{pattern!r} is in {len(found)} commands"
    return found[0]


def test_form(spec: dict[str, Any]) -> None:
    assert spec["version"] == 0.2
    assert spec["env"]["shell"] == "bash"
    assert tuple(spec["phases"]) == PHASES
    assert set(spec["env"]["exported-variables"]) == {"IMAGE_URI", "IMAGE_DIGEST"}
    assert spec["artifacts"]["files"] == ["imageDetail.json"]


def test_every_command_is_strict_bash(spec: dict[str, Any]) -> None:
    for phase, command in commands(spec):
        assert command.startswith("set -euo pipefail\n"), phase
        done = subprocess.run(["bash", "-n"], input=command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{phase}: {done.stderr}"


def test_what_fails_ends_the_build(spec: dict[str, Any]) -> None:
    for phase in PHASES[:-1]:
        assert spec["phases"][phase]["on-failure"] == "ABORT"


def test_the_image_is_tested_before_it_is_pushed(spec: dict[str, Any]) -> None:
    order = [
        place(spec, r"make CUDA=13 lint"),
        place(spec, r"docker buildx build"),
        place(spec, r"pytest tests/image"),
        place(spec, r"-m deploy image push"),
    ]
    assert order == sorted(order)
    assert place(spec, r"pytest tests/unit") < order[1]
    assert "SUBSET_TRAINER_IMAGE=" in commands(spec)[order[2]][1]


def test_the_password_goes_through_stdin(spec: dict[str, Any]) -> None:
    text = "\n".join(command for _, command in commands(spec))
    assert re.search(r"aws ecr get-login-password[^|]*\|\s*docker login [^|\n]*--password-stdin", text)
    assert not re.search(r"docker login[^\n]*(-p |--password[ =])", text)


def test_the_build_is_what_sagemaker_and_ecr_take(spec: dict[str, Any]) -> None:
    build = commands(spec)[place(spec, "docker buildx build")][1]
    for needed in (
        "--platform linux/amd64",
        "--provenance=false",
        "mode=max,image-manifest=true,oci-mediatypes=true",
    ):
        assert needed in build
    # The repository's tags cannot be moved, but for this one.
    from deploy.aws.image import CACHE_TAG

    assert set(re.findall(r"ref=\$REPOSITORY_URI:(\w+)", build)) == {CACHE_TAG}


def test_what_it_names_exists(spec: dict[str, Any]) -> None:
    text = "\n".join(command for _, command in commands(spec))
    targets = re.findall(r"^make (?:CUDA=13 )?(\w+)", text, re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for folder in re.findall(r"pytest (tests/\w+)", text):
        assert (ROOT / folder).is_dir()
    dockerfile = (ROOT / "Dockerfile").read_text()
    for argument in re.findall(r"--build-arg (\w+)=", text):
        assert re.search(rf"^ARG {argument}\b", dockerfile, re.MULTILINE), argument

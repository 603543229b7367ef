"""SageMaker's local mode: the SDK's generic `Estimator` starts the very image in Docker, as the service would."""

import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sagemaker.estimator import Estimator

from deploy.aws import launch

IMAGE = os.environ.get("SUBSET_TRAINER_IMAGE", "")
ROLE = "arn:aws:iam::000000000000:role/local-mode-uses-none"


@pytest.fixture(scope="session")
def image() -> str:
    """The image under test; skips where there is none, or no engine to run it."""
    if not IMAGE:
        pytest.skip("SUBSET_TRAINER_IMAGE is not set: `make test` builds the image and sets it")
    if shutil.which("docker") is None:
        pytest.skip("Docker is not installed")
    found = subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        pytest.skip(f"the image {IMAGE!r} is not here, or no Docker engine answers: {found.stderr.strip()}")
    return IMAGE


@dataclass(frozen=True)
class Result:
    """What a job left in model.tar.gz and output.tar.gz: file name → content. `error` is the SDK's, if any."""

    model: dict[str, bytes]
    output: dict[str, bytes]
    error: RuntimeError | None

    @property
    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads(self.output["data/summary.json"])
        return summary

    @property
    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output["data/history.jsonl"].splitlines()]

    @property
    def subsets(self) -> list[np.ndarray]:
        """The indices of each selection, in order."""
        names = sorted(
            name for name in self.output if name.startswith("data/subsets/") and name.endswith(".npz")
        )
        return [np.load(io.BytesIO(self.output[name]))["indices"] for name in names]


Fit = Callable[..., Result]


@pytest.fixture
def fit(image: str, quiet_sdk: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fit:
    """Runs a job over channels (name → path) and reads back what it left, whether or not it failed."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    def run(
        channels: Mapping[str, Path], hyperparameters: Mapping[str, Any], bare: bool = False, **settings: Any
    ) -> Result:
        session = launch.sagemaker_session(local=True)
        # Container folders belong to root and stay behind; under tmp_path pytest clears them away.
        assert session.config is not None
        session.config = {"local": {**session.config["local"], "container_root": str(tmp_path)}}
        output = tmp_path / "results"
        output.mkdir(exist_ok=True)
        make = Estimator if bare else launch.estimator
        job = make(
            image_uri=image,
            hyperparameters=dict(hyperparameters),
            role=ROLE,
            instance_type="local",
            output_path=output.as_uri(),
            **({"sagemaker_session": session, "instance_count": 1} if bare else {"session": session}),
            **settings,
        )
        error = None
        with without_ended_containers(image):
            try:
                job.fit({name: path.as_uri() for name, path in channels.items()})
            except RuntimeError as raised:
                error = raised
        return Result(_unpacked(output / "model.tar.gz"), _unpacked(output / "output.tar.gz"), error)

    return run


@contextmanager
def without_ended_containers(image: str) -> Iterator[None]:
    """Remove those that end within it: the SDK leaves them, and each keeps an image of 6 GB from being replaced."""
    before = _ended_containers(image)
    try:
        yield
    finally:
        if ended := sorted(_ended_containers(image) - before):
            subprocess.run(["docker", "rm", *ended], capture_output=True, check=False)


def _ended_containers(image: str) -> set[str]:
    filters = ["--filter", f"ancestor={image}", "--filter", "status=exited"]
    listed = subprocess.run(
        ["docker", "ps", "--all", "--quiet", *filters], capture_output=True, text=True, check=True
    )
    return set(listed.stdout.split())


def _unpacked(archive: Path) -> dict[str, bytes]:
    contents = {}
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            file = tar.extractfile(member)
            if file is not None:
                contents[member.name] = file.read()
    return contents

"""`python -m deploy launch --local`: the same container from the command line."""

import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.__main__ import main
from tests.local_mode.conftest import without_ended_containers


@pytest.fixture
def arguments(
    image: str, quiet_sdk: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    output = str(tmp_path / "results")
    with without_ended_containers(image):
        yield ["launch", "--local", "--region", "us-east-1", "--image-uri", image, "--output", output]


def test_a_job(arguments: list[str], digits: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings = ["epochs=1", "strategy=random", "fraction=0.1", "model=mlp", "augmentation=none"]
    assert main([*arguments, "--training", str(digits / "test"), "--set", *settings]) == 0
    assert "model: file://" in capfd.readouterr().out
    with tarfile.open(tmp_path / "results/output.tar.gz") as archive:
        summary = json.load(archive.extractfile("data/summary.json"))  # type: ignore[arg-type]
    assert summary["strategy"] == "random"
    assert summary["budget"] == round(0.1 * summary["examples"]["training"])


def test_the_reason_of_a_failure_is_the_error(
    arguments: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main([*arguments, "--training", str(tmp_path / "empty")]) == 1
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "training" in error
    assert "Process exited" not in error

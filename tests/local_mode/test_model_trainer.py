"""The SDK 3's `ModelTrainer` in its local container mode runs the very image that the SDK 2's `Estimator` does."""

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.sdk3 import run_example


def ended_containers(image: str) -> set[str]:
    filters = ["--filter", f"ancestor={image}", "--filter", "status=exited"]
    listed = subprocess.run(
        ["docker", "ps", "--all", "--quiet", *filters], capture_output=True, text=True, check=True
    )
    return set(listed.stdout.split())


def test_the_same_image_trains(
    image: str, digits: Path, quiet_sdk: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    results = tmp_path / "results"
    results.mkdir()
    before = ended_containers(image)
    try:
        done = run_example(
            *("--image-uri", image, "--local", str(results)),
            *("--training", str(digits / "training"), "--test", str(digits / "test")),
            *("--set", "strategy=glister", "fraction=0.3", "epochs=3", "model=mlp", "test_time_flip=true"),
            *("tensorboard=true",),
            folder=tmp_path / "work",
        )
    finally:
        # Each keeps an image of 6 GB from being replaced.
        if ended := sorted(ended_containers(image) - before):
            subprocess.run(["docker", "rm", *ended], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "epoch=3 train:loss=" in done.stdout
    with tarfile.open(results / "compressed_artifacts" / "output.tar.gz") as archive:
        names = archive.getnames()
        file = archive.extractfile("data/summary.json")
        assert file is not None
        summary = json.load(file)
    assert summary["status"] == "completed" and summary["test"]["accuracy"] > 0.3
    assert summary["hyperparameters"]["strategy"] == "glister"
    assert summary["hyperparameters"]["fraction"] == 0.3
    assert summary["hyperparameters"]["test_time_flip"] is True
    assert summary["budget"] == round(0.3 * summary["examples"]["training"])
    assert any(name.startswith("tensorboard/events.out.tfevents.") for name in names)
    with tarfile.open(results / "compressed_artifacts" / "model.tar.gz") as archive:
        assert {"model.safetensors", "model.json"} <= set(archive.getnames())

"""Containers that are killed and stopped, with /opt/ml/checkpoints on a volume: another one goes on, and ends as the
run that was never stopped, bit for bit."""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.image.conftest import Container, Image, container, docker

SETTINGS = {
    "strategy": "glister",
    "fraction": "0.3",
    "select_every": "2",
    "model": "cnn",
    "epochs": "12",
    "batch_size": "32",
    "precision": "float32",
    "checkpoint_minutes": "0.000001",
}
CONFIGURATION = "/opt/ml/input/config/hyperparameters.json"


@pytest.fixture
def volume() -> Iterator[str]:
    name = f"subset-trainer-test-{uuid.uuid4().hex[:12]}"
    docker("volume", "create", name)
    yield name
    docker("volume", "rm", "--force", name)


@contextmanager
def machine_of(image: Image, digits: Path, folder: Path, volume: str | None) -> Iterator[Container]:
    """One that has the data and the volume of checkpoints, if any, and a folder of its own for results."""
    folder.mkdir()
    (folder / "hyperparameters.json").write_text(json.dumps(SETTINGS))
    # One processor, and so one thread of training: where others are at work, two wait for each other for long.
    options = ["--cpus", "1"]
    if volume:
        options += ["-v", f"{volume}:/opt/ml/checkpoints"]
    options += ["-v", f"{folder / 'hyperparameters.json'}:{CONFIGURATION}:ro"]
    for channel in ("training", "test"):
        options += ["-v", f"{digits / channel}:/opt/ml/input/data/{channel}:ro"]
    for name in ("model", "output"):
        (folder / name).mkdir()
        options += ["-v", f"{folder / name}:/opt/ml/{name}"]
    with container(image, "train", options=options) as started:
        yield started


def outcome(folder: Path) -> dict[str, object]:
    output = folder / "output/data"
    rows = [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]
    subsets = {}
    for path in sorted((output / "subsets").glob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            subsets[path.name] = (file["indices"].tolist(), file["weights"].tolist())
    weights = load_file(folder / "model/model.safetensors")
    return {
        "history": [{name: value for name, value in row.items() if "seconds" not in name} for row in rows],
        "subsets": subsets,
        "weights": {name: value.tobytes() for name, value in weights.items()},
        "test": json.loads((output / "summary.json").read_text())["test"],
    }


def test_killed_and_stopped_containers_are_gone_on_from(
    image: Image, digits: Path, volume: str, tmp_path: Path
) -> None:
    other = f"{volume}-whole"
    docker("volume", "create", other)
    try:
        with machine_of(image, digits, tmp_path / "whole", other) as machine:
            assert machine.exit_code() == 0, machine.log
            expected = outcome(tmp_path / "whole")
    finally:
        docker("volume", "rm", "--force", other)

    with machine_of(image, digits, tmp_path / "killed", volume) as machine:
        machine.wait_for("epoch=2 ")
        docker("kill", machine.name)
        assert machine.exit_code() == 137, machine.log
    with machine_of(image, digits, tmp_path / "stopped", volume) as machine:
        machine.wait_for("epoch=5 ")
        assert machine.stop("--time", "60") < 30, machine.log
        assert machine.exit_code() == 0, machine.log
        assert "resuming from a checkpoint" in machine.log
    with machine_of(image, digits, tmp_path / "last", volume) as machine:
        assert machine.exit_code() == 0, machine.log
        assert "resuming from a checkpoint" in machine.log and "epoch=2 " not in machine.log
        assert outcome(tmp_path / "last") == expected


def test_a_container_that_is_stopped_at_once_does_not_run_on(
    image: Image, digits: Path, tmp_path: Path
) -> None:
    """While the program starts it has no handler yet, and the kernel would have the first process ignore SIGTERM."""
    for number, delay in enumerate((0.0, 0.05, 0.1, 0.2, 0.5)):
        with machine_of(image, digits, tmp_path / str(number), None) as machine:
            time.sleep(delay)
            began = time.monotonic()
            docker("kill", "--signal", "TERM", machine.name)
            assert machine.exit_code() == 0, machine.log
            assert time.monotonic() - began < 10, machine.log
            assert "epoch=1 " not in machine.log

"""`docker run … train` on a mounted folder: no network, Docker's own 64 MB of shared memory."""

import json
from pathlib import Path

import pytest

from tests.image.conftest import Image, container

QUICK = {"strategy": "glister", "fraction": "0.3", "model": "mlp", "epochs": "3", "batch_size": "32"}


def make_job(folder: Path, digits: Path, hyperparameters: dict[str, str]) -> list[str]:
    """A folder to stand for /opt/ml, and the `docker run` options that mount it with the channels in it."""
    configuration = folder / "input" / "config"
    configuration.mkdir(parents=True)
    (configuration / "hyperparameters.json").write_text(json.dumps(hyperparameters))
    channels = folder / "input" / "data"
    options = ["-v", f"{folder}:/opt/ml"]
    for channel in ("training", "test"):
        (channels / channel).mkdir(parents=True)
        options += ["-v", f"{digits / channel}:/opt/ml/input/data/{channel}:ro"]
    return options


def test_without_a_command_the_image_trains_and_its_model_loads_back(
    image: Image, digits: Path, tmp_path: Path
) -> None:
    options = make_job(tmp_path, digits, QUICK)
    done = image.run(options=options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "output" / "failure").exists()

    summary = json.loads((tmp_path / "output/data/summary.json").read_text())
    assert summary["status"] == "completed"
    assert summary["budget"] == round(0.3 * summary["examples"]["training"])
    assert summary["test"]["accuracy"] > 0.3
    history = (tmp_path / "output/data/history.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in history] == [1, 2, 3]
    assert (tmp_path / "model/model.safetensors").stat().st_size > 0
    model = json.loads((tmp_path / "model/model.json").read_text())
    assert model["classes"] == [str(digit) for digit in range(10)]
    assert len([line for line in done.stdout.splitlines() if line.startswith("epoch=")]) == 4

    code = (
        "import torch; from subset_trainer.artifacts import load_model; "
        "loaded = load_model('/opt/ml/model'); print(type(loaded).__name__)"
    )
    assert image.output("python", "-c", code, options=options).strip()


@pytest.mark.parametrize("backend", ["native", "cords"])
def test_glister_with_the_default_model(image: Image, digits: Path, tmp_path: Path, backend: str) -> None:
    hyperparameters = {
        "strategy": "glister",
        "fraction": "0.1",
        "epochs": "2",
        "select_every": "1",
        "backend": backend,
    }
    done = image.run("train", options=make_job(tmp_path, digits, hyperparameters))
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "output/data/summary.json").read_text())
    assert (summary["backend"], summary["model"]) == (backend, "resnet18")


def test_a_failing_job_says_why(image: Image, digits: Path, tmp_path: Path) -> None:
    done = image.run("train", options=make_job(tmp_path, digits, {**QUICK, "fraction": "1.5"}))
    assert done.returncode == 1
    failure = (tmp_path / "output" / "failure").read_text()
    assert "fraction" in failure
    assert "1.5" in failure
    assert done.stdout.strip().splitlines()[-1].endswith(failure)


def test_docker_stop_ends_in_seconds_with_the_model_saved(image: Image, digits: Path, tmp_path: Path) -> None:
    options = make_job(tmp_path, digits, {**QUICK, "epochs": "5000"})
    with container(image, "train", options=options) as job:
        job.wait_for("epoch=2 ")
        assert job.stop("--time", "60") < 20, job.log
        assert job.exit_code() == 0, job.log
    assert (tmp_path / "model/model.safetensors").stat().st_size > 0
    assert json.loads((tmp_path / "output/data/summary.json").read_text())["status"] == "stopped"

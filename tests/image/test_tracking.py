"""The image's trackers: TensorBoard's files, and a run on a real MLflow server on the host."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.image.conftest import Image
from tests.image.test_training import QUICK, make_job
from tests.mlflow_server import Server, make_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = make_server(tmp_path / "mlflow")
    yield server
    server.kill()


def test_a_run_on_a_server_and_event_files(
    image: Image, server: Server, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    options = make_job(tmp_path / "ml", digits, {**QUICK, "tensorboard": "true"})
    options += ["-e", f"MLFLOW_TRACKING_URI={server.url}", "-e", "MLFLOW_EXPERIMENT_NAME=image"]
    done = image.run("train", options=options, network="host")
    assert done.returncode == 0, done.stdout + done.stderr
    client = MlflowClient(server.url)
    experiment = client.get_experiment_by_name("image")
    assert experiment is not None, done.stdout
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["strategy"] == "glister"
    points = client.get_metric_history(run.info.run_id, "validation/accuracy")
    assert [point.step for point in points] == [1, 2, 3]
    assert "training continues" not in done.stdout
    (events,) = (tmp_path / "ml" / "output" / "tensorboard").iterdir()
    assert events.name.startswith("events.out.tfevents.") and events.stat().st_size > 0


def test_without_a_network_it_is_said_once(image: Image, digits: Path, tmp_path: Path) -> None:
    options = make_job(
        tmp_path, digits, {**QUICK, "mlflow_tracking_uri": "https://mlflow.example.org", "epochs": "1"}
    )
    done = image.run("train", options=options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("MLflow: API request to https://mlflow.example.org/") == 1
    assert (tmp_path / "model/model.safetensors").exists()

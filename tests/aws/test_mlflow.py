"""Whole jobs that record themselves in MLflow: a real server, and what a managed one would be asked."""

import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from subset_trainer import __version__
from subset_trainer.tracking.mlflow import MLflow
from tests.functional.conftest import SECONDS, Job, write_table
from tests.mlflow_server import Server, make_server

QUICK = {"model": "mlp", "epochs": 3, "fraction": 0.5, "strategy": "glister", "device": "cpu"}
ENDLESS = {**QUICK, "epochs": 100_000, "strategy": "rs2"}
JOB_ARN = "arn:aws:sagemaker:eu-west-1:123456789012:training-job/fractions-1"
SERVER_ARN = "arn:aws:sagemaker:eu-west-1:123456789012:mlflow-tracking-server/mine"
APP_ARN = "arn:aws:sagemaker:eu-west-1:123456789012:mlflow-app/app-ABCD1234"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = make_server(tmp_path_factory.mktemp("mlflow"))
    yield server
    server.kill()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """One that a test may kill."""
    server = make_server(tmp_path / "mlflow")
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def no_settings(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own MLflow is out of reach; moto would answer for a Run, but no job here belongs to one."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    job = Job(tmp_path / "ml")
    write_table(job.channel("training") / "train.csv")
    write_table(job.channel("test") / "test.csv", rows=60, seed=1)
    return job


def client(server: Server) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(server.url)


def only_run(server: Server, experiment: str) -> Any:
    found = client(server).get_experiment_by_name(experiment)
    assert found is not None, f"there is no experiment {experiment}"
    (run,) = client(server).search_runs([found.experiment_id])
    return run


def test_a_whole_job_is_recorded(server: Server, job: Job) -> None:
    job.environment = {
        "MLFLOW_TRACKING_URI": server.url,
        "MLFLOW_EXPERIMENT_NAME": "whole",
        "TRAINING_JOB_NAME": "fractions-1",
    }
    job.run(QUICK)
    assert job.exit_code == 0, job.log
    run = only_run(server, "whole")
    assert run.info.status == "FINISHED" and run.info.end_time >= run.info.start_time
    assert run.info.run_name == run.data.tags["training_job"] == "fractions-1"
    assert run.data.tags["image_version"] == __version__
    assert run.data.params["strategy"] == "glister" and run.data.params["fraction"] == "0.5"
    assert run.data.params["budget"] == str(job.summary["budget"])
    assert len(job.history) == 3
    for name in ("train:loss", "validation:accuracy", "selection:seconds", "samples:visited"):
        points = client(server).get_metric_history(run.info.run_id, name.replace(":", "/"))
        assert {point.step: point.value for point in points} == pytest.approx(
            {row["epoch"]: row[name] for row in job.history}
        )
    (test,) = client(server).get_metric_history(run.info.run_id, "test/accuracy")
    assert (test.step, test.value) == (3, pytest.approx(job.summary["test"]["accuracy"]))
    assert f"MLflow: run fractions-1 ({run.info.run_id}) of experiment " in job.log
    assert "training continues" not in job.log and "WARNING mlflow" not in job.log


def test_the_hyperparameter_goes_before_the_environment(server: Server, job: Job) -> None:
    job.environment = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_EXPERIMENT_NAME": "knob"}
    job.environment["MLFLOW_RUN_NAME"] = "mine"
    job.run({**QUICK, "mlflow_tracking_uri": server.url})
    assert job.exit_code == 0, job.log
    run = only_run(server, "knob")
    assert (run.info.status, run.info.run_name) == ("FINISHED", "mine")


def test_a_run_that_exists_goes_on(server: Server, job: Job) -> None:
    """What it has set already stays, is said to be refused, and does not keep the metrics back."""
    experiment = client(server).create_experiment("existing")
    existing = client(server).create_run(experiment, run_name="before")
    client(server).log_param(existing.info.run_id, "fraction", "0.9")
    client(server).set_terminated(existing.info.run_id, "FAILED")
    job.environment = {"MLFLOW_TRACKING_URI": server.url, "MLFLOW_RUN_ID": existing.info.run_id}
    job.run(QUICK)
    assert job.exit_code == 0, job.log
    run = only_run(server, "existing")
    assert (run.info.status, run.info.run_name) == ("FINISHED", "before")
    assert run.data.params["fraction"] == "0.9"
    assert len(client(server).get_metric_history(run.info.run_id, "train/loss")) == 3
    assert job.log.count("MLflow: parameters were refused: ") == 1


def test_a_failed_job_is_a_failed_run(server: Server, job: Job) -> None:
    job.environment = {"MLFLOW_TRACKING_URI": server.url, "MLFLOW_EXPERIMENT_NAME": "failing"}
    job.run({**QUICK, "label_column": "missing"})
    assert job.exit_code == 1, job.log
    assert only_run(server, "failing").info.status == "FAILED"


def test_a_stopped_job_is_a_killed_run_with_what_there_was(server: Server, job: Job) -> None:
    job.environment = {"MLFLOW_TRACKING_URI": server.url, "MLFLOW_EXPERIMENT_NAME": "stopping"}
    seconds = job.terminate_when(ENDLESS, "epoch=20 ")
    assert job.exit_code == 0, job.log
    run = only_run(server, "stopping")
    assert run.info.status == "KILLED"
    points = client(server).get_metric_history(run.info.run_id, "train/loss")
    assert [point.step for point in points] == [row["epoch"] for row in job.history]
    assert seconds < 30


def test_many_jobs_make_one_experiment(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    environment = {"MLFLOW_EXPERIMENT_NAME": "sweep"}
    trackers = [MLflow(server.url, environment) for _ in range(4)]
    for tracker in trackers:
        tracker.metrics(1, {"train:loss": float("nan")})
    for tracker in trackers:
        tracker.close(60)
    found = client(server).get_experiment_by_name("sweep")
    assert len(client(server).search_runs([found.experiment_id])) == 4
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_with_the_server_down_the_job_trains_and_says_so_once(job: Job) -> None:
    start = time.monotonic()
    job.environment = {"MLFLOW_TRACKING_URI": "http://me:secret@127.0.0.1:9"}
    job.run({**QUICK, "epochs": 50})
    assert job.exit_code == 0, job.log
    assert job.summary["status"] == "completed" and len(job.history) == 50
    assert job.log.count("MLflow: API request to http://127.0.0.1:9/") == 1
    assert job.log.count("training continues, and its metrics are in the log") == 1
    assert "secret" not in job.log and "Retry" not in job.log.replace("Max retries", "")
    assert time.monotonic() - start < 60


def start_and_lose(server: Server, job: Job, experiment: str) -> Any:
    """An endless job whose server has died after it had taken some metrics; the process."""
    job.environment = {"MLFLOW_TRACKING_URI": server.url, "MLFLOW_EXPERIMENT_NAME": experiment}
    job.configure(ENDLESS)
    process = job.start()
    output = process.stdout
    assert output is not None
    lines: list[str] = []

    def read() -> None:
        for line in output:
            lines.append(line)
        job.log = "".join(lines)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    process.lines, process.reader = lines, reader  # type: ignore[attr-defined]
    try:
        wait_for(lambda: found_metrics(server, experiment) > 3)
        server.kill()
        wait_for(lambda: any("MLflow: " in line and "trying again" in line for line in lines))
    except BaseException:
        process.kill()
        raise
    return process


def found_metrics(server: Server, experiment: str) -> int:
    found = client(server).get_experiment_by_name(experiment)
    runs = client(server).search_runs([found.experiment_id]) if found else []
    return len(client(server).get_metric_history(runs[0].info.run_id, "train/loss")) if runs else 0


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def stop(process: Any, job: Job) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        job.exit_code = process.wait(SECONDS)
    finally:
        process.kill()
    process.reader.join(10)


def test_a_server_that_goes_away_stops_nothing(own_server: Server, job: Job) -> None:
    process = start_and_lose(own_server, job, "away")
    epochs = sum(line.startswith("epoch=") for line in process.lines)
    wait_for(lambda: sum(line.startswith("epoch=") for line in process.lines) > epochs + 20)
    start = time.monotonic()
    stop(process, job)
    assert job.exit_code == 0, job.log
    assert time.monotonic() - start < 30
    assert job.summary["status"] == "stopped" and job.summary["epochs"] > epochs + 20
    assert len(re.findall("MLflow: .* training continues", job.log)) == 1


def test_what_a_server_missed_it_gets_when_it_comes_back(own_server: Server, job: Job) -> None:
    process = start_and_lose(own_server, job, "back")
    try:
        own_server.start()
    finally:
        stop(process, job)
    assert job.exit_code == 0, job.log
    run = only_run(own_server, "back")
    assert run.info.status == "KILLED"
    points = client(own_server).get_metric_history(run.info.run_id, "train/loss")
    assert sorted(point.step for point in points) == [row["epoch"] for row in job.history]


class Endpoint:
    """Stands where AWS's managed server does: keeps each request's headers, and passes it on to a real server."""

    def __init__(self, behind: str) -> None:
        self.seen: list[dict[str, str]] = []
        seen = self.seen

        class Handler(BaseHTTPRequestHandler):
            def forward(self) -> None:
                seen.append({name.lower(): value for name, value in self.headers.items()})
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answer = requests.request(
                    self.command,
                    behind + self.path,
                    data=body,
                    headers={"Content-Type": self.headers.get("Content-Type", "application/json")},
                    timeout=60,
                )
                self.send_response(answer.status_code)
                self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST = do_PATCH = forward  # noqa: N815

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def endpoint(server: Server) -> Iterator[Endpoint]:
    endpoint = Endpoint(server.url)
    yield endpoint
    endpoint.close()


@pytest.mark.parametrize(
    ("arn", "service"), [(SERVER_ARN, "sagemaker-mlflow"), (APP_ARN, "sagemaker")], ids=["server", "app"]
)
def test_requests_to_a_managed_server_are_signed_for_it(
    endpoint: Endpoint, server: Server, job: Job, arn: str, service: str
) -> None:
    job.environment = {
        "SAGEMAKER_MLFLOW_CUSTOM_ENDPOINT": endpoint.url,
        "MLFLOW_EXPERIMENT_NAME": service,
        "TRAINING_JOB_ARN": JOB_ARN,
    }
    job.run({**QUICK, "mlflow_tracking_uri": arn})
    assert job.exit_code == 0, job.log
    run = only_run(server, service)
    assert run.info.status == "FINISHED" and run.data.tags["training_job_arn"] == JOB_ARN
    assert len(client(server).get_metric_history(run.info.run_id, "train/loss")) == 3
    assert endpoint.seen
    for headers in endpoint.seen:
        scope = rf"AWS4-HMAC-SHA256 Credential=testing/\d{{8}}/eu-west-1/{service}/aws4_request, "
        assert re.match(scope + "SignedHeaders=.*, Signature=[0-9a-f]{64}$", headers["authorization"])
        assert arn in headers.values()


def test_an_arn_without_credentials_is_said_once(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    job.run({**QUICK, "mlflow_tracking_uri": SERVER_ARN})
    assert job.exit_code == 0, job.log
    assert job.summary["status"] == "completed"
    assert job.log.count("MLflow: ") == 1
    assert re.search("MLflow: .*redentials.*; training continues", job.log)

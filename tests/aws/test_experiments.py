"""The container's side of SageMaker Experiments: against moto, and against answers that moto does not give."""

import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from subset_trainer.tracking.experiments import Experiments
from tests.functional.conftest import Job, write_table

ROLE = "arn:aws:iam::123456789012:role/trainer"
RUN = "fractions-glister-0-3"
JOB = "subset-trainer-1"
DESCRIPTION = {
    "TrainingJobName": JOB,
    "TrainingJobArn": f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{JOB}",
    "ModelArtifacts": {"S3ModelArtifacts": "s3://results/model.tar.gz"},
    "TrainingJobStatus": "InProgress",
    "SecondaryStatus": "Training",
    "AlgorithmSpecification": {"TrainingInputMode": "File"},
    "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
    "StoppingCondition": {},
    "CreationTime": 0,
    "OutputDataConfig": {"S3OutputPath": "s3://results/runs/"},
    "ExperimentConfig": {"RunName": RUN},
}


def create_job(in_a_run: bool = True) -> str:
    """A training job as the SDK creates it within `with Run(...)`; its ARN."""
    client = boto3.client("sagemaker")
    client.create_experiment(ExperimentName="fractions")
    client.create_trial(TrialName="default", ExperimentName="fractions")
    client.create_trial_component(TrialComponentName=RUN, Parameters={"kept": {"StringValue": "yes"}})
    client.create_training_job(
        TrainingJobName=JOB,
        AlgorithmSpecification={"TrainingImage": "image", "TrainingInputMode": "File"},
        RoleArn=ROLE,
        OutputDataConfig={"S3OutputPath": "s3://results/runs/"},
        ResourceConfig={"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
        StoppingCondition={"MaxRuntimeInSeconds": 60},
        **({"ExperimentConfig": {"ExperimentName": "fractions", "RunName": RUN}} if in_a_run else {}),
    )
    return str(client.describe_training_job(TrainingJobName=JOB)["TrainingJobArn"])


def recorded() -> dict[str, Any]:
    described: dict[str, Any] = boto3.client("sagemaker").describe_trial_component(TrialComponentName=RUN)
    return described


def test_parameters_metrics_and_artefacts_reach_the_run(aws: str) -> None:
    experiments = Experiments(create_job())
    experiments.parameters({"fraction": 0.3, "strategy": "glister", "test_time_flip": False, "scope": None})
    for epoch in range(1, 6):
        experiments.metrics(epoch, {f"metric-{number}": epoch + number for number in range(7)})
    experiments.close()
    found = recorded()
    assert found["Parameters"]["fraction"] == {"NumberValue": 0.3}
    assert found["Parameters"]["strategy"] == {"StringValue": "glister"}
    assert found["Parameters"]["test_time_flip"] == {"StringValue": "False"}
    assert "scope" not in found["Parameters"]
    assert found["OutputArtifacts"]["model"]["Value"] == f"s3://results/runs/{JOB}/output/model.tar.gz"
    last = {metric["MetricName"]: metric["Last"] for metric in found["Metrics"]}
    assert last == {f"metric-{number}": 5 + number for number in range(7)}
    assert {metric["Count"] for metric in found["Metrics"]} == {5}


def test_a_job_outside_of_any_run_says_so_once(aws: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    experiments = Experiments(create_job(in_a_run=False))
    experiments.metrics(1, {"train:loss": 1.0})
    experiments.close()
    assert caplog.text.count("belongs to no Run of SageMaker Experiments") == 1
    assert not recorded()["Metrics"]


def job_process(job: Job, arn: str) -> Job:
    write_table(job.channel("training") / "train.csv")
    write_table(job.channel("test") / "test.csv", rows=60, seed=1)
    job.environment = {"TRAINING_JOB_ARN": arn}
    return job.run({"model": "mlp", "epochs": 3, "strategy": "glister", "fraction": 0.5, "device": "cpu"})


def test_a_whole_job_is_recorded(aws: str, tmp_path: Path) -> None:
    job = job_process(Job(tmp_path / "ml"), create_job())
    assert job.exit_code == 0, job.log
    found = recorded()
    metrics = {metric["MetricName"]: metric for metric in found["Metrics"]}
    assert metrics["validation:accuracy"]["Count"] == metrics["selection:seconds"]["Count"] == 3
    assert metrics["validation:accuracy"]["Last"] == pytest.approx(job.summary["validation"]["accuracy"])
    assert metrics["test:accuracy"]["Last"] == pytest.approx(job.summary["test"]["accuracy"])
    assert found["Parameters"]["strategy"] == {"StringValue": "glister"}
    assert found["Parameters"]["fraction"] == {"NumberValue": 0.5}
    assert "SageMaker Experiments" not in job.log


def test_a_job_out_of_reach_of_aws_trains_all_the_same(unreachable_aws: None, tmp_path: Path) -> None:
    start = time.monotonic()
    job = job_process(Job(tmp_path / "ml"), DESCRIPTION["TrainingJobArn"])  # type: ignore[arg-type]
    assert job.exit_code == 0, job.log
    assert job.log.count("SageMaker Experiments: Could not connect to the endpoint URL") == 1
    assert "training continues, and its metrics are in the log" in job.log
    assert job.summary["status"] == "completed"
    assert time.monotonic() - start < 60


class Stubs:
    """Real clients with prescribed answers."""

    def __init__(self) -> None:
        self.clients = {
            name: boto3.client(name, region_name="us-east-1") for name in ("sagemaker", "sagemaker-metrics")
        }
        self.stubs = {name: Stubber(client) for name, client in self.clients.items()}
        self.stubs["sagemaker"].add_response("describe_training_job", DESCRIPTION)
        for stub in self.stubs.values():
            stub.activate()

    def artifacts_are_taken(self) -> None:
        self.stubs["sagemaker"].add_response("update_trial_component", {})

    def connect(self, service: str, region: str) -> Any:
        return self.clients[service]


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_throttled_goes_with_what_comes_next(aws: str, caplog: pytest.LogCaptureFixture) -> None:
    stubs = Stubs()
    stubs.artifacts_are_taken()
    metrics = stubs.stubs["sagemaker-metrics"]
    for _ in range(2):
        metrics.add_client_error("batch_put_metrics", "ThrottlingException", "slow down", 400)
    sent: list[Any] = []
    stubs.clients["sagemaker-metrics"].meta.events.register(
        "provide-client-params.sagemaker-metrics.BatchPutMetrics",
        lambda params, **_: sent.append([(m["Step"], m["MetricName"]) for m in params["MetricData"]]),
    )
    metrics.add_response("batch_put_metrics", {})
    experiments = Experiments(DESCRIPTION["TrainingJobArn"], stubs.connect)  # type: ignore[arg-type]
    for epoch in (1, 2):
        experiments.metrics(epoch, {"train:loss": 1.0})
        wait_for(lambda: len(sent) == epoch)  # noqa: B023 - called at once
    experiments.metrics(3, {"train:loss": 1.0})
    experiments.close()
    assert sent[-1] == [(1, "train:loss"), (2, "train:loss"), (3, "train:loss")]
    metrics.assert_no_pending_responses()
    assert caplog.text.count("slow down") == 1


def test_without_rights_it_is_said_once_and_nothing_more_is_tried(
    aws: str, caplog: pytest.LogCaptureFixture
) -> None:
    stubs = Stubs()
    stubs.stubs["sagemaker"].add_client_error("update_trial_component", "AccessDeniedException", "no", 403)
    experiments = Experiments(DESCRIPTION["TrainingJobArn"], stubs.connect)  # type: ignore[arg-type]
    for epoch in (1, 2, 3):
        experiments.metrics(epoch, {"train:loss": 1.0})
    experiments.close()
    assert caplog.text.count("AccessDeniedException") == 1
    stubs.stubs["sagemaker"].assert_no_pending_responses()


def test_a_metric_that_is_refused_is_named(aws: str, caplog: pytest.LogCaptureFixture) -> None:
    stubs = Stubs()
    stubs.artifacts_are_taken()
    refusal = {"Errors": [{"Code": "METRIC_LIMIT_EXCEEDED", "MetricIndex": 1}]}
    stubs.stubs["sagemaker-metrics"].add_response("batch_put_metrics", refusal)
    experiments = Experiments(DESCRIPTION["TrainingJobArn"], stubs.connect)  # type: ignore[arg-type]
    experiments.metrics(1, {"train:loss": 1.0, "train:accuracy": 0.5})
    experiments.close()
    assert "train:accuracy was refused: METRIC_LIMIT_EXCEEDED" in caplog.text


def test_the_end_waits_a_bounded_time(caplog: pytest.LogCaptureFixture) -> None:
    hanging = threading.Event()
    experiments = Experiments(
        DESCRIPTION["TrainingJobArn"],  # type: ignore[arg-type]
        lambda service, region: hanging.wait(30),
    )
    start = time.monotonic()
    experiments.close(0.2)
    assert time.monotonic() - start < 5
    assert "not everything was sent within 0.2 s" in caplog.text
    hanging.set()  # and the thread ends with what it takes for a client


def test_outside_of_a_training_job_there_is_no_thread() -> None:
    before = threading.active_count()
    experiments = Experiments(None)
    experiments.metrics(1, {"train:loss": 1.0})
    assert threading.active_count() <= before
    experiments.close()


def test_nothing_of_aws_is_imported_before_it_is_needed() -> None:
    code = "import sys, subset_trainer.tracking.experiments; print('boto3' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name != "TRAINING_JOB_ARN"}
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert output.stdout.strip() == "False"

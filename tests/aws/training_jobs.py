"""SageMaker's side of a training job, which moto does not play: the job runs and leaves its results.

Its jobs are moto's; what they do is the real `train` on their hyperparameters, and what that leaves is put into S3.
"""

import io
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
from moto.sagemaker.models import sagemaker_backends

from deploy.grid import program
from tests.functional.conftest import write_table
from tests.warm import Train


class Platform:
    """Runs moto's training jobs."""

    def __init__(self, folder: Path, account: str, region: str) -> None:
        self.folder = folder
        self._backend = sagemaker_backends[account][region]
        self.channels = {"training": folder / "training", "test": folder / "test"}
        for seed, path in enumerate(self.channels.values()):
            path.mkdir()
            write_table(path / "data.csv", 200, seed)
        self.fail: set[str] = set()
        """Job names, or beginnings of them, that end badly."""
        self.looks_until_done = 0
        self.most_at_once = 0
        self._looks: dict[str, int] = {}
        self._processes: dict[str, Train] = {}

    def jobs(self) -> dict[str, Any]:
        found: dict[str, Any] = self._backend.training_jobs
        return found

    def created(self, request: Mapping[str, Any]) -> None:
        name = request["TrainingJobName"]
        job = self.jobs()[name]
        job.training_job_status = "InProgress"
        self._looks[name] = 0
        if not self._fails(name):
            self._processes[name] = self._start(name, job)
        running = [job for job in self.jobs().values() if job.training_job_status == "InProgress"]
        self.most_at_once = max(self.most_at_once, len(running))

    def tuning_created(self, request: Mapping[str, Any]) -> None:
        """A tuning job's training jobs, over the whole of each range: moto starts none."""
        name, definition = request["HyperParameterTuningJobName"], request["TrainingJobDefinition"]
        config = request["HyperParameterTuningJobConfig"]
        count = config["ResourceLimits"]["MaxNumberOfTrainingJobs"]
        for number in range(count):
            values = dict(definition["StaticHyperParameters"])
            for tuned in config["ParameterRanges"].get("ContinuousParameterRanges", ()):
                low, high = float(tuned["MinValue"]), float(tuned["MaxValue"])
                values[tuned["Name"]] = str(low + (high - low) * number / max(1, count - 1))
            for tuned in config["ParameterRanges"].get("CategoricalParameterRanges", ()):
                values[tuned["Name"]] = tuned["Values"][number % len(tuned["Values"])]
            algorithm = {
                key: value
                for key, value in definition["AlgorithmSpecification"].items()
                if key != "MetricDefinitions"
            }
            own: dict[str, Any] = {
                "TrainingJobName": f"{name}-{number + 1:03d}-0123abcd",
                "HyperParameters": values,
            }
            own["ResourceConfig"] = definition["HyperParameterTuningResourceConfig"]
            shared = ("RoleArn", "InputDataConfig", "OutputDataConfig", "StoppingCondition")
            boto3.client("sagemaker").create_training_job(
                AlgorithmSpecification=algorithm, **own, **{key: definition[key] for key in shared}
            )

    def looked_at(self, name: str) -> None:
        job = self.jobs().get(name)
        if job is None or job.training_job_status != "InProgress":
            return
        self._looks[name] += 1
        if self._looks[name] <= self.looks_until_done:
            return
        if self._fails(name):
            job.training_job_status = "Failed"
            job.failure_reason = "AlgorithmError: training diverged in epoch 3"
            return
        base = self._base(name)
        code = self._processes.pop(name).wait(timeout=300)
        assert code == 0, (base / "output/failure").read_text()
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            archive.add(base / "output/data", arcname="data")
        uri = job.output_data_config["S3OutputPath"].rstrip("/")
        bucket, _, key = f"{uri}/{name}/output/output.tar.gz".removeprefix("s3://").partition("/")
        boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=packed.getvalue())
        job.training_job_status = "Completed"
        # On spot instances, at three tenths of the price.
        job.training_time_in_seconds, job.billable_time_in_seconds = 100, 30

    def close(self) -> None:
        """End what still runs."""
        for process in self._processes.values():
            process.kill()
            process.wait()

    def _fails(self, name: str) -> bool:
        return any(name.startswith(beginning) for beginning in self.fail)

    def _base(self, name: str) -> Path:
        return self.folder / "jobs" / name

    def _start(self, name: str, job: Any) -> Train:
        base = self._base(name)
        # The report has tests of its own; what it imports would take a second of every job.
        program.prepare(base, self.channels, {"report": "false", **(job.hyper_parameters or {})})
        own = {"SAGEMAKER_BASE_DIR": str(base), "TRAINING_JOB_ARN": job.arn, "OMP_NUM_THREADS": "1"}
        with (base / "train.log").open("wb") as log:
            return Train(env={**os.environ, **own}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

"""A script of one's own in the image logs to the Run that launched its job, by `load_run`, as the article's does."""

import os
import subprocess
from pathlib import Path

import boto3
import pytest
from sagemaker.estimator import Estimator
from sagemaker.experiments import Run

from deploy.aws import launch
from tests.aws.conftest import REGION, aws, moto_server  # noqa: F401 - fixtures
from tests.image.conftest import Image, script_job

ROLE = "arn:aws:iam::123456789012:role/trainer"
EXPERIMENT, RUN = "fractions", "glister-thirty"
SCRIPT = """
import argparse

import boto3
from sagemaker.experiments import load_run
from sagemaker.session import Session

parser = argparse.ArgumentParser()
parser.add_argument("--fraction", type=float)
parser.add_argument("--region")
arguments = parser.parse_args()

session = Session(boto3.session.Session(region_name=arguments.region))
with load_run(sagemaker_session=session) as run:
    run.log_parameters({"fraction": arguments.fraction})
    for epoch in (1, 2, 3):
        run.log_metric(name="validation:accuracy", value=0.5 + epoch / 10, step=epoch)
    print("logged to", run.experiment_name, run.run_name)
"""


def create_job(image: str) -> tuple[str, str]:
    """The job that an Estimator starts within a Run, as moto knows it: its name and ARN."""
    session = launch.sagemaker_session()
    boto3.client("s3").create_bucket(Bucket="results")
    with Run(experiment_name=EXPERIMENT, run_name=RUN, sagemaker_session=session):
        estimator = Estimator(
            image_uri=image,
            role=ROLE,
            instance_count=1,
            instance_type="ml.m5.large",
            output_path="s3://results/runs",
            sagemaker_session=session,
        )
        estimator.fit({"training": "s3://results/training"}, wait=False)
    (job,) = boto3.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
    return job["TrainingJobName"], job["TrainingJobArn"]


def run_script(image: Image, folder: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """`train` in script mode, on the host's network, where moto's server listens."""
    options = script_job(folder, SCRIPT, fraction="0.3", region=REGION)
    variables = [option for name, value in environment.items() for option in ("-e", f"{name}={value}")]
    return image.run("train", options=[*options, *variables], network="host")


@pytest.mark.usefixtures("aws")
def test_a_script_finds_its_run(image: Image, tmp_path: Path) -> None:
    name, arn = create_job(image.name)
    done = run_script(
        image,
        tmp_path,
        {
            "TRAINING_JOB_NAME": name,
            "TRAINING_JOB_ARN": arn,
            "AWS_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"],
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_EC2_METADATA_DISABLED": "true",
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"logged to {EXPERIMENT} {RUN}" in done.stdout

    client = boto3.client("sagemaker")
    job = client.describe_training_job(TrainingJobName=name)
    assert job["ExperimentConfig"]["ExperimentName"] == EXPERIMENT
    component = client.describe_trial_component(TrialComponentName=job["ExperimentConfig"]["RunName"])
    assert component["Parameters"]["fraction"] == {"NumberValue": 0.3}
    (metric,) = component["Metrics"]
    assert (metric["MetricName"], metric["Count"]) == ("validation:accuracy", 3)
    assert metric["Last"] == pytest.approx(0.8)


@pytest.mark.usefixtures("aws")
def test_outside_of_a_job_the_script_is_told_so(image: Image, tmp_path: Path) -> None:
    """What makes the other test's Run be found is the job's ARN."""
    done = run_script(
        image,
        tmp_path,
        {
            "AWS_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"],
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
        },
    )
    assert done.returncode == 1
    assert "Failed to load a Run object" in done.stdout + done.stderr

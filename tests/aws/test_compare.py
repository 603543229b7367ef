"""`compare EXPERIMENT`: what jobs recorded in moto's SageMaker Experiments, read back."""

import json
from pathlib import Path
from typing import Any

import boto3
import pandas as pd
import pytest
from sagemaker.experiments.run import Run

import deploy
from deploy.__main__ import main
from deploy.aws import launch
from tests.aws.test_launch import BUCKET
from tests.aws.test_sweep import command
from tests.aws.training_jobs import Platform


@pytest.fixture
def swept(platform: Platform, capsys: pytest.CaptureFixture[str]) -> Platform:
    """Full data and two fractions; the job of one fraction failed."""
    platform.fail = {"fractions-glister-0-25"}
    assert main(command("--fractions", "1,0.5,0.25", "--strategies", "glister", "--no-baselines")) == 1
    capsys.readouterr()
    return platform


def test_an_experiment(swept: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--csv", "frame.csv", "--html", "page.html", "--prices", "ml.g5.xlarge=1.5"]
    options += ["--output", "results"]
    assert main(["compare", "fractions", *options]) == 0
    shown = capsys.readouterr().out
    assert "glister-0-25: Failed: AlgorithmError: training diverged in epoch 3" in shown
    assert "cannot be known from one seed" in shown
    # Dollars: 1.5 an hour for 30 of 100 seconds.
    assert "$0.013 (spot −70%)" in shown
    frame = pd.read_csv("frame.csv")
    assert list(frame["DisplayName"]) == [
        f"fractions-{name}" for name in ("full", "glister-0-5", "glister-0-25")
    ]
    assert list(frame["validation:accuracy - Count"].fillna(0)) == [4, 4, 0]
    half = json.loads(Path("results/comparison.json").read_text())[1]
    assert half["run"] == "glister-0-5" and half["cost"] == pytest.approx(1.5 * 30 / 3600)
    # What the container recorded by epoch ends with what it left as its result.
    last = frame.set_index("DisplayName").loc["fractions-glister-0-5", "validation:accuracy - Last"]
    assert last == pytest.approx(half["validation_accuracy"], abs=1e-6)
    page = Path("page.html").read_text()
    assert "training diverged in epoch 3" in page and "$0.013" in page


def test_the_frame_has_the_columns_of_the_sdks_own(swept: Platform) -> None:
    """Held against the SDK's `ExperimentAnalytics`, fed with what AWS's Search would find."""
    from botocore.stub import Stubber
    from sagemaker.analytics import ExperimentAnalytics

    from deploy.results.experiments import Analytics

    session = launch.sagemaker_session(bucket=BUCKET)
    ours = Analytics("fractions", session)
    found = [
        {
            key: value
            for key, value in component.items()
            if key not in ("ResponseMetadata", "TrialName", "Sources")
        }
        for component in ours.components()
    ]
    for component in found:
        component["Metrics"] = [dict(metric) for metric in component.get("Metrics", [])]
    with Stubber(session.sagemaker_client) as stubber:
        stubber.add_response("search", {"Results": [{"TrialComponent": component} for component in found]})
        theirs = ExperimentAnalytics(experiment_name="fractions", sagemaker_session=session).dataframe()
    pd.testing.assert_frame_equal(ours.dataframe(), theirs)
    assert {"validation:accuracy - Max", "fraction", "data - Value", "Experiments"} <= set(theirs.columns)


def test_orders(swept: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    for order, first in (
        (["--sort-by", "parameters.training_job"], "fractions-glister-0-5"),
        (["--sort-by", "metrics.samples:visited.max"], "fractions-full"),
        (["--sort-by", "metrics.samples:visited.Max", "--ascending"], "fractions-glister-0-5"),
        (["--sort-by", "CreationTime"], "fractions-glister-0-25"),
    ):
        assert main(["compare", "fractions", "--csv", "frame.parquet", *order]) == 0
        frame = pd.read_parquet("frame.parquet")
        assert frame["training_job"].iloc[0].startswith(first), order
    assert main(["compare", "fractions", "--sort-by", "samples"]) == 1
    assert "expected metrics.NAME.max" in capsys.readouterr().err


def test_other_peoples_runs_are_shown_by_their_metrics(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    session = launch.sagemaker_session(bucket=BUCKET)
    with Run(experiment_name="theirs", run_name="mine", sagemaker_session=session) as run:
        run.log_metric("f1", 0.5, step=1)
    assert main(["compare", "theirs"]) == 0
    shown = capsys.readouterr().out
    assert "Experiment theirs: no Run has results of this image" in shown and "f1 - Last" in shown


def test_a_run_that_is_still_running_is_said(swept: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    (job,) = [job for name, job in swept.jobs().items() if "glister-0-5" in name]
    job.training_job_status = "Stopping"
    assert main(["compare", "fractions"]) == 0
    assert "glister-0-5: Stopping" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nothing"], "there is no file or folder 'nothing', and no Experiment"),
        (["--ascending"], "expected data, folders of runs, or the name of an Experiment"),
        (["a", "--local", "/tmp"], "there is no folder 'a'"),
        (["--local", "/tmp", "--sort-by", "x"], "only applies to an Experiment's data frame"),
        (["a", "--csv", "x.xls"], "ends in .csv or .parquet"),
        (["a", "--prices", "ml.g5.xlarge=free"], "expected dollars an hour"),
    ],
)
def test_mistakes(
    platform: Platform, arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *arguments]) == 1
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1


def test_hundreds_of_runs_are_all_there(platform: Platform) -> None:
    client: Any = boto3.client("sagemaker")
    client.create_experiment(ExperimentName="many")
    client.create_trial(TrialName="one", ExperimentName="many")
    for number in range(120):
        name = f"many-{number}"
        client.create_trial_component(TrialComponentName=name)
        client.associate_trial_component(TrialComponentName=name, TrialName="one")
    assert len(deploy.experiment_frame("many", launch.sagemaker_session(bucket=BUCKET))) == 120

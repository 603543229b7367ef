"""Tuning against moto, whose tuning jobs' training jobs run the real `train`."""

import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from sagemaker.parameter import CategoricalParameter, ContinuousParameter, IntegerParameter

from deploy.__main__ import main
from deploy.grid import ranges, tune
from subset_trainer.errors import UserError
from tests.aws.test_launch import BUCKET, IMAGE, ROLE
from tests.aws.training_jobs import Platform

SETTINGS = ["--set", "model=mlp", "epochs=3", "batch_size=32", "device=cpu", "strategy=rs2"]


def command(*options: str) -> list[str]:
    arguments = ["tune", "--name", "fraction-1", "--image-uri", IMAGE, "--role", ROLE, "--bucket", BUCKET]
    arguments += ["--training", "s3://data/training", "--test", "s3://data/test", "--poll", "0.01"]
    return [*arguments, *SETTINGS, *options]


def described(name: str) -> dict[str, Any]:
    answer: dict[str, Any] = boto3.client("sagemaker").describe_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name
    )
    return answer


def test_the_fraction_is_tuned_and_compared(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    options = command("--tune", "fraction=0.2:0.6", "--jobs", "3", "--early-stopping")
    assert main(options) == 0
    shown = capsys.readouterr().out
    config = described("fraction-1")["HyperParameterTuningJobConfig"]
    assert config["HyperParameterTuningJobObjective"] == {
        "Type": "Maximize",
        "MetricName": "validation:accuracy",
    }
    assert config["TrainingJobEarlyStoppingType"] == "Auto"
    assert config["ResourceLimits"] == {"MaxNumberOfTrainingJobs": 3, "MaxParallelTrainingJobs": 3}
    (tuned,) = config["ParameterRanges"]["ContinuousParameterRanges"]
    assert (tuned["Name"], tuned["MinValue"], tuned["MaxValue"]) == ("fraction", "0.2", "0.6")
    found = json.loads(Path("build/tuning/fraction-1/comparison.json").read_text())
    # Of 179 training examples, as train rounds them.
    assert {row["run"]: row["samples_visited"] for row in found} == {
        "001 fraction=0.2": 3 * 36,
        "002 fraction=0.4": 3 * 72,
        "003 fraction=0.6": 3 * 107,
    }
    accuracies = [row["validation_accuracy"] for row in found]
    assert accuracies == sorted(accuracies, reverse=True)
    assert Path("build/tuning/fraction-1/comparison.html").exists() and "best first" in shown

    # The same again starts nothing.
    assert main(options) == 0
    assert "following it" in capsys.readouterr().out
    assert len(platform.jobs()) == 3


def test_a_warm_start_and_a_job_that_failed(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command("--tune", "momentum=0.8,0.9", "--jobs", "2", "--set", "fraction=0.3")) == 0
    platform.fail = {"fraction-2-001"}
    options = command("--tune", "fraction=0.2:0.6", "--jobs", "2", "--name", "fraction-2")
    assert main([*options, "--warm-start", "fraction-1", "--transfer"]) == 0
    assert "001: Failed: AlgorithmError: training diverged" in capsys.readouterr().out
    platform.fail = {"fraction-3"}
    assert main([*options[:-1], "fraction-3"]) == 1
    assert "none of the 2 jobs of fraction-3 has results, first 001: Failed" in capsys.readouterr().err


def test_a_grid_is_all_combinations(platform: Platform) -> None:
    assert main(command("--tune", "fraction=0.2,0.4", "momentum=0.8,0.9", "--search", "grid")) == 0
    config = described("fraction-1")["HyperParameterTuningJobConfig"]
    assert config["Strategy"] == "Grid"
    assert config["ResourceLimits"]["MaxNumberOfTrainingJobs"] == 4


def test_the_objective_is_the_metric_however_it_is_written(platform: Platform) -> None:
    assert main(command("--tune", "fraction=0.2:0.6", "--jobs", "1", "--set", 'metric="Macro-F1"')) == 0
    config = described("fraction-1")["HyperParameterTuningJobConfig"]
    assert config["HyperParameterTuningJobObjective"]["MetricName"] == "validation:macro_f1"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--tune", "fraction=0.5:1.5"], "fraction"),
        (["--tune", "fraction=0.5:0.1"], "the lower end first"),
        (["--tune", "fraction=0.5"], "or LOW:HIGH"),
        (["--tune", "model=mlp,resnet"], "both set and tuned"),
        (["--tune", "scope=supervised,classy"], "scope"),
        (["--tune", "epochs=2:9"], "both set and tuned"),
        (["--tune", "fractoin=0.1:0.5"], "unknown hyperparameter 'fractoin': did you mean 'fraction'?"),
        (["--tune", "fraction=0.1:0.5", "--search", "grid"], "such as fraction=0.1,0.5"),
        (["--tune", "fraction=0.1,0.5", "--search", "grid", "--jobs", "3"], "the grid has 2 combinations"),
        (["--tune", "fraction=0.1:0.5", "--search", "hyperband", "--early-stopping"], "stops jobs itself"),
        (["--tune", f"seed={','.join(map(str, range(31)))}"], "seed: 31 values, at most 30"),
        (["--tune", "fraction=0.1:0.5", "--warm-start", *"abcdef"], "6 tuning jobs, at most 5"),
        (["--tune", "fraction=0.1:0.5", "--objective", "test:accuracy"], "can no longer be judged"),
        (["--tune", "fraction=0.1:0.5", "--objective", "validation:f1"], "expected one of validation:loss"),
        (["--tune", "fraction=auto,0.5"], "each job would choose a fraction of its own"),
        (["--tune", "momentum=0.8,0.9", "--set", "fraction=auto"], "or a range such as fraction=0.05:0.3"),
        (["--tune", "fraction=0.1:0.5", "--transfer"], "goes with --warm-start"),
        (["--tune", "fraction=0.1:0.5", "--local"], "sweep --local"),
        (["--tune", "fraction=0.1:0.5", "--name", "a_b"], "the name 'a_b'"),
    ],
)
def test_mistakes_cost_nothing(
    unreachable_aws: None, options: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(*options)) == 1
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1


def test_ranges_have_the_hyperparameters_types() -> None:
    parsed = ranges.ranges(
        {"learning_rate": "0.001:0.1:log", "batch_size": "32:256", "strategy": "rs2,glister"}, {}
    )
    found = {name: tune.of_sdk(one) for name, one in parsed.items()}
    assert isinstance(found["learning_rate"], ContinuousParameter)
    assert found["learning_rate"].scaling_type == "Logarithmic"
    assert isinstance(found["batch_size"], IntegerParameter)
    assert isinstance(found["strategy"], CategoricalParameter)
    with pytest.raises(UserError, match="values separated by commas"):
        ranges.ranges({"strategy": "rs2"}, {})

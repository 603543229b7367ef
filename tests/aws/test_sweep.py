"""A sweep against moto's SageMaker, whose jobs run the real `train`."""

import json
import re
from pathlib import Path

import boto3
import pytest

from deploy.__main__ import main
from tests.aws.test_launch import BUCKET, IMAGE, ROLE
from tests.aws.training_jobs import Platform

SETTINGS = ["--set", "model=mlp", "epochs=4", "batch_size=32", "device=cpu"]


def command(*options: str) -> list[str]:
    arguments = ["sweep", "--name", "fractions", "--image-uri", IMAGE, "--role", ROLE, "--bucket", BUCKET]
    arguments += ["--training", "s3://data/training", "--test", "s3://data/test", "--poll", "0.01"]
    return [*arguments, *([] if "--seeds" in options else ["--seeds", "0"]), *options, *SETTINGS]


def test_the_articles_experiment_and_the_same_again(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.looks_until_done = 2
    assert main(command("--fractions", "1,0.5", "--strategies", "glister", "--parallel", "2")) == 0
    shown = capsys.readouterr().out
    assert platform.most_at_once == 2
    described = [
        boto3.client("sagemaker").describe_training_job(TrainingJobName=name) for name in platform.jobs()
    ]
    runs = {job["ExperimentConfig"]["RunName"].removeprefix("fractions-"): job for job in described}
    trusting = ("validation-only-0-5", "training-and-validation-0-5")
    assert set(runs) == {"full", "glister-0-5", "rs2-0-5", "full-at-0-5", *trusting}
    assert {job["ExperimentConfig"]["ExperimentName"] for job in described} == {"fractions"}
    assert runs["full-at-0-5"]["HyperParameters"]["epochs"] == "2"
    assert runs["glister-0-5"]["HyperParameters"]["fraction"] == "0.5"
    visits = {
        row["run"]: row["samples_visited"]
        for row in json.loads(Path("build/sweeps/fractions/comparison.json").read_text())
    }
    # Of 179 training examples; a half is 90.
    halves = dict.fromkeys(("glister-0-5", "rs2-0-5", *trusting), 4 * 90)
    assert visits == {"full": 4 * 179, "full-at-0-5": 2 * 179, **halves}
    assert "[6/6]" in shown and "cannot be known from one seed" in shown

    assert main(command("--fractions", "1,0.5", "--strategies", "glister", "--parallel", "2")) == 0
    assert "started as" not in capsys.readouterr().out
    assert len(platform.jobs()) == 6
    # Another fraction: its jobs alone are new.
    assert main(command("--fractions", "1,0.5,0.25", "--strategies", "glister", "--no-baselines")) == 0
    assert len(platform.jobs()) == 7


def test_a_job_that_failed_is_named_and_tried_again_the_next_time(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.fail = {"fractions-rs2"}
    options = command("--fractions", "1,0.5", "--strategies", "rs2")
    assert main(options) == 1
    captured = capsys.readouterr()
    assert "1 of 3 runs have no results, first rs2-0-5: Failed: AlgorithmError" in captured.err
    assert captured.err.strip().endswith("AlgorithmError: training diverged in epoch 3")
    assert "full-at-0-5" in captured.out
    platform.fail = set()
    assert main(options) == 0
    names = sorted(name for name in platform.jobs() if "rs2" in name)
    assert [name.rpartition("-")[2] for name in names] == ["1", "2"]


def test_results_that_are_gone_are_said(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    options = command("--fractions", "1")
    assert main(options) == 0
    (name,) = platform.jobs()
    listed = boto3.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]
    (key,) = [entry["Key"] for entry in listed if name in entry["Key"]]
    boto3.client("s3").delete_object(Bucket=BUCKET, Key=key)
    capsys.readouterr()
    assert main(options) == 1
    assert "full: there is nothing at s3://results/" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--fractions", "0.5", "--strategies", "glistr"], "did you mean 'glister'"),
        (["--seeds", "1,1"], "different whole numbers"),
        (["--training", "/nowhere"], "there is no file or folder '/nowhere'"),
        (["--training", "http://a/b"], "expected an s3:// URI or a path"),
        (["--name", "a_b"], "the name 'a_b'"),
        (["--set", "fraction=0.5"], "--set: fraction=0.5: expected --fractions instead"),
        (["--set", "fraction=auto"], "`launch --set fraction=auto` finds the fraction in one job"),
        (["--set", "strategy=glister"], "--set: strategy=glister: expected --strategies instead"),
    ],
)
def test_mistakes_cost_nothing(
    platform: Platform, options: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command(), *options]) == 1
    assert expected in capsys.readouterr().err
    assert not platform.jobs()


def test_jobs_on_which_the_answer_does_not_depend_are_not_started(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    # A tenth of so few images, seen in one epoch, is far from enough, and so is a half.
    options = command(
        "--seeds", "0,1,2", "--strategies", "rs2", "--fractions", "1,0.5,0.25", "--parallel", "4"
    )
    options = [option.replace("epochs=4", "epochs=8") for option in options]
    assert main(options) == 0
    runs = {name.rpartition("-seed-")[0].removeprefix("fractions-") for name in platform.jobs()}
    assert runs == {"full", "rs2-0-5", "full-at-0-5"}
    assert len(platform.jobs()) == 9
    assert "6 of 15 runs were not needed" in capsys.readouterr().out
    assert main([*options[:-5], "--all", *options[-5:]]) == 0
    assert len(platform.jobs()) == 15


def test_what_one_seed_leaves_open_is_settled_and_time_and_cost_are_said(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--fractions", "1,0.5", "--strategies", "rs2", "--no-baselines", "--parallel", "1"]
    options += ["--prices", "ml.g5.xlarge=36"]
    assert main(command(*options)) == 0
    shown = capsys.readouterr().out
    assert "up to 2 runs: full, rs2, seed 0" in shown
    assert "how long they take is said once the first one has ended" in shown
    # A job takes 100 seconds here, of which 30 are billed: 0.3 dollars. Half of the samples take a little less, where
    # their few milliseconds are not disturbed; 100 are said as minutes.
    left = re.search(
        r"left: 1 run, about (?:9\d s|100 s|2 min) and \$(0\.\d+); these 2 take \d+ min and \$(0\.\d+) in all",
        shown,
    )
    assert left is not None, shown
    assert float(left[1]) == pytest.approx(0.3, abs=0.02) and float(left[2]) == pytest.approx(0.6, abs=0.02)
    assert "cannot be known from one seed" in shown

    assert main(command(*options, "--settle")) == 0
    shown = capsys.readouterr().out
    assert "to settle what is not yet known: 4 runs" in shown
    assert re.search(r"left: 4 runs, about \d+ min and \$1\.\d+\n", shown)
    runs = sorted(
        name.removeprefix("fractions-").rpartition("-")[0].rpartition("-")[0] for name in platform.jobs()
    )
    assert runs == ["full", "full-seed-1", "full-seed-2", "rs2-0-5", "rs2-0-5-seed-1", "rs2-0-5-seed-2"]
    assert "1 candidate, 3 seeds, " in shown
    assert json.loads(Path("build/sweeps/fractions/study.json").read_text())["first_seeds"] == [0, 1, 2]

    assert main(command(*options, "--settle")) == 0
    assert "started as" not in capsys.readouterr().out
    # Another setting is another study, with a first answer of its own.
    assert main([*command(*options), "learning_rate=0.01"]) == 0
    assert "first_seeds" not in json.loads(Path("build/sweeps/fractions/study.json").read_text())

"""`fraction=auto`: one job that trains on growing fractions, and keeps the model of the one that it settles on."""

import json
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.functional.conftest import Job, write_table
from tests.functional.test_resume import Jobs, kill_at
from tests.kills import lose_the_machine, outcome

SETTINGS: dict[str, Any] = {
    "fraction": "auto",
    "epochs": 4,
    "batch_size": 32,
    "precision": "float32",
    "device": "cpu",
    "checkpoint_minutes": 1e-6,
    "tolerance": 5,
}


def prepare(job: Job, rows: int = 1200) -> Job:
    write_table(job.channel("training") / "train.csv", rows)
    write_table(job.channel("test") / "test.csv", 200, seed=1)
    (job.base / "checkpoints").mkdir(parents=True)
    return job


def folders(job: Job) -> list[str]:
    return sorted(path.name for path in (job.base / "checkpoints/fractions").iterdir() if path.is_dir())


def test_an_easy_table_is_settled_before_all_examples_are_used(make_job: Jobs) -> None:
    job = prepare(make_job("easy")).run({**SETTINGS, "question": "label", "report": True})
    assert job.exit_code == 0, job.log
    answer = job.summary["answer"]
    assert answer["enough"] and answer["kept"] == answer["share"] < 1
    assert answer["question"] == "label" and job.summary["strategy"] == "random"
    assert (
        answer["cost"] == pytest.approx(sum(run["fraction"] for run in answer["runs"]))
        and answer["cost"] <= 1.5
    )
    assert answer["sentence"] in job.log and answer["sentence"].startswith(
        f"{100 * answer['share']:.3g}% of these labels"
    )
    assert job.summary["fraction"] == pytest.approx(answer["share"], abs=0.001)
    assert job.summary["hyperparameters"]["fraction"] == "auto"
    # What is delivered is the kept model's: its history once, its subset, its score.
    assert [row["epoch"] for row in job.history] == [1, 2, 3, 4]
    assert job.log.count("epoch=4 train:loss") == 1
    (subset,) = job.subsets().values()
    assert len(subset["indices"]) == job.summary["budget"]
    kept = next(run for run in answer["runs"] if run["fraction"] == answer["kept"] and run["run"] == 0)
    assert kept["accuracy"] == pytest.approx(job.history[-1]["validation:accuracy"], abs=0.1)
    # Of 1,080 training examples, the half that no fraction sees judges beside the 120 of the validation set.
    assert answer["judged"] == 120 + 540 and "660 examples judge" in job.log
    # Its costs are those of all its trainings.
    assert answer["samples_visited"] > job.history[-1]["samples:visited"]
    assert job.summary["seconds"]["training"] > sum(row["epoch:seconds"] for row in job.history)
    shares, lows, highs = zip(
        *((at["fraction"], at["low"], at["high"]) for at in answer["curve"]), strict=True
    )
    assert shares[0] == pytest.approx(1 / 32) and shares[-1] == pytest.approx(2)
    assert all(low < high for low, high in zip(lows, highs, strict=True))
    assert answer["sentence"] in (job.base / "output/data/report.html").read_text(encoding="utf-8")
    assert len(folders(job)) == 1  # the checkpoints of the others are removed


def test_only_examples_like_new_ones_judge(make_job: Jobs) -> None:
    """Those that are not chosen do not where all are seen, or where the validation examples are others."""
    train = prepare(make_job("train")).run({**SETTINGS, "max_cost": 0.6})
    assert train.summary["answer"]["judged"] == 120
    runs = train.summary["answer"]["runs"]
    kept = max(runs, key=lambda run: (run["fraction"], -run["run"]))
    assert train.history[-1]["validation:accuracy"] == kept["accuracy"]
    own = prepare(make_job("own"))
    write_table(own.channel("validation") / "validation.csv", 200, seed=2)
    own.run({**SETTINGS, "max_cost": 0.6, "question": "label"})
    assert own.summary["answer"]["judged"] == 200
    alone = prepare(make_job("alone"))
    training = alone.channel("training") / "train.csv"
    header, *lines = training.read_text().splitlines()
    training.write_text("\n".join([header, *lines, *lines[:200]]) + "\n")
    alone.run({**SETTINGS, "max_cost": 0.6, "question": "label", "drop_redundant": True})
    assert alone.summary["removed"]["redundant"] and alone.summary["answer"]["judged"] == 140


def test_the_fractions_of_labels_are_nested(make_job: Jobs) -> None:
    """A smaller fraction of the same seed is part of a larger one, so that the curve is one of the same labels."""
    subsets: list[np.ndarray] = []
    for fraction in (0.25, 0.5):
        job = prepare(make_job(f"at-{fraction}"), 600).run(
            {"strategy": "random", "fraction": fraction, "epochs": 1}
        )
        (subset,) = job.subsets().values()
        subsets.append(subset["indices"])
    assert set(subsets[0].tolist()) < set(subsets[1].tolist())


def test_what_is_not_settled_is_said_and_all_may_be_trained(make_job: Jobs) -> None:
    values = {**SETTINGS, "tolerance": 0.01, "epochs": 2}
    abstained = prepare(make_job("abstained")).run(values)
    assert abstained.exit_code == 0, abstained.log
    answer = abstained.summary["answer"]
    assert not answer["enough"] and answer["kept"] == 0.5 and len(answer["runs"]) == 10
    assert ("is probably not within" if answer["lacking"] else "is not known") in answer["sentence"]
    assert "the samples seen" in answer["sentence"]
    whole = prepare(make_job("all")).run({**values, "max_cost": 2.5})
    assert whole.summary["answer"]["kept"] == whole.summary["fraction"] == 1
    assert "has trained on all of them" in whole.summary["answer"]["sentence"]
    cheap = prepare(make_job("cheap")).run({**values, "max_cost": 0.6})
    assert cheap.summary["answer"]["cost"] <= 0.6 and cheap.summary["answer"]["kept"] == 0.25


def test_killed_and_resumed(make_job: Jobs) -> None:
    whole = prepare(make_job("whole")).run(SETTINGS)
    assert whole.exit_code == 0, whole.log
    lines = whole.log.splitlines()
    ends = [number for number, line in enumerate(lines) if "are spent" in line]
    job = prepare(make_job("killed"))
    draw = random.Random(0)
    kills = 0
    for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        kills += kill_at(job, SETTINGS, draw.choice(ends[:5]), how)
        lose_the_machine(job)
    job.run(SETTINGS)
    assert job.exit_code == 0, job.log
    assert kills >= 2 and "resuming the search" in job.log
    assert outcome(job) == outcome(whole)
    # Ended, and started once more: nothing is trained again.
    lose_the_machine(job)
    job.run(SETTINGS)
    assert outcome(job) == outcome(whole)
    assert job.log.count("are spent") == 1  # the kept one, from its checkpoint


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_repeat_after_a_kill_is_not_kept_for_the_largest_fraction(
    how: signal.Signals, make_job: Jobs
) -> None:
    """Killed between the largest fraction and the repeats of smaller ones: what is kept comes from its checkpoint."""
    values = {**SETTINGS, "tolerance": 0.01, "epochs": 20}
    whole = prepare(make_job("whole")).run(values)
    assert whole.summary["answer"]["kept"] == 0.5, whole.log
    job = prepare(make_job("killed"))
    job.when(values, "50%: accuracy", lambda process: process.send_signal(how))
    lose_the_machine(job)
    job.run(values)
    assert job.exit_code == 0, job.log
    assert "resuming the search: 8 of" in job.log
    assert outcome(job) == outcome(whole)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_smaller_fraction_is_kept_where_it_is_enough_too(how: signal.Signals, make_job: Jobs) -> None:
    """Half settles that a quarter is enough, whose training had ended before: with a kill in between, too."""
    values = {**SETTINGS, "question": "label"}
    whole = prepare(make_job("whole")).run(values)
    assert whole.exit_code == 0, whole.log
    answer = whole.summary["answer"]
    assert answer["enough"] and answer["share"] == answer["kept"] == 0.25, answer["sentence"]
    assert max(run["fraction"] for run in answer["runs"]) == 0.5 and answer["cost"] == pytest.approx(1.09375)
    assert whole.summary["budget"] == 270 and folders(whole) == ["0.25000-0"]
    assert "25% of these labels is within 5 points" in whole.log
    job = prepare(make_job("killed"))
    job.when(values, "50%: accuracy", lambda process: process.send_signal(how))
    lose_the_machine(job)
    job.run(values)
    assert job.exit_code == 0, job.log
    assert "resuming the search: 8 of" in job.log and "training on 540" not in job.log
    assert outcome(job) == outcome(whole)


def test_sigterm_keeps_the_largest_fraction_that_ended(make_job: Jobs) -> None:
    job = prepare(make_job("stopped"))
    job.terminate_when({**SETTINGS, "epochs": 60}, "12.5%: accuracy")
    assert job.exit_code == 0, job.log
    assert job.summary["status"] == "stopped"
    assert job.summary["answer"]["kept"] in (0.125, 0.25)
    assert job.summary["answer"]["sentence"] == "stopped before anything is known"
    assert (job.base / "model/model.safetensors").exists()


def test_two_processes_settle_alike(make_job: Jobs) -> None:
    one, two = (
        prepare(make_job(f"{processes}")).run(
            {
                **SETTINGS,
                "batch_size": 32 // processes,
                "processes_per_host": processes,
                "learning_rate_scaling": "none",
            }
        )
        for processes in (1, 2)
    )
    assert two.exit_code == 0, two.log
    found = [job.summary["answer"] for job in (one, two)]
    assert found[0]["kept"] == found[1]["kept"] and found[0]["enough"] == found[1]["enough"]
    scores = [[run["accuracy"] for run in answer["runs"]] for answer in found]
    assert scores[0] == pytest.approx(scores[1], abs=0.1)


def test_another_run_s_search_is_refused_and_a_damaged_one_begins_anew(make_job: Jobs) -> None:
    job = prepare(make_job("other")).run({**SETTINGS, "epochs": 1})
    assert job.exit_code == 0, job.log
    other = job.run({**SETTINGS, "epochs": 2})
    assert (
        other.exit_code == 1 and "epochs" in (other.failure or "") and "resume=never" in (other.failure or "")
    )
    results = job.base / "checkpoints/fractions/results.json"
    results.write_text("{", encoding="utf-8")
    again = job.run({**SETTINGS, "epochs": 1})
    assert again.exit_code == 0 and "damaged and left aside" in again.log
    assert json.loads(results.read_text(encoding="utf-8"))["trainings"]
    anew = job.run({**SETTINGS, "epochs": 2, "resume": "never"})
    assert anew.exit_code == 0, anew.log


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"strategy": "glister"}, "validation set"),
        ({"strategy": "validation-only"}, "validation set"),
        ({"strategy": "infobatch"}, "takes a fraction"),
        ({"drop_noisy": True}, "drop_noisy trains once on the fraction"),
        ({"strategy": "random"}, "question=label"),
        ({"strategy": "rs2", "question": "label"}, "strategy=random"),
        ({"fraction": 0.3, "max_cost": 2}, "max_cost works only with fraction=auto"),
        ({"fraction": "most"}, "greater than 0 and at most 1, or auto"),
    ],
)
def test_what_it_does_not_go_with(values: dict[str, Any], named: str, make_job: Jobs) -> None:
    job = prepare(make_job("refused"), 600).run({"fraction": "auto", **values})
    assert job.exit_code == 1 and named in (job.failure or ""), job.log


def test_few_examples_are_refused(make_job: Jobs, tmp_path: Path) -> None:
    job = prepare(make_job("few"), 400).run({"fraction": "auto"})
    assert job.exit_code == 1 and "at least 512 training examples, and there are 360" in (
        job.failure or ""
    ), job.log
    shutil.rmtree(job.base)

"""Good jobs: what they leave behind, and that it is true."""

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from subset_trainer.artifacts import load_model
from subset_trainer.config.selection import StrategyName
from subset_trainer.data import load_channel
from subset_trainer.tracking.metrics import metric_definitions
from subset_trainer.training import devices
from subset_trainer.training.evaluation import evaluate
from subset_trainer.training.place import Place
from tests.formats import NAMED, NUMBERS, entry, framed, png
from tests.functional.conftest import SECONDS, Job, write_table

QUICK = {"model": "mlp", "epochs": 4, "batch_size": 32, "augmentation": "none", "device": "cpu"}


@pytest.mark.parametrize("strategy", ["validation-only", "training-and-validation"])
def test_training_on_the_validation_set_is_judged_by_the_test_set(
    job: Job, digits: Path, strategy: str
) -> None:
    job.link_channel("training", digits / "training")
    job.run(
        {**QUICK, "strategy": strategy, "fraction": 0.3, "validation_fraction": 0.2, "test_fraction": 0.1}
    )
    assert (job.exit_code, job.failure) == (0, None), job.log
    summary = job.summary
    counted = round(1437 * 0.9 * 0.8)
    assert summary["samples_visited"] == pytest.approx(4 * 0.3 * counted, abs=8)
    assert summary["fraction"] == pytest.approx(0.3, abs=0.002)
    assert summary["trained_on"] == ("validation" if strategy == "validation-only" else "both")
    assert summary["test"]["accuracy"] > 0.3
    with np.load(job.base / "output/data/test_predictions.npz") as held:
        right = (held["labels"] == held["predicted"]).mean()
        assert len(held["labels"]) == summary["examples"]["test"]
    assert right == pytest.approx(summary["test"]["accuracy"])


def test_training_on_the_validation_set_needs_a_test_set(job: Job, digits: Path) -> None:
    job.link_channel("training", digits / "training")
    job.run({**QUICK, "strategy": "validation-only", "fraction": 0.3})
    assert job.exit_code == 1
    assert job.failure == (
        "strategy='validation-only' trains on the validation examples, so it is judged by others: expected the "
        "channel 'test', or test_fraction"
    )


def test_glister_on_images_end_to_end(job: Job, digits: Path) -> None:
    job.cold = True
    job.link_channel("training", digits / "training")
    job.link_channel("test", digits / "test")
    hyperparameters: dict[str, object] = {
        "strategy": '"glister"',
        "fraction": "0.3",
        "epochs": 6,
        "select_every": 4,
    }
    hyperparameters |= {"batch_size": 32, "learning_rate": 0.02, "augmentation": "crop", "report": True}
    job.run(hyperparameters)
    assert (job.exit_code, job.failure) == (0, None), job.log

    summary, history = job.summary, job.history
    examples = summary["examples"]["training"]
    budget = round(0.3 * examples)
    assert summary["status"] == "completed" and summary["model"] == "resnet18"
    assert summary["examples"] == {"training": examples, "validation": 1437 - examples, "test": 360}
    assert summary["classes"] == [str(digit) for digit in range(10)]
    assert summary["budget"] == budget and summary["samples_visited"] == 6 * budget

    seconds = summary["seconds"]
    assert seconds["report"] > 0
    assert sum(seconds.values()) <= 2 * seconds["total"]  # which is one of them
    rows = pq.read_table(job.base / "output/data/examples.parquet").to_pylist()
    assert len({row["id"] for row in rows}) == len(rows) == examples
    assert all((digits / "training" / row["id"]).is_file() for row in rows)
    assert all(row["id"].split("/")[0] == row["label"] for row in rows)
    assert sum(row["selected"] for row in rows) == 6 * budget
    assert all(math.isnan(row["running_loss"]) == (row["selected"] == 0) for row in rows)
    agreeing = [row["probable_label"] == row["label"] for row in rows]
    # A suspect may have been memorised; its probable label is never its own.
    assert all(
        agrees == (row["margin"] >= 0 and not row["suspect"])
        for agrees, row in zip(agreeing, rows, strict=True)
    )
    assert 0.3 < np.mean(agreeing) <= 1

    # First selection at the first epoch, then every four.
    subsets = job.subsets()
    assert list(subsets) == [1, 5]
    for subset in subsets.values():
        assert len(subset["indices"]) == len(np.unique(subset["indices"])) == len(subset["weights"]) == budget
        assert subset["indices"].min() >= 0 and subset["indices"].max() < examples

    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]
    assert [row["samples:visited"] for row in history] == [epoch * budget for epoch in range(1, 7)]
    assert (
        history[0]["selection:seconds"] > 0
        and history[1]["selection:seconds"] < history[0]["selection:seconds"]
    )
    assert history[-1]["validation:accuracy"] == summary["validation"]["accuracy"] > 0.3

    # One line an epoch, which CloudWatch's regexes read.
    lines = [line for line in job.log.splitlines() if line.startswith("epoch=")]
    assert len(lines) == 7
    for definition in metric_definitions():
        if definition["Name"].endswith(":auc"):
            continue  # of two classes only
        line = lines[-1] if definition["Name"].startswith("test:") else lines[0]
        assert re.search(definition["Regex"], line), (definition, line)

    # The model loads back with one call, and is as accurate on the test channel as was logged.
    model = load_model(job.base / "model")
    test = load_channel(job.base / "input/data/test", model.preprocessing, name="test")
    machine = devices.prepare("cpu", "auto", images=True)
    model.classifier.place(machine.device, machine.memory_format(model.preprocessing.input_shape))
    assert evaluate(model.classifier, test, Place(machine)).accuracy == summary["test"]["accuracy"]
    assert f"test:accuracy={summary['test']['accuracy']:.4f}" in job.log
    assert json.loads((job.base / "model/model.json").read_text())["hyperparameters"]["fraction"] == 0.3
    assert not list(job.base.rglob("*.tmp"))


ONCE = ("full", "random")
EVERY_EPOCH = ("rs2", "rs2-with-replacement", "infobatch", "loss-filter", "rho-loss")


@pytest.mark.parametrize("strategy", get_args(StrategyName))
def test_every_strategy_trains_a_table(table: Job, strategy: str) -> None:
    write_table(table.channel("test") / "test.csv", rows=120, seed=1)
    # Without dropout, under which so few epochs on the hardest examples (el2n) learn too little to tell from chance.
    table.run({**QUICK, "strategy": strategy, "fraction": 0.5, "epochs": 6, "select_every": 2, "dropout": 0})
    assert table.exit_code == 0, table.log
    examples = table.summary["examples"]["training"]
    if table.summary["trained_on"] != "training":
        assert table.summary["samples_visited"] == pytest.approx(6 * 0.5 * 270, rel=0.03)
        assert table.summary["test"]["accuracy"] > 0.6
        return
    assert 265 <= examples <= 275
    subsets = table.subsets()
    if strategy == "infobatch":
        sizes = [row["subset_size"] for row in table.history]
        assert (
            sizes[0] == sizes[-1] == examples > max(sizes[1:-1])
        )  # at first nothing is known; the last visits all
        assert list(subsets) == [1, 2, 3, 4, 5]
        assert table.summary["samples_visited"] == sum(sizes)
        assert table.summary["fraction"] == pytest.approx(sum(sizes) / (6 * examples))
    else:
        budget = examples if strategy == "full" else round(0.5 * examples)
        assert table.summary["samples_visited"] == 6 * budget
        assert len(subsets) == (1 if strategy in ONCE else 6 if strategy in EVERY_EPOCH else 3)
        assert all(len(np.unique(subset["indices"])) == budget for subset in subsets.values())
    # Chance is a third. Forgetting keeps what the model never gets right, which is noise where classes overlap as here.
    assert table.summary["test"]["accuracy"] > (0.35 if strategy == "forgetting" else 0.6)


@pytest.mark.parametrize(
    ("strategy", "knobs"),
    [
        ("glister", {"scope": "per-class", "greedy": "naive"}),
        ("glister", {"scope": "per-batch", "greedy": "rgreedy", "greedy_rounds": 2}),
        ("gradmatch", {"scope": "per-class", "lam": 0, "match": "validation"}),
        ("craig", {"scope": "supervised"}),
        ("rs2", {"mislabelled": "drop"}),
        ("glister", {"balance": "class"}),
    ],
)
def test_the_strategies_own_knobs_reach_them(table: Job, strategy: str, knobs: dict[str, object]) -> None:
    table.run({**QUICK, "strategy": strategy, "fraction": 0.5, "epochs": 3, "select_every": 2, **knobs})
    assert table.exit_code == 0, table.log
    assert table.summary["samples_visited"] == 3 * table.summary["budget"]
    if "mislabelled" in knobs:
        assert "look mislabelled and are left out" in table.log


def test_what_a_filter_spends_on_candidates_is_selection(table: Job) -> None:
    table.run({**QUICK, "strategy": "loss-filter", "fraction": 0.3, "epochs": 3, "candidates_per_pick": 3})
    assert table.exit_code == 0, table.log
    assert all(row["selection:seconds"] > 0 for row in table.history)
    assert table.summary["seconds"]["selection"] == pytest.approx(
        sum(row["selection:seconds"] for row in table.history)
    )


def test_the_model_of_rho_loss_is_trained_before_and_counted_as_selection(table: Job) -> None:
    table.run({**QUICK, "strategy": "rho-loss", "fraction": 0.3, "epochs": 3})
    assert table.exit_code == 0, table.log
    assert "training a model on the" in table.log
    assert table.history[0]["selection:seconds"] > 2 * table.history[1]["selection:seconds"]
    assert sum(line.startswith("epoch=") for line in table.log.splitlines()) == 3


def test_a_knob_that_the_strategy_does_not_use_is_said(table: Job) -> None:
    table.run({**QUICK, "strategy": "rs2", "fraction": 0.5, "epochs": 1, "eta": 0.1, "lam": 2})
    assert table.exit_code == 0, table.log
    assert "strategy 'rs2' does not use eta, lam" in table.log


def test_the_same_seed_gives_the_same_run(make_job: Callable[[str], Job]) -> None:
    jobs = []
    for name, seed in (("first", 5), ("second", 5), ("third", 6)):
        job = make_job(name)
        write_table(job.channel("training") / "train.csv")
        jobs.append(job.run({**QUICK, "seed": seed, "fraction": 0.4}))
    weights = [load_file(job.base / "model/model.safetensors") for job in jobs]
    indices = [job.subsets()[1]["indices"].tolist() for job in jobs]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert indices[0] == indices[1] != indices[2]


def test_a_warm_start_visits_everything_first(table: Job) -> None:
    table.run({**QUICK, "strategy": "glister", "fraction": 0.2, "epochs": 10, "warm_fraction": 0.5})
    assert table.exit_code == 0, table.log
    examples = table.summary["examples"]["training"]
    budget = round(0.2 * examples)
    assert [row["subset_size"] for row in table.history] == [examples] + [budget] * 5
    assert list(table.subsets()) == [2]


def test_a_folder_without_configuration_files(job: Job) -> None:
    job.cold = True
    write_table(job.channel("training") / "train.csv", rows=60)
    process = job.start()
    job.log, _ = process.communicate(timeout=240)
    assert process.returncode == 0, job.log
    assert job.summary["hyperparameters"]["strategy"] == job.summary["strategy"]


def test_a_batch_larger_than_the_subset_works_and_says_so(table: Job) -> None:
    table.run({**QUICK, "batch_size": 4096, "fraction": 0.1})
    assert table.exit_code == 0, table.log
    assert "batch_size=4096 is larger than the subset: each epoch is one step of 27 examples" in table.log


def test_the_whole_fraction_selects_everything(table: Job) -> None:
    table.run({**QUICK, "fraction": 1, "epochs": 1})
    assert table.exit_code == 0, table.log
    assert sorted(table.subsets()[1]["indices"].tolist()) == list(
        range(table.summary["examples"]["training"])
    )


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_reduced_precision_trains(table: Job, precision: str) -> None:
    table.run({**QUICK, "precision": precision, "strategy": "glister", "fraction": 0.5})
    assert table.exit_code == 0, table.log
    assert table.summary["validation"]["accuracy"] > 0.6
    assert np.isfinite(table.history[-1]["train:loss"])


def test_what_training_can_be_told_reaches_it(job: Job, digits: Path) -> None:
    job.link_channel("training", digits / "training")
    job.link_channel("test", digits / "test")
    knobs = {"ema_decay": 0.9, "test_time_flip": "true", "cutout": 0.25, "microbatch_size": 16}
    job.run(
        {
            "model": "cnn",
            "strategy": "glister",
            "candidates_per_pick": 2,
            "fraction": 0.3,
            "epochs": 4,
            "batch_size": 32,
            "select_every": 2,
            **knobs,
        }
    )
    assert job.exit_code == 0, job.log
    budget = job.summary["budget"]
    assert [len(subset["indices"]) for subset in job.subsets().values()] == [budget, budget]
    # What was saved is what was evaluated: the average, by both mirror images.
    model = load_model(job.base / "model")
    test = load_channel(job.base / "input/data/test", model.preprocessing, name="test")
    machine = devices.prepare("cpu", "auto", images=True)
    model.classifier.place(machine.device, machine.memory_format(model.preprocessing.input_shape))
    score = evaluate(model.classifier, test, Place(machine), flip=True)
    assert score.loss == pytest.approx(job.summary["test"]["loss"], rel=1e-3)
    assert score.loss != pytest.approx(evaluate(model.classifier, test, Place(machine)).loss, rel=1e-3)


def test_sigterm_ends_the_run_with_the_model_saved(job: Job, digits: Path) -> None:
    job.link_channel("training", digits / "training")
    seconds = job.terminate_when({"epochs": 500, "strategy": "rs2", "fraction": 0.3}, "epoch=2 ")
    assert (job.exit_code, job.failure) == (0, None), job.log
    assert seconds < 15
    assert job.summary["status"] == "stopped" and job.summary["test"] is None
    assert len(job.history) == job.summary["epochs"] >= 2
    assert load_model(job.base / "model").preprocessing.classes[0] == "0"


def test_sigterm_within_selection(job: Job, digits: Path) -> None:
    job.link_channel("training", digits / "training")
    # The first selection starts right after this line, within the loop, and takes long enough.
    seconds = job.terminate_when(
        {"fraction": 0.9, "strategy": "glister", "epochs": 50}, "epoch 1 of 50: choosing"
    )
    assert (job.exit_code, job.failure) == (0, None), job.log
    assert seconds < 15
    assert job.summary["status"] == "stopped"


def test_sigterm_while_errors_are_explained(table: Job) -> None:
    seconds = table.terminate_when({**QUICK, "explain": 200, "report": True}, "INFO explaining ")
    assert (table.exit_code, table.failure) == (0, None), table.log
    assert seconds < 15
    assert table.summary["status"] == "stopped"
    assert "the model is saved, and a run that is resumed explains its errors" in table.log
    assert load_model(table.base / "model").preprocessing.classes == ("0", "1", "2")
    assert not any(
        (table.base / "output/data" / name).exists() for name in ("explanations.json", "report.html")
    )


def test_sigterm_before_there_is_anything(job: Job, digits: Path) -> None:
    job.cold = True
    job.link_channel("training", digits / "training")
    seconds = job.terminate_when({}, "subset-trainer ")
    assert job.exit_code == 0, job.log
    assert seconds < 15
    assert "stopped" in job.last_line


def test_deterministic_kernels_change_nothing_on_a_cpu(table: Job) -> None:
    weights = []
    for deterministic in ("false", "true"):
        table.run(
            {
                **QUICK,
                "strategy": "glister",
                "fraction": 0.3,
                "select_every": 2,
                "deterministic": deterministic,
            }
        )
        assert table.exit_code == 0, table.log
        weights.append(load_file(table.base / "model/model.safetensors"))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_an_augmented_manifest_in_pipe_mode(job: Job) -> None:
    """Through a real named pipe, as the platform has it: one for each pass, of which the first is all that is read."""
    records = []
    for position in range(len(NUMBERS)):
        line = entry(position, confidence=0.3 if position % 6 == 0 else 0.9)
        records += [png(position), *(json.dumps(line[key]).encode() for key in ("digit", "digit-metadata"))]
    hyperparameters = {"min_confidence": 0.5, "validation_fraction": 0.3, "label_column": "digit"}
    job.configure({**QUICK, **hyperparameters})
    (job.base / "input/config/inputdataconfig.json").write_text(
        json.dumps({"training": {"TrainingInputMode": "Pipe", "RecordWrapperType": "RecordIO"}})
    )
    pipe = job.base / "input/data/training_0"
    pipe.parent.mkdir(parents=True)
    os.mkfifo(pipe)
    process = job.start()
    with pipe.open("wb") as file:
        file.write(b"".join(map(framed, records)))
    log, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, log
    assert (
        "30 images of 3 classes in a manifest, labels 'attribute 1'; 30 by people (mean confidence 0.90)"
        in log
    )
    assert job.summary["examples"]["training"] + job.summary["examples"]["validation"] == 30
    assert job.summary["classes"] == list(NAMED)


@pytest.mark.parametrize("fine_tune", ["all", "head"])
def test_a_run_that_begins_with_an_earlier_one_s_weights(job: Job, digits: Path, fine_tune: str) -> None:
    job.link_channel("training", digits / "training")
    quick = {**QUICK, "model": "cnn", "strategy": "random", "fraction": 0.3, "learning_rate": 0.02, "seed": 1}
    job.run({**quick, "epochs": 4})
    assert job.exit_code == 0, job.log
    before = load_file(job.base / "model/model.safetensors")
    fresh = job.history[0]["validation:accuracy"]
    (job.base / "model").rename(job.base / "input/data/pretrained")
    job.run({**quick, "epochs": 1, "fine_tune": fine_tune, "learning_rate": 0.001})
    assert job.exit_code == 0, job.log
    assert "weights of 'model.safetensors', 26 tensors, its last layer included." in job.log
    assert (
        job.summary["hyperparameters"]["optimizer"] == "sgd"
        and not job.summary["hyperparameters"]["whitening"]
    )
    assert "is not used" not in job.log
    after = load_file(job.base / "model/model.safetensors")
    kept = {name for name in before if torch.equal(before[name], after[name])}
    # Four convolutions with batch normalisation, the last layer, and the normalisation of images.
    assert len(kept) == (26 if fine_tune == "head" else 2)
    assert job.history[0]["validation:accuracy"] > fresh

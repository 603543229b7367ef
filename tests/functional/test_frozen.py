"""A frozen encoder reads each text once a run; its last layer is as right as logistic regression, and serves so."""

import collections
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from subset_trainer import job as trainer
from subset_trainer.artifacts import TrainedModel, load_model
from subset_trainer.config import parse
from subset_trainer.contract import Contract
from subset_trainer.data.texts.tokens import encode_tokens
from subset_trainer.models import Classifier, TextEncoder
from subset_trainer.serving import requests
from subset_trainer.serving.predictor import Predictor
from subset_trainer.training.checkpoints import Checkpoints
from subset_trainer.training.parallel.ranks import Ranks
from tests.encoders import write
from tests.functional.conftest import Job
from tests.functional.test_resume import outcome

KINDS = ("weather", "food", "number")
WORDS = ("rain", "sun", "wind", "bread", "soup", "salt", "number", "today", "and")
HEAD: dict[str, Any] = {"fine_tune": "head", "device": "cpu", "precision": "float32", "max_tokens": 24}
Jobs = Callable[[str], Job]


def texts(count: int, seed: int) -> list[tuple[str, str]]:
    """Kinds of text that share their words, in other shares, so that no model tells them apart without errors."""
    draw = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        kind = number % len(KINDS)
        chances = np.ones(len(WORDS))
        chances[3 * kind : 3 * kind + 3] = 2.5
        words = draw.choice(WORDS, draw.integers(3, 9), p=chances / chances.sum())
        rows.append((KINDS[kind], f"{' '.join(words)} {number}"))
    return rows


def save(folder: Path, rows: list[tuple[str, str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "texts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("kind", "text"), *rows])


def prepare(job: Job, training: int = 1200, test: int = 900) -> Job:
    write(job.channel("pretrained"))
    for name, rows in (("training", texts(training, 0)), ("test", texts(test, 1))):
        save(job.channel(name), rows)
    (job.base / "checkpoints").mkdir(parents=True)
    return job


def features(model: TrainedModel, rows: list[tuple[str, str]]) -> np.ndarray:
    assert model.preprocessing.tokens is not None
    ids = torch.from_numpy(encode_tokens([text for _, text in rows], model.preprocessing.tokens))
    with torch.inference_mode():
        return model.classifier.logits_and_features(ids)[1].numpy()


def test_it_is_as_right_as_logistic_regression_and_answers_as_it_was_tested(job: Job) -> None:
    # A random encoder tells the kinds apart in directions of little variance, which take larger steps.
    prepare(job).run({**HEAD, "learning_rate": 0.02})
    assert (job.exit_code, job.failure) == (0, None), job.log
    assert "fine_tune=head: the frozen backbone has read all 2100 examples once" in job.log
    assert "WARNING" not in job.log and "not used" not in job.log and "does not use" not in job.log
    model, training, test = load_model(job.base / "model"), texts(1200, 0), texts(900, 1)
    regression = LogisticRegression(max_iter=2000)
    regression.fit(features(model, training), [kind for kind, _ in training])
    expected = regression.score(features(model, test), [kind for kind, _ in test])
    assert 0.5 < expected < 0.95
    assert job.summary["test"]["accuracy"] > expected - 0.01
    assert job.summary["seconds"]["embedding"] > 0
    answers = Predictor(model, torch.device("cpu")).probabilities(
        requests.batches(
            json.dumps({"instances": [text for _, text in test]}).encode(),
            "application/json",
            model.preprocessing,
        )
    )
    right = np.mean(
        [
            model.preprocessing.classes[row] == kind
            for row, (kind, _) in zip(answers.argmax(1), test, strict=True)
        ]
    )
    assert right == pytest.approx(job.summary["test"]["accuracy"], abs=0.5 / len(test))


@pytest.mark.parametrize(
    "hp",
    [
        {"strategy": "glister", "fraction": 0.5, "select_every": 2, "drop_redundant": True, "ema_decay": 0.9},
        {
            "strategy": "rho-loss",
            "fraction": 0.3,
            "validation_fraction": 0.3,
            "label_check": "cross-validation",
        },
    ],
)
def test_each_text_is_read_once_a_run(
    hp: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: collections.Counter[tuple[int, ...]] = collections.Counter()
    encoded = TextEncoder._encoded

    def counting(self: TextEncoder, ids: torch.Tensor) -> torch.Tensor:
        read.update(tuple(row[row >= 0].tolist()) for row in ids)
        return encoded(self, ids)

    rows = {"training": texts(240, 0), "test": texts(60, 1)}
    for name, part in rows.items():
        save(tmp_path / name, part)
    write(tmp_path / "pretrained")
    channels = {name: tmp_path / name for name in (*rows, "pretrained")}
    contract = Contract(tmp_path, {}, channels, ("localhost",), "localhost", None, None)
    monkeypatch.setattr(TextEncoder, "_encoded", counting)
    trainer.run(contract, parse({**HEAD, "epochs": 4, "report": True, **hp}), Ranks())
    assert (tmp_path / "output/data/report.html").exists()
    model = load_model(tmp_path / "model")
    assert model.preprocessing.tokens is not None
    given = encode_tokens([text for part in rows.values() for _, text in part], model.preprocessing.tokens)
    wanted = collections.Counter(tuple(row[row >= 0].tolist()) for row in given)
    assert {row: read[row] for row in wanted} == dict(wanted)


def test_a_run_that_was_ended_resumes_and_one_of_before_is_refused(make_job: Jobs) -> None:
    values = {
        **HEAD,
        "epochs": 5,
        "strategy": "glister",
        "fraction": 0.4,
        "select_every": 2,
        "ema_decay": 0.9,
    }
    whole = prepare(make_job("whole"), 300, 60).run(values)
    assert whole.exit_code == 0, whole.log
    ended = prepare(make_job("ended"), 300, 60)
    ended.terminate_when(values, "epoch=2")
    ended.run(values)
    assert ended.exit_code == 0 and "resuming from a checkpoint" in ended.log, ended.log
    assert outcome(ended) == outcome(whole)
    [newest, *_] = sorted((whole.base / "checkpoints").glob("*.pt"), reverse=True)
    content = torch.load(newest, weights_only=True)
    assert content["identity"].pop("inputs") == "embeddings"
    older = dict(content["identity"].items())
    for file in (whole.base / "checkpoints").glob("*.pt"):
        file.unlink()
    Checkpoints(whole.base / "checkpoints", older, 5.0).save(1, 0, content["state"], last=True)
    whole.run(values)
    assert whole.exit_code == 1
    assert "is of another run: inputs=(none) there and embeddings here" in whole.log


def test_two_processes_train_as_one(make_job: Jobs) -> None:
    values = {**HEAD, "epochs": 3, "learning_rate_scaling": "none", "report": True}
    alone = prepare(make_job("alone"), 300, 60).run({**values, "batch_size": 32})
    together = prepare(make_job("together"), 300, 60).run(
        {**values, "batch_size": 16, "processes_per_host": 2}
    )
    assert (alone.exit_code, together.exit_code) == (0, 0), together.log
    for one, two in zip(alone.history, together.history, strict=True):
        assert two["train:loss"] == pytest.approx(one["train:loss"], rel=1e-4)
        assert two["validation:loss"] == pytest.approx(one["validation:loss"], rel=1e-4)


@pytest.mark.parametrize("augmentation", ["none", "crop"])
def test_the_report_reads_images_again_only_where_they_are_augmented(
    augmentation: str,
    tmp_path: Path,
    digits: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    read: collections.Counter[bytes] = collections.Counter()
    prepare_images = Classifier.prepare

    def counting(self: Classifier, inputs: torch.Tensor) -> torch.Tensor:
        if inputs.ndim == 4:
            read.update(image.contiguous().numpy().tobytes() for image in inputs if image.any())
        return prepare_images(self, inputs)

    def run(base: Path, values: dict[str, Any], **channels: Path) -> None:
        contract = Contract(base, {}, channels, ("localhost",), "localhost", None, None)
        common = {"model": "cnn", "device": "cpu", "precision": "float32", "epochs": 2}
        trainer.run(contract, parse({**common, **values}), Ranks())

    run(tmp_path / "first", {"report": False}, training=digits / "training")
    monkeypatch.setattr(Classifier, "prepare", counting)
    channels = {name: digits / name for name in ("training", "test")}
    values = {"fine_tune": "head", "augmentation": augmentation, "strategy": "glister", "fraction": 0.5}
    with caplog.at_level("INFO"):
        run(tmp_path / "later", values, pretrained=tmp_path / "first/model", **channels)
    assert (tmp_path / "later/output/data/report.html").exists()
    images = pq.read_table(tmp_path / "later/output/data/examples.parquet")
    assert images.column("outlier").null_count == 0 and "image_issue" in images.column_names
    files = sum(len(list(channel.rglob("*.png"))) for channel in channels.values())
    said = f"augmentation={augmentation} changes the images" in caplog.text
    if augmentation == "none":
        assert read.total() == files and not said
    else:
        assert read.total() > 2 * files and said and "and for the report" in caplog.text


def test_images_are_read_once_unless_they_are_augmented(job: Job, digits: Path) -> None:
    job.link_channel("training", digits / "training")
    quick = {"model": "cnn", "device": "cpu", "precision": "float32"}
    job.run({**quick, "epochs": 2, "learning_rate": 0.02})
    assert job.exit_code == 0, job.log
    (job.base / "model").rename(job.base / "input/data/pretrained")
    job.run({**quick, "epochs": 1, "fine_tune": "head"})
    assert "fine_tune=head: augmentation=" in job.log and "runs again in every epoch" in job.log
    job.run({**quick, "epochs": 3, "fine_tune": "head", "augmentation": "none", "explain": 1})
    assert job.exit_code == 0, job.log
    assert "the frozen backbone has read all " in job.log
    model = load_model(job.base / "model")
    assert model.classifier.mean is not None and job.history[-1]["validation:accuracy"] > 0.5

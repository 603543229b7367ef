"""An encoder of texts, trained on a chosen part of a column of texts and asked as `serve` asks it."""

import csv
import json

import torch

from subset_trainer.artifacts import load_model
from subset_trainer.serving import requests
from subset_trainer.serving.predictor import Predictor
from subset_trainer.training.checkpoints import Checkpoints
from tests.encoders import ROWS, write
from tests.functional.conftest import Job


def test_an_encoder_learns_from_a_chosen_part_and_answers(job: Job) -> None:
    write(job.channel("pretrained"))
    with (job.channel("training") / "texts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("kind", "text"), *ROWS[::2], *ROWS[1::2]])
    job.run(
        {
            **{"strategy": "glister", "fraction": 0.5, "select_every": 4, "epochs": 12, "batch_size": 8},
            # Weights that nothing has taught yet need larger steps than those of an encoder do.
            **{"learning_rate": 0.003, "max_tokens": 24, "precision": "float32", "device": "cpu"},
        }
    )
    assert (job.exit_code, job.failure) == (0, None), job.log
    assert "pretrained channel: the channel's folder, a bert encoder of " in job.log
    summary = job.summary
    assert (summary["model"], summary["hyperparameters"]["weight_decay"]) == ("encoder", 0.01)
    assert sorted(job.subsets()) == [1, 5, 9] and summary["budget"] == 54
    assert summary["validation"]["accuracy"] > 0.9
    model = load_model(job.base / "model")
    body = json.dumps({"instances": [text for _, text in ROWS]}).encode()
    probabilities = Predictor(model, torch.device("cpu")).probabilities(
        requests.batches(body, "application/json", model.preprocessing)
    )
    predicted = [model.preprocessing.classes[row] for row in probabilities.argmax(1)]
    right = sum(kind == found for (kind, _), found in zip(ROWS, predicted, strict=True))
    assert right > 0.9 * len(ROWS)


def test_a_checkpoint_whose_last_layer_had_the_encoders_rate_is_refused(job: Job) -> None:
    write(job.channel("pretrained"))
    with (job.channel("training") / "texts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("kind", "text"), *ROWS[::2], *ROWS[1::2]])
    (job.base / "checkpoints").mkdir(parents=True)
    values = {"epochs": 1, "max_tokens": 24, "precision": "float32", "device": "cpu", "report": False}
    job.run(values)
    assert (job.exit_code, job.failure) == (0, None), job.log
    assert "WARNING" not in job.log and job.summary["hyperparameters"]["batch_size"] == 32
    [newest, *_] = sorted((job.base / "checkpoints").glob("*.pt"), reverse=True)
    content = torch.load(newest, weights_only=True)
    assert content["identity"].pop("fresh_layer") == "100 times the rate"
    newest.unlink()
    Checkpoints(job.base / "checkpoints", content["identity"], 5.0).save(1, 0, content["state"], last=True)
    job.run(values)
    assert job.exit_code == 1
    assert "is of another run: fresh_layer=(none) there and 100 times the rate here" in job.log

"""An encoder of texts, trained on a chosen part of a column of texts and asked as `serve` asks it."""

import csv
import json

import torch

from subset_trainer.artifacts import load_model
from subset_trainer.serving import requests
from subset_trainer.serving.predictor import Predictor
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

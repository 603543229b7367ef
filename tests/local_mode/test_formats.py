"""Every form of data trains in the image, from files that public tools wrote."""

import csv
from pathlib import Path

import pytest

from tests import encoders
from tests.formats import FORMATS, NUMBERS
from tests.local_mode.conftest import Fit


@pytest.mark.parametrize("form", FORMATS)
def test_trains(fit: Fit, tmp_path: Path, form: str) -> None:
    training = tmp_path / "training"
    training.mkdir()
    FORMATS[form](training)
    hyperparameters = {
        "model": "ngrams" if form == "texts" else "mlp",
        "augmentation": "none",
        "fraction": 0.5,
        "epochs": 8,
        "batch_size": 4,
    }
    result = fit(
        {"training": training}, {**hyperparameters, "validation_fraction": 0.25, "learning_rate": 0.05}
    )
    assert result.error is None
    examples = result.summary["examples"]
    assert examples["training"] + examples["validation"] == len(NUMBERS)
    assert result.summary["validation"]["accuracy"] > 0.6  # chance is 1/3


def test_texts_go_through_an_encoder_that_transformers_wrote(fit: Fit, tmp_path: Path) -> None:
    encoders.write(tmp_path / "pretrained")
    (tmp_path / "training").mkdir()
    with (tmp_path / "training/texts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("kind", "text"), *encoders.ROWS[::2], *encoders.ROWS[1::2]])
    result = fit(
        {name: tmp_path / name for name in ("training", "pretrained")},
        {"fraction": 0.5, "epochs": 8, "batch_size": 8, "learning_rate": 0.003, "explain": 1},
    )
    assert result.error is None
    assert result.summary["model"] == "encoder"
    assert result.summary["validation"]["accuracy"] > 0.8
    assert "tokenizer.json" in result.model and "data/explanations.json" in result.output

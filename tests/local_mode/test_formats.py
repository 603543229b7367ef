"""Every form of data trains in the image, from files that public tools wrote."""

from pathlib import Path

import pytest

from tests.formats import FORMATS, NUMBERS
from tests.local_mode.conftest import Fit


@pytest.mark.parametrize("form", FORMATS)
def test_trains(fit: Fit, tmp_path: Path, form: str) -> None:
    training = tmp_path / "training"
    training.mkdir()
    FORMATS[form](training)
    hyperparameters = {"model": "mlp", "augmentation": "none", "fraction": 0.5, "epochs": 8, "batch_size": 4}
    result = fit(
        {"training": training}, {**hyperparameters, "validation_fraction": 0.25, "learning_rate": 0.05}
    )
    assert result.error is None
    examples = result.summary["examples"]
    assert examples["training"] + examples["validation"] == len(NUMBERS)
    assert result.summary["validation"]["accuracy"] > 0.6  # chance is 1/3

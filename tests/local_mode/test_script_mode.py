"""The user's own training script in the image: the article's, with CORDS's loader and model."""

import re
from pathlib import Path

import pytest
from safetensors.torch import load as load_weights

from tests.local_mode.conftest import Fit

EXAMPLE = Path(__file__).parents[2] / "examples/article"


@pytest.fixture(scope="module")
def few(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images of each of three classes, which train.py enlarges to 32×32."""
    training = tmp_path_factory.mktemp("few") / "training"
    for digit in ("0", "1", "7"):
        (training / digit).mkdir(parents=True)
        for file in sorted((digits / "training" / digit).iterdir())[:10]:
            (training / digit / file.name).write_bytes(file.read_bytes())
    return training


SETTINGS = {
    "fraction": 0.5,
    "epochs": 3,
    "select_every": 1,
    "batch_size": 8,
    "augment": 0,
    "validation_fraction": 0.2,
}


def test_the_articles_script(fit: Fit, few: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = fit({"training": few}, SETTINGS, entry_point="train.py", source_dir=str(EXAMPLE))
    assert result.error is None
    log = capfd.readouterr().out
    # 24 images to train on, half of them in an epoch; the first epoch's dozen is random, the others CORDS's choice.
    assert re.findall(r"epoch=(\d+) .*samples:visited=(\d+)", log) == [("1", "12"), ("2", "24"), ("3", "36")]
    assert log.count("GLISTER dataloader subset selection finished") == 2
    weights = load_weights(result.model["model.safetensors"])
    assert weights["linear.weight"].shape == (3, 512)


def test_the_scripts_own_complaint_is_the_reason(fit: Fit, few: Path) -> None:
    result = fit(
        {"training": few}, {**SETTINGS, "fraction": 2}, entry_point="train.py", source_dir=str(EXAMPLE)
    )
    assert result.error is not None
    assert "--fraction 2.0: expected a number above 0 and at most 1" in result.output["failure"].decode()

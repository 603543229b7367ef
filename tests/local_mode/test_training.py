import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_weights

from tests.local_mode.conftest import Fit

# Small enough for seconds on two cores, large enough to learn something.
QUICK = {"model": "resnet18", "augmentation": "crop", "batch_size": 32, "learning_rate": 0.01}


@pytest.fixture(scope="module")
def small(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Channels with 40 images a class to train on and all 360 to test on."""
    training = tmp_path_factory.mktemp("small") / "training"
    for folder in sorted((digits / "training").iterdir()):
        (training / folder.name).mkdir(parents=True)
        for file in sorted(folder.iterdir())[:40]:
            (training / folder.name / file.name).write_bytes(file.read_bytes())
    return {"training": training, "test": digits / "test"}


def test_glister_at_three_tenths(fit: Fit, digits: Path, capfd: pytest.CaptureFixture[str]) -> None:
    channels = {"training": digits / "training", "test": digits / "test"}
    result = fit(
        channels, {**QUICK, "strategy": "glister", "fraction": 0.3, "epochs": 4, "select_every": 2, "seed": 3}
    )
    assert result.error is None
    summary = result.summary
    assert summary["status"] == "completed"
    assert (summary["strategy"], summary["hyperparameters"]["fraction"], summary["seed"]) == (
        "glister",
        0.3,
        3,
    )
    assert summary["examples"]["test"] == 360
    assert summary["examples"]["training"] + summary["examples"]["validation"] == 1437

    budget = round(0.3 * summary["examples"]["training"])
    assert len(result.subsets) == 2
    for indices in result.subsets:
        assert len(indices) == len(np.unique(indices)) == budget
        assert 0 <= indices.min() <= indices.max() < summary["examples"]["training"]
    assert [entry["epoch"] for entry in result.history] == [1, 2, 3, 4]
    assert [entry["samples:visited"] for entry in result.history] == [budget * n for n in (1, 2, 3, 4)]
    assert [entry["selection:seconds"] > 0.01 for entry in result.history] == [True, False, True, False]
    assert summary["samples_visited"] == 4 * budget
    assert summary["test"]["accuracy"] > 0.4  # chance is 0.1

    weights = load_weights(result.model["model.safetensors"])
    assert all(bool(torch.isfinite(tensor.float()).all()) for tensor in weights.values())
    assert json.loads(result.model["model.json"])["classes"] == [str(digit) for digit in range(10)]
    assert "failure" not in result.output

    log = capfd.readouterr().out
    assert f"samples:visited={4 * budget}" in log
    assert f"test:accuracy={summary['test']['accuracy']:.4f}" in log


def test_baseline_visits_everything(fit: Fit, small: dict[str, Path]) -> None:
    result = fit(small, {**QUICK, "strategy": "full", "epochs": 2})
    assert result.error is None
    summary = result.summary
    assert summary["examples"]["training"] == 360
    assert summary["samples_visited"] == 2 * 360
    assert summary["seconds"]["selection"] < 0.01
    (subset,) = result.subsets
    assert subset.tolist() == list(range(360))


def test_the_reason_of_a_failure_arrives(fit: Fit, small: dict[str, Path]) -> None:
    # As somebody would send it who does not launch through this project: the image has to say what is wrong.
    result = fit(small, {"strategy": "glistr", "fraction": 1.5}, bare=True)
    # Compose knows no exit code of a container that has ended before it attaches to it.
    assert result.error is None or "exited with code: 1" in str(result.error)
    reason = result.output["failure"].decode()
    assert "'glistr'" in reason
    assert "glister" in reason
    assert "fraction='1.5'" in reason
    assert reason.count("\n") <= 1
    assert result.model == {}


def test_a_table(fit: Fit, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    centres = {"setosa": (0.0, 0.0), "virginica": (4.0, 0.0), "versicolor": (0.0, 4.0)}
    lines = ["species,width,length,site"]
    for number in range(300):
        species = list(centres)[number % 3]
        width, length = generator.normal(centres[species], 1.0)
        lines.append(f"{species},{width:.3f},{length:.3f},{'north' if number % 2 else 'south'}")
    channel = tmp_path / "table"
    channel.mkdir()
    (channel / "flowers.csv").write_text("\n".join(lines) + "\n")
    result = fit(
        {"training": channel},
        {
            "model": "mlp",
            "label_column": "species",
            "strategy": "glister",
            "fraction": 0.5,
            "epochs": 10,
            "batch_size": 32,
        },
    )
    assert result.error is None
    assert sorted(result.summary["classes"]) == sorted(centres)
    assert result.summary["validation"]["accuracy"] > 0.8  # the Bayes accuracy is about 0.97
    assert {len(indices) for indices in result.subsets} == {
        round(0.5 * result.summary["examples"]["training"])
    }

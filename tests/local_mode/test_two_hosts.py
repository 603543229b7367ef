"""`instance_count=2`: two containers of the image, which find each other by the names that resourceconfig.json has."""

from pathlib import Path

import pytest

from tests.local_mode.conftest import Fit

SETTINGS = {
    "model": "mlp",
    "strategy": "glister",
    "fraction": 0.3,
    "epochs": 3,
    "select_every": 2,
    "device": "cpu",
    "precision": "float32",
    "augmentation": "none",
    "learning_rate_scaling": "none",
    "sync_batch_norm": True,
}


def test_two_containers_train_as_one(fit: Fit, digits: Path, capfd: pytest.CaptureFixture[str]) -> None:
    channels = {"training": digits / "training", "test": digits / "test"}
    alone = fit(channels, {**SETTINGS, "batch_size": 64})
    assert alone.error is None
    together = fit(channels, {**SETTINGS, "batch_size": 32}, instance_count=2)
    assert together.error is None
    assert (together.summary["processes"], together.summary["hosts"]) == (2, 2)
    assert [indices.tolist() for indices in together.subsets] == [
        indices.tolist() for indices in alone.subsets
    ]
    for name in ("train:loss", "validation:loss"):
        assert [row[name] for row in together.history] == pytest.approx(
            [row[name] for row in alone.history], rel=1e-3
        )
    assert together.model.keys() == alone.model.keys()
    assert "2 processes on 2 hosts: effective batch 2 × 32 = 64" in capfd.readouterr().out


def test_the_reason_of_a_failure_arrives_from_two_hosts(fit: Fit, digits: Path) -> None:
    """Both train; the learning rate ends both."""
    result = fit(
        {"training": digits / "training"},
        {**SETTINGS, "learning_rate": 1e30, "batch_size": 32},
        instance_count=2,
    )
    assert result.error is not None
    assert "training diverged" in result.output["failure"].decode()

"""Real photographs: a class-balanced slice of CIFAR-10 (JPEG), where the archive is at hand."""

import os
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from tests.local_mode.conftest import Fit

ARCHIVE = Path(
    os.environ.get("CIFAR10_JPEG_ARCHIVE") or Path(__file__).parents[2] / "../shared/data/cifar10-jpeg.tar.xz"
)
PER_CLASS = {"training": 100, "test": 50}


@pytest.fixture
def photographs(image: str, tmp_path: Path) -> dict[str, Path]:
    """Channels of 100 and 50 images a class."""
    if not ARCHIVE.exists():
        pytest.skip(f"no CIFAR-10 archive: {ARCHIVE} is not there; CIFAR10_JPEG_ARCHIVE names another place")
    taken: Counter[tuple[str, str]] = Counter()
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            parts = Path(member.name).parts
            if not member.isfile() or len(parts) < 3 or not member.name.endswith(".jpg"):
                continue
            channel = "training" if parts[-3] == "train" else "test"
            if taken[channel, parts[-2]] == PER_CLASS[channel]:
                continue
            taken[channel, parts[-2]] += 1
            content = archive.extractfile(member)
            assert content is not None
            path = tmp_path / "photographs" / channel / parts[-2] / parts[-1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.read())
    assert len(taken) == 20
    return {channel: tmp_path / "photographs" / channel for channel in PER_CLASS}


def test_glister_at_a_tenth(fit: Fit, photographs: dict[str, Path]) -> None:
    result = fit(
        photographs,
        {
            "strategy": "glister",
            "fraction": 0.1,
            "epochs": 3,
            "select_every": 1,
            "batch_size": 32,
            "learning_rate": 0.02,
        },
    )
    assert result.error is None
    summary = result.summary
    assert summary["model"] == "resnet18"
    assert summary["examples"] == {"training": 900, "validation": 100, "test": 500}
    assert [len(indices) for indices in result.subsets] == [90, 90, 90]
    assert all(entry["validation:loss"] < 20 for entry in result.history)
    assert 0 <= summary["test"]["accuracy"] <= 1

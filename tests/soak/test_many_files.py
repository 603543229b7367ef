"""A channel of 100,000 files, under the real program."""

import os
from pathlib import Path

from tests.functional.conftest import Job, write_image

FILES, CLASSES = 100_000, 10
SETTINGS = {
    "model": "cnn",
    "strategy": "rs2",
    "fraction": 0.01,
    "epochs": 1,
    "batch_size": 128,
    "device": "cpu",
}
SECONDS = 120
"""Of reading: some 20 on two cores."""


def test_100_000_files(tmp_path: Path) -> None:
    """Hard links of a few, since their number is what counts."""
    job = Job(tmp_path / "ml", cold=True)
    for name in range(CLASSES):
        folder = job.channel("training") / f"class {name}"
        for number in range(20):
            write_image(folder / f"{number}.png", seed=20 * name + number)
        for number in range(20, FILES // CLASSES):
            os.link(folder / f"{number % 20}.png", folder / f"{number}.png")
    job.run(SETTINGS)
    assert job.exit_code == 0, job.log
    examples = job.summary["examples"]
    assert examples["training"] + examples["validation"] == FILES
    assert job.summary["seconds"]["loading"] < SECONDS

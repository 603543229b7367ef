"""What Docker itself limits: its 64 MB of shared memory, a volume that is full, one that cannot be written."""

import json
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from tests.image.conftest import Image
from tests.image.test_training import QUICK, make_job

STREAMED = {"strategy": "full", "model": "cnn", "epochs": "1", "batch_size": "28", "num_workers": "2"}


def test_64_mb_of_shared_memory(image: Image, tmp_path: Path) -> None:
    """Docker's default, and images that are streamed: five batches of 28 under way, of 480 kB an image."""
    ml, data, meminfo = tmp_path / "ml", tmp_path / "data", tmp_path / "meminfo"
    for channel in ("training", "test"):
        for name in ("cat", "dog"):
            folder = data / channel / name
            folder.mkdir(parents=True)
            for number in range(16 if channel == "training" else 2):
                pixels = np.random.default_rng(number).integers(256, size=(8, 8, 3), dtype=np.uint8)
                Picture.fromarray(pixels).save(folder / f"{number}.png")
    # As on a machine that has too little memory left for the pixels.
    meminfo.write_text("MemTotal: 1000000 kB\nMemAvailable: 1 kB\n")
    options = [*make_job(ml, data, {**STREAMED, "image_size": "400"}), "-v", f"{meminfo}:/proc/meminfo:ro"]
    done = image.run("train", options=options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "streamed from files" in done.stdout
    assert "Shared memory (/dev/shm) has 67 MB free" in done.stdout
    assert "they are sent through pipes instead" in done.stdout
    assert json.loads((ml / "output/data/summary.json").read_text())["status"] == "completed"


def test_a_full_volume(image: Image, digits: Path, tmp_path: Path) -> None:
    options = make_job(tmp_path, digits, QUICK)
    done = image.run("train", options=[*options, "--tmpfs", "/opt/ml/model:size=16k"])
    assert done.returncode == 2, done.stdout + done.stderr
    sentence = (tmp_path / "output/failure").read_text()
    assert sentence.startswith("no space left on the disk for /opt/ml/model/model.safetensors")
    assert done.stdout.strip().endswith(sentence)


def test_a_read_only_volume(image: Image, digits: Path, tmp_path: Path) -> None:
    options = make_job(tmp_path, digits, QUICK)
    (tmp_path / "model").mkdir(exist_ok=True)
    done = image.run("train", options=[*options, "-v", f"{tmp_path / 'model'}:/opt/ml/model:ro"])
    assert done.returncode == 2, done.stdout + done.stderr
    sentence = (tmp_path / "output/failure").read_text()
    assert sentence.startswith("/opt/ml/model cannot be written (read-only file system)")
    assert "epoch=1" not in done.stdout

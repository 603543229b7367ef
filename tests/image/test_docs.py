"""The commands of the README and of the tutorial on one's own images, in a shell, as they stand."""

import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from tests.documentation import Block, blocks_of
from tests.image.conftest import Image

HERE = "tests/image/test_docs.py"
SHELL = ("bash", "-euo", "pipefail", "-c")


def shell(image: Image, text: str, folder: Path, seconds: int = 300) -> str:
    """Run a block with the image under test; no GPU, few epochs and no build."""
    kept = [line for line in text.splitlines() if not line.startswith("docker build")]
    script = (
        "\n".join(kept)
        .replace(" subset-trainer ", f" {image.name} ")
        .replace('"epochs": "30"', '"epochs": "2"')
    )
    done = subprocess.run(
        [*SHELL, script], cwd=folder, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def photos(digits: Path, tmp_path: Path) -> Path:
    """A folder with `photos`, a class below it each."""
    for name in ("0", "1", "2"):
        shutil.copytree(digits / "training" / name, tmp_path / "photos" / name)
    return tmp_path


def by_page(blocks: list[Block]) -> Iterator[list[Block]]:
    return (list(own) for _, own in groupby(blocks, key=lambda block: block.page))


@pytest.mark.parametrize("page", ["README.md", "docs/tutorials/your-own-images.md"])
def test_the_commands_for_a_folder_of_images(image: Image, photos: Path, page: str) -> None:
    told = blocks_of(f"{HERE}::test_the_commands_for_a_folder_of_images")
    assert {block.page for block in told} == {"README.md", "docs/tutorials/your-own-images.md"}
    (own,) = (blocks for blocks in by_page(told) if blocks[0].page == page)
    shown = "".join(shell(image, block.text, photos) for block in own)
    for name in (
        "model.safetensors",
        "model.json",
        "history.jsonl",
        "report.html",
        "examples.parquet",
        "subsets",
    ):
        assert name in shown.split()
    if page != "README.md":
        assert list((photos / "ml/checkpoints").iterdir())


def test_a_served_model_answers(image: Image, photos: Path) -> None:
    training = blocks_of(f"{HERE}::test_the_commands_for_a_folder_of_images")
    for block in training:
        if block.page == "docs/tutorials/your-own-images.md" and "ls ml" not in block.text:
            shell(image, block.text, photos)
    (block,) = blocks_of(f"{HERE}::test_a_served_model_answers")
    serve, ask = block.text.strip().splitlines()
    shutil.copyfile(next((photos / "photos/0").iterdir()), photos / "cat.png")
    serve = serve.replace(" subset-trainer ", f" {image.name} ").replace("--rm", "--rm -d")
    container = shell(image, serve, photos).strip()
    try:
        answer = ""
        for _ in range(60):
            time.sleep(1)
            try:
                with urllib.request.urlopen("http://localhost:8080/ping", timeout=5):
                    answer = shell(image, ask, photos)
                    break
            except OSError:
                continue
        assert '"predicted_label"' in answer
    finally:
        subprocess.run(["docker", "rm", "-f", container], capture_output=True, timeout=60, check=False)
    assert os.access(photos / "ml/model/model.json", os.R_OK)

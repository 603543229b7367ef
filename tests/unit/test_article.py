"""The article's script with CORDS's loader, and with its one import changed: the same subsets."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.article import SCRIPT, laid_out, main, recording, with_ours
from subset_trainer.errors import UserError


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of each of three classes, stripes of another width with noise."""
    folder = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)
    for label, width in enumerate((2, 5, 9)):
        (folder / str(label)).mkdir()
        for number in range(8):
            stripes = (np.arange(32) // width % 2 * 120)[None, :, None] + draw.normal(60, 40, (32, 32, 3))
            Image.fromarray(stripes.clip(0, 255).astype("uint8")).save(
                folder / str(label) / f"{number:02}.png"
            )
    return folder


def ran(script: str, images: Path, folder: Path) -> tuple[list[list[int]], list[str]]:
    """The subset of each epoch, and what the script printed but for times."""
    folder.mkdir()
    (folder / "train.py").write_text(script)
    flags = {
        "training": images,
        "model_dir": folder / "model",
        "fraction": 0.4,
        "epochs": 3,
        "select_every": 1,
    }
    flags |= {"batch_size": 8, "validation_fraction": 0.2, "learning_rate": 0.01}
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    done = subprocess.run(
        [sys.executable, str(folder / "train.py"), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [
        line.partition("epoch:seconds")[0] for line in done.stdout.splitlines() if line.startswith("epoch=")
    ]
    return [json.loads(line) for line in (folder / "model.json").read_text().splitlines()], lines


def test_the_article_s_script_with_one_changed_import_chooses_what_cords_chooses(
    images: Path, tmp_path: Path
) -> None:
    """Random changes, shuffled batches and two selections by the model in training, of CORDS's ResNet-18."""
    script = SCRIPT.read_text(encoding="utf-8")
    found = []
    for name, text in (("theirs", script), ("ours", with_ours(script))):
        assert ("from cords.utils.data.dataloader" in text) is (name == "theirs")
        found.append(ran(recording(text), images, tmp_path / name))
    (theirs, their_lines), (ours, our_lines) = found
    assert ours == theirs and our_lines == their_lines
    assert len(ours) == 3 and len({tuple(subset) for subset in ours}) == 3


def test_the_benchmark_compares_epochs_of_the_same_subsets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "rows.json"
    main(["--examples", "300", "--classes", "4", "--repeats", "1", "--output", str(output)])
    (row,) = json.loads(output.read_text())
    assert row["same"] and row["ratio"] > 0 and row["ours_seconds"] > row["ours_selecting"] > 0
    assert "| epoch, 4 classes | 0.1 |" in capsys.readouterr().out


def test_the_benchmark_uses_as_many_images_of_each_class(images: Path, tmp_path: Path) -> None:
    laid_out(images, 15, tmp_path / "laid")
    assert sorted(path.name for path in (tmp_path / "laid" / "1").iterdir()) == [
        f"{at:02}.png" for at in range(5)
    ]
    with pytest.raises(UserError, match="expected a folder of images for each class"):
        laid_out(images / "0", 15, tmp_path / "other")

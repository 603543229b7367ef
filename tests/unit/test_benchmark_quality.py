"""The benchmark of the report's findings beside cleanvision's and Datalab's."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import quality
from subset_trainer.errors import UserError


def planted_in(folder: Path, count: int = 150) -> quality.Planted:
    images = [(f"class {at % 5}", pixels) for at, pixels in enumerate(quality.textures(count, 0))]
    return quality.plant(images, folder, 0, each=0.04)


def test_what_is_planted_is_on_disk_once(tmp_path: Path) -> None:
    planted = planted_in(tmp_path)
    assert {kind: len(names) for kind, names in planted.of.items()} == {
        kind: {"near-duplicate": 12, "outlier": 2}.get(kind, 6) for kind in quality.KINDS
    }
    assert len(set().union(*planted.of.values())) == 6 * 4 + 12 + 2
    assert len(list(tmp_path.rglob("*.png"))) == 150 + 6
    for name in planted.of["dark"]:
        assert np.asarray(Image.open(tmp_path / name)).max() <= 255 * 0.4


def test_what_is_planted_is_found(tmp_path: Path) -> None:
    planted = planted_in(tmp_path)
    found = quality.ours_of_images(tmp_path)
    rows = {kind: quality.row("textures", kind, "ours", found, planted, 156) for kind in quality.KINDS[:-1]}
    assert all(rows[kind]["recall"] == 1 for kind in ("blurry", "near-duplicate"))
    assert all(rows[kind]["recall"] >= 0.3 for kind in ("dark", "bright", "odd size"))
    assert all(rows[kind]["precision"] == 1 for kind in ("dark", "bright", "odd size"))
    table = quality.as_table(
        [*rows.values(), *({**row, "side": "other", "seconds": 1} for row in rows.values())]
    )
    assert f"| {found.seconds['images']:.2f} |" in table


def test_a_table_has_its_troubles() -> None:
    made = quality.table(0, count=1_000)
    assert set(made.own.of) == {"weak category", "weak cluster", "outlier", "rare class"}
    assert len(made.training) + len(made.validation) == 1_000
    assert all(
        len(made.own.of[name]) > 2 * len(made.held.of[name]) for name in ("weak category", "weak cluster")
    )
    far = made.training.inputs[sorted(made.own.of["outlier"]), :20].abs().mean()
    assert far > 2 * made.training.inputs[:, :20].abs().mean()


def test_a_library_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"no_such_library.*expected: pip install cleanvision"):
        quality.of_library("no_such_library", "Datalab")

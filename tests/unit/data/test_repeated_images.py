"""Images of a validation or test channel that training has, too, are said."""

from pathlib import Path

import pytest

from subset_trainer.data import Splits, load_splits
from tests.unit.data.test_layout import image, put


def load(root: Path, other: str, first: int) -> Splits:
    for label, seed in (("cat", 0), ("dog", 100)):
        put(root, {f"training/{label}/{n}.png": image(seed + n, "PNG") for n in range(6)})
        put(root, {f"{other}/{label}/x{n}.png": image(seed + n, "PNG") for n in range(first, first + 6)})
    return load_splits({name: root / name for name in ("training", other)})


@pytest.mark.parametrize("other", ["validation", "test"])
def test_the_same_images_in_two_channels_are_counted(tmp_path: Path, other: str) -> None:
    splits = load(tmp_path, other, 4)
    said = "4 of its 12 images are in the training channel, too, pixel for pixel"
    if other == "validation":
        assert any(said in note for note in splits.notes)
        one = next(one for one in splits.understandings if one.channel == other)
        assert any(decision.taken == said for decision in one.decisions)
    else:  # without a validation channel, a part of training's images is set aside
        assert any("images are in the training channel, too" in note for note in splits.notes)


def test_different_images_are_not(tmp_path: Path) -> None:
    assert not any("in the training channel, too" in note for note in load(tmp_path, "validation", 6).notes)

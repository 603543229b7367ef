"""Images of 16 bits of which the data uses fewer keep their contrast, in training and in serving."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subset_trainer.data import ImageKind, load_splits
from subset_trainer.data.kinds import registry as kinds
from tests.kinds import image_kind


def grey(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values.astype(np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


def pictures(root: Path, most: int) -> Path:
    """Ramps of grey from 0 to `most`."""
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for n in range(4):
            (root / name / f"{n}.png").write_bytes(
                grey(np.linspace(0, most - n, 256).reshape(16, 16).round())
            )
    return root


@pytest.mark.parametrize(
    ("most", "white"),
    [(200, 255), (1_000, 1_023), (4_095, 4_095), (9_000, 16_383), (40_000, 65_535), (65_535, 65_535)],
)
def test_white_is_that_of_the_bits_that_are_used(tmp_path: Path, most: int, white: int) -> None:
    splits = load_splits({"training": pictures(tmp_path, most)}, validation_fraction=0.25, num_workers=0)
    kind = image_kind(splits.preprocessing)
    assert kind.white == white
    pixels = np.concatenate([np.asarray(splits.train.inputs), np.asarray(splits.validation.inputs)])  # type: ignore[attr-defined]
    assert pixels.max() == round(255 * most / white)
    assert len(np.unique(pixels)) > min(most, 255 * most // white) * 0.9
    assert any("16 bits" in note for note in splits.notes) == (white < 65_535)


def test_one_bright_image_among_many_is_not_clipped(tmp_path: Path) -> None:
    root = pictures(tmp_path, 4_000)
    for n in range(4, 200):
        (root / "cat" / f"{n:03}.png").write_bytes(grey(np.full((16, 16), 4_000)))
    (root / "dog" / "5.png").write_bytes(grey(np.full((16, 16), 60_000)))
    splits = load_splits({"training": root, "validation": root}, num_workers=0)
    assert image_kind(splits.preprocessing).white == 65_535


def test_a_request_is_read_as_training_was(tmp_path: Path) -> None:
    kind = load_splits({"training": pictures(tmp_path, 4_095)}, num_workers=0).preprocessing
    again = kinds.from_json(kind.to_json())
    assert again == kind
    (batch,) = again.batches(grey(np.full((16, 16), 4_095)), "image/", "image/png")
    assert batch.min() == 255


def test_models_without_the_value_read_16_bits_as_before() -> None:
    kind = ImageKind(("a", "b"), (4, 4), (0.5,) * 3, (0.25,) * 3)
    assert "white" not in kind.to_json()
    (batch,) = kinds.from_json(kind.to_json()).batches(grey(np.full((4, 4), 4_095)), "image/", "image/png")
    assert batch.max() == 16


def png_of_colours(values: np.ndarray) -> bytes:
    """A PNG of 16 bits for each of three colours, [H, W, 3], which Pillow does not write."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    packed = (struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize(("most", "white"), [(4_095, 4_095), (65_535, 65_535)])
def test_colours_of_16_bits_are_not_dark(tmp_path: Path, most: int, white: int) -> None:
    ramp = np.linspace(0, most, 256).round().reshape(16, 16, 1).repeat(3, 2)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for n in range(4):
            (tmp_path / name / f"{n}.png").write_bytes(png_of_colours(ramp))
    splits = load_splits({"training": tmp_path}, num_workers=0)
    assert image_kind(splits.preprocessing).white == white
    assert np.asarray(splits.train.inputs).max() >= 240  # type: ignore[attr-defined]

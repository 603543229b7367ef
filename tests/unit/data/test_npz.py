"""Files of arrays."""

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subset_trainer.data import Dataset, load_splits
from subset_trainer.errors import UserError
from tests.kinds import image_kind

LABELS = np.array([0, 1] * 10)


def everything(dataset: Dataset) -> np.ndarray:
    (inputs,) = dataset.batches([torch.arange(len(dataset))], torch.device("cpu"))
    return inputs.numpy()


def training(root: Path, file: str = "a.npz", **arrays: Any) -> dict[str, Path]:
    np.savez(root / file, **arrays)
    return {"training": root, "validation": root}


def complaint(root: Path, **arrays: Any) -> str:
    with pytest.raises(UserError) as error:
        load_splits(training(root, **arrays))
    return str(error.value)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, *shape), dtype=np.uint8)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16, np.uint8, np.bool_])
def test_table(tmp_path: Path, kind: Any) -> None:
    x = random(5).astype(kind)
    splits = load_splits(training(tmp_path, x=x, y=LABELS))
    wide = x.astype(np.float64)
    np.testing.assert_allclose(
        everything(splits.train), (wide - wide.mean(0)) / (wide.std(0) + (wide.std(0) == 0)), atol=1e-6
    )
    assert splits.preprocessing.input_shape == (5,)
    assert splits.preprocessing.classes == ("0", "1")


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 1), (1, 8, 9), (8, 9, 3), (3, 8, 9)])
def test_images(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = random(*shape)
    expected = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2) if shape[2] in (1, 3) else x
    splits = load_splits(training(tmp_path, x=x, y=LABELS))
    np.testing.assert_array_equal(everything(splits.train), np.broadcast_to(expected, (20, 3, 8, 9)))
    assert image_kind(splits.preprocessing).image_size == (8, 9)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([0.0, 0.5, 1.0]), [0, 128, 255]),
        (np.array([0.0, 1.0, 255.0]), [0, 1, 255]),
        (np.array([0, 1, 1]), [0, 1, 1]),
    ],
)
def test_scale_of_images(tmp_path: Path, values: np.ndarray, expected: list[int]) -> None:
    x = np.tile(values, (20, 8, 3))
    assert everything(load_splits(training(tmp_path, x=x, y=LABELS)).train)[0, 0, 0].tolist() == 3 * expected


def test_texts_as_labels_and_several_files(tmp_path: Path) -> None:
    training(tmp_path, "b.npz", x=random(4) + 1, y=np.array(["dog"] * 20))
    splits = load_splits(training(tmp_path, "a.npz", x=random(4), y=np.array([b"cat"] * 20)))
    assert splits.preprocessing.classes == ("cat", "dog")
    assert splits.train.labels.tolist() == [0] * 20 + [1] * 20


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"x_train": LABELS, "y": LABELS}, "holds 'x_train', 'y'; expected arrays 'x' and 'y'"),
        ({"x": random(4), "y": LABELS[:5]}, "x has 20 examples and y 5; expected equal numbers"),
        (
            {"x": random(2, 2, 2, 2), "y": LABELS},
            "x has the shape (20, 2, 2, 2, 2); expected [N, D] for a table",
        ),
        ({"x": random(8, 8, 4), "y": LABELS}, "expected 1 or 3 colour channels, first or last"),
        ({"x": random(4), "y": np.eye(20)}, "y has the shape (20, 20); expected [N]"),
        ({"x": np.where(random(4) > 200, np.nan, 1.0), "y": LABELS}, "x is not finite in"),
        (
            {"x": random(4), "y": np.linspace(0, 1, 20)},
            "y has 20 different values; expected classes, because regression",
        ),
        ({"x": random(4), "y": np.where(LABELS, np.nan, 0)}, "y is not finite in number 1"),
        (
            {"x": random(4, 4).astype(int) - 1, "y": LABELS},
            "x has values from -1 to 254; expected images of 0 to 255",
        ),
        ({"x": random(4).astype(str), "y": LABELS}, "x is of type <U3; expected numbers"),
        ({"x": random(4), "y": LABELS * 0}, "all 20 examples are of one class, '0'"),
    ],
)
def test_what_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], expected: str) -> None:
    text = complaint(tmp_path, **arrays)
    assert text.startswith("training channel: ")
    assert expected in text


def test_python_objects_are_not_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'trace'}",)

    text = complaint(tmp_path, x=np.array([Evil()] * 20, object), y=LABELS)
    assert "file 'a.npz' cannot be read (it holds Python objects, which are not read)" in text
    assert not (tmp_path / "trace").exists()


def test_a_file_that_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match=r"'a\.npz': it holds UTF-8 text; expected NumPy arrays"):
        load_splits({"training": tmp_path})


def test_texts_of_what_is_no_character(tmp_path: Path) -> None:
    y = np.array(["a", "b"] * 10)
    y.view(np.uint32)[3] = 0x7FFFFFFF
    assert "y holds texts with invalid characters; expected integers or texts" in complaint(
        tmp_path, x=random(4), y=y
    )


def test_a_header_that_is_damaged(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name in ("x.npy", "y.npy"):
            archive.writestr(name, b"\x93NUMPY\x01\x00\x10\x00{'descr': (((((( \n")
    with pytest.raises(UserError, match=r"file 'a\.npz' cannot be read"):
        load_splits({"training": tmp_path})


def test_images_are_resized_on_request(tmp_path: Path) -> None:
    splits = load_splits(training(tmp_path, x=random(8, 8), y=LABELS), image_size=4)
    assert everything(splits.train).shape == (20, 3, 4, 4)


def test_arrays_beyond_the_memory_set_apart(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the data takes .* GB in memory"):
        load_splits(training(tmp_path, x=random(8, 8), y=LABELS), memory_limit=100)

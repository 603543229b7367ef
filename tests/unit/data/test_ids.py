"""Each example's name leads back to it."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subset_trainer.data import Splits, load_splits
from subset_trainer.data.ids import Ids
from subset_trainer.errors import UserError


def folder(tmp_path: Path) -> Path:
    (tmp_path / "t").mkdir()
    return tmp_path / "t"


def rows(splits: Splits, ids: Ids, labels: list[int]) -> list[tuple[str, str]]:
    assert len(ids) == len(labels)
    return [(name, splits.preprocessing.classes[label]) for name, label in zip(ids, labels, strict=True)]


def all_rows(splits: Splits) -> list[tuple[str, str]]:
    return sorted(
        rows(splits, splits.train_ids, splits.train.labels.tolist())
        + rows(splits, splits.validation_ids, splits.validation.labels.tolist())
    )


def test_images_by_their_paths(tmp_path: Path) -> None:
    root = folder(tmp_path)
    for name in ("a/0.png", "a/x/1.png", "b/0.png", "b/\udcff.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name)
    splits = load_splits({"training": root}, validation_fraction=0.5)
    assert all_rows(splits) == [("a/0.png", "a"), ("a/x/1.png", "a"), ("b/0.png", "b"), ("b/\\xff.png", "b")]
    assert splits.train_ids[1] == list(splits.train_ids)[1]


def test_rows_by_file_and_line(tmp_path: Path) -> None:
    root = folder(tmp_path)
    # A blank line and a field over two lines: the number is the one that an editor shows.
    (root / "a.csv").write_text('y,u,v\n0,1.5,"p\nq"\n\n1,2.5,r\n')
    (root / "b.csv").write_text("0,3.5,p\n1,4.5,r\n")
    splits = load_splits({"training": root}, validation_fraction=0.5, seed=1)
    assert all_rows(splits) == [("a.csv:2", "0"), ("a.csv:5", "1"), ("b.csv:1", "0"), ("b.csv:2", "1")]


def test_arrays_by_file_and_position(tmp_path: Path) -> None:
    root = folder(tmp_path)
    for name, y in (("a.npz", [0, 1, 2]), ("b.npz", [2, 1])):
        np.savez(root / name, x=np.array(y)[:, None] + [[0.0, 0.5]], y=np.array(y))
    splits = load_splits({"training": root, "validation": root})
    expected = [("a.npz[0]", "0"), ("a.npz[1]", "1"), ("a.npz[2]", "2"), ("b.npz[0]", "2"), ("b.npz[1]", "1")]
    assert rows(splits, splits.train_ids, splits.train.labels.tolist()) == expected
    assert rows(splits, splits.validation_ids, splits.validation.labels.tolist()) == expected


def test_an_archive_s_images_by_member_and_position(tmp_path: Path) -> None:
    root = folder(tmp_path)
    with tarfile.open(root / "c.tar.gz", "w:gz") as archive:
        for number, labels in ((1, [3, 4]), (2, [4, 3])):
            batch = tmp_path / f"data_batch_{number}.bin"
            batch.write_bytes(b"".join(bytes([label]) + bytes(3072) for label in labels))
            archive.add(batch, f"d/{batch.name}")
    assert all_rows(load_splits({"training": root}, validation_fraction=0.5)) == [
        ("c.tar.gz:d/data_batch_1.bin[0]", "cat"),
        ("c.tar.gz:d/data_batch_1.bin[1]", "deer"),
        ("c.tar.gz:d/data_batch_2.bin[0]", "deer"),
        ("c.tar.gz:d/data_batch_2.bin[1]", "cat"),
    ]


def test_no_texts_are_held() -> None:
    """A million lines are two numbers each, read once and only when a name is asked for."""
    asked = []

    def read() -> list[tuple[str, int]]:
        asked.append(1)
        return [("a.csv", line) for line in range(1_000)]

    ids = Ids.of_lines(("a.csv",), 1_000, read).subset(np.array([999, 5]))
    assert asked == []
    assert list(ids) == ["a.csv:999", "a.csv:5"]
    assert ids[1] == "a.csv:5" and asked == [1]


def test_a_file_that_has_changed_meanwhile_is_named() -> None:
    ids = Ids.of_lines(("a.csv",), 3, lambda: [("a.csv", 1)])
    with pytest.raises(UserError, match=r"'a.csv' has changed since it was read.*1 rows now; expected 3"):
        ids[0]

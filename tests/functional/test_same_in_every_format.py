"""The same data gives the same examples in every format that can carry it: labels, order, inputs and so subsets."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from sklearn.datasets import dump_svmlight_file

from subset_trainer.data import Splits, load_splits
from tests.formats import (
    CLASSES,
    NUMBERS,
    PIXELS,
    entry,
    hugging_face,
    images,
    png,
    write_manifest,
    write_parquet,
)

NAMES = [str(number) for number in NUMBERS]
DRAW = np.random.default_rng(3)
TABLE = pd.DataFrame(
    {
        "target": DRAW.integers(0, 3, 90),
        "alpha": DRAW.normal(0, 3, 90).round(3),
        "beta": DRAW.uniform(1, 9, 90).round(2),
    }
)


def contents(splits: Splits) -> tuple[tuple[str, ...], list[str], torch.Tensor]:
    """Classes, the label of each training example, and the inputs."""
    classes = splits.preprocessing.classes
    (inputs,) = splits.train.batches([torch.arange(len(splits.train))], torch.device("cpu"))
    return classes, [classes[label] for label in splits.train.labels.tolist()], inputs


def csv(root: Path) -> None:
    TABLE.to_csv(root / "a.csv", index=False)


def csv_with_an_index(root: Path) -> None:
    TABLE.to_csv(root / "a.csv")


def csv_without_a_header(root: Path) -> None:
    TABLE.to_csv(root / "a.csv", index=False, header=False)


def csv_of_germany(root: Path) -> None:
    TABLE.to_csv(root / "a.csv", index=False, sep=";", decimal=",")


def label_last(root: Path) -> None:
    TABLE[["alpha", "beta", "target"]].to_csv(root / "a.csv", index=False)


def shards(root: Path) -> None:
    for number in range(3):
        TABLE[number * 30 : (number + 1) * 30].to_csv(root / f"part-{number}.csv.gz", index=False)


def parquet(root: Path) -> None:
    TABLE.to_parquet(root / "a.parquet")


def libsvm(root: Path) -> None:
    dump_svmlight_file(
        TABLE[["alpha", "beta"]].to_numpy(), TABLE["target"].to_numpy(), str(root / "a.libsvm")
    )


@pytest.mark.parametrize(
    "write", [csv_with_an_index, csv_without_a_header, csv_of_germany, label_last, shards, parquet, libsvm]
)
def test_a_table(tmp_path: Path, write: Callable[[Path], None]) -> None:
    for folder, writer in (("csv", csv), ("other", write)):
        (tmp_path / folder).mkdir()
        writer(tmp_path / folder)
    expected, found = (contents(load_splits({"training": tmp_path / folder})) for folder in ("csv", "other"))
    assert found[:2] == expected[:2]
    torch.testing.assert_close(found[2], expected[2], rtol=0, atol=0 if write is not libsvm else 1e-6)


def folders(root: Path) -> None:
    for position, name in enumerate(NAMES):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / f"{position:03}.png").write_bytes(png(position))


ORDER = sorted(range(len(NAMES)), key=lambda position: (NAMES[position], position))
"""The positions in the order of the class folders' paths."""


def labels_csv(root: Path) -> None:
    images(root)
    lines = [f"{position:03}.png,{NAMES[position]}" for position in ORDER]
    (root / "labels.csv").write_text("\n".join(["file,label", *lines]))


def metadata_jsonl(root: Path) -> None:
    images(root)
    lines = [f'{{"file_name": "images/{p:03}.png", "label": "{NAMES[p]}"}}' for p in ORDER]
    (root / "metadata.jsonl").write_text("\n".join(lines))


def manifest(root: Path) -> None:
    write_manifest(images(root), [entry(position, **{"class-name": NAMES[position]}) for position in ORDER])


def parquet_of_images(root: Path) -> None:
    write_parquet(root / "a.parquet", hugging_face(ORDER), pa.array([NAMES[position] for position in ORDER]))


def tar(root: Path) -> None:
    import webdataset

    with webdataset.ShardWriter(f"{root}/digits-%02d.tar", maxcount=20, verbose=0) as writer:
        for number, position in enumerate(ORDER):
            writer.write({"__key__": f"{number:03}", "png": png(position), "cls": NAMES[position].encode()})


@pytest.mark.parametrize("write", [labels_csv, metadata_jsonl, manifest, parquet_of_images, tar])
def test_images(tmp_path: Path, write: Callable[[Path], None]) -> None:
    for folder, writer in (("folders", folders), ("other", write)):
        (tmp_path / folder).mkdir()
        writer(tmp_path / folder)
    expected, found = (
        contents(load_splits({"training": tmp_path / folder})) for folder in ("folders", "other")
    )
    assert expected[0] == CLASSES
    assert found[:2] == expected[:2]
    assert torch.equal(found[2], expected[2])
    assert len(PIXELS) > len(expected[1]) > 0

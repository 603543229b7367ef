"""The digits 0, 1 and 7 in the forms that channels may have, as public tools write them."""

import io
import json
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import webdataset
from PIL import Image
from sagemaker.amazon.common import write_numpy_to_dense_tensor
from sklearn.datasets import dump_svmlight_file

from subset_trainer.data.formats import recordio

FILES = Path(__file__).parent / "files"
DIGITS = np.load(FILES / "digits.npz")
PIXELS, NUMBERS = DIGITS["x"], DIGITS["y"]
CLASSES = ("0", "1", "7")
NAMED = {"a 0": "0", "a 1": "1", "a 7": "7"}
"""What a manifest calls them."""


def png(position: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[position]).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def images(root: Path, folder: str = "images") -> Path:
    (root / folder).mkdir(parents=True)
    for position in range(len(PIXELS)):
        (root / folder / f"{position:03}.png").write_bytes(png(position))
    return root


def write_shards(root: Path, label: Callable[[int], Mapping[str, Any]], per_shard: int = 20) -> None:
    root.mkdir(exist_ok=True)
    with webdataset.ShardWriter(f"{root}/digits-%02d.tar", maxcount=per_shard, verbose=0) as writer:
        for position, digit in enumerate(NUMBERS):
            writer.write(
                {"__key__": f"{position:03}", "png": Image.fromarray(PIXELS[position]), **label(int(digit))}
            )


def hugging_face(rows: Iterable[int]) -> pa.Array:
    return pa.array(
        [{"bytes": png(row), "path": f"{row}.png"} for row in rows],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )


def write_parquet(path: Path, image: pa.Array, labels: pa.Array, **metadata: str) -> None:
    table = pa.table({"image": image, "label": labels})
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=10)


def entry(position: int, **metadata: Any) -> dict[str, Any]:
    """As "Labeling Job Output Data" shows a classification job's."""
    digit = str(NUMBERS[position])
    return {
        "source-ref": f"s3://bucket/some/prefix/images/{position:03}.png",
        "digit": CLASSES.index(digit),
        "digit-metadata": {
            "confidence": 0.9,
            "job-name": "labeling-job/digits",
            "class-name": f"a {digit}",
            "human-annotated": "yes",
            "creation-date": "2018-10-18T22:18:13.527256",
            "type": "groundtruth/image-classification",
            **metadata,
        },
    }


def write_manifest(root: Path, entries: Iterable[Mapping[str, Any]]) -> Path:
    (root / "output.manifest").write_text("".join(json.dumps(line) + "\n" for line in entries))
    return root


def framed(content: bytes) -> bytes:
    return recordio.MAGIC + struct.pack("<I", len(content)) + content + b"\0" * (-len(content) % 4)


def _labels_csv(root: Path) -> None:
    files = [f"{position:03}.png" for position in range(len(NUMBERS))]
    pd.DataFrame({"file_name": files, "label": NUMBERS}).to_csv(images(root) / "labels.csv", index=False)


def _lst(root: Path) -> None:
    listing = (FILES / "recordio/digits.lst").read_text()
    for line in listing.splitlines():
        path = root / line.split("\t")[2]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png(int(path.stem)))
    (root / "digits.lst").write_text(listing)


def _records(root: Path) -> None:
    for suffix in ("rec", "idx", "lst"):
        (root / f"digits.{suffix}").write_bytes((FILES / f"recordio/digits.{suffix}").read_bytes())


def _parquet_of_images(root: Path) -> None:
    codes = pa.array([CLASSES.index(str(digit)) for digit in NUMBERS])
    write_parquet(root / "train.parquet", hugging_face(range(len(NUMBERS))), codes)


def _texts(root: Path) -> None:
    names = {0: "nought", 1: "one", 7: "seven"}
    for position, digit in enumerate(NUMBERS):
        (root / names[digit]).mkdir(exist_ok=True)
        (root / names[digit] / f"{position}.txt").write_text(
            f"Number {position} in the file is a {names[digit]}."
        )


def _protobuf(root: Path) -> None:
    with (root / "train.pbr").open("wb") as file:
        write_numpy_to_dense_tensor(file, _rows(), NUMBERS.astype(np.float32))


def _rows() -> Any:
    return PIXELS.reshape(len(PIXELS), -1).astype(np.float32)


def _parquet(root: Path) -> None:
    table = pd.DataFrame(_rows()).rename(columns=str)
    table.insert(0, "digit", NUMBERS)
    table.to_parquet(root / "train.parquet")


FORMATS: Mapping[str, Callable[[Path], object]] = {
    "labels.csv": _labels_csv,
    ".lst": _lst,
    "image records": _records,
    "tar shards": lambda root: write_shards(root, lambda digit: {"cls": digit}),
    "images in Parquet": _parquet_of_images,
    "manifest": lambda root: write_manifest(images(root), map(entry, range(len(NUMBERS)))),
    "Parquet": _parquet,
    "libsvm": lambda root: dump_svmlight_file(_rows(), NUMBERS, str(root / "train.libsvm")),
    "recordio-protobuf": _protobuf,
    "texts": _texts,
}
"""Each writes all of them into a folder that is there."""

"""One list of a label's names: every format takes them, and the page on data formats names them all."""

import io
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from subset_trainer.data.formats.format import Found, Options
from subset_trainer.data.formats.reading import read
from subset_trainer.data.formats.registry import open_channel
from subset_trainer.data.label_columns import NAMES, OF_IMAGES, OF_TABLES, beside_images, plain_name
from subset_trainer.errors import UserError
from tests.functional.conftest import write_image

ROOT = Path(__file__).parents[3]
COUNT = 12
LABELS = ["cat" if row % 3 else "dog" for row in range(COUNT)]
OTHERS = ["first", "second", "third", "fourth"]
"""A column that could be classes by its values alone."""


def found(root: Path, options: Options | None = None) -> Found:
    return read(open_channel("training", root), options or Options(), 1 << 30)


def labels(root: Path, options: Options | None = None) -> list[str]:
    source = found(root, options).source
    return [source.classes[label] for label in source.labels]


def image(folder: Path, row: int) -> bytes:
    write_image(folder / "drawn.png", row)
    content = (folder / "drawn.png").read_bytes()
    (folder / "drawn.png").unlink()
    return content


Row = dict[str, str]


def listed(root: Path, rows: list[Row], sort: str = "labels.csv") -> None:
    for row in range(len(rows)):
        write_image(root / f"{row}.png", row)
    lines = [
        ",".join(("image", *rows[0])),
        *(f"{at}.png,{','.join(row.values())}" for at, row in enumerate(rows)),
    ]
    (root / sort).write_text("\n".join(lines) + "\n")


def of_any_name(root: Path, rows: list[Row]) -> None:
    listed(root, rows, "birds.csv")


def metadata(root: Path, rows: list[Row]) -> None:
    for row in range(len(rows)):
        write_image(root / f"{row}.png", row)
    lines = [json.dumps({"file_name": f"{at}.png", **row}) for at, row in enumerate(rows)]
    (root / "metadata.jsonl").write_text("\n".join(lines) + "\n")


def parquet_of_images(root: Path, rows: list[Row]) -> None:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    pq.write_table(
        pa.table({"image": [image(root, at) for at in range(len(rows))], **columns}), root / "t.parquet"
    )


def shards(root: Path, rows: list[Row]) -> None:
    with tarfile.open(root / "t.tar", "w") as archive:
        for at, row in enumerate(rows):
            for name, content in (
                (f"{at:03}.png", image(root, at)),
                (f"{at:03}.json", json.dumps(row).encode()),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def table(root: Path, rows: list[Row]) -> None:
    lines = [
        ",".join(("size", *rows[0])),
        *(f"{at + 0.25},{','.join(row.values())}" for at, row in enumerate(rows)),
    ]
    (root / "t.csv").write_text("\n".join(lines) + "\n")


def parquet(root: Path, rows: list[Row]) -> None:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    pq.write_table(pa.table({"size": [at + 0.25 for at in range(len(rows))], **columns}), root / "t.parquet")


Write = Callable[[Path, list[Row]], None]
OF_ONE_IMAGE: tuple[Write, ...] = (listed, of_any_name, metadata, parquet_of_images, shards)
TABLES: tuple[Write, ...] = (table, parquet)


def rows_of(name: str) -> list[Row]:
    return [
        {"other": OTHERS[row % 4], name: label, "more": OTHERS[row % 3]} for row, label in enumerate(LABELS)
    ]


@pytest.mark.parametrize("write", OF_ONE_IMAGE)
@pytest.mark.parametrize("name", [*NAMES, *OF_IMAGES])
def test_every_format_of_images_takes_every_name(tmp_path: Path, write: Write, name: str) -> None:
    write(tmp_path, rows_of(name))
    assert labels(tmp_path) == LABELS


@pytest.mark.parametrize("write", TABLES)
@pytest.mark.parametrize("name", [*NAMES, *OF_TABLES])
def test_every_table_takes_every_name(tmp_path: Path, write: Write, name: str) -> None:
    write(tmp_path, rows_of(name))
    assert labels(tmp_path) == LABELS


@pytest.mark.parametrize("write", [*OF_ONE_IMAGE, *TABLES])
@pytest.mark.parametrize("name", ["Class_Name", "CLASS NAME", "class-name", "class.name", "ClassName"])
def test_names_are_taken_however_they_are_spelt(tmp_path: Path, write: Write, name: str) -> None:
    write(tmp_path, rows_of(name))
    assert labels(tmp_path) == LABELS


NUMBERS = {"cat": "1", "dog": "0"}


@pytest.mark.parametrize("write", [listed, of_any_name, parquet_of_images])
def test_names_and_numbers_of_the_same_classes_agree(tmp_path: Path, write: Write) -> None:
    write(tmp_path, [{"class_id": NUMBERS[label], "class_name": label} for label in LABELS])
    assert labels(tmp_path) == LABELS


@pytest.mark.parametrize("write", [listed, of_any_name, parquet_of_images])
def test_columns_that_disagree_are_refused_until_one_is_named(tmp_path: Path, write: Write) -> None:
    write(tmp_path, [{"breed": OTHERS[row % 4], "class": label} for row, label in enumerate(LABELS)])
    sentence = r"'class' and 'breed' are both named like a label, .*; set label_column=class or label_column=breed\.$"
    with pytest.raises(UserError, match=sentence):
        found(tmp_path)
    assert labels(tmp_path, Options("class")) == LABELS
    assert labels(tmp_path, Options("breed")) == [OTHERS[row % 4] for row in range(COUNT)]


def test_the_likeliest_name_comes_first() -> None:
    assert beside_images(["image", "Category", "class_id", "caption", "class-name", "LABEL"]) == [
        *("LABEL", "class-name", "class_id", "Category"),
    ]


def test_the_page_names_them_all_in_this_order() -> None:
    page = (ROOT / "docs/reference/data-formats.md").read_text()
    section = page.split("### Names of a label\n")[1].split("\n\nOf several")[0]
    common, tables, images = re.split(r"\n- ", section)
    named = [
        [plain_name(name) for name in re.findall(r"`([^`]+)`", part)] for part in (common, tables, images)
    ]
    assert named[0][3:] == list(NAMES)
    assert named[1] == list(OF_TABLES)
    assert named[2][1:] == list(OF_IMAGES)

"""Lists of images: how they name an image and its class, and what beside images is a list of something else."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from subset_trainer.data import load_splits
from subset_trainer.data.formats.format import Options
from subset_trainer.data.formats.lists import Finder
from subset_trainer.errors import UserError
from tests.unit.data.test_layout import found, image, put, refused

LABELS = ("cat", "dog", "eel") * 4


def listed(root: Path, name: str, header: str = "file,label", labels: tuple[str, ...] = LABELS) -> Path:
    """Images `images/a0.jpg` and so on, and a labels.csv that names them as `name` says, with {} for the number."""
    put(root, {f"images/a{number}.jpg": image(number) for number in range(len(labels))})
    rows = [f"{name.format(number)},{label}" for number, label in enumerate(labels)]
    return put(root, {"labels.csv": "\n".join([header, *rows])})


def classes_of(root: Path) -> list[tuple[str, str]]:
    """(base name, class) of each image."""
    source = found(root).source
    names = [source.classes[label] for label in source.labels.tolist()]
    return [(place.rsplit("/", 1)[-1], name) for place, name in zip(source.ids, names, strict=True)]


@pytest.mark.parametrize(
    "name",
    [
        "images/a{}.jpg",
        "./images/a{}.jpg",
        "a{}",
        "a{}.jpg",
        "a{}.JPG",
        "Images/A{}.JPG",
        "C:\\data\\images\\a{}.jpg",
        "images\\a{}.jpg",
        "/home/me/data/v2/images/a{}.jpg",
        "s3://bucket/data/images/a{}.jpg",
        "other/a{}.jpg",
    ],
)
def test_an_image_is_found_however_its_path_is_written(tmp_path: Path, name: str) -> None:
    listed(tmp_path, name)
    assert classes_of(tmp_path) == [(f"a{number}.jpg", label) for number, label in enumerate(LABELS)]


def test_an_image_of_another_folder_of_the_channel_is_not_the_one_that_is_named() -> None:
    finder = Finder(("cat/1.jpg", "dog/2.jpg", "all/cat/3.jpg", "4.jpg", "dog/4.jpg"))
    assert finder.find("dog/1.jpg") is None
    assert finder.find("cat/3.jpg") == "all/cat/3.jpg"
    assert finder.find("elsewhere/2.jpg") == "dog/2.jpg"
    assert finder.find("pack/4.jpg") == "4.jpg"
    assert finder.find("dog/4.jpg") == "dog/4.jpg"
    assert finder.find("../dog/4.jpg") is None


def test_a_line_that_repeats_image_and_class_counts_once_and_another_class_is_refused(tmp_path: Path) -> None:
    text = (listed(tmp_path, "a{}.jpg") / "labels.csv").read_text()
    put(tmp_path, {"labels.csv": f"{text}\na0.jpg,cat\na0.jpg,cat"})
    read = found(tmp_path)
    assert len(read.source) == len(LABELS)
    assert "2 lines that repeat an image and its class" in read.notes[0]
    put(tmp_path, {"labels.csv": f"{text}\na0.jpg,dog"})
    refused(tmp_path, "lines 2 and 14 both name the image 'images/a0.jpg', as 'cat' and 'dog'", "one class")


def test_one_number_in_two_forms_and_measurements_are_refused(tmp_path: Path) -> None:
    listed(tmp_path, "a{}.jpg", labels=("1", "1.0", "2", "3") * 3)
    with pytest.raises(UserError, match=r"are one number.*label_names=merged"):
        load_splits({"training": tmp_path})
    settled = load_splits({"training": tmp_path}, Options(label_names="merged"))
    assert dict(settled.understandings[0].classes) == {"1": 6, "2": 3, "3": 3}
    listed(tmp_path, "a{}.jpg", labels=("01", "02", "10") * 4)
    assert list(found(tmp_path).understanding("training").classes) == ["01", "02", "10"]
    listed(tmp_path, "a{}.jpg", labels=tuple(f"{20 + number * 0.37:.2f}" for number in range(30)))
    refused(tmp_path, "30 different numbers such as 20", "regression", "label_column")


def test_a_compressed_list_is_read(tmp_path: Path) -> None:
    listed(tmp_path, "a{}.jpg")
    packed = gzip.compress((tmp_path / "labels.csv").read_bytes())
    (tmp_path / "labels.csv").rename(tmp_path / "labels.csv.gz").write_bytes(packed)
    assert [label for _, label in classes_of(tmp_path)] == list(LABELS)
    put(tmp_path, {"labels.csv.gz": packed[:-20]})
    refused(tmp_path, "file 'labels.csv.gz' cannot be read")


def test_classes_as_columns_of_zeros_and_ones_are_named(tmp_path: Path) -> None:
    hot = tuple(",".join(str(int(label == name)) for name in ("cat", "dog", "eel")) for label in LABELS)
    listed(tmp_path, "a{}.jpg", "image,MEL,NV,BCC", hot)
    refused(tmp_path, "one-hot", "'MEL', 'NV', 'BCC'", "label_column")


@pytest.mark.parametrize("column", ["is_train", "isTest", "is_training_image", "in_test_set"])
@pytest.mark.parametrize("values", [("0", "1"), ("True", "False"), ("yes", "no")])
def test_a_column_that_marks_one_split_is_refused(
    tmp_path: Path, column: str, values: tuple[str, str]
) -> None:
    labels = tuple(f"{label},{values[number % 4 == 0]}" for number, label in enumerate(LABELS))
    listed(tmp_path / "images", "a{}.jpg", f"file,label,{column}", labels)
    refused(tmp_path / "images", f"the values of {column!r}", "one split in a channel")
    rows = [f"{number % 2},{number}.5,{values[number % 4 == 0]}" for number in range(40)]
    put(tmp_path / "table", {"data.csv": "\n".join([f"label,x,{column}", *rows])})
    refused(tmp_path / "table", f"the values of {column!r}", "one split in a channel")


def test_a_column_with_one_value_marks_no_split(tmp_path: Path) -> None:
    listed(tmp_path, "a{}.jpg", "file,label,is_train", tuple(f"{label},1" for label in LABELS))
    assert len(found(tmp_path).source) == len(LABELS)


COCO = {
    "images": [{"id": 0, "file_name": "0.jpg"}],
    "annotations": [{"image_id": 0, "category_id": 1, "bbox": [1, 1, 2, 2]}],
    "categories": [{"id": 1, "name": "cat"}],
}
VOC = "<annotation><filename>0.jpg</filename><object><name>cat</name><bndbox/></object></annotation>"


@pytest.mark.parametrize("folder", ["", "images/"])
@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ({"annotations/instances.json": json.dumps(COCO)}, "COCO"),
        ({"_annotations.coco.json": json.dumps(COCO, indent=2)}, "COCO"),
        ({"annotations/0.xml": VOC}, "Pascal VOC"),
        ({"labels/0.txt": "0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.2 0.2\n"}, "YOLO"),
        ({"labels.json": json.dumps({"0.jpg": "cat", "1.jpg": "dog"})}, "'labels.json' names images"),
        ({"labels.txt": "0.jpg cat\n1.jpg dog\n"}, "'labels.txt' names images"),
        ({"labels.xlsx": b"PK\3\4"}, "'labels.xlsx' may hold their classes"),
    ],
)
def test_what_annotates_images_in_a_form_that_is_not_read_is_named(
    tmp_path: Path, folder: str, beside: Mapping[str, str | bytes], said: str
) -> None:
    put(tmp_path, {f"{folder}{number}.jpg": image(number) for number in range(6)})
    put(tmp_path, beside)
    refused(tmp_path, said, "labels.csv")


def test_boxes_beside_class_folders_leave_the_folders_as_classes(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        put(tmp_path, {f"Images/{label}/{number}.jpg": image(number) for number in range(3)})
        put(tmp_path, {f"Annotation/{label}/{number}.xml": VOC for number in range(3)})
    assert dict(found(tmp_path).understanding("training").classes) == {"cat": 3, "dog": 3}

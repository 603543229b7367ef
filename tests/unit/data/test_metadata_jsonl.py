"""Hugging Face's metadata.jsonl: which images it names, which class its lines tell, and what is refused."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from subset_trainer.data import Splits, load_splits
from subset_trainer.data.formats.format import Options
from subset_trainer.data.formats.registry import detect, open_channel
from subset_trainer.errors import UserError
from tests.kinds import image_kind

NAMES = ("0.png", "1.png", "2.png", "3.png")
LABELS = ("cat", "dog", "cat", "dog")


def pictures(root: Path, names: Iterable[str] = NAMES) -> None:
    for shade, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 20 * shade, np.uint8)).save(root / name)


def metadata(path: Path, entries: Iterable[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(f"{entry if isinstance(entry, str) else json.dumps(entry)}\n" for entry in entries)
    )


def entries(names: Iterable[str] = NAMES, labels: Iterable[Any] = LABELS) -> list[dict[str, Any]]:
    return [{"file_name": name, "label": label} for name, label in zip(names, labels, strict=True)]


def load(root: Path, label_column: str | None = None) -> Splits:
    return load_splits({"training": root}, Options(label_column), validation_fraction=0.5)


def classes_by_name(splits: Splits) -> dict[str, str]:
    parts = ((splits.train, splits.train_ids), (splits.validation, splits.validation_ids))
    known = splits.preprocessing.classes
    return {name: known[label] for part, ids in parts for name, label in zip(ids, part.labels, strict=True)}


def complaint(root: Path, label_column: str | None = None) -> str:
    with pytest.raises(UserError) as error:
        load(root, label_column)
    return str(error.value)


def test_images_beside_it_are_of_the_class_that_their_line_tells(tmp_path: Path) -> None:
    pictures(tmp_path)
    metadata(tmp_path / "metadata.jsonl", entries())
    splits = load(tmp_path)
    assert classes_by_name(splits) == dict(zip(NAMES, LABELS, strict=True))
    assert image_kind(splits.preprocessing).image_size == (8, 8)
    assert "training channel: 4 images of 2 classes, labelled by 'label' of 'metadata.jsonl'." in splits.notes


def test_images_in_folders_are_of_the_line_s_class_and_not_of_the_folder_s(tmp_path: Path) -> None:
    names = ["dog/0.png", "dog/deep/1.png", "cat/2.png", "cat/3.png"]
    pictures(tmp_path, names)
    metadata(tmp_path / "metadata.jsonl", entries(names))
    assert classes_by_name(load(tmp_path)) == dict(zip(names, LABELS, strict=True))


def test_each_folder_may_have_its_own(tmp_path: Path) -> None:
    pictures(tmp_path, ["a/0.png", "a/1.png", "b/c/0.png", "b/c/1.png"])
    metadata(tmp_path / "a/metadata.jsonl", entries(["0.png", "./1.png"], ["x", "y"]))
    metadata(tmp_path / "b/metadata.jsonl", entries(["c/0.png", "c//1.png"], ["x", "y"]))
    assert classes_by_name(load(tmp_path)) == {
        "a/0.png": "x",
        "a/1.png": "y",
        "b/c/0.png": "x",
        "b/c/1.png": "y",
    }


def test_numbers_are_classes_called_by_their_whole_number(tmp_path: Path) -> None:
    pictures(tmp_path)
    metadata(tmp_path / "metadata.jsonl", entries(labels=[10, 2, 10.0, 2]))
    splits = load(tmp_path)
    assert splits.preprocessing.classes == ("2", "10")


def test_another_name_of_the_label(tmp_path: Path) -> None:
    pictures(tmp_path)
    metadata(
        tmp_path / "metadata.jsonl",
        [
            {**entry, "label": "all one", "breed": label}
            for entry, label in zip(entries(), LABELS, strict=True)
        ],
    )
    assert classes_by_name(load(tmp_path, "breed")) == dict(zip(NAMES, LABELS, strict=True))


def test_images_that_no_line_names_are_left_out_and_told(tmp_path: Path) -> None:
    pictures(tmp_path, [*NAMES, "more/4.png"])
    metadata(tmp_path / "metadata.jsonl", entries())
    splits = load(tmp_path)
    assert sorted(classes_by_name(splits)) == list(NAMES)
    assert any(note.endswith("; 1 that it does not name are left out.") for note in splits.notes)


def test_blank_lines_and_a_mark_at_the_beginning_are_nothing(tmp_path: Path) -> None:
    pictures(tmp_path)
    text = "\ufeff" + "\n\n".join(map(json.dumps, entries())) + "\n\n"
    (tmp_path / "metadata.jsonl").write_text(text, encoding="utf-8")
    assert classes_by_name(load(tmp_path)) == dict(zip(NAMES, LABELS, strict=True))


def test_one_that_also_names_a_source_is_no_manifest(tmp_path: Path) -> None:
    pictures(tmp_path, ["a/0.png", "a/1.png"])
    metadata(
        tmp_path / "metadata.jsonl",
        [{"source": "camera", **entry} for entry in entries(["a/0.png", "a/1.png"], "xy")],
    )
    assert detect(open_channel("training", tmp_path)).format.name == "metadata"


@pytest.mark.parametrize("content", ['{"note": 1}\n', "", "file_name\n"])
def test_lines_of_something_else_leave_class_folders_what_they_are(tmp_path: Path, content: str) -> None:
    pictures(tmp_path, ["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"])
    (tmp_path / "metadata.jsonl").write_text(content)
    assert load(tmp_path).preprocessing.classes == ("cat", "dog")


def test_captions_are_no_classes(tmp_path: Path) -> None:
    pictures(tmp_path)
    metadata(
        tmp_path / "metadata.jsonl", [{"file_name": name, "text": f"a picture, {name}"} for name in NAMES]
    )
    assert complaint(tmp_path) == (
        "training channel: 'metadata.jsonl', line 1: it has no 'label' beside file_name, but 'text'; expected the "
        "class as 'label', or label_column to name what holds it (a caption is not a class)."
    )
    assert "it has no 'breed' beside file_name, but 'text'" in complaint(tmp_path, "breed")


@pytest.mark.parametrize(
    "reference",
    [
        "../0.png",
        "/etc/passwd",
        "a/../0.png",
        "nowhere.png",
        "",
        ".",
        "s3://bucket/0.png",
        "0",
        "0.png\0",
        0,
        None,
        ["0.png"],
    ],
)
def test_what_is_no_image_below_the_folder_is_refused(tmp_path: Path, reference: Any) -> None:
    channel = tmp_path / "channel"
    pictures(channel)
    pictures(tmp_path, ["0.png"])
    metadata(
        channel / "metadata.jsonl",
        [*entries(NAMES[1:], LABELS[1:]), {"file_name": reference, "label": "cat"}],
    )
    assert complaint(channel).startswith("training channel: 'metadata.jsonl', line 4: file_name is ")
    assert "which is not an image below '.'; expected a path from the folder" in complaint(channel)


def test_a_folder_s_metadata_names_nothing_outside_it(tmp_path: Path) -> None:
    pictures(tmp_path, ["a/0.png", "b/1.png"])
    metadata(tmp_path / "a/metadata.jsonl", entries(["0.png", "b/1.png"], "xy"))
    assert (
        "'a/metadata.jsonl', line 2: file_name is 'b/1.png', which is not an image below 'a/'"
        in complaint(tmp_path)
    )


def test_an_image_is_named_once(tmp_path: Path) -> None:
    pictures(tmp_path)
    metadata(tmp_path / "metadata.jsonl", [*entries(), {"file_name": "./1.png", "label": "cat"}])
    assert complaint(tmp_path) == (
        "training channel: 'metadata.jsonl', line 2 and 'metadata.jsonl', line 5 both name the image '1.png'; "
        "expected each once."
    )


@pytest.mark.parametrize(
    "label", ["", " ", True, 0.5, float("nan"), float("inf"), [1], {"name": "cat"}], ids=repr
)
def test_what_is_no_class_is_refused(tmp_path: Path, label: Any) -> None:
    pictures(tmp_path)
    metadata(tmp_path / "metadata.jsonl", entries(labels=["cat", "dog", "cat", label]))
    assert complaint(tmp_path) == (
        f"training channel: 'metadata.jsonl', line 4: label is {label!r}; expected a class: its name or whole number."
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "it is not JSON"),
        ('["0.png", "cat"]', "it is a JSON list, not an object"),
        ("[" * 100_000, "it is nested too deeply"),
        ('{"file_name": "3.png", "label": ' + "9" * 5_000 + "}", "it is not JSON"),
    ],
    ids=["broken", "list", "deep", "digits"],
)
def test_a_line_that_is_no_json_object_is_named(tmp_path: Path, line: str, reason: str) -> None:
    pictures(tmp_path)
    metadata(tmp_path / "metadata.jsonl", [*entries(NAMES[:3], LABELS[:3]), line])
    assert f"'metadata.jsonl', line 4: {reason}" in complaint(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"file_name": "\xff"}\n', "is not UTF-8 text"),
        (b'{"file_name": "' + b"a" * (1 << 20), "more than 1,048,576"),
    ],
    ids=["bytes", "long"],
)
def test_a_file_that_is_no_text_of_lines_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    pictures(tmp_path)
    (tmp_path / "metadata.jsonl").write_bytes(content)
    assert reason in complaint(tmp_path)


def test_two_files_that_say_what_the_images_are_are_refused(tmp_path: Path) -> None:
    pictures(tmp_path)
    metadata(tmp_path / "metadata.jsonl", entries())
    (tmp_path / "labels.csv").write_text("0.png,cat\n1.png,dog\n")
    assert "files of several formats ('labels.csv' and 'metadata.jsonl')" in complaint(tmp_path)


def test_without_images_it_is_nothing(tmp_path: Path) -> None:
    metadata(tmp_path / "metadata.jsonl", entries())
    assert (
        "found 'metadata.jsonl'; expected class folders of images, images with a labels.csv, a metadata.jsonl"
        in (complaint(tmp_path))
    )


def test_an_image_that_is_damaged_is_named(tmp_path: Path) -> None:
    pictures(tmp_path)
    metadata(tmp_path / "metadata.jsonl", entries())
    (tmp_path / "2.png").write_bytes(b"no picture")
    assert "image '2.png' cannot be read" in complaint(tmp_path)


def test_a_line_whose_label_is_null_is_left_out_and_counted(tmp_path: Path) -> None:
    names = [f"{n}.png" for n in range(6)]
    pictures(tmp_path, names)
    metadata(tmp_path / "metadata.jsonl", entries(names, [None, *LABELS, None]))
    splits = load(tmp_path)
    assert classes_by_name(splits) == dict(zip(names[1:5], LABELS, strict=True))
    assert "2 without a label left out." in splits.notes[0]

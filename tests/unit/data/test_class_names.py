"""Names of classes that may mean one class, none or several: refused in every format, or settled by label_names."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from subset_trainer.data import load_splits
from subset_trainer.data.class_names import LabelNames, folded, merged
from subset_trainer.data.formats.format import Options
from subset_trainer.errors import UserError
from tests.unit.data.test_layout import archive, image, put


def folders(root: Path, labels: list[str]) -> None:
    for number, label in enumerate(labels):
        put(root, {f"{label}/{number}.jpg": image(number)})


def table(root: Path, labels: list[str]) -> None:
    rows = [f'"{label}",{number}.5,{number * 7 % 11}' for number, label in enumerate(labels)]
    put(root, {"data.csv": "\n".join(["label,x,y", *rows])})


def listing(root: Path, labels: list[str]) -> None:
    put(root, {f"{number}.jpg": image(number) for number in range(len(labels))})
    rows = [f'{number}.jpg,"{label}"' for number, label in enumerate(labels)]
    put(root, {"labels.csv": "\n".join(["file,label", *rows])})


def shards(root: Path, labels: list[str]) -> None:
    members: dict[str, bytes] = {}
    for number, label in enumerate(labels):
        members |= {f"{number}.jpg": image(number), f"{number}.cls": label.encode()}
    archive(root / "data.tar", members)


def manifest(root: Path, labels: list[str]) -> None:
    put(root, {f"{number}.jpg": image(number) for number in range(len(labels))})
    lines = [{"source-ref": f"s3://b/{n}.jpg", "kind": label} for n, label in enumerate(labels)]
    put(root, {"data.manifest": "\n".join(map(json.dumps, lines))})


FORMS = (folders, table, listing, shards, manifest)


def classes(root: Path, settled: LabelNames | None = None) -> dict[str, int]:
    return dict(load_splits({"training": root}, Options(label_names=settled)).understandings[0].classes)


@pytest.mark.parametrize("write", FORMS)
def test_names_that_differ_in_case_alone_are_refused_and_either_reading_may_be_chosen(
    tmp_path: Path, write: Callable[[Path, list[str]], None]
) -> None:
    write(tmp_path, ["Cat", "cat", "dog"] * 8)
    with pytest.raises(UserError, match=r"'Cat', 'cat'.*set label_names=merged"):
        classes(tmp_path)
    assert classes(tmp_path, "as-given") == {"Cat": 8, "cat": 8, "dog": 8}
    assert classes(tmp_path, "merged") == {"cat": 16, "dog": 8}


@pytest.mark.parametrize("write", [table, listing, shards, manifest])
@pytest.mark.parametrize(
    "labels",
    [
        ["cat|dog", "cat", "dog"] * 8,
        ["action; drama", "action", "drama", "comedy"] * 6,
        ["['cat', 'dog']", "['cat']", "['dog']"] * 8,
        ["a b", "a", "b", "c", "a c", "b c", "a b c", "d", "a d", "b d", "c d", "a b d"] * 4,
    ],
)
def test_several_classes_in_one_label_are_refused_and_may_be_kept_as_they_are(
    tmp_path: Path, write: Callable[[Path, list[str]], None], labels: list[str]
) -> None:
    write(tmp_path, labels)
    with pytest.raises(UserError, match=r"several classes in one text.*set label_names=as-given"):
        classes(tmp_path)
    assert classes(tmp_path, "as-given") == {label: labels.count(label) for label in sorted(set(labels))}


@pytest.mark.parametrize("word", ["unlabeled", "Unlabelled", "NaN", "unsup", "not_labeled"])
def test_a_class_called_unlabelled_is_refused(tmp_path: Path, word: str) -> None:
    folders(tmp_path, ["cat", word, "dog"] * 8)
    with pytest.raises(UserError, match=rf"no label.*'{word}'"):
        classes(tmp_path)
    assert word in classes(tmp_path, "as-given")


@pytest.mark.parametrize("write", [listing, shards, manifest])
def test_labels_that_are_all_different_are_named_with_label_column(
    tmp_path: Path, write: Callable[[Path, list[str]], None]
) -> None:
    write(tmp_path, [f"a cat on mat {number}" for number in range(30)])
    with pytest.raises(UserError, match=r"all 30 examples have different labels.*label_column"):
        classes(tmp_path)


@pytest.mark.parametrize(
    "labels",
    [
        ["A", "a", "B", "b"],
        ["A", "A-", "B", "B+"],
        ["1", "-1"],
        ["Portland, Oregon", "Salem, Oregon", "Austin, Texas"],
        ["tench, Tinca tinca", "goldfish, Carassius auratus"],
        ["cat", "wild cat", "bear", "polar bear"],
        ["none", "scratch", "dent"],
        ["red car", "blue car", "small red car", "small blue car"],
        ["(R)", "(S)"],
    ],
)
def test_names_with_one_reading_are_classes(tmp_path: Path, labels: list[str]) -> None:
    listing(tmp_path, labels * 6)
    assert classes(tmp_path) == dict.fromkeys(labels, 6)


def test_all_channels_are_merged_alike(tmp_path: Path) -> None:
    folders(tmp_path / "training", ["New York", "new-york", "Rome"] * 4)
    folders(tmp_path / "validation", ["NEW_YORK", "rome"] * 2)
    channels = {name: tmp_path / name for name in ("training", "validation")}
    splits = load_splits(channels, Options(label_names="merged"))
    assert splits.preprocessing.classes == ("new york", "rome")
    assert splits.validation.labels.tolist() == [0, 0, 1, 1]


def test_folding_keeps_numbers_and_single_characters() -> None:
    names = ("-1", "1.0", "1e3", "a", "A", "x_1", "X 1", "Straße", "STRASSE")
    assert [folded(name) for name in names] == [
        "-1",
        "1",
        "1e3",
        "a",
        "A",
        "x 1",
        "x 1",
        "strasse",
        "strasse",
    ]
    labels, classes = merged(np.array([0, 1, 2]), ("B b", "b_b", "c"))
    assert classes == ("b b", "c")
    assert labels.tolist() == [0, 0, 1]

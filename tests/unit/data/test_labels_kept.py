"""Labels in shards, manifests, lists and arrays: whose they are, and that they stay as they are spelt."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from subset_trainer.data.formats.format import Options
from tests.unit.data.test_layout import TABLE, archive, classes, found, image, pictures, put, refused

LETTERS = "abab"


def shard(root: Path, members: Mapping[str, str | bytes], name: str = "s.tar") -> Path:
    return archive(root / name, {n: c.encode() if isinstance(c, str) else c for n, c in members.items()})


def labels(root: Path) -> dict[str, str]:
    """Each example's class."""
    source = found(root).source
    return {source.ids[row]: source.classes[label] for row, label in enumerate(source.labels.tolist())}


# WebDataset


@pytest.mark.parametrize(
    "names", [[f"2022.0{n}" for n in range(4)], [f"v1.2.img{n}" for n in range(4)]], ids=str
)
@pytest.mark.parametrize("folder", ["", "a/", "./"])
def test_names_with_full_stops_keep_their_own_labels(tmp_path: Path, names: list[str], folder: str) -> None:
    members = {f"{folder}{name}.jpg": image(n) for n, name in enumerate(names)}
    members |= {f"{folder}{name}.cls": LETTERS[n].encode() for n, name in enumerate(names)}
    expected = {f"s.tar:{folder}{name}.jpg": LETTERS[n] for n, name in enumerate(names)}
    assert labels(shard(tmp_path, members)) == expected


def test_the_parts_of_an_example_agree_up_to_the_first_full_stop(tmp_path: Path) -> None:
    members = {f"{n}.rgb.jpg": image(n) for n in range(4)} | {
        f"{n}.meta.cls": LETTERS[n].encode() for n in range(4)
    }
    assert list(labels(shard(tmp_path, members)).values()) == list(LETTERS)


def test_a_key_with_the_labels_of_two_examples_is_refused(tmp_path: Path) -> None:
    members = {"2022.00.jpg": image(), "2022.01.cls": b"a", "2022.02.cls": b"b"}
    refused(shard(tmp_path, members), "'2022.00.jpg'", "'2022.01'", "'2022.02'")


@pytest.mark.parametrize(
    "others", [("0.left.jpg", "0.right.jpg"), ("0.jpg", "0.mask.png"), ("0.jpg", "0.png")]
)
def test_several_images_with_one_label_are_refused(tmp_path: Path, others: tuple[str, str]) -> None:
    members = {name: image() for name in others} | {"0.cls": b"a", "1.jpg": image(), "1.cls": b"b"}
    refused(shard(tmp_path, members), *(f"'{name}'" for name in others), "one image for each label")


@pytest.mark.parametrize("beside", ['{"url": "x"}', "[1, 2]", '{"label": null}', '{"label": [1]}'])
@pytest.mark.parametrize("name", ["{}.json", "{}.meta.json"])
def test_metadata_without_a_label_yields_to_one(tmp_path: Path, beside: str, name: str) -> None:
    members: dict[str, str | bytes] = {}
    for n in range(4):
        members |= {f"{n}.jpg": image(n), name.format(n): beside, f"{n}.cls": LETTERS[n]}
    assert list(labels(shard(tmp_path, members)).values()) == list(LETTERS)


def test_a_caption_of_several_lines_yields_to_a_label(tmp_path: Path) -> None:
    members: dict[str, str | bytes] = {}
    for n in range(4):
        members |= {
            f"{n}.jpg": image(n),
            f"{n}.txt": "two\nlines",
            f"{n}.json": json.dumps({"label": LETTERS[n]}),
        }
    assert list(labels(shard(tmp_path, members)).values()) == list(LETTERS)


def test_metadata_without_any_label_is_named(tmp_path: Path) -> None:
    refused(
        shard(tmp_path, {"0.jpg": image(), "0.json": '{"url": "x"}'}),
        "'0.json' holds",
        "expected an object with",
    )


def test_splits_among_the_members_of_an_archive_are_refused(tmp_path: Path) -> None:
    members = {
        f"{split}/{name}/{n}.jpg": image(n) for split in ("train", "test") for name in "ab" for n in range(2)
    }
    refused(shard(tmp_path / "a", members), "the folders name test and training")
    members = {
        f"{split}{n}.{end}": image(n) for split in ("train", "val") for n in range(2) for end in ("jpg",)
    }
    members |= {name.replace(".jpg", ".cls"): b"a" for name in members}
    refused(shard(tmp_path / "b", members), "the files name training and validation")


def test_a_class_of_an_archive_that_is_not_read_is_refused(tmp_path: Path) -> None:
    members = {f"{name}/{n}.{end}": image(n) for name, end in (("a", "jpg"), ("b", "jxl")) for n in range(2)}
    refused(shard(tmp_path, members), "'b/'", "s.tar:b/0.jxl")


def test_folders_of_systems_in_an_archive_are_no_classes(tmp_path: Path) -> None:
    members = {f"{name}/{n}.jpg": image(n) for name in ("a", "b", "#recycle", "a/@eaDir") for n in range(2)}
    assert classes(shard(tmp_path, {**members, "README.txt": "x"})) == {"a": 2, "b": 2}


# Manifests


def line(n: int, **more: Any) -> dict[str, Any]:
    kind = {
        "type": "groundtruth/image-classification",
        "class-name": f"class {LETTERS[n]}",
        "confidence": 0.9,
    }
    return {
        "source-ref": f"s3://b/p/img/{n}.jpg",
        "pet": "ab".index(LETTERS[n]),
        "pet-metadata": kind,
        **more,
    }


def manifest(root: Path, entries: Iterable[Mapping[str, Any]], name: str = "output.manifest") -> Path:
    put(pictures(root, "img"), {name: "".join(json.dumps(entry) + "\n" for entry in entries)})
    return root


@pytest.mark.parametrize(
    "name", ["train.json", "data.jsonl", "labels.txt", "output", "manifest.ndjson", "x.log"]
)
def test_a_manifest_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    for n in range(4):
        put(tmp_path, {f"batch{n % 2}/{n}.jpg": image(n)})
    entries = [line(n) | {"source-ref": f"s3://b/p/batch{n % 2}/{n}.jpg"} for n in range(4)]
    put(tmp_path, {name: "".join(json.dumps(entry) + "\n" for entry in entries)})
    assert classes(tmp_path) == {"class a": 2, "class b": 2}


def test_a_manifest_as_one_list_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    put(pictures(tmp_path, "img"), {"train.json": json.dumps([line(n) for n in range(4)])})
    refused(tmp_path, "'train.json', line 1", "a JSON list rather than one object in each line")


@pytest.mark.parametrize("kind", ["groundtruth/custom", "custom/mine", ""])
def test_labels_of_other_jobs_are_read_where_they_are_texts(tmp_path: Path, kind: str) -> None:
    entries = [line(n) | {"pet": LETTERS[n], "pet-metadata": {"type": kind}} for n in range(4)]
    assert classes(manifest(tmp_path, entries)) == {"a": 2, "b": 2}


def test_labels_of_a_custom_job_that_are_no_texts_are_named(tmp_path: Path) -> None:
    entries = [
        line(n) | {"pet": {"boxes": []}, "pet-metadata": {"type": "groundtruth/custom"}} for n in range(4)
    ]
    refused(manifest(tmp_path, entries), "'pet' (groundtruth/custom)", "label_column")


@pytest.mark.parametrize(
    ("kind", "held"),
    [
        ("groundtruth/semantic-segmentation", "masks"),
        ("groundtruth/iterative-semantic-segmentation", "masks"),
        ("groundtruth/object-detection", "boxes"),
        ("groundtruth/video-object-tracking", "boxes"),
        ("groundtruth/image-classification-multilabel", "several classes per image"),
        ("groundtruth/named-entity-recognition", "spans of text"),
    ],
)
@pytest.mark.parametrize("attribute", ["city-ref", "city"])
def test_results_that_are_no_classes_are_refused_by_what_they_are(
    tmp_path: Path, attribute: str, kind: str, held: str
) -> None:
    entries = [
        {
            "source-ref": f"s3://b/img/{n}.jpg",
            attribute: "s3://b/0.png",
            f"{attribute}-metadata": {"type": kind},
        }
        for n in range(4)
    ]
    refused(manifest(tmp_path, entries), f"{attribute} holds {held}; expected one class")


def test_a_label_that_is_null_is_an_unlabelled_line(tmp_path: Path) -> None:
    entries = [{"source-ref": "s3://b/img/0.jpg", "pet": None}, line(1), line(2)]
    root = manifest(tmp_path, entries)
    assert classes(root) == {"class a": 1, "class b": 1}
    assert "1 without a label left out" in found(root).notes[0]


def test_several_manifests_of_one_split_are_read_together(tmp_path: Path) -> None:
    root = manifest(tmp_path, [line(0), line(1)], "part-0.manifest")
    put(root, {"part-1.manifest": "".join(json.dumps(line(n)) + "\n" for n in (2, 3))})
    assert classes(root) == {"class a": 2, "class b": 2}


def test_manifests_of_several_splits_are_refused(tmp_path: Path) -> None:
    root = manifest(tmp_path / "files", [line(0), line(1)], "train.manifest")
    put(root, {"validation.manifest": json.dumps(line(2))})
    refused(root, "'train.manifest', 'validation.manifest'")
    entries = [line(n, split=("train", "test")[n % 2]) for n in range(4)]
    refused(manifest(tmp_path / "lines", entries), "the values of 'split' name training and test")


def test_images_of_several_splits_in_one_manifest_are_refused(tmp_path: Path) -> None:
    for n in range(4):
        put(tmp_path, {f"{('train', 'val')[n % 2]}/{n}.jpg": image(n)})
    entries = [line(n) | {"source-ref": f"s3://b/{('train', 'val')[n % 2]}/{n}.jpg"} for n in range(4)]
    put(tmp_path, {"all.manifest": "".join(json.dumps(entry) + "\n" for entry in entries)})
    refused(tmp_path, "the folders name training and validation")


def test_json_that_is_no_manifest_is_left_out_beside_folders(tmp_path: Path) -> None:
    put(pictures(tmp_path, "cat", "dog"), {"dataset_info.json": '{"source": "web", "license": "MIT"}'})
    assert classes(tmp_path) == {"cat": 4, "dog": 4}


# Spelling


BIG = (9007199254740992, 9007199254740993)


@pytest.mark.parametrize(
    "names", [("01", "1"), ("007", "7"), tuple(map(str, BIG)), ("1", "1.0"), ("True", "true")]
)
@pytest.mark.parametrize("form", ["labels.csv", "images.lst", "metadata.jsonl", "s.tar", "folders"])
def test_labels_stay_as_they_are_spelt(tmp_path: Path, names: tuple[str, str], form: str) -> None:
    told = [names[n % 2] for n in range(4)]
    if form == "images.lst" and not names[0].isdecimal() | (names == ("1", "1.0")):
        pytest.skip("a .lst has numbers")
    if form == "images.lst" and "1.0" in names:
        pytest.skip("a .lst has 1.0 for 1, as im2rec writes it")
    if form == "s.tar":
        members = {f"{n}.jpg": image(n) for n in range(4)} | {f"{n}.cls": told[n].encode() for n in range(4)}
        shard(tmp_path, members)
    elif form == "folders":
        pictures(tmp_path, *names)
    else:
        lines = {
            "labels.csv": [f"img/{n}.jpg,{name}" for n, name in enumerate(told)],
            "images.lst": [f"{n}\t{name}\timg/{n}.jpg" for n, name in enumerate(told)],
            "metadata.jsonl": [
                json.dumps({"file_name": f"img/{n}.jpg", "label": name}) for n, name in enumerate(told)
            ],
        }[form]
        put(pictures(tmp_path, "img"), {form: "\n".join(lines)})
    assert set(classes(tmp_path)) == set(names)


def test_whole_numbers_of_arrays_are_not_merged(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 3)), y=np.array([*BIG, *BIG]))
    assert classes(tmp_path) == {str(number): 2 for number in BIG}


def test_splits_in_the_names_of_arrays_are_refused(tmp_path: Path) -> None:
    x, y = np.zeros((4, 3)), np.arange(4)
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    refused(tmp_path, "split 'mnist.npz'", "training and test")


def test_two_unicode_forms_are_one_class(tmp_path: Path) -> None:
    pictures(tmp_path, "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}", "dog")
    assert classes(tmp_path) == {"caf\N{LATIN SMALL LETTER E WITH ACUTE}": 8, "dog": 4}


def test_a_column_that_is_given_is_read_as_the_label(tmp_path: Path) -> None:
    put(tmp_path, {"a.csv": TABLE})
    assert found(tmp_path, Options(label_column="target")).source.classes == ("0", "1")


def test_the_label_is_a_decision_in_every_form(tmp_path: Path) -> None:
    told = {
        "labels.csv": ("file,label\n" + "".join(f"img/{n}.jpg,{n % 2}\n" for n in range(4)), "'label'"),
        "a.lst": ("".join(f"{n}\t{n % 2}\timg/{n}.jpg\n" for n in range(4)), "class numbers"),
        "metadata.jsonl": (
            "".join(json.dumps({"file_name": f"img/{n}.jpg", "label": n % 2}) + "\n" for n in range(4)),
            "'label'",
        ),
        "a.manifest": ("".join(json.dumps(line(n)) + "\n" for n in range(4)), "'pet'"),
    }
    for name, (content, taken) in told.items():
        root = put(pictures(tmp_path / name, "img"), {name: content})
        [decision] = [decision for decision in found(root).decisions if decision.about == "label"]
        assert (decision.taken, decision.certainty) == (taken, "certain")

"""What a channel's files are taken for: splits, side files and system folders, and classes that must not vanish."""

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subset_trainer.data import load_splits
from subset_trainer.data.channels import Channel
from subset_trainer.data.formats.format import Found, Options
from subset_trainer.data.formats.reading import read
from subset_trainer.data.formats.registry import open_channel
from subset_trainer.data.images.decoding import decode
from subset_trainer.data.split_names import split_of, splits_of_files, splits_of_folders
from subset_trainer.data.tables.interpret import Rules
from subset_trainer.errors import UserError
from tests.formats import FILES

TABLE = "target,x,y\n" + "".join(f"{row % 2},{row}.5,{row * 7 % 11}\n" for row in range(20))


def image(seed: int = 0, form: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def put(root: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def pictures(root: Path, *folders: str, names: str = "{}.jpg", form: str = "JPEG") -> Path:
    for folder in folders:
        put(root, {f"{folder}/{names.format(n)}": image(n, form) for n in range(4)})
    return root


def sentences(root: Path, *folders: str) -> Path:
    for folder in folders:
        put(root, {f"{folder}/{n}.txt": f"text number {n} of {folder}" for n in range(4)})
    return root


def archive(path: Path, members: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as opened:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    return path.parent


def channel(root: Path) -> Channel:
    return open_channel("training", root)


def found(root: Path, options: Options | None = None) -> Found:
    return read(channel(root), options or Options(), 1 << 30)


def classes(root: Path) -> dict[str, int]:
    return dict(found(root).understanding("training").classes)


def refused(root: Path, *words: str, options: Options | None = None) -> str:
    with pytest.raises(UserError) as error:
        found(root, options)
    text = str(error.value)
    for word in words:
        assert word in text
    return text


def left_out(root: Path) -> list[str | None]:
    return [decision.name for decision in found(root).decisions if decision.about == "left out"]


# Splits


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *dict.fromkeys(
            (
                "train",
                "Train",
                "TRAINING",
                "training_set",
                "train_images",
                "x_train.npy",
                "XTrain",
                "trainset",
            ),
            "training",
        ).items(),
        *dict.fromkeys(
            ("val", "valid", "Validation", "dev.tsv", "Eval", "val-000000.tar", "val2017", "evaluation"),
            "validation",
        ).items(),
        *dict.fromkeys(
            (
                "test",
                "testing",
                "test-00000-of-00001.parquet",
                "test_set",
                "TestSet",
                "hold-out",
                "sample_submission.csv",
            ),
            "test",
        ).items(),
        *dict.fromkeys(
            (
                "bus",
                "trains",
                "trainer",
                "latest",
                "contest",
                "control",
                "part-0001",
                "pretest",
                "a.csv",
                "train_test",
            )
        ).items(),
    ],
)
def test_names_say_their_split(name: str, split: str | None) -> None:
    assert split_of(name) == split


@pytest.mark.parametrize("fill", [pictures, sentences])
@pytest.mark.parametrize(
    "folders",
    [
        ("Train/cat", "Train/dog", "Eval/cat", "Eval/dog"),
        ("training_set/cat", "training_set/dog", "test_set/cat", "test_set/dog"),
        ("train_images/cat", "val_images/cat"),
        ("data/train/cat", "data/train/dog", "data/test/cat", "data/test/dog"),
        ("cat/train", "cat/test", "dog/train", "dog/test"),
        ("train/cat", "train/dog", "holdout/cat", "extra/cat"),
        ("fold1/cat", "fold1/dog", "fold2/cat", "fold2/dog"),
        ("train", "test"),
    ],
    ids=" ".join,
)
def test_folders_of_splits_are_refused(
    tmp_path: Path, fill: Callable[..., Path], folders: tuple[str, ...]
) -> None:
    refused(fill(tmp_path, *folders), "split", "expected one split in a channel")


@pytest.mark.parametrize("fill", [pictures, sentences])
@pytest.mark.parametrize(
    "names",
    [("train", "bus", "car"), ("test", "control"), ("dev", "ops"), ("train", "train_station"), ("0", "1")],
    ids=" ".join,
)
def test_classes_may_be_called_like_a_split(
    tmp_path: Path, fill: Callable[..., Path], names: tuple[str, ...]
) -> None:
    assert set(classes(fill(tmp_path, *names))) == set(names)


def test_folders_within_classes_are_no_splits(tmp_path: Path) -> None:
    for name, folders in {
        "words": ("cat/indoor", "cat/outdoor", "dog/indoor", "dog/outdoor"),
        "digits": ("0/a", "0/b", "1/a", "1/b"),
    }.items():
        (tmp_path / name).mkdir()
        root = pictures(tmp_path / name, *folders)
        assert "split" not in refused(root, "label_folder=outer").partition("may be the classes")[0]
        outer = found(root, Options(label_folder="outer")).understanding("training")
        assert list(outer.classes.values()) == [8, 8]


def test_images_whose_names_all_say_splits_are_refused(tmp_path: Path) -> None:
    for name in ("train_{}.jpg", "val_{}.jpg"):
        pictures(tmp_path, "cat", "dog", names=name)
    refused(tmp_path, "the files name training and validation")


@pytest.mark.parametrize(
    "names",
    [
        ("train.csv", "test.csv"),
        ("train.csv", "test.csv", "sample_submission.csv"),
        ("train.csv", "sample_submission.csv"),
        ("data/train-00000-of-00001.csv", "data/test-00000-of-00001.csv"),
        ("train/part-0.csv", "test/part-0.csv"),
        ("split=train/a.csv", "split=test/a.csv"),
        ("iris_training.csv", "iris_test.csv"),
        ("iris.csv", "iris_test.csv"),
        ("data.csv", "holdout.csv"),
        ("Train.CSV", "Validation.csv"),
    ],
    ids=" ".join,
)
def test_tables_of_several_splits_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    text = refused(
        put(tmp_path, dict.fromkeys(names, TABLE)), "split", "each other split as a channel of its own"
    )
    assert sum(repr(name) in text for name in names) >= 2


@pytest.mark.parametrize(
    "names",
    [
        ("train.csv",),
        ("test.csv",),
        ("train-0.csv", "train-1.csv"),
        ("train/part-0.csv", "train/part-1.csv"),
        ("part-0001.csv", "part-0002.csv"),
        ("ab_test_1.csv", "ab_test_2.csv"),
        ("train.csv", "part-1.csv"),
        ("2020.csv", "2021.csv"),
    ],
    ids=" ".join,
)
def test_tables_of_one_split_are_read(tmp_path: Path, names: tuple[str, ...]) -> None:
    put(tmp_path, {**dict.fromkeys(names, TABLE), "README.md": "about"})
    assert classes(tmp_path) == {"0": 10 * len(names), "1": 10 * len(names)}
    assert left_out(tmp_path) == ["README.md"]


@pytest.mark.parametrize(
    "names",
    [
        ("train.manifest", "validation.manifest"),
        ("train-000000.tar", "val-000000.tar"),
        ("x_train.npz", "x_test.npz"),
        ("train.libsvm", "test.libsvm"),
        ("a9a", "a9a.t"),
        ("train.rec", "val.rec"),
        ("train.pbr", "test.pbr"),
        ("data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"),
        ("train.lst", "val.lst"),
        ("train.npy", "test.npy"),
    ],
    ids=" ".join,
)
def test_files_of_every_format_are_told_by_the_same_rule(names: tuple[str, ...]) -> None:
    decision = splits_of_files(names)
    assert decision is not None
    assert decision.certainty == "open"
    assert set(decision.examples) == set(names)


def test_no_split_is_seen_in_the_folder_of_a_single_class() -> None:
    assert splits_of_folders(["train/1.jpg", "train/2.jpg", "bus/1.jpg"]) is None
    assert splits_of_folders(["data/train/cat/1.jpg", "data/train/dog/1.jpg"]) is None


def test_a_column_of_splits_in_a_list_of_images_is_refused(tmp_path: Path) -> None:
    pictures(tmp_path, "img")
    rows = [f"img/{n}.jpg,{'ab'[n % 2]},{('train', 'test')[n // 2]}" for n in range(4)]
    put(tmp_path, {"labels.csv": "\n".join(["file,label,split", *rows])})
    refused(tmp_path, "the values of 'split' name training and test")


# Folders of systems, and files beside the data


@pytest.mark.parametrize("fill", [pictures, sentences])
def test_folders_of_systems_are_no_classes(tmp_path: Path, fill: Callable[..., Path]) -> None:
    system = (
        "#recycle",
        "$RECYCLE.BIN",
        "lost+found",
        "cat/@eaDir",
        ".ipynb_checkpoints",
        "System Volume Information",
    )
    fill(tmp_path, "cat", "dog", *system)
    assert classes(tmp_path) == {"cat": 4, "dog": 4}
    assert set(left_out(tmp_path)) == {folder.rsplit("/", 1)[-1] for folder in system}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.csv", "id,name\n0,cat\n1,dog\n"),
        ("class_names.txt", "cat\ndog\n"),
        ("classes.json", '{"0": "cat", "1": "dog"}'),
        ("info.csv", "folder,count\ncat,4\ndog,4\n"),
        ("captions.csv", "file,caption\n" + "".join(f"cat/{n}.jpg,picture {n}\n" for n in range(4))),
        ("captions.json", json.dumps({f"{n}.jpg": f"a picture {n}" for n in range(4)})),
        (
            "labels_of_images.csv",
            "file,label\n" + "".join(f"{c}/{n}.jpg,{c}\n" for n in range(4) for c in ("cat", "dog")),
        ),
        (
            "dataset.json",
            json.dumps([{"image": f"{c}/{n}.jpg", "label": c} for n in range(4) for c in ("cat", "dog")]),
        ),
        ("metadata.csv", "file_name,caption\n" + "".join(f"dog/{n}.jpg,picture {n}\n" for n in range(4))),
        (
            "metadata.csv",
            "file_name,remark\n"
            + "".join(
                f"{name}/{n}.jpg,a nice picture {n % 2}\n" for name in ("cat", "dog") for n in range(4)
            ),
        ),
        ("README.md", "about"),
        ("LICENSE", "MIT"),
        ("data.zip", b"PK\3\4"),
    ],
)
def test_a_side_file_of_class_folders_is_left_out_and_said(
    tmp_path: Path, name: str, content: str | bytes
) -> None:
    put(pictures(tmp_path, "cat", "dog"), {name: content})
    assert classes(tmp_path) == {"cat": 4, "dog": 4}
    assert left_out(tmp_path) == [name]


@pytest.mark.parametrize(
    "name", ["README.txt", "readme", "LICENSE.txt", "classes.txt", "labels.csv", "neg/README.txt"]
)
def test_a_side_file_of_text_folders_is_left_out_and_said(tmp_path: Path, name: str) -> None:
    put(sentences(tmp_path, "pos", "neg"), {name: "name,number\npos,1\nneg,0\n"})
    assert classes(tmp_path) == {"neg": 4, "pos": 4}
    assert left_out(tmp_path) == [name]


def test_a_table_that_is_no_side_file_is_refused_beside_folders(tmp_path: Path) -> None:
    put(pictures(tmp_path / "images", "cat", "dog"), {"data.csv": TABLE})
    refused(tmp_path / "images", "files of several formats ('cat/0.jpg' and 'data.csv')")
    put(sentences(tmp_path / "texts", "pos", "neg"), {"data.csv": TABLE})
    refused(tmp_path / "texts", "files of several formats ('data.csv' and 'neg/0.txt')")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.csv", "file,label\n" + "".join(f"{n % 2}/{n // 2}.jpg,{'ab'[n % 3 > 0]}\n" for n in range(8))),
        ("list.txt", "".join(f"{n % 2}/{n // 2}.jpg {n % 3 > 0}\n" for n in range(8))),
        (
            "list.json",
            json.dumps([{"file": f"{n % 2}/{n // 2}.jpg", "label": "ab"[n % 3 > 0]} for n in range(8)]),
        ),
    ],
)
def test_a_list_with_other_classes_than_the_folders_is_refused(
    tmp_path: Path, name: str, content: str
) -> None:
    refused(put(pictures(tmp_path, "0", "1"), {name: content}), f"label '{name}'", "classes")


def test_a_table_of_any_name_that_names_images_tells_their_classes(tmp_path: Path) -> None:
    rows = "".join(f"{n}.jpg,{'ab'[n % 2]}\n" for n in range(4))
    put(pictures(tmp_path, "img"), {"train.csv": "image,breed\n" + rows, "notes.txt": "x"})
    assert classes(tmp_path) == {"a": 2, "b": 2}


def test_the_column_that_the_user_names_makes_metadata_the_labels(tmp_path: Path) -> None:
    rows = "".join(f"{folder}/{n}.jpg,{'xy'[n % 2]},{n}\n" for n in range(4) for folder in ("a", "b"))
    put(pictures(tmp_path, "a", "b"), {"metadata.csv": "file_name,kind,note\n" + rows})
    assert found(tmp_path, Options(label_column="kind")).source.classes == ("x", "y")
    assert classes(tmp_path) == {"a": 4, "b": 4}


@pytest.mark.parametrize("name", ["data.tar", "data.tar.gz", "archives/all.tar"])
@pytest.mark.parametrize("prefix", ["", "./", "set/"])
def test_an_archive_beside_its_members_is_left_out_and_said(tmp_path: Path, name: str, prefix: str) -> None:
    pictures(tmp_path, "cat", "dog")
    files = {
        prefix + str(path.relative_to(tmp_path)): path.read_bytes() for path in sorted(tmp_path.glob("*/*"))
    }
    archive(tmp_path / name, files)
    assert classes(tmp_path) == {"cat": 4, "dog": 4}
    assert left_out(tmp_path) == [name]


def test_an_archive_of_texts_or_of_a_table_beside_its_members_is_left_out(tmp_path: Path) -> None:
    sentences(tmp_path / "texts", "pos", "neg")
    files = {str(p.relative_to(tmp_path / "texts")): p.read_bytes() for p in (tmp_path / "texts").glob("*/*")}
    assert classes(archive(tmp_path / "texts/all.tar", files)) == {"neg": 4, "pos": 4}
    put(tmp_path / "table", {"data.csv": TABLE})
    assert classes(archive(tmp_path / "table/all.tar", {"data.csv": TABLE.encode()})) == {"0": 10, "1": 10}


def test_an_archive_of_other_images_is_refused_beside_folders(tmp_path: Path) -> None:
    archive(pictures(tmp_path, "cat", "dog") / "more.tar", {f"cat/{n}.jpg": image(n) for n in range(10, 20)})
    refused(tmp_path, "files of several formats ('cat/0.jpg' and 'more.tar')")


# Classes that must not vanish


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JPG", "", ".dat", ".img", ".JPEG", ".avif", ".heic"])
def test_images_are_known_by_their_content(tmp_path: Path, suffix: str) -> None:
    pictures(tmp_path, "cat")
    pictures(tmp_path, "dog", names="{}" + suffix, form="AVIF" if suffix == ".avif" else "JPEG")
    assert classes(tmp_path) == {"cat": 4, "dog": 4}


@pytest.mark.parametrize(
    ("suffix", "content", "words"),
    [
        (".jxl", b"\xff\x0a" + b"x" * 40, "JPEG XL"),
        (".pdf", b"%PDF-1.7 x", "PDF"),
        (".psd", b"8BPS\0\1" + b"x" * 40, "Photoshop"),
        (".mp4", b"\0\0\0\x20ftypisom" + b"x" * 40, "MP4 video"),
        (".dcm", b"\0" * 128 + b"DICM" + b"x" * 40, "DICOM"),
        (".html", b"<!DOCTYPE html><p>404", "HTML"),
        (".npy", b"\x93NUMPY\1\0", "NumPy array"),
        ("", b"\1\2\3\4", "no suffix"),
    ],
)
def test_a_class_whose_files_are_not_read_is_refused(
    tmp_path: Path, suffix: str, content: bytes, words: str
) -> None:
    pictures(tmp_path, "cat", "eel")
    put(tmp_path, {f"dog/{n}{suffix}": content for n in range(3)})
    refused(tmp_path, "'dog/'", "none of its 3 files is read", suffix or "no suffix", words)


def test_a_class_of_texts_that_are_not_read_is_refused(tmp_path: Path) -> None:
    put(
        sentences(tmp_path, "pos", "neg"),
        {"neutral/1.doc": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "neutral/2.rtf": b"x"},
    )
    refused(tmp_path, "'neutral/'", "none of its 2 files is read (.doc, .rtf")


def test_folders_of_notes_are_no_classes(tmp_path: Path) -> None:
    put(pictures(tmp_path, "cat", "dog"), {"docs/how.md": "x", "annotations/1.xml": "<a/>"})
    assert classes(tmp_path) == {"cat": 4, "dog": 4}


# What files hold, whatever they are called


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz"])
def test_a_compressed_table_is_read_by_its_content(tmp_path: Path, name: str) -> None:
    text = TABLE.replace(",", "\t") if ".tsv" in name else TABLE
    assert classes(put(tmp_path, {name: gzip.compress(text.encode())})) == {"0": 10, "1": 10}


def test_a_table_is_read_though_its_name_says_that_it_is_compressed(tmp_path: Path) -> None:
    assert classes(put(tmp_path, {"a.csv.gz": TABLE})) == {"0": 10, "1": 10}


def test_other_content_than_the_name_says_is_named(tmp_path: Path) -> None:
    workbook = io.BytesIO()
    with zipfile.ZipFile(workbook, "w") as opened:
        opened.writestr("xl/workbook.xml", "<a/>")
    refused(put(tmp_path / "a", {"a.csv": workbook.getvalue()}), "'a.csv'", "Excel workbook (.xlsx)")
    refused(
        put(tmp_path / "b", {"a.csv": b"PAR1" + b"x" * 40}),
        "'a.csv'",
        "it holds Parquet; expected UTF-8 text",
    )
    refused(put(tmp_path / "c", {"a.xlsx": workbook.getvalue()}), "'a.xlsx'", "Excel workbook (.xlsx)")
    refused(put(tmp_path / "d", {"a.parquet": TABLE}), "'a.parquet'", "it holds UTF-8 text; expected Parquet")


def test_every_format_says_why_it_was_taken(tmp_path: Path) -> None:
    decisions = found(pictures(tmp_path, "cat", "dog")).decisions
    assert [(d.about, d.taken, d.certainty) for d in decisions] == [
        ("format", "folders", "certain"),
        ("label", "the folders", "certain"),
    ]
    assert "'cat/0.jpg' and 7 more" in decisions[0].reason


def test_heic_is_decoded() -> None:
    """libheif wrote the file: 48 by 32 pixels, red on the left and blue on the right."""
    pixels = decode((FILES / "red_and_blue.heic").read_bytes())
    assert pixels.shape == (32, 48, 3)
    assert np.abs(pixels[:, :20].astype(int) - (200, 40, 40)).max() < 12
    assert np.abs(pixels[:, 28:].astype(int) - (40, 40, 200)).max() < 12


def test_a_damaged_heic_is_named(tmp_path: Path) -> None:
    content = (FILES / "red_and_blue.heic").read_bytes()
    pictures(tmp_path, "cat")
    put(tmp_path, {f"dog/{n}.HEIC": content[: len(content) // 2] for n in range(4)})
    with pytest.raises(UserError, match=r"4 of 8 images cannot be read: 'dog/0.HEIC' \("):
        load_splits({"training": tmp_path}, image_size=8, num_workers=0)


LIBSVM = "".join(f"{row % 2} 1:{row}.5 3:{row % 7}\n" for row in range(20))


@pytest.mark.parametrize("name", ["train", "a9a", "a9a.txt", "heart_scale", "data.dat", "a1a.t", "test"])
def test_a_libsvm_file_of_any_name_is_read(tmp_path: Path, name: str) -> None:
    channel_found = found(put(tmp_path, {name: LIBSVM, "README": "about"}))
    assert channel_found.format.name == "libsvm"
    assert channel_found.understanding("training").classes == {"0": 10, "1": 10}


def test_a_libsvm_file_and_its_test_file_are_refused(tmp_path: Path) -> None:
    refused(put(tmp_path, {"a9a": LIBSVM, "a9a.t": LIBSVM}), "split", "'a9a', 'a9a.t'")


@pytest.mark.parametrize("name", ["train", "adult.data", "table.txt", "data"])
def test_a_table_without_a_tables_name_is_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    text = refused(put(tmp_path, {name: TABLE}), f"'{name}' holds text in 3 columns", ".csv", "text/csv")
    assert "pickle" not in text


@pytest.mark.parametrize(
    "name", ["data (1).csv", "data copy.csv", "data - Copy.csv", "data.csv.gz", "data_copy.csv"]
)
def test_a_copy_of_a_table_is_left_out(tmp_path: Path, name: str) -> None:
    content = TABLE.encode()
    put(tmp_path, {"data.csv": content, name: gzip.compress(content) if name.endswith(".gz") else content})
    assert classes(tmp_path) == {"0": 10, "1": 10}
    assert left_out(tmp_path) == [name]


@pytest.mark.parametrize("name", ["data (1).csv", "data copy.csv", "data.csv.gz"])
def test_a_table_that_is_only_named_like_a_copy_is_read(tmp_path: Path, name: str) -> None:
    other = TABLE.replace(".5", ".25").encode()
    put(tmp_path, {"data.csv": TABLE, name: gzip.compress(other) if name.endswith(".gz") else other})
    assert classes(tmp_path) == {"0": 20, "1": 20}


def test_captions_in_metadata_jsonl_do_not_replace_the_class_folders(tmp_path: Path) -> None:
    lines = [json.dumps({"file_name": f"cat/{n}.jpg", "text": f"picture {n}"}) for n in range(4)]
    put(pictures(tmp_path, "cat", "dog"), {"metadata.jsonl": "\n".join(lines)})
    assert classes(tmp_path) == {"cat": 4, "dog": 4}
    assert left_out(tmp_path) == ["metadata.jsonl"]


@pytest.mark.parametrize(
    ("content", "held"),
    [
        (b"<html>404", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "pointer of Git LFS"),
        (b"%PDF-", "PDF"),
    ],
)
def test_an_image_that_is_none_is_named_with_what_it_is(tmp_path: Path, content: bytes, held: str) -> None:
    put(pictures(tmp_path, "cat", "dog"), {"cat/9.jpg": content})
    with pytest.raises(UserError, match=rf"'cat/9.jpg' cannot be read .*known image format, but {held}"):
        load_splits({"training": tmp_path}, image_size=8, num_workers=0)


@pytest.mark.parametrize(
    "folders",
    [
        ("seg_train/seg_train/sea", "seg_test/seg_test/sea", "seg_pred/seg_pred"),
        ("train/cat", "test1"),
        ("images/train", "images/val"),
        ("trainA", "trainB", "testA", "testB"),
        ("cats/train/a", "cats/validation/a"),
        ("TRAIN/a", "TEST/a"),
        ("dev-set/a", "train-set/a"),
    ],
    ids=" ".join,
)
def test_splits_as_public_data_sets_have_them_are_refused(tmp_path: Path, folders: tuple[str, ...]) -> None:
    refused(pictures(tmp_path, *folders), "split: the folders name")


def test_a_column_that_says_each_rows_split_is_refused(tmp_path: Path) -> None:
    parts = ("Training", "PublicTest", "PrivateTest")
    rows = "".join(f"{row % 2},{row}.5,{parts[row % 3]}\n" for row in range(30))
    put(tmp_path / "a", {"faces.csv": "emotion,x,Usage\n" + rows})
    named = Options(label_column="emotion")
    refused(tmp_path / "a", "the values of 'Usage' name", "training", "test", options=named)
    assert (
        len(found(tmp_path / "a", Options(label_column="emotion", columns=Rules(kept=("Usage",)))).source)
        == 30
    )
    rows = "".join(f"{row % 2},{row}.5,{('test', 'control')[row % 3 // 2]}\n" for row in range(30))
    assert len(found(put(tmp_path / "b", {"arms.csv": "target,x,set\n" + rows})).source) == 30


def test_paths_in_metadata_start_at_its_folder(tmp_path: Path) -> None:
    rows = "".join(f"{folder}/{n}.jpg,words on {folder} {n}\n" for n in range(4) for folder in "ab")
    put(
        pictures(tmp_path / "captions", "train/a", "train/b"),
        {"train/metadata.csv": "file_name,text\n" + rows},
    )
    assert classes(tmp_path / "captions") == {"a": 4, "b": 4}
    rows = "".join(f"{folder}/{n}.jpg,{'xy'[n % 2]}\n" for n in range(4) for folder in "ab")
    put(
        pictures(tmp_path / "labels", "train/a", "train/b"),
        {"train/metadata.csv": "file_name,label\n" + rows},
    )
    assert classes(tmp_path / "labels") == {"x": 4, "y": 4}


def test_an_archive_of_neither_images_nor_batches_is_named(tmp_path: Path) -> None:
    refused(
        archive(tmp_path / "all.tar.gz", {"a/1.txt": b"x"}), "neither images nor CIFAR batches, but 'a/1.txt'"
    )


def test_captions_that_recur_do_not_replace_the_class_folders(tmp_path: Path) -> None:
    rows = "".join(f"{folder}/{n}.jpg,a nice picture {n}\n" for folder in ("cat", "dog") for n in range(4))
    put(pictures(tmp_path, "cat", "dog"), {"metadata.csv": "file_name,caption\n" + rows})
    assert classes(tmp_path) == {"cat": 4, "dog": 4}
    assert left_out(tmp_path) == ["metadata.csv"]

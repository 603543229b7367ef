"""Labelled images in every form but class folders, from files that public tools wrote."""

import io
import json
import os
import re
import struct
import tarfile
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from subset_trainer.data import MemoryDataset, Splits, load_splits
from subset_trainer.data.formats import recordio
from subset_trainer.data.formats.format import ManifestOptions
from subset_trainer.errors import UserError
from tests.formats import (
    CLASSES,
    FILES,
    NAMED,
    NUMBERS,
    PIXELS,
    entry,
    framed,
    hugging_face,
    images,
    png,
    write_manifest,
    write_parquet,
    write_shards,
)
from tests.kinds import gathered


def splits(root: Path, *, companion: Path | None = None, **options: Any) -> Splits:
    channels = {"training": root, **({} if companion is None else {"training_lst": companion})}
    return load_splits(channels, num_workers=0, **gathered(options))


def complaint(root: Path, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        splits(root, **options)
    return str(error.value).removeprefix("training channel: ")


def check(found: Splits, expected: Mapping[str, str] | None = None, count: int = len(PIXELS)) -> None:
    """Each image has its own pixels and label. expected: class's name → digit."""
    names = expected or {name: name for name in CLASSES}
    assert found.preprocessing.classes == tuple(names)
    seen = 0
    for part in (found.train, found.validation):
        assert isinstance(part, MemoryDataset)
        for pixels, label in zip(part.inputs, part.labels.tolist(), strict=True):
            digit = int(names[found.preprocessing.classes[label]])
            assert any(np.array_equal(pixels[0].numpy(), PIXELS[i]) for i in np.flatnonzero(digit == NUMBERS))
            seen += 1
    assert seen == count


# A table beside the images


@pytest.mark.parametrize("header", ["file_name,label\n", "label,image,note\n", ""])
@pytest.mark.parametrize("reference", ["images/{}.png", "{}.png", "{}", "./images/{}.png"])
def test_labels_csv(tmp_path: Path, header: str, reference: str) -> None:
    rows = []
    for position, digit in enumerate(NUMBERS):
        name = reference.format(f"{position:03}")
        rows.append(f"{digit},{name},x" if header.startswith("label") else f"{name},{digit}")
    (images(tmp_path) / "labels.csv").write_text(header + "\n".join(rows) + "\n")
    found = splits(tmp_path)
    check(found)
    assert found.train_ids[0].startswith("images/0")
    assert found.notes[0] == "training channel: 36 images of 3 classes, labelled by 'labels.csv'."


def test_the_label_column_of_a_table_beside_images(tmp_path: Path) -> None:
    lines = [f"images/{position:03}.png;0;digit {digit}" for position, digit in enumerate(NUMBERS)]
    (images(tmp_path) / "labels.csv").write_text("\n".join(["file;fold;digit", *lines]))
    named = {"digit 0": "0", "digit 1": "1", "digit 7": "7"}
    check(splits(tmp_path, label_column="digit"), named)
    check(splits(tmp_path, label_column="2"), named)
    assert "has 3 columns, and none has a label's name" in complaint(tmp_path)
    assert "label_column='kind': 'labels.csv' of the training channel has no such column" in complaint(
        tmp_path, label_column="kind"
    )


def test_images_that_a_table_does_not_name_are_left_out(tmp_path: Path) -> None:
    lines = [f"{position:03}.png,{digit}" for position, digit in enumerate(NUMBERS)][:20]
    (images(tmp_path) / "labels.csv").write_text("\n".join(lines))
    found = splits(tmp_path)
    assert len(found.train) + len(found.validation) == 20
    assert "; 16 that it does not name are left out." in found.notes[0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["000.png,0", "999.png,1"],
            "'labels.csv', line 2: the image '999.png' is not in the channel, or several have this name; "
            "expected the path of one image.",
        ),
        (
            ["000.png,0", "001.png,1,2"],
            "'labels.csv', line 2: 3 columns; expected 2, as above.",
        ),
        (["000.png,0", "001.png,"], "'labels.csv', line 2: no class for '001.png'; expected one."),
        (
            ["000.png,0", "001.png,1", "000.png,1"],
            "'labels.csv', lines 1 and 3 both name the image 'images/000.png', as '0' and '1'; expected one class "
            "for each image, and no boxes.",
        ),
        (["file,label"], "'labels.csv' names no images; expected a line for each."),
        (
            ["file,label", "a.png,1"],
            "'labels.csv', line 2: none of ['a.png', '1'] is an image of the channel, such as 'images/000.png'; "
            "expected a column of image files and one of their classes.",
        ),
        (
            ["000.png"],
            "'labels.csv', line 1: 1 columns; expected a column of image files and one of their classes.",
        ),
        (
            ["000.png,0", "../images/000.png,1"],
            "'labels.csv', line 2: the image '../images/000.png' is not in the channel, or several have this "
            "name; expected the path of one image.",
        ),
    ],
)
def test_a_table_that_does_not_fit(tmp_path: Path, lines: list[str], message: str) -> None:
    (images(tmp_path) / "labels.csv").write_text("\n".join(lines))
    assert complaint(tmp_path) == message


def test_a_table_of_bytes(tmp_path: Path) -> None:
    (images(tmp_path) / "labels.csv").write_bytes(b"000.png,\xff\n")
    assert "file 'labels.csv' is not UTF-8 text (line 1: invalid start byte)" in complaint(tmp_path)


# SageMaker's image classification


def test_lst_beside_the_images(tmp_path: Path) -> None:
    """im2rec wrote the .lst."""
    listing = (FILES / "recordio/digits.lst").read_text()
    for line in listing.splitlines():
        _, _, path = line.split("\t")
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(png(int(Path(path).stem)))
    (tmp_path / "digits.lst").write_text(listing)
    check(splits(tmp_path), {"0": "0", "1": "1", "2": "7"})


def test_lst_in_a_channel_of_its_own(tmp_path: Path) -> None:
    lines = [f"{n}\t{CLASSES.index(str(digit))}\timages/{n:03}.png" for n, digit in enumerate(NUMBERS)]
    (tmp_path / "lst").mkdir()
    (tmp_path / "lst/train.lst").write_text("\n".join(lines))
    images(tmp_path / "images")
    check(splits(tmp_path / "images", companion=tmp_path / "lst"), {"0": "0", "1": "1", "2": "7"})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "0\t1\t2\timages/000.png",
            "'d.lst', line 1 has 2 labels; expected one, because each image has one class.",
        ),
        (
            "0 1 images/000.png",
            "'d.lst', line 1 is '0 1 images/000.png'; expected a number, the class's number and the image's path, with "
            "tabs between.",
        ),
        (
            "0\t1.5\timages/000.png",
            "'d.lst', line 1 is '0\\t1.5\\timages/000.png'; expected a number, the class's number and the image's "
            "path, with tabs between.",
        ),
    ],
)
def test_a_lst_that_does_not_fit(tmp_path: Path, line: str, message: str) -> None:
    (images(tmp_path) / "d.lst").write_text(line)
    assert complaint(tmp_path) == message


def test_record_files(tmp_path: Path) -> None:
    """im2rec wrote all three; the index and the list are not needed."""
    for suffix in ("rec", "idx", "lst"):
        (tmp_path / f"digits.{suffix}").write_bytes((FILES / f"recordio/digits.{suffix}").read_bytes())
    found = splits(tmp_path)
    check(found, {"0": "0", "1": "1", "2": "7"})
    assert re.fullmatch(r"digits\.rec\[\d+\]", found.train_ids[0])
    assert not any("not used" in note for note in found.notes)


def test_records_are_streamed_where_memory_is_short(tmp_path: Path) -> None:
    (tmp_path / "digits.rec").write_bytes((FILES / "recordio/digits.rec").read_bytes())
    kept, streamed = splits(tmp_path), splits(tmp_path, memory_limit=100)
    assert any("streamed" in note for note in streamed.notes)
    order = [torch.arange(5), torch.arange(5, 12)]
    cpu = torch.device("cpu")
    for ours, theirs in zip(kept.train.batches(order, cpu), streamed.train.batches(order, cpu), strict=True):
        assert torch.equal(ours, theirs)


def test_a_record_that_holds_the_magic_number() -> None:
    """MXNet's writer took these records apart where they hold it."""
    magic = recordio.MAGIC
    with (FILES / "recordio/magic.rec").open("rb") as file:
        assert list(recordio.records(file)) == [
            b"none",
            magic,
            b"four" + magic + magic + b"more",
            b"odd" + magic,
            b"",
        ]
        starts = [start for start, _ in recordio.spans(file)]
        assert recordio.read(file, starts[2], 3) == b"fou"
        assert recordio.read(file, starts[2], 9).startswith(b"four" + magic)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not records at all", "stands where a record begins"),
        (
            recordio.MAGIC + struct.pack("<I", 4) + b"abcd",
            "record 0 (counted from 0): it has 4 bytes, fewer than",
        ),
        (
            recordio.MAGIC + struct.pack("<I", 24) + struct.pack("<IfQQ", 0, 0.5, 0, 0),
            "record 0 (counted from 0): the label 0.5",
        ),
        (
            recordio.MAGIC + struct.pack("<I", 32) + struct.pack("<IfQQ2f", 2, 0, 0, 0, 1, 2),
            "record 0 (counted from 0): it has 2 labels; expected one",
        ),
        (recordio.MAGIC + struct.pack("<I", 99), "should have 99 bytes, of which the file has 0"),
    ],
)
def test_damaged_records(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.rec").write_bytes(content)
    text = complaint(tmp_path)
    assert message in text
    assert text.endswith("; expected image records, each with one class's number.")


# Tar shards


@pytest.mark.parametrize(
    "label",
    [
        lambda digit: {"cls": digit},
        lambda digit: {"json": {"label": digit, "source": "scan"}},
        lambda digit: {"txt": str(digit)},
        lambda digit: {"cls": digit, "json": {"label": "else"}, "txt": "a caption"},
    ],
    ids=["cls", "json", "txt", "cls first"],
)
def test_webdataset(tmp_path: Path, label: Callable[[int], Mapping[str, Any]]) -> None:
    write_shards(tmp_path, label)
    found = splits(tmp_path)
    check(found)
    assert found.notes[0] == "training channel: 36 images in 2 tar archives, 3 classes."
    assert re.fullmatch(r"digits-0[01]\.tar:0\d\d\.png", found.train_ids[0])


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_class_folders_in_an_archive(tmp_path: Path, mode: Any) -> None:
    name = "all.tar.gz" if mode != "w" else "all.tar"
    with tarfile.open(tmp_path / name, mode) as archive:
        for position, digit in enumerate(NUMBERS):
            member = tarfile.TarInfo(f"data/digit {digit}/{position}.png")
            member.size = len(png(position))
            archive.addfile(member, io.BytesIO(png(position)))
    check(splits(tmp_path), {"digit 0": "0", "digit 1": "1", "digit 7": "7"})


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"1.png": png(0), "1.cls": b"0", "2.png": png(1)},
            "image 'a.tar:2.png' has no class; expected it in a member of the same name that ends in .cls, .json or "
            ".txt, or class folders.",
        ),
        (
            {"1.png": png(0), "1.cls": b"0\n1"},
            "archive 'a.tar' cannot be read ('1.cls' holds '0\\n1'; expected one line, the class); expected an intact "
            "tar file of images and their classes.",
        ),
        (
            {"1.png": png(0), "1.json": b'{"boxes": []}'},
            "archive 'a.tar' cannot be read ('1.json' holds '{\"boxes\": []}'; expected an object with 'label' "
            "or another label's name: a class's name or number); expected an intact tar file of images and their "
            "classes.",
        ),
        (
            {"1.png": png(0), "1.cls": b"\xff"},
            "archive 'a.tar' cannot be read ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte); "
            "expected an intact tar file of images and their classes.",
        ),
    ],
)
def test_shards_that_do_not_fit(tmp_path: Path, members: Mapping[str, bytes], message: str) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert complaint(tmp_path) == message


def test_a_shard_that_is_cut_off(tmp_path: Path) -> None:
    write_shards(tmp_path, lambda digit: {"cls": digit}, per_shard=100)
    shard = tmp_path / "digits-00.tar"
    shard.write_bytes(shard.read_bytes()[:9_000])
    assert complaint(tmp_path).startswith("archive 'digits-00.tar' cannot be read (")


# Parquet


def test_parquet_as_hugging_face_has_it(tmp_path: Path) -> None:
    features = {
        "image": {"_type": "Image"},
        "label": {"names": ["nought", "one", "seven"], "_type": "ClassLabel"},
    }
    known = json.dumps({"info": {"features": features}})
    for shard, rows in enumerate((range(20), range(20, 36))):
        codes = pa.array([CLASSES.index(str(NUMBERS[row])) for row in rows])
        write_parquet(tmp_path / f"train-{shard:05}.parquet", hugging_face(rows), codes, huggingface=known)
    found = splits(tmp_path)
    check(found, {"nought": "0", "one": "1", "seven": "7"})
    assert re.fullmatch(r"train-0000[01]\.parquet\[\d+\]", found.train_ids[0])


@pytest.mark.parametrize("text", [True, False])
def test_parquet_with_plain_bytes(tmp_path: Path, text: bool) -> None:
    labels = (
        pa.array([f"digit {digit}" for digit in NUMBERS]).dictionary_encode() if text else pa.array(NUMBERS)
    )
    write_parquet(
        tmp_path / "a.parquet", pa.array([png(row) for row in range(36)], pa.large_binary()), labels
    )
    check(splits(tmp_path), {f"digit {name}": name for name in CLASSES} if text else None)


def test_parquet_that_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(path, hugging_face(range(3)), pa.array([0, None, 1]))
    assert complaint(tmp_path) == "'a.parquet[1]' has no label in 'label'; expected one in each row."
    write_parquet(path, pa.array([png(0), None], pa.binary()), pa.array([0, 1]))
    assert "file 'a.parquet' cannot be read (row 1 (counted from 0) has no image)" in complaint(tmp_path)
    write_parquet(path, hugging_face(range(2)), pa.array([0, 1]))
    assert "label_column='kind': 'a.parquet' of the training channel has no such column" in complaint(
        tmp_path, label_column="kind"
    )
    pq.write_table(pa.table({"image": hugging_face(range(2)), "score": [0.5, 0.7]}), path)
    assert complaint(tmp_path) == (
        "file 'a.parquet' has the columns 'image', 'score'; expected one called 'label', or label_column to name the "
        "one with the classes."
    )
    path.write_bytes(b"PAR1 and no more")
    assert complaint(tmp_path).startswith("file 'a.parquet' cannot be read (")


# Ground Truth's manifests


def test_a_manifest_of_s3_objects(tmp_path: Path) -> None:
    write_manifest(images(tmp_path), map(entry, range(36)))
    found = splits(tmp_path)
    check(found, NAMED)
    assert found.train_ids[0].startswith("s3://bucket/some/prefix/images/0")
    assert found.train_weights is None
    assert found.notes[0] == (
        "training channel: 36 images of 3 classes in a manifest, labels 'digit'; 36 by people (mean confidence 0.90)."
    )


def test_a_manifest_without_metadata(tmp_path: Path) -> None:
    """As "Augmented Manifest Image Format" of the image classification algorithm shows it."""
    write_manifest(
        images(tmp_path),
        ({"source-ref": f"{n:03}.png", "class": str(digit)} for n, digit in enumerate(NUMBERS)),
    )
    check(splits(tmp_path))


def test_class_names_of_a_class_map(tmp_path: Path) -> None:
    names = {"0": "nought", "1": "one", "2": "seven"}
    entries = [entry(n, **{"class-map": names}) for n in range(36)]
    for line in entries:
        del line["digit-metadata"]["class-name"]
    write_manifest(images(tmp_path), entries)
    check(splits(tmp_path), {"nought": "0", "one": "1", "seven": "7"})


def test_a_class_may_be_named_after_a_line_that_numbers_it(tmp_path: Path) -> None:
    named = splits_of(tmp_path / "named", [entry(n) for n in range(36)])
    entries = [entry(n) for n in range(36)]
    for line in entries[::2]:
        del line["digit-metadata"]["class-name"]
    late = splits_of(tmp_path / "late", entries)
    assert late.preprocessing.classes == named.preprocessing.classes
    assert late.train.labels.equal(named.train.labels)


def splits_of(folder: Path, entries: list[dict[str, Any]]) -> Splits:
    folder.mkdir()
    write_manifest(images(folder), entries)
    return splits(folder)


def test_what_is_left_out_and_why(tmp_path: Path) -> None:
    entries = [entry(n) for n in range(36)]
    entries[0]["digit-metadata"]["confidence"] = 0.4
    entries[1]["digit-metadata"] = {"failure-reason": "no answer", "type": "groundtruth/image-classification"}
    del entries[2]["digit"], entries[2]["digit-metadata"]
    entries[3]["digit-metadata"]["human-annotated"] = "no"
    for number, verdict in ((4, "Bad"), (5, "good")):
        entries[number]["audit"] = 1
        entries[number]["audit-metadata"] = {"type": "groundtruth/label-verification", "class-name": verdict}
    write_manifest(images(tmp_path), entries)
    options = ManifestOptions(min_confidence=0.5, human_only=True)
    found = splits(tmp_path, manifest=options)
    check(found, NAMED, 31)
    assert found.notes[0].endswith(
        "1 without a label left out; 1 whose labelling failed left out; 1 rejected in verification left out; 1 below "
        "min_confidence=0.5 left out; 1 annotated by machines left out."
    )
    check(splits(tmp_path), NAMED, 33)
    check(splits(tmp_path, manifest=ManifestOptions(accepted=("bad", "good"))), NAMED, 34)


def test_confidence_weighs(tmp_path: Path) -> None:
    write_manifest(images(tmp_path), (entry(n, confidence=0.5 if n % 2 else 1) for n in range(36)))
    found = splits(tmp_path, manifest=ManifestOptions(weighted=True))
    assert found.train_weights is not None
    weights = found.train_weights.tolist()
    odd = [int(found.train_ids[row][-6:-4]) % 2 for row in range(len(weights))]
    assert np.mean(weights) == pytest.approx(1)
    for weight, is_odd in zip(weights, odd, strict=True):
        assert weight / max(weights) == pytest.approx(0.5 if is_odd else 1)


def test_labels_of_several_jobs(tmp_path: Path) -> None:
    entries = [entry(n) for n in range(36)]
    for line in entries:
        line["digit-again"], line["digit-again-metadata"] = line["digit"], line["digit-metadata"]
        line["boxes"] = {"annotations": []}
        line["boxes-metadata"] = {"type": "groundtruth/object-detection"}
    write_manifest(images(tmp_path), entries)
    assert complaint(tmp_path) == (
        "'output.manifest', line 1: the labels may be 'digit' or 'digit-again'; expected label_column to name one; "
        "expected lines of JSON objects with source-ref and a label."
    )
    check(splits(tmp_path, label_column="digit-again"), NAMED)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"digit": [1, 2]}, "digit is [1, 2]; expected a class: its number or name"),
        ({"digit-metadata": "good"}, "digit-metadata is 'good'; expected an object"),
        (
            {"digit-metadata": {"type": "groundtruth/image-classification-multilabel"}},
            "digit holds several classes per image; expected one class",
        ),
        ({"digit-metadata": {"confidence": 7}}, "digit has the confidence 7; expected 0 to 1"),
        (
            {"digit-metadata": {"class-name": "an 8"}},
            "class 0 is called 'an 8', and 'a 0' before; expected one name",
        ),
        ({"source-ref": 5}, "source-ref is 5"),
        ({"source-ref": None, "source": "text"}, "source-ref is None"),
        (
            {"audit": 0, "audit-metadata": {"type": "groundtruth/label-verification", "class-name": "meh"}},
            "audit-metadata has the verdict 'meh', which is ambiguous; expected verified_as to name the verdicts "
            "whose examples are kept",
        ),
    ],
)
def test_a_line_that_does_not_fit(tmp_path: Path, change: Mapping[str, Any], message: str) -> None:
    write_manifest(images(tmp_path), [entry(0), {**entry(1), **change}, *map(entry, range(2, 36))])
    expected = "; expected lines of JSON objects with source-ref and a label."
    assert complaint(tmp_path) == f"'output.manifest', line 2: {message}{expected}"


def test_manifests_that_do_not_fit(tmp_path: Path) -> None:
    write_manifest(images(tmp_path), [entry(0), {**entry(1), "source-ref": "s3://bucket/elsewhere/x.png"}])
    assert complaint(tmp_path).startswith(
        "'output.manifest', line 2: 's3://bucket/elsewhere/x.png' is not an image of the channel, or several have "
        "this name;"
    )
    write_manifest(tmp_path, [entry(0), {**entry(0), "source-ref": "s3://other/images/000.png"}])
    assert complaint(tmp_path) == (
        "'output.manifest', line 2: s3://bucket/some/prefix/images/000.png and s3://other/images/000.png are the image "
        "'images/000.png'; expected each once."
    )
    (tmp_path / "output.manifest").write_text('{"source-ref": ')
    assert "'output.manifest', line 1: it is not JSON (" in complaint(tmp_path)
    (tmp_path / "output.manifest").write_text("[" * 100_000)
    assert "'output.manifest', line 1: it is nested too deeply" in complaint(tmp_path)
    (tmp_path / "output.manifest").write_bytes(b"{" + b" " * (1 << 20))
    assert "line 1 has more than 1,048,576 bytes" in complaint(tmp_path)
    write_manifest(tmp_path, [entry(n, confidence=0.1) for n in range(36)])
    assert (
        "no example of 'output.manifest' is left (labels 'digit'; 36 below min_confidence=0.5"
        in complaint(tmp_path, manifest=ManifestOptions(min_confidence=0.5))
    )


def test_lines_of_json_are_a_manifest_if_they_begin_like_one(tmp_path: Path) -> None:
    write_manifest(images(tmp_path), map(entry, range(36)))
    (tmp_path / "output.manifest").rename(tmp_path / "train.jsonl")
    check(splits(tmp_path), NAMED)
    for name in CLASSES:
        (tmp_path / name).mkdir()
    for position, digit in enumerate(NUMBERS):
        (tmp_path / f"images/{position:03}.png").rename(tmp_path / f"{digit}/{position:03}.png")
    (tmp_path / "train.jsonl").write_text('{"note": "photographed in May"}')
    found = splits(tmp_path)
    check(found)
    assert "train.jsonl" in {decision.name for decision in found.understandings[0].decisions}


# Pipe mode


def through_a_pipe(root: Path, records: Iterable[bytes]) -> Path:
    """A real named pipe with a writer, as the platform has it."""
    os.mkfifo(root / "training_0")
    content = b"".join(map(framed, records))

    def write() -> None:
        with (root / "training_0").open("wb") as pipe:
            pipe.write(content)

    threading.Thread(target=write, daemon=True).start()
    return root / "training_0"


def test_an_augmented_manifest_through_a_pipe(tmp_path: Path) -> None:
    records = []
    for n in range(36):
        line = entry(n, confidence=0.2 if n == 3 else 0.8)
        records += [png(n), json.dumps(line["digit"]).encode(), json.dumps(line["digit-metadata"]).encode()]
    found = splits(
        through_a_pipe(tmp_path, records), label_column="digit", manifest=ManifestOptions(min_confidence=0.5)
    )
    check(found, NAMED, 35)
    assert re.fullmatch(r"training_0\[\d+\]", found.train_ids[0])


def test_images_and_bare_classes_through_a_pipe(tmp_path: Path) -> None:
    records = [record for n in range(36) for record in (png(n), f'"BM {NUMBERS[n]}"'.encode())]
    check(splits(through_a_pipe(tmp_path, records)), {f"BM {name}": name for name in CLASSES})


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "no image came through it"),
        ([b"1", png(0)], "its first record is not an image"),
        ([png(0), b"1", png(1)], "2 images came with 1 other records"),
        ([png(0), png(1)], "2 images came with 0 other records"),
        ([png(0), b"\xfe\xff"], "a record of image 0 (counted from 0) is neither an image nor text"),
        ([png(0), b"{}"], "image 0 (counted from 0) has metadata without a label before them"),
        (
            [png(0), b"1", b"2"],
            "the labels may be 'attribute 1' or 'attribute 2'; expected label_column to name one",
        ),
    ],
)
def test_a_pipe_of_something_else(tmp_path: Path, records: list[bytes], message: str) -> None:
    assert complaint(through_a_pipe(tmp_path, records)) == (
        f"the pipe 'training_0' sent unexpected data ({message}); expected an augmented manifest's records: "
        "AttributeNames of source-ref, the label and its metadata."
    )

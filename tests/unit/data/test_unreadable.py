"""Damaged images: all are named at once, or left out with everything that belongs to them, before the data is split."""

import gc
import io
import json
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from subset_trainer.data import Splits, StreamingDataset, load_splits
from subset_trainer.data.images.decoding import DamagedImageError, ImageFiles, complaint, damaged_images
from subset_trainer.errors import UserError
from tests.formats import framed, write_parquet
from tests.kinds import gathered
from tests.unit.data.test_hosts import together

COUNT = 40
BAD = (3, 17, 30)
"""Positions: content of no image, a truncated one, and an empty one. Odd positions are dogs, even ones cats."""
GOOD = [position for position in range(COUNT) if position not in BAD]


def content(position: int) -> bytes:
    """Noise that differs between positions; BAD ones are damaged."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(position).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    whole = buffer.getvalue()
    return {3: b"<html>not found</html>", 17: whole[: len(whole) // 2], 30: b""}.get(position, whole)


def label(position: int) -> str:
    return ("cat", "dog")[position % 2]


def class_folders(root: Path, positions: range | list[int]) -> None:
    for position in positions:
        (root / label(position)).mkdir(exist_ok=True)
        (root / label(position) / f"{position:02}.png").write_bytes(content(position))


def listed(root: Path, positions: range | list[int]) -> None:
    for position in positions:
        (root / f"{position:02}.png").write_bytes(content(position))
    rows = [f"{position:02}.png,{label(position)}" for position in positions]
    (root / "labels.csv").write_text("\n".join(["file_name,label", *rows]))


def shard(root: Path, positions: range | list[int], mode: Any = "w") -> None:
    with tarfile.open(root / ("a.tar.gz" if mode == "w:gz" else "a.tar"), mode) as archive:
        for position in positions:
            for suffix, data in (("png", content(position)), ("cls", label(position).encode())):
                member = tarfile.TarInfo(f"{position:02}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def packed_shard(root: Path, positions: range | list[int]) -> None:
    shard(root, positions, "w:gz")


def parquet(root: Path, positions: range | list[int]) -> None:
    images = pa.array([content(position) for position in positions], pa.binary())
    write_parquet(root / "a.parquet", images, pa.array([label(position) for position in positions]))


def manifest(root: Path, positions: range | list[int]) -> None:
    lines = []
    for position in positions:
        (root / f"{position:02}.png").write_bytes(content(position))
        about = {"class-name": label(position), "confidence": 0.5 + position / 100, "human-annotated": "yes"}
        about |= {"type": "groundtruth/image-classification"}
        lines.append(
            {"source-ref": f"s3://b/p/{position:02}.png", "pet": position % 2, "pet-metadata": about}
        )
    (root / "output.manifest").write_text("\n".join(map(json.dumps, lines)))


FORMATS = [class_folders, listed, shard, packed_shard, parquet, manifest]
Write = Callable[[Path, range | list[int]], None]


def load(root: Path, write: Write, positions: range | list[int] = range(COUNT), **options: Any) -> Splits:
    root.mkdir(parents=True, exist_ok=True)
    write(root, positions)
    return load_splits({"training": root}, **{"num_workers": 0, "seed": 5, **gathered(options)})


def pixels(splits: Splits) -> torch.Tensor:
    order = list(torch.arange(len(splits.train)).split(8))
    return torch.cat(list(splits.train.batches(order, torch.device("cpu"))))


def same(one: Splits, two: Splits) -> None:
    """The same examples, in the same order, with everything that is aligned to them."""
    assert one.preprocessing == two.preprocessing
    assert torch.equal(one.train.labels, two.train.labels)
    assert torch.equal(one.validation.labels, two.validation.labels)
    assert torch.equal(pixels(one), pixels(two))
    assert (one.train_weights is None) == (two.train_weights is None)
    if one.train_weights is not None and two.train_weights is not None:
        assert torch.equal(one.train_weights, two.train_weights)


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("streamed", [False, True])
def test_skip_gives_what_the_intact_images_alone_give(write: Write, streamed: bool, tmp_path: Path) -> None:
    options: dict[str, Any] = {"memory_limit": 0} if streamed else {}
    if write is manifest:
        from subset_trainer.data.formats.format import ManifestOptions

        options["manifest"] = ManifestOptions(weighted=True)
    found = load(tmp_path / "some", write, unreadable_limit=0.1, **options)
    alone = load(tmp_path / "good", write, GOOD, **options)
    same(found, alone)
    assert isinstance(found.train, StreamingDataset) == streamed
    (out,) = found.left_out
    assert (out.channel, out.total, len(out)) == ("training", COUNT, 3)
    names = [*found.train_ids, *found.validation_ids]
    assert len(names) == COUNT - 3 and not set(names) & set(out.ids)
    # Parquet counts its rows, of which the other file has fewer.
    if write is not parquet:
        assert [*found.train_ids] == [*alone.train_ids]
    assert sorted(out.classes) == ["cat", "dog", "dog"]
    assert found.understandings[0].examples == COUNT - 3
    (left,) = [
        one for one in found.understandings[0].decisions if one.reason.startswith("3 of 40 images (0.075)")
    ]
    assert (left.about, left.certainty, set(left.examples)) == ("left out", "given", set(out.ids))
    assert any(note == out.note and out.errors[0].name in note for note in found.notes)


def test_weights_stay_with_their_images(tmp_path: Path) -> None:
    from subset_trainer.data.formats.format import ManifestOptions

    found = load(tmp_path, manifest, unreadable_limit=0.1, manifest=ManifestOptions(weighted=True))
    assert found.train_weights is not None
    positions = [int(name[-6:-4]) for name in found.train_ids]
    expected = np.array([0.5 + position / 100 for position in positions], np.float32)
    np.testing.assert_allclose(found.train_weights.numpy(), expected / expected.mean(), rtol=1e-5)


def test_records_of_recordio(tmp_path: Path) -> None:
    """An image record: flag, label, two ids, and the image."""
    import struct

    def write(root: Path, positions: range | list[int]) -> None:
        heads = (struct.pack("<IfQQ", 0, float(position % 2), position, 0) for position in positions)
        records = (framed(head + content(one)) for head, one in zip(heads, positions, strict=True))
        (root / "a.rec").write_bytes(b"".join(records))

    positions = [one for one in range(COUNT) if one not in (3, 30)]  # which the format itself refuses
    found = load(tmp_path / "some", write, positions, unreadable_limit=0.1)
    alone = load(tmp_path / "good", write, [one for one in positions if one != 17])
    same(found, alone)
    assert len(found.left_out[0]) == 1


@pytest.mark.parametrize("write", FORMATS)
def test_without_skip_all_are_named_at_once(write: Write, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load(tmp_path, write)
    sentence = str(error.value)
    assert sentence.startswith("training channel: 3 of 40 images cannot be read: ")
    assert "expected intact image files, or on_unreadable=skip" in sentence
    names = ("3.png", "17.png", "30.png") if write is not parquet else ("[3]", "[17]", "[30]")
    assert all(name in sentence for name in names)


def test_of_many_ten_are_named_and_all_counted(tmp_path: Path) -> None:
    for number in range(25):
        (tmp_path / f"{number:02}.png").write_bytes(b"no image")
    files = ImageFiles([f"{number:02}.png" for number in range(25)], tmp_path, "training")
    sentence = str(complaint([error for _, error in damaged_images(files, 0)], 100))
    assert "25 of 100 images cannot be read" in sentence and "and 15 more" in sentence
    assert "'09.png'" in sentence and "'10.png'" not in sentence
    assert len(sentence) < 1024


def test_processes_find_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subset_trainer.data.images.decoding._FEW_FILES", 1)
    names = [f"{number:03}.png" for number in range(600)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(content(number % COUNT))
    files = ImageFiles(names, tmp_path, "training")
    expected = [number for number in range(600) if number % COUNT in BAD]
    for workers in (0, 2):
        assert [index for index, _ in damaged_images(files, workers)] == expected


def test_a_truncated_jpeg_of_many_pixels_is_found_though_it_is_looked_at_in_few(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg", quality=90)
    whole = (tmp_path / "a.jpg").read_bytes()
    for name, share in (("b.jpg", 0.97), ("c.jpg", 0.5)):
        (tmp_path / name).write_bytes(whole[: int(share * len(whole))])
    files = ImageFiles(["a.jpg", "b.jpg", "c.jpg"], tmp_path, "training")
    assert [index for index, _ in damaged_images(files, 0)] == [1, 2]
    for index in (1, 2):
        with pytest.raises(DamagedImageError):
            files.decode(index, (224, 224))


def test_more_than_the_limit_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load(tmp_path, class_folders, unreadable_limit=0.07)
    assert str(error.value).startswith(
        "training channel: 3 of 40 images (0.075) cannot be read, more than unreadable_limit=0.07 allows: "
    )
    assert len(load(tmp_path, class_folders, unreadable_limit=0.075).left_out[0]) == 3


def test_a_class_does_not_vanish(tmp_path: Path) -> None:
    class_folders(tmp_path, GOOD)
    (tmp_path / "emu").mkdir()
    (tmp_path / "emu" / "1.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"no image of class 'emu' can be read: 'emu/1\.png'"):
        load_splits({"training": tmp_path}, num_workers=0, unreadable_limit=0.5)


def test_every_channel_is_looked_at(tmp_path: Path) -> None:
    channels = {name: tmp_path / name for name in ("training", "validation", "test")}
    for path in channels.values():
        path.mkdir()
    class_folders(channels["training"], GOOD)
    class_folders(channels["validation"], range(COUNT))
    class_folders(channels["test"], range(20))
    found = load_splits(channels, num_workers=0, unreadable_limit=0.2)
    assert {out.channel: len(out) for out in found.left_out} == {"validation": 3, "test": 2}
    assert found.test is not None and (len(found.validation), len(found.test)) == (COUNT - 3, 18)
    assert [len(found.validation), 18] == [one.examples for one in found.understandings[1:]]


def test_intact_data_is_the_same_with_skip(tmp_path: Path) -> None:
    found = load(tmp_path, class_folders, GOOD, unreadable_limit=0.01)
    same(found, load(tmp_path, class_folders, GOOD))
    assert found.left_out == ()


def test_what_a_disk_does_not_deliver_is_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ImageFiles.read

    def fail(self: ImageFiles, index: int) -> bytes:
        if index == 7:
            raise OSError(5, "Input/output error")
        return whole(self, index)

    monkeypatch.setattr(ImageFiles, "read", fail)
    with pytest.raises(UserError, match="Input/output error") as error:
        load(tmp_path, class_folders, unreadable_limit=0.9)
    assert not isinstance(error.value, DamagedImageError)


def test_hosts_agree_on_what_is_left_out_of_their_shards(tmp_path: Path) -> None:
    halves = (range(20), range(20, COUNT))
    for name, positions in zip(("algo-1", "algo-2", "whole"), (*halves, range(COUNT)), strict=True):
        (tmp_path / name / "training").mkdir(parents=True)
        listed(tmp_path / name / "training", positions)
    options: dict[str, Any] = {"num_workers": 0, "unreadable_limit": 0.1}  # the first host alone has 2 of 20
    alone = load_splits({"training": tmp_path / "whole/training"}, **options)
    for splits in together([tmp_path / "algo-1", tmp_path / "algo-2"], **options):
        assert splits.left_out[0].ids == alone.left_out[0].ids == ("03.png", "17.png", "30.png")
        assert splits.left_out[0].total == COUNT
        assert torch.equal(splits.train.labels, alone.train.labels)
        assert splits.preprocessing == alone.preprocessing
    with pytest.raises(
        UserError, match=r"3 of 40 images \(0.075\) cannot be read, more than unreadable_limit=0.05"
    ):
        together([tmp_path / "algo-1", tmp_path / "algo-2"], **{**options, "unreadable_limit": 0.05})


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("write", FORMATS)
def test_of_streamed_images_all_are_named_at_once_too(tmp_path: Path, write: Write, workers: int) -> None:
    with pytest.raises(UserError) as error:
        load(tmp_path, write, memory_limit=0, num_workers=workers)
    sentence = str(error.value)
    assert sentence.startswith("training channel: 3 of 40 images cannot be read: ")
    assert "expected intact image files, or on_unreadable=skip" in sentence
    names = ("3.png", "17.png", "30.png") if write is not parquet else ("[3]", "[17]", "[30]")
    assert all(name in sentence for name in names)


def test_a_streamed_image_that_is_damaged_in_training_is_named_with_the_others(tmp_path: Path) -> None:
    found = load(tmp_path, class_folders, GOOD, memory_limit=0, num_workers=2)
    pixels(found)
    damaged = [*found.train_ids][5], next(iter(found.validation_ids))
    for name in damaged:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / [*found.train_ids][7]).unlink()  # gone is another matter
    with pytest.raises(UserError, match="2 of 37 images cannot be read: ") as error:
        list(found.train.batches([torch.tensor([5])], torch.device("cpu")))
    assert all(f"'{name}'" in str(error.value) for name in damaged)


def test_a_pass_that_is_broken_off_closes_its_queues_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice would close what has the number by then."""
    failed: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    for _ in range(3):
        with pytest.raises(UserError):
            load(tmp_path, listed, memory_limit=0, num_workers=2)
        gc.collect()
    for thread in threading.enumerate():
        if thread.name.startswith("QueueFeederThread"):
            thread.join(60)
    assert not failed


def test_a_search_that_fails_leaves_the_error_about_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr("subset_trainer.data.datasets.damaged_among", fail)
    with pytest.raises(DamagedImageError, match="cannot be read"):
        load(tmp_path, class_folders, memory_limit=0)
    assert "The search for other damaged images ended: [Errno 9] Bad file descriptor" in caplog.text


def test_the_search_for_others_ends_in_time_and_says_how_far_it_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subset_trainer.data.datasets.SEEKING_SECONDS", 0.0)
    monkeypatch.setattr("subset_trainer.data.datasets._SOUGHT_AT_ONCE", 10)
    with pytest.raises(UserError) as error:
        load(tmp_path, class_folders, memory_limit=0)
    assert "of 10 that were looked at of 40 images cannot be read: " in str(error.value)


def test_what_is_cached_of_s3_stays_with_its_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from subset_trainer.data.images.s3 import S3Images

    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    whole = S3Images([f"s3://bucket/{number}.png" for number in range(5)], tmp_path, "training")
    for number in range(5):
        whole._keep(number, bytes([number]))
    part = whole.subset(np.array([1, 3, 4])).subset(np.array([0, 2]))
    assert [part.read(index) for index in range(2)] == [b"\x01", b"\x04"]
    assert part.names.tolist() == [b"s3://bucket/1.png", b"s3://bucket/4.png"]

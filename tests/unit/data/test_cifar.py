"""CIFAR's published forms, written here as their authors did, and pickles that are up to no good."""

import io
import lzma
import os
import pickle
import resource
import struct
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subset_trainer.data import load_splits
from subset_trainer.data.formats.cifar import Cifar, _encode, read_cifar
from subset_trainer.data.formats.registry import detect, open_channel
from subset_trainer.errors import UserError

CPU = torch.device("cpu")
NAMES_10 = [f"name{label}" for label in range(10)]
NAMES_100 = [f"fine{label:02}" for label in range(100)]


def examples(seed: int, classes: int, count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, 3072), dtype=np.uint8), np.arange(count) % classes


def python2_pickle(content: dict[str, Any]) -> bytes:
    """A dictionary in the bytes that Python 2's cPickle wrote: protocol 2, byte strings, numpy.core names."""

    def text(value: bytes) -> bytes:
        return (
            b"U" + bytes([len(value)]) + value
            if len(value) < 256
            else b"T" + struct.pack("<i", len(value)) + value
        )

    def item(value: Any) -> bytes:
        if isinstance(value, np.ndarray):
            return (
                b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
                b"(K\x01" + b"".join(b"J" + struct.pack("<i", side) for side in value.shape) + b"\x86"
                b"cnumpy\ndtype\n"
                + text(b"u1")
                + b"K\x00K\x01\x87R(K\x03"
                + text(b"|")
                + b"NNNJ\xff\xff\xff\xff"
                b"J\xff\xff\xff\xffK\x00tb\x89" + text(value.tobytes()) + b"tb"
            )
        if isinstance(value, str):
            return text(value.encode())
        if isinstance(value, int):
            return b"J" + struct.pack("<i", value)
        return b"](" + b"".join(map(item, value)) + b"e"

    return (
        b"\x80\x02}(" + b"".join(text(key.encode()) + item(value) for key, value in content.items()) + b"u."
    )


def files_of(form: str, classes: int, meta: bool = True) -> dict[str, bytes]:
    """name → content of a small CIFAR set, two training batches (one for CIFAR-100) and a test batch."""
    parts = (
        {"data_batch_1": 1, "data_batch_2": 2, "test_batch": 3} if classes == 10 else {"train": 1, "test": 3}
    )
    files = {}
    for name, seed in parts.items():
        pixels, labels = examples(seed, classes, 40 if classes == 10 else 200)
        if form == "binary":
            head = labels[:, None] if classes == 10 else np.stack([labels // 5, labels], 1)
            files[name + ".bin"] = np.concatenate([head.astype(np.uint8), pixels], 1).tobytes()
            continue
        key: dict[str, Any] = (
            {"labels": labels.tolist()}
            if classes == 10
            else {"coarse_labels": [0] * 200, "fine_labels": labels.tolist()}
        )
        content = {
            "batch_label": "a batch",
            **key,
            "data": pixels,
            "filenames": [f"{i}.png" for i in range(len(labels))],
        }
        files[name] = (
            python2_pickle(content)
            if form == "python2"
            else pickle.dumps({key.encode(): value for key, value in content.items()}, protocol=int(form[-1]))
        )
    if meta and form == "binary":
        name = "batches.meta.txt" if classes == 10 else "fine_label_names.txt"
        files[name] = "\n".join([*(NAMES_10 if classes == 10 else NAMES_100), "", ""]).encode()
    elif meta:
        name, title = ("batches.meta", "label_names") if classes == 10 else ("meta", "fine_label_names")
        names = NAMES_10 if classes == 10 else NAMES_100
        files[name] = python2_pickle({title: names, "num_vis": 3072})
    return files


def write(root: Path, files: dict[str, bytes], packed: bool, folder: str = "cifar") -> None:
    if packed:
        with tarfile.open(root / "cifar.tar.gz", "w:gz") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(f"{folder}/{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return
    (root / folder).mkdir()
    for name, content in files.items():
        (root / folder / name).write_bytes(content)


def read(root: Path) -> Cifar:
    channel = open_channel("training", root)
    return read_cifar(channel, detect(channel).files)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize(
    "form", ["binary", "python2", "python-protocol-2", "python-protocol-4", "python-protocol-5"]
)
def test_published_forms(tmp_path: Path, form: str, classes: int, packed: bool) -> None:
    write(tmp_path, files_of(form, classes), packed)
    cifar = read(tmp_path)
    assert cifar.train is not None
    assert cifar.test is not None
    count = 40 if classes == 10 else 200
    parts = [examples(seed, classes, count) for seed in ((1, 2) if classes == 10 else (1,))]
    np.testing.assert_array_equal(
        cifar.train.pixels, np.concatenate([pixels for pixels, _ in parts]).reshape(-1, 3, 32, 32)
    )
    np.testing.assert_array_equal(cifar.train.labels, np.concatenate([labels for _, labels in parts]))
    np.testing.assert_array_equal(cifar.test.pixels.reshape(-1, 3072), examples(3, classes, count)[0])
    assert cifar.train.classes == tuple(NAMES_10 if classes == 10 else NAMES_100)


def test_class_names_without_meta(tmp_path: Path) -> None:
    write(tmp_path, files_of("binary", 10, meta=False), packed=False)
    train = read(tmp_path).train
    assert train is not None
    assert train.classes[0] == "airplane"


def test_training_channel_brings_its_test_batch(tmp_path: Path) -> None:
    write(tmp_path, files_of("python2", 10), packed=True)
    splits = load_splits({"training": tmp_path}, validation_fraction=0.25)
    assert (len(splits.train), len(splits.validation)) == (60, 20)
    assert splits.test is not None
    assert len(splits.test) == 40
    assert splits.preprocessing.classes == tuple(NAMES_10)
    assert splits.preprocessing.input_shape == (3, 32, 32)
    assert "test: the test batch of the training channel, 40 images." in splits.notes
    (pixels,) = splits.test.batches([torch.arange(40)], CPU)
    np.testing.assert_array_equal(pixels.reshape(40, -1), examples(3, 10)[0])


def test_a_test_channel_with_the_whole_set_means_its_test_batch(tmp_path: Path) -> None:
    write(tmp_path, files_of("binary", 10), packed=True)
    splits = load_splits({"training": tmp_path, "validation": tmp_path, "test": tmp_path})
    assert splits.test is not None
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (80, 40, 40)


class Evil:
    def __init__(self, function: Any, *arguments: Any):
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("name", ["data_batch_1", "batches.meta"])
def test_a_pickle_that_runs_commands_is_refused(tmp_path: Path, name: str, protocol: int) -> None:
    trace = tmp_path / "trace"
    files = files_of("python2", 10)
    files[name] = pickle.dumps({"data": Evil(os.system, f"touch {trace}")}, protocol=protocol)
    write(tmp_path, files, packed=False)
    with pytest.raises(
        UserError, match=rf"batch 'cifar/{name}' cannot be read \(it refers to .*system, which is refused"
    ):
        read(tmp_path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "evil",
    [
        Evil(eval, "1"),
        Evil(getattr, "x", "upper"),
        Evil(np.load, "x", None, True),
        np.array([Evil(os.getcwd)], object),
        np.array([1], dtype=[("field", "i4")]),
        {1, 2},
    ],
    ids=["eval", "getattr", "np.load", "object array", "record array", "set"],
)
def test_pickles_of_anything_else_are_refused(tmp_path: Path, evil: Any) -> None:
    write(tmp_path, {**files_of("python2", 10), "data_batch_1": pickle.dumps({"data": evil})}, packed=False)
    with pytest.raises(UserError, match="'cifar/data_batch_1' cannot be read"):
        read(tmp_path)


# A dozen or two bytes each.
MEMO = b"\x80\x02]r\xff\xff\xff\x7f."  # remembers its list as number 2,147,483,647
CLAIM = b"\x80\x05\x96" + (1 << 34).to_bytes(8, "little") + b"."  # a bytearray of 16 GiB
ZEROS = (  # an array of the bytes of a number, which Python takes as so many zeros
    b"\x80\x02cnumpy.core.numeric\n_frombuffer\n(\x8a\x05\x00\x00\x00\x00\x04"
    b"cnumpy\ndtype\nU\x02u1\x85RK\x00U\x01CtR."
)
LISTS = b"\x80\x02}(U\x04data](K\x01e" + b"".join(b"q%c0](h%ch%ce" % (n, n, n) for n in range(60)) + b"u."
KEYS = b"\x80\x02}K\x01" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(60)) + b"K\x01s."
ATTRIBUTE = b"\x80\x02c_codecs\nencode\nN}U\x0c__defaults__K\x01\x85s\x86b."


@pytest.mark.parametrize(
    "content",
    [MEMO, CLAIM, ZEROS, LISTS, KEYS, ATTRIBUTE],
    ids=["memo", "claim", "zeros", "lists of lists", "tuples as a key", "attribute of a function"],
)
def test_a_small_pickle_takes_neither_the_memory_nor_the_time_nor_changes_a_function(
    tmp_path: Path, content: bytes
) -> None:
    write(tmp_path, {**files_of("python2", 10), "data_batch_1": content}, packed=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    with pytest.raises(UserError, match="batch 'cifar/data_batch_1'"):
        read(tmp_path)
    assert time.monotonic() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 19  # KiB
    assert _encode.__defaults__ == ("latin1",)


def test_a_damaged_xz_archive(tmp_path: Path) -> None:
    content = bytearray(lzma.compress(bytes(20_480)))
    content[40] ^= 0xFF
    (tmp_path / "cifar.tar").write_bytes(content)
    with pytest.raises(UserError, match=r"archive 'cifar\.tar' cannot be read"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("data_batch_1", b"\x80\x02garbage", "cannot be read"),
        ("data_batch_1", pickle.dumps([1]), "holds a list; expected a dictionary"),
        ("data_batch_1", pickle.dumps({"labels": [1]}), "no array 'data' of N x 3,072"),
        ("data_batch_1", pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}), "no 'labels'"),
        (
            "data_batch_1",
            pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}),
            "the label 10; expected 0",
        ),
        (
            "data_batch_1",
            pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [1 << 64]}),
            "has a label that is too large",
        ),
        ("test_batch.bin", bytes(3073), "are the same batch"),
    ],
)
def test_damaged_python_batches(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    write(tmp_path, {**files_of("python2", 10), name: content}, packed=False)
    with pytest.raises(UserError, match=expected):
        read(tmp_path)


@pytest.mark.parametrize("names", [5, [1, b"\xff"], None])
def test_odd_class_names_are_left_aside(tmp_path: Path, names: Any) -> None:
    write(
        tmp_path,
        {**files_of("python2", 10), "batches.meta": pickle.dumps({"label_names": names})},
        packed=False,
    )
    train = read(tmp_path).train
    assert train is not None
    assert train.classes[0] == "airplane"


def test_damaged_binary_batches(tmp_path: Path) -> None:
    write(tmp_path, {"data_batch_1.bin": bytes(3072)}, packed=False)
    with pytest.raises(
        UserError, match=r"CIFAR-10 batch 'cifar/data_batch_1\.bin' has 3,072 bytes; expected a multiple"
    ):
        read(tmp_path)


def test_damaged_archive(tmp_path: Path) -> None:
    write(tmp_path, files_of("binary", 10), packed=True)
    archive = tmp_path / "cifar.tar.gz"
    archive.write_bytes(archive.read_bytes()[:50_000])
    with pytest.raises(UserError, match=r"archive 'cifar\.tar\.gz' cannot be read"):
        read(tmp_path)


def test_archive_of_something_else(tmp_path: Path) -> None:
    write(tmp_path, {"photo.jpg": b"x"}, packed=True)
    with pytest.raises(UserError, match=r"archive 'cifar\.tar\.gz' holds no CIFAR batches"):
        read(tmp_path)


def test_both_sets_in_one_channel(tmp_path: Path) -> None:
    write(tmp_path, files_of("binary", 10), packed=False, folder="ten")
    write(tmp_path, {"train.bin": files_of("binary", 100)["train.bin"]}, packed=False, folder="hundred")
    with pytest.raises(UserError, match="CIFAR-10 and of CIFAR-100"):
        read(tmp_path)


def test_archive_members_are_not_extracted(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "cifar.tar.gz", "w:gz") as archive:
        for name, content in files_of("binary", 10).items():
            member = tarfile.TarInfo(f"../../{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert read(tmp_path).train is not None
    assert [path.name for path in tmp_path.iterdir()] == ["cifar.tar.gz"]

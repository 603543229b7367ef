"""Files that are made to exhaust the memory, never to end, or to reach beyond their channel."""

import gzip
import io
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from subset_trainer.data import load_splits
from subset_trainer.data.formats.cifar import read_cifar
from subset_trainer.data.formats.csv_tables import LONGEST_LINE
from subset_trainer.data.formats.registry import detect, open_channel
from subset_trainer.data.images.decoding import ImageFiles, cover, decode
from subset_trainer.data.tables.table import MOST_COLUMNS
from subset_trainer.errors import UserError
from tests.kinds import table_kind
from tests.unit.data.test_cifar import files_of

MEMORY = 64 << 20


@pytest.fixture
def bounded() -> Iterator[None]:
    """The test may take as much memory as a well-meant file of this kind."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MEMORY, f"{peak / 1e6:.0f} MB"


def complaint(root: Path) -> str:
    with pytest.raises(UserError) as error:
        load_splits({"training": root})
    assert "\n" not in str(error.value)
    return str(error.value)


# Archives


def add(archive: tarfile.TarFile, name: str, content: bytes = b"", **attributes: Any) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for attribute, value in attributes.items():
        setattr(member, attribute, value)
    archive.addfile(member, io.BytesIO(content))


def bomb(path: Path, name: str, size: int, kind: bytes = tarfile.REGTYPE) -> None:
    """A gzip-compressed tar file with one member of so many zeros, some thousandth of that in size."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(member.tobuf(tarfile.GNU_FORMAT))
        for _ in range(min(size, 256 << 20) >> 20):
            file.write(bytes(1 << 20))


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("name", ["data_batch_1.bin", "cifar/other.txt"])
def test_an_archive_that_holds_terabytes_is_not_unpacked(tmp_path: Path, name: str) -> None:
    bomb(tmp_path / "cifar.tar.gz", name, 1 << 33)
    with pytest.raises(
        UserError, match=r"archive 'cifar\.tar\.gz' holds 8\.6 GB or more, of which 1\.0 GB fit"
    ):
        read_cifar(open_channel("training", tmp_path), ("cifar.tar.gz",), memory=10**9)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_member_s_name_takes_no_memory(tmp_path: Path, kind: bytes) -> None:
    bomb(tmp_path / "cifar.tar.gz", "././@LongLink", 256 << 20, kind)
    assert "cannot be read (an extended header of 268,435,456 bytes)" in complaint(tmp_path)


def test_links_and_devices_in_an_archive_are_passed_over(tmp_path: Path) -> None:
    """And nothing is unpacked to the disk, whatever the members' names are."""
    private = tmp_path / "private"
    private.write_bytes(bytes(3073))
    channel = tmp_path / "channel"
    channel.mkdir()
    with tarfile.open(channel / "cifar.tar.gz", "w:gz") as archive:
        for name, content in files_of("binary", 10).items():
            add(archive, f"{tmp_path}/absolute/{name}", content)
        add(archive, "../../data_batch_3.bin", type=tarfile.SYMTYPE, linkname=str(private))
        add(archive, "data_batch_4.bin", type=tarfile.LNKTYPE, linkname=str(private))
        add(archive, "data_batch_5.bin", type=tarfile.CHRTYPE, devmajor=1, devminor=5)
        add(archive, "data_batch_6.bin", type=tarfile.FIFOTYPE)
    splits = load_splits({"training": channel})
    assert len(splits.train) + len(splits.validation) == 80
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["channel", "cifar.tar.gz", "private"]


def test_arrays_of_terabytes_are_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "xy":
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(
                    file, {"descr": "|u1", "fortran_order": False, "shape": (1 << 26, 1)}
                )
                for _ in range(1 << 6):
                    file.write(bytes(1 << 20))
    opened = open_channel("training", tmp_path)
    from subset_trainer.data.formats.npz import read_npz

    with pytest.raises(
        UserError,
        match=r"file 'a\.npz' takes 0\.1 GB or more in memory once it is read, of which 0\.0 GB are",
    ):
        read_npz(opened, detect(opened).files, memory=1 << 20)


def test_an_array_that_claims_more_than_it_holds(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, archive.open("x.npy", "w") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (1 << 50, 2)}
        np.lib.format.write_array_header_1_0(file, header)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("y.npy", b"")
    assert "file 'a.npz' cannot be read" in complaint(tmp_path)


# Pickles


def batch(content: bytes, folder: Path) -> Path:
    (folder / "data_batch_1").write_bytes(content)
    return folder


@pytest.mark.usefixtures("bounded")
@pytest.mark.timeout(60)
def test_lists_of_lists_that_are_the_same_one_are_refused(tmp_path: Path) -> None:
    """A billion billion numbers in a few bytes."""
    labels: list[Any] = [0] * 100
    for _ in range(9):
        labels = [labels] * 100
    root = batch(pickle.dumps({"data": labels, "labels": [0]}), tmp_path)
    assert "cannot be read (containers within a list)" in complaint(root)


@pytest.mark.usefixtures("bounded")
def test_a_pickle_that_numbers_its_objects_high_is_refused(tmp_path: Path) -> None:
    """The table of objects would take 64 GB."""
    root = batch(b"\x80\x02}r" + struct.pack("<I", 2**32 - 1) + b".", tmp_path)
    assert "'data_batch_1'" in complaint(root)


def test_a_label_without_end_is_refused(tmp_path: Path) -> None:
    content = pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [1, 10**1000]})
    assert "has a label that is too large; expected 0 to 9" in complaint(batch(content, tmp_path))


# Images


def png(width: int, height: int, megabytes: int) -> bytes:
    """A grey image that claims a size and holds what it likes, black."""
    zeros = zlib.compressobj()
    rows = b"".join(zeros.compress(bytes(1 << 20)) for _ in range(megabytes)) + zeros.flush()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(20_000, 10_000), (2**31 - 1, 2**31 - 1)])
def test_an_image_of_gigapixels_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "x.png").write_bytes(png(*size, 0))
    with pytest.raises(
        UserError,
        match=r"image 'x\.png' cannot be read \(it has .* pixels and max_image_pixels=178,956,970\)",
    ):
        ImageFiles(["x.png"], tmp_path).decode(0, (8, 8))


@pytest.mark.usefixtures("bounded")
def test_more_rows_than_an_image_claims_are_not_unpacked() -> None:
    assert decode(png(2, 2, 200))[..., 0].tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("size", [(60_000, 1), (1, 60_000)])
def test_a_line_of_pixels_is_not_scaled_until_it_covers_a_square(size: tuple[int, int]) -> None:
    """That would be ten gigabytes; its middle is taken all the same."""
    line = np.zeros((size[1], size[0], 3), np.uint8)
    line.reshape(-1, 3)[29_990:30_010] = (10, 20, 30)
    image = cover(Image.fromarray(line), (224, 224))
    assert image.size == (224, 224)
    assert np.unique(np.asarray(image).reshape(-1, 3), axis=0).tolist() == [[10, 20, 30]]


def test_a_file_of_a_terabyte_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subset_trainer.data.images.decoding.LARGEST_FILE", 1 << 20)
    with (tmp_path / "x.png").open("wb") as file:
        file.truncate(1 << 40)  # takes no place on the disk
    with pytest.raises(UserError, match=r"image 'x\.png' cannot be read \(it has more than 1 MiB\)"):
        ImageFiles(["x.png"], tmp_path).decode(0, (8, 8))


# Tables


def csv(folder: Path, text: bytes, file: str = "t.csv") -> Path:
    (folder / file).write_bytes(gzip.compress(text, 1) if file.endswith(".gz") else text)
    return folder


GOOD = "label,a,b\n" + "".join(f"{i % 2},{i}.5,{i}\n" for i in range(40))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            (GOOD + "1," * LONGEST_LINE + "\n").encode(),
            "file 't.csv', line 42: a line of more than 16,777,216 bytes; expected CSV.",
        ),
        (b"1," * LONGEST_LINE, "file 't.csv', line 1: a line of more than 16,777,216 bytes"),
        (b"1," * 5_000_000 + b"1\n", "file 't.csv' has 5,000,001 columns; expected at most 100,000."),
        (b"1," * MOST_COLUMNS + b"1\n", "file 't.csv' has 100,001 columns; expected at most 100,000."),
        (
            (GOOD + "1" + ",1" * 5_000_000 + "\n").encode(),
            "file 't.csv', line 42: 5000001 fields; expected 3, as in the first line",
        ),
        ((GOOD + "1,2\0,3\n").encode(), "line 42: a NUL character, which no UTF-8 text has; expected CSV."),
        (GOOD.encode("utf-16-le"), "file 't.csv', line 1: a NUL character, which no UTF-8 text has"),
        ((GOOD + "café,1,2\n").encode("latin-1"), "not UTF-8 text (byte 0xe9)"),
        ((GOOD + '1,"2').encode() + b"3" * 200_000, "line 42: 2 fields; expected 3, as in the first line"),
    ],
    ids=[
        "long-line",
        "one-line",
        "wide",
        "too-wide",
        "wide-row",
        "NUL",
        "utf-16-le",
        "latin-1",
        "quote",
    ],
)
@pytest.mark.timeout(60)
def test_text_that_is_no_table(tmp_path: Path, text: bytes, expected: str) -> None:
    assert expected in complaint(csv(tmp_path, text))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path: Path, encoding: str) -> None:
    text = "y,a\n" + "".join(f"{'né' if i % 2 else '丽'},{i * i}.5\n" for i in range(40_000))
    splits = load_splits({"training": csv(tmp_path, text.encode(encoding))})
    assert splits.preprocessing.classes == ("né", "丽")
    assert len(splits.train) + len(splits.validation) == 40_000


def test_a_compressed_table_of_terabytes_is_not_unpacked(tmp_path: Path) -> None:
    from subset_trainer.data.formats.csv_tables import read_csv

    root = csv(tmp_path, GOOD.encode() + b"1,2.5,3\n" * (8 << 20), "t.csv.gz")
    assert (root / "t.csv.gz").stat().st_size < 1 << 20
    with pytest.raises(UserError, match=r"file 't\.csv\.gz' takes 0\.2 GB or more in memory once it is read"):
        read_csv(open_channel("training", root), ("t.csv.gz",), memory=1 << 20)


def test_a_wide_table_is_read(tmp_path: Path) -> None:
    """In time that grows as its columns do, names included."""
    header = "label," + ",".join(f"c{i}" for i in range(20_000))
    rows = [f"{row % 2}" + f",{row}" * 20_000 for row in range(8)]
    splits = load_splits({"training": csv(tmp_path, "\n".join([header, *rows, ""]).encode())})
    assert splits.preprocessing.input_shape == (20_000,)


def test_formulas_are_texts(tmp_path: Path) -> None:
    rows = "".join(f"{i % 2},{['=1+1', '=cmd|/c calc!A1', '@SUM(A1)'][i % 3]}\n" for i in range(30))
    splits = load_splits({"training": csv(tmp_path, ("label,a\n" + rows).encode())})
    assert table_kind(splits.preprocessing).columns[0].categories == ("=1+1", "=cmd|/c calc!A1", "@SUM(A1)")


def test_a_formula_among_numbers_is_named(tmp_path: Path) -> None:
    text = complaint(csv(tmp_path, (GOOD + "1,=1+1,2\n").encode()))
    assert text == (
        "training channel: file 't.csv', line 42, column 'a': the value is '=1+1'; expected a number, as in other rows."
    )


@pytest.mark.parametrize("kind", ["image", "csv", "npz", "cifar"])
def test_a_file_that_goes_while_the_channel_is_read(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {
        "image": ["a/1.png", "a/2.png", "b/1.png", "b/2.png"],
        "csv": ["t.csv"],
        "npz": ["a.npz"],
        "cifar": ["data_batch_1.bin"],
    }[kind]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    opened = open_channel("training", tmp_path)
    (tmp_path / names[-1]).unlink()
    monkeypatch.setattr("subset_trainer.data.splits.open_channel", lambda name, root, listing: opened)
    text = complaint(tmp_path)
    assert text.startswith("training channel: ")
    assert "cannot be read" in text
    if kind != "image":
        assert names[0] in text

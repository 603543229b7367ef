"""Data that grows beyond a container's memory, in each format: the job ends with one sentence, not with code 137."""

import gzip
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.image.conftest import Image

LIMIT = 1 << 30
OPTIONS = ("--memory", str(LIMIT), "--memory-swap", str(LIMIT))
TIMES = (1.5, 3, 10)
QUICK = {"strategy": "full", "model": "mlp", "epochs": "1", "report": "false"}


def run(image: Image, folder: Path, **given: str) -> tuple[int, str, str]:
    """The exit code, the log and the failure reason of a job on the data in `folder`/input/data/training."""
    configuration = folder / "input" / "config"
    configuration.mkdir(parents=True)
    (configuration / "hyperparameters.json").write_text(json.dumps(QUICK | given))
    done = image.run("train", options=[*OPTIONS, "-v", f"{folder}:/opt/ml"])
    failure = folder / "output" / "failure"
    return (
        done.returncode,
        done.stdout + done.stderr,
        failure.read_text() if failure.exists() else "",
    )


def packed(path: Path, first: bytes, block: bytes, size: float) -> None:
    """A gzip file of a first line, and a block again and again; its members are packed once."""
    member = gzip.compress(block, 1)
    path.write_bytes(gzip.compress(first) + member * int(size / len(block)))


def linked(folder: Path, name: str, content: bytes, size: float) -> None:
    """So many files of the same content, which lies on the disk once."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name.format(0)).write_bytes(content)
    for number in range(1, max(2, int(size / len(content)))):
        os.link(folder / name.format(0), folder / name.format(number))


def csv_of_digits(folder: Path, size: float) -> None:
    packed(folder / "t.csv.gz", b"label,a,b,c,d\n", b"0,1,2,3,4\n1,4,3,2,1\n" * 50_000, size)


def csv_of_floats(folder: Path, size: float) -> None:
    block = b"".join(b"%d,%.6f,%.6f\n" % (n % 2, n / 7, -n / 13) for n in range(20_000))
    packed(folder / "t.csv.gz", b"label,a,b\n", block, size)


def csv_of_texts(folder: Path, size: float) -> None:
    rows = (
        b"%d,some words of line %d and a few more of them\n" % (n % 2, n * 7919 % 99_991)
        for n in range(50_000)
    )
    packed(folder / "t.csv.gz", b"label,text\n", b"".join(rows), size)


def csv_that_pyarrow_does_not_read(folder: Path, size: float) -> None:
    packed(folder / "t.csv.gz", b"label,a,b\n", b'0, "1", "2"\n1, "3", "4"\n' * 50_000, size)


def csv_in_several_files(folder: Path, size: float) -> None:
    linked(folder, "{}.csv", b"label,a,b,c\n" + b"0,1,2,3\n1,3,2,1\n" * 1_000_000, size)


def parquet_of_numbers(folder: Path, size: float) -> None:
    parquet(folder, size, {f"x{at}": np.zeros(1_000_000) for at in range(8)})


def parquet_of_dictionaries(folder: Path, size: float) -> None:
    names = np.array([f"{at:020d}" for at in range(1_000)])
    parquet(folder, size, {f"x{at}": names[np.arange(1_000_000) % 1_000] for at in range(2)})


def parquet_of_texts(folder: Path, size: float) -> None:
    parquet(
        folder, size, {"text": [f"words {at} of a long text {'which goes on ' * 20}" for at in range(20_000)]}
    )


def parquet(folder: Path, size: float, columns: dict[str, "np.ndarray | list[str]"]) -> None:
    """Row groups, each of the same columns and a label."""
    import pyarrow as pa
    from pyarrow import parquet as pq

    table = pa.table(columns)
    table = table.append_column("label", pa.array(np.arange(len(table)) % 2))
    with pq.ParquetWriter(folder / "t.parquet", table.schema, compression="zstd") as writer:
        for _ in range(max(1, int(size / table.nbytes))):
            writer.write_table(table)


def libsvm_of_zeros(folder: Path, size: float) -> None:
    rows = int(size / 8 / 50_000)
    (folder / "t.libsvm").write_text("0 1:1\n1 50000:1\n" * (rows // 2 + 1))


def libsvm_of_numbers(folder: Path, size: float) -> None:
    linked(folder, "{}.libsvm", b"0 1:1 2:2 3:3\n1 1:3 2:2 3:1\n" * 500_000, size)


def protobuf(folder: Path, size: float) -> None:
    """Sparse records: one number, and a shape of 100,000."""

    def field(number: int, content: bytes) -> bytes:
        length, varint = len(content), b""
        while length > 127:
            varint, length = varint + bytes([length & 127 | 128]), length >> 7
        return bytes([number << 3 | 2]) + varint + bytes([length]) + content

    def entry(tensor: bytes) -> bytes:
        return field(1, b"values") + field(
            2, field(2, tensor)
        )  # a map's entry, of a Value, of a Float32Tensor

    records = b""
    for label in range(2):
        values = field(1, struct.pack("<f", 1))
        sparse = values + field(2, b"\x05") + field(3, b"\xa0\x8d\x06")
        message = field(1, entry(sparse)) + field(2, entry(field(1, struct.pack("<f", label))))
        records += struct.pack("<II", 0xCED7230A, len(message)) + message + bytes(-len(message) % 4)
    (folder / "t.pbr").write_bytes(records * (int(size / 8 / 100_000 / 2) + 1))


def texts(folder: Path, size: float) -> None:
    for name in ("bad", "good"):
        linked(folder / name, "{}.txt", f"a {name} text ".encode() * 400_000, size / 2)


def texts_of_wide_characters(folder: Path, size: float) -> None:
    """One character beyond 65,535 makes each of a text's characters take four bytes."""
    for name in ("bad", "good"):
        linked(folder / name, "{}.txt", f"a {name} text ".encode() * 40_000 + "🙂".encode(), size / 2)


def json_lines(folder: Path, size: float) -> None:
    line = json.dumps({"source": "words of a text " * 300, "label": 0})
    block = (line + "\n" + line.replace('"label": 0', '"label": 1') + "\n").encode() * 1_000
    linked(folder, "{}.manifest", block, size)


def arrays(folder: Path, size: float) -> None:
    rows = int(size / 20)
    with zipfile.ZipFile(folder / "t.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, width in (("x", 20), ("y", 1)):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                shape = (rows, width) if name == "x" else (rows,)
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                for start in range(0, rows * width, 1 << 24):
                    file.write(bytes(min(1 << 24, rows * width - start)))


FORMATS: tuple[Callable[[Path, float], None], ...] = (
    *(csv_of_digits, csv_of_floats, csv_of_texts, csv_that_pyarrow_does_not_read, csv_in_several_files),
    *(parquet_of_numbers, parquet_of_dictionaries, parquet_of_texts),
    *(libsvm_of_zeros, libsvm_of_numbers, protobuf, texts, texts_of_wide_characters, json_lines, arrays),
)


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("make", FORMATS, ids=lambda make: make.__name__)
def test_data_beyond_the_memory(
    image: Image, tmp_path: Path, make: Callable[[Path, float], None], times: float
) -> None:
    data = tmp_path / "input" / "data" / "training"
    data.mkdir(parents=True)
    make(data, times * LIMIT)
    code, log, failure = run(image, tmp_path)
    assert code == 1, log
    assert failure.startswith("training channel: "), log
    assert "GB are left; expected less data, or an instance with more memory" in failure, log
    assert log.strip().endswith(failure)


def test_a_nested_column_beyond_the_memory_is_not_read(image: Image, tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet as pq

    data = tmp_path / "input" / "data" / "training"
    data.mkdir(parents=True)
    rows = pa.table({"label": [0, 1] * 50, "a": range(100), "nested": [[0] * 100_000] * 100})
    with pq.ParquetWriter(data / "t.parquet", rows.schema, compression="zstd") as writer:
        for _ in range(int(3 * LIMIT / rows.nbytes)):
            writer.write_table(rows)
    code, log, failure = run(image, tmp_path)
    assert code == 1, log
    assert "column 'nested' (list<" in failure and "ignore_columns=nested" in failure


def test_a_table_that_fits_is_trained_on(image: Image, tmp_path: Path) -> None:
    """Its rows take a third of what the container has left: the guard does not refuse what there is room for."""
    data = tmp_path / "input" / "data" / "training"
    data.mkdir(parents=True)
    csv_of_digits(data, 8e6)
    code, log, _ = run(image, tmp_path, batch_size="4096")
    assert code == 0, log


def test_a_job_that_the_kernel_kills_for_memory_says_so(image: Image, digits: Path, tmp_path: Path) -> None:
    """What no guard has foreseen: the container's first process is another than the one that grows."""
    configuration = tmp_path / "input" / "config"
    configuration.mkdir(parents=True)
    (configuration / "hyperparameters.json").write_text(json.dumps(QUICK | {"batch_size": "32"}))
    (tmp_path / "input" / "data").mkdir()
    options = ["-v", f"{tmp_path}:/opt/ml", "--memory", "170m", "--memory-swap", "170m"]
    for channel in ("training", "test"):
        options += ["-v", f"{digits / channel}:/opt/ml/input/data/{channel}:ro"]
    done = image.run("train", options=options)
    failure = (tmp_path / "output" / "failure").read_text()
    assert done.returncode == 1, done.stdout + done.stderr
    assert failure.startswith("the machine's memory ran out, and the system ended the job")
    assert done.stdout.strip().endswith(failure)

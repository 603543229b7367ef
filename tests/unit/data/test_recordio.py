import io
import struct
from pathlib import Path

import pytest
from sagemaker.amazon.common import _write_recordio

from subset_trainer.data.formats import recordio
from subset_trainer.data.formats.recordio import MAGIC


def part(flag: int, content: bytes) -> bytes:
    return MAGIC + struct.pack("<I", flag << 29 | len(content)) + content + bytes(-len(content) % 4)


def read(path: Path, content: bytes) -> list[bytes]:
    path.write_bytes(content)
    with path.open("rb") as file:
        return list(recordio.records(file))


def test_what_sagemaker_writes_is_read(tmp_path: Path) -> None:
    written = io.BytesIO()
    given = [b"", b"a", b"ab", b"abc", b"abcd", b"abcde"]
    for content in given:
        _write_recordio(written, content)
    assert read(tmp_path / "a.rec", written.getvalue()) == given


def test_a_record_that_holds_the_magic_number_is_joined_again(tmp_path: Path) -> None:
    # As dmlc-core writes it: the number is left out where the record is taken apart.
    content = part(1, b"abcd") + part(2, b"") + part(3, b"efgh!") + part(0, b"next")
    assert read(tmp_path / "a.rec", content) == [b"abcd" + MAGIC + MAGIC + b"efgh!", b"next"]


def test_a_record_is_read_where_it_begins(tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    path.write_bytes(part(0, b"one") + part(1, b"two.") + part(3, b"three") + part(0, b"four"))
    with path.open("rb") as file:
        found = [start for start, _ in recordio.spans(file)]
        assert found == [0, 12, 40]
        assert [recordio.read(file, at) for at in reversed(found)] == [
            b"four",
            b"two." + MAGIC + b"three",
            b"one",
        ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (part(0, b"abcd")[:-1], "the record at byte 0 should have 4 bytes, of which the file has 3"),
        (part(0, b"abcd") + MAGIC, "the file ends within the record at byte 12"),
        (part(0, b"abcd") + b"label,x1,x2\n", "byte 12: 6c616265 stands where a record begins with 0a23d7ce"),
        (part(2, b"abcd"), "byte 0: a record part of kind 2 is not allowed here"),
        (part(1, b"abcd") + part(0, b"abcd"), "byte 12: a record part of kind 0 is not allowed here"),
        (part(1, b"abcd"), "the file ends within the record at byte 0"),
        (part(7, b"abcd"), "byte 0: a record part of kind 7 is not allowed here"),
        (
            MAGIC + struct.pack("<I", (1 << 29) - 1) + b"a",
            "should have 536,870,911 bytes, of which the file has 1",
        ),
    ],
)
def test_what_is_no_record_is_said_to_be_none(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.rec", content)

"""The framing of RecordIO files, which MXNet's image records and SageMaker's recordio-protobuf share.

A record is a magic number, a word of 3 and 29 bits (both little-endian), as many bytes as the 29 bits say, and zeros
up to a multiple of 4. The 3 bits distinguish a whole record (0) from the first (1), a middle (2) and the last (3) part
of a record that was split wherever it contained the magic number. Joining the parts inserts the magic number between
them again (dmlc-core's recordio.h). This module does not interpret the content of records.
"""

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

SUFFIXES = (".rec", ".recordio")
"""Suffixes of files with images, or with tables in recordio-protobuf."""
MAGIC = struct.pack("<I", 0xCED7230A)

_HEADER = struct.Struct("<4sI")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)


def spans(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """(offset, length) of each record in bytes, frame included. It reads headers only, so that large files cost little.

    Raises:
        ValueError: a record is malformed or incomplete; the message says where.
    """
    size = file.seek(0, io.SEEK_END)
    at = 0
    while at < size:
        parts = list(_parts(file, at, size))
        begin, length = parts[-1]
        end = min(size, begin + length + -length % 4)
        yield at, end - at
        at = end


def read(file: BinaryIO, offset: int, most: int | None = None) -> bytes:
    """The bytes of the record at an offset, or at least its first ``most``. Raises ValueError as in `spans`."""
    pieces: list[bytes] = []
    for begin, length in _parts(file, offset, file.seek(0, io.SEEK_END)):
        file.seek(begin)
        wanted = length if most is None else min(length, most)
        piece = file.read(wanted)
        if len(piece) < wanted:
            raise ValueError(f"the record at byte {offset:,} became shorter while it was read")
        pieces.append(piece)
        if most is not None and sum(map(len, pieces)) >= most:
            break
    return MAGIC.join(pieces)


def whole(framed: bytes) -> bytes:
    """The content of a record that is given with its frame. Raises ValueError as in `spans`."""
    return read(io.BytesIO(framed), 0)


def records(file: BinaryIO) -> Iterator[bytes]:
    """All records of a file, in order. Raises ValueError as in `spans`."""
    for start, _ in spans(file):
        yield read(file, start)


def _parts(file: BinaryIO, offset: int, size: int) -> Iterator[tuple[int, int]]:
    """(offset, length) of the content of each part of a record."""
    at, expected = offset, (_WHOLE, _FIRST)
    while True:
        file.seek(at)
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise ValueError(f"the file ends within the record at byte {offset:,}")
        magic, word = _HEADER.unpack(header)
        if magic != MAGIC:
            raise ValueError(
                f"byte {at:,}: {magic.hex()} stands where a record begins with {MAGIC.hex()}, RecordIO's magic number"
            )
        flag, length = word >> 29, word & (1 << 29) - 1
        if flag not in expected:
            raise ValueError(f"byte {at:,}: a record part of kind {flag} is not allowed here")
        begin = at + _HEADER.size
        if begin + length > size:
            raise ValueError(
                f"the record at byte {offset:,} should have {length:,} bytes, of which the file has {size - begin:,}"
            )
        yield begin, length
        if flag in (_WHOLE, _LAST):
            return
        at, expected = begin + length + -length % 4, (_MIDDLE, _LAST)

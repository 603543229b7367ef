"""Many encoded images in few files, located by offset and length; and a temporary file for images from streams."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np

from subset_trainer.data.images.decoding import LARGEST_FILE, EncodedImages
from subset_trainer.errors import UserError


class Spool:
    """An unnamed temporary file, which lives as long as this process and its forked processes.

    Sources without random access (a pipe, a compressed archive, Parquet pages) are copied here, and their images are
    then read like those of any file. `channel`: the channel's name in messages.
    """

    def __init__(self, channel: str):
        self.channel = channel
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - for as long as somebody reads from it
        weakref.finalize(self, self._file.close)
        self._end = 0

    @property
    def file(self) -> BinaryIO:
        """All appended data, open for reading."""
        self.flush()
        return self._file

    @property
    def descriptor(self) -> int:
        """A file descriptor for the flushed data."""
        return self._file.fileno()

    def flush(self) -> None:
        """Flush before processes are forked; otherwise each would write its own copy of the buffer."""
        self._file.flush()

    def append(self, data: bytes) -> int:
        """Append data and return its offset. Raises UserError if there is no space left."""
        try:
            self._file.write(data)
        except OSError as error:
            free = shutil.disk_usage(tempfile.gettempdir()).free
            raise UserError(
                f"{self.channel} channel: its images are copied to {tempfile.gettempdir()} to be read one by one; it "
                f"has {free / 1e9:.1f} GB left after {self._end / 1e9:.1f} GB ({error.strerror}); expected room for "
                "all of them: a larger volume, or TMPDIR naming another folder."
            ) from error
        begin, self._end = self._end, self._end + len(data)
        return begin


class PackedImages(EncodedImages):
    """Images that are parts of files.

    Args:
        sources: paths, or spools.
        places: [N, 3] int64: the index of the source, the offset, and the length in bytes.
        names: [N], and channel: as in :class:`EncodedImages`.
        unwrap: extracts the encoded image from a part of a file; raises ValueError if it holds none.
    """

    def __init__(
        self,
        sources: Sequence[Path | Spool],
        places: np.ndarray,
        names: Sequence[str],
        channel: str,
        unwrap: Callable[[bytes], bytes] | None = None,
    ):
        super().__init__(names, channel)
        self._sources = list(sources)
        for source in self._sources:
            if isinstance(source, Spool):
                source.flush()
        self._places = places
        self._unwrap = unwrap

    def subset(self, rows: np.ndarray) -> Self:
        part = super().subset(rows)
        part._places = self._places[rows]
        return part

    def size(self, index: int) -> int:
        return int(self._places[index, 2])

    def read(self, index: int) -> bytes:
        source, begin, length = (int(value) for value in self._places[index])
        if length > LARGEST_FILE:
            raise ValueError(f"it has more than {LARGEST_FILE >> 20} MiB")
        opened = self._sources[source]
        if isinstance(opened, Spool):
            piece = _piece(opened.descriptor, begin, length)
        else:
            with opened.open("rb") as file:
                piece = _piece(file.fileno(), begin, length)
        if len(piece) < length:
            raise ValueError("the file that it lies in became shorter")
        return self._unwrap(piece) if self._unwrap else piece


def _piece(descriptor: int, begin: int, length: int) -> bytes:
    # pread instead of seek and read, because forked workers share the file position.
    piece = os.pread(descriptor, length, begin)
    while 0 < len(piece) < length:
        more = os.pread(descriptor, length - len(piece), begin + len(piece))
        if not more:
            break
        piece += more
    return piece

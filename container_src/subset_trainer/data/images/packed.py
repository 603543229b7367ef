"""Many encoded images in few files: where each begins and ends, and a file for those that lie nowhere whole."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from subset_trainer.data.images.decoding import LARGEST_FILE, EncodedImages
from subset_trainer.errors import UserError


class Spool:
    """A temporary file without a name, which lives as long as this process or one that it forked.

    What is read once, in order, and cannot be asked for a single image (a pipe, a compressed archive, Parquet's pages)
    is copied here, and its images are then read like those of any file. channel: what messages call the channel.
    """

    def __init__(self, channel: str):
        self.channel = channel
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - for as long as somebody reads from it
        weakref.finalize(self, self._file.close)
        self._end = 0

    @property
    def file(self) -> BinaryIO:
        """All that was appended, to be read."""
        self.flush()
        return self._file

    @property
    def descriptor(self) -> int:
        """Of what was flushed."""
        return self._file.fileno()

    def flush(self) -> None:
        """Before processes are forked: each would write what is left in its own copy."""
        self._file.flush()

    def append(self, data: bytes) -> int:
        """Where the data begins. UserError where there is no room left for it."""
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
    """Images that are pieces of files.

    Args:
        sources: paths, or a spool.
        places: [N, 3] int64: which of the sources, where the piece begins, how many bytes it has.
        names: [N], and channel: as in :class:`EncodedImages`.
        unwrap: from a piece to the encoded image that it holds; ValueError where it holds none.
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
    # Not seek and read: forked workers share a position.
    piece = os.pread(descriptor, length, begin)
    while 0 < len(piece) < length:
        more = os.pread(descriptor, length - len(piece), begin + len(piece))
        if not more:
            break
        piece += more
    return piece

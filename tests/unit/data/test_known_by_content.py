"""Files that no format reads are named by what they hold."""

import gzip
import pickle
import struct
from pathlib import Path

import pytest

from tests.unit.data.test_layout import put, refused

IDX = struct.pack(">HBBIII", 0, 8, 3, 2, 4, 4) + bytes(32)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("train-images-idx3-ubyte", IDX, "by content IDX arrays"),
        (
            "train-images-idx3-ubyte.gz",
            gzip.compress(IDX, mtime=0),
            "by content IDX arrays (MNIST's form) and gzip",
        ),
        (
            "train_32x32.mat",
            b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(200),
            "by content MATLAB (.mat)",
        ),
        ("data.mdb", bytes(16) + b"\xde\xc0\xef\xbe" + bytes(200), "by content LMDB"),
        ("data.h5", b"\x89HDF\r\n\x1a\n" + bytes(200), "by content HDF5"),
        ("data.pkl.gz", gzip.compress(pickle.dumps([1, 2]), mtime=0), "by content gzip and pickle"),
    ],
)
def test_what_is_not_read_is_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    refused(put(tmp_path, {name: content}), f"found '{name}'", said, ".npz files")

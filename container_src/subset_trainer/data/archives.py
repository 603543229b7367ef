"""Tar archives from elsewhere, opened so that what they claim of themselves costs no more than what they hold."""

import tarfile
from pathlib import Path
from typing import Any

ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar")
LONGEST_NAME = 1 << 16
"""Bytes of an archive's extended header, which tarfile reads into memory whole."""
_COMPRESSED = {b"\x1f\x8b": "r:gz", b"BZh": "r:bz2", b"\xfd7zXZ\x00": "r:xz"}


def compression(path: Path) -> str:
    """tarfile's mode for an archive, by its first bytes: 'r:' where it is not compressed. OSError."""
    with path.open("rb") as opened:
        start = opened.read(6)
    # Said, not tried: where one fails, tarfile tells of all that it has tried.
    return next((mode for magic, mode in _COMPRESSED.items() if start.startswith(magic)), "r:")


def open_tar(path: Path) -> tarfile.TarFile:
    """The archive, to be closed by the caller. Damaged ones raise nearly anything, here or when they are read."""
    return tarfile.open(path, compression(path), tarinfo=_Member)  # type: ignore[call-overload]


class _Member(tarfile.TarInfo):
    """A tar header that does not ask for more memory than a name needs."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> "_Member":
        member = super().frombuf(buf, encoding, errors)
        names = (
            tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK,
            tarfile.XHDTYPE,
            tarfile.XGLTYPE,
            tarfile.SOLARIS_XHDTYPE,
        )
        if member.type in names and member.size > LONGEST_NAME:
            raise tarfile.ReadError(f"an extended header of {member.size:,} bytes")
        return member

"""Opens untrusted tar archives with bounded memory: sizes in their headers are checked before they are allocated."""

import tarfile
import zipfile
from pathlib import Path
from typing import Any

from subset_trainer.data.channels import Channel, is_system
from subset_trainer.data.machine import memory_available

ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar")
LONGEST_NAME = 1 << 16
"""Largest extended header in bytes; tarfile reads extended headers into memory whole."""
_COMPRESSED = {b"\x1f\x8b": "r:gz", b"BZh": "r:bz2", b"\xfd7zXZ\x00": "r:xz"}


def compression(path: Path) -> str:
    """tarfile's mode for an archive, chosen by its first bytes; 'r:' if it is not compressed. Raises OSError."""
    with path.open("rb") as opened:
        start = opened.read(6)
    # The mode is explicit, because tarfile's automatic mode reports the failures of every compression it tried.
    return next((mode for magic, mode in _COMPRESSED.items() if start.startswith(magic)), "r:")


def open_tar(path: Path) -> tarfile.TarFile:
    """Open the archive; the caller closes it. Damaged archives raise almost any exception, here or during reading."""
    return tarfile.open(path, compression(path), tarinfo=_Member)  # type: ignore[call-overload]


def content_of(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """A file's content. Raises ValueError, before anything is unpacked, if it does not fit in memory."""
    check_fits(member.size, member.name)
    opened = archive.extractfile(member)
    assert opened is not None
    return opened.read()


def check_fits(size: int, name: str) -> None:
    """Raise ValueError if so many bytes do not fit in memory."""
    if size > (free := memory_available()):
        raise ValueError(f"'{name}' holds {size / 1e9:,.1f} GB, of which {free / 1e9:.1f} GB fit in memory")


def zip_members(channel: Channel, archive: str) -> list[str]:
    """The names of a zip archive's files, without those that macOS adds; none if it cannot be read."""
    try:
        with zipfile.ZipFile(channel.root / archive) as opened:
            names = opened.namelist()
    except Exception:  # damaged archives raise many exceptions
        return []
    return [name for name in names if not name.endswith("/") and not any(map(is_system, name.split("/")))]


class _Member(tarfile.TarInfo):
    """A tar header that refuses extended headers larger than a name needs."""

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

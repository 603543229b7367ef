"""Detects what a file holds by its first bytes, independently of its name. Free of torch and of Pillow."""

import gzip
import zipfile
import zlib
from pathlib import Path

BEGINNING = 1 << 9
"""Bytes that are read of a file; a tar archive's signature begins at byte 257."""

IMAGES = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "HEIF")
"""The image formats that are decoded."""
TEXT = "UTF-8 text"

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "BigTIFF"),
    (b"MM\0+", "BigTIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"8BPS", "Photoshop"),
    (b"v/1\x01", "OpenEXR"),
    (b"SIMPLE  =", "FITS"),
    (b"%PDF-", "PDF"),
    (b"\x1a\x45\xdf\xa3", "Matroska video"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstandard"),
    (b"PK\x03\x04", "ZIP"),
    (b"PK\x05\x06", "ZIP"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (b"Rar!\x1a\x07", "RAR"),
    (b"PAR1", "Parquet"),
    (b"ORC", "ORC"),
    (b"Obj\x01", "Avro"),
    (b"ARROW1", "Arrow"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"\x93NUMPY", "NumPy array (.npy)"),
    (b"SQLite format 3\0", "SQLite"),
    (b"MATLAB 5.0 MAT-file", "MATLAB (.mat)"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Excel or Word (.xls, .doc)"),
    (b"\x0a\x23\xd7\xce", "RecordIO"),
    (b"\xff\xfe\0\0", "UTF-32 text"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
)
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIF"),
    **dict.fromkeys((b"crx ",), "Canon raw (CR3)"),
    **dict.fromkeys((b"qt  ",), "QuickTime video"),
}
_PORTABLE = (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6")
_IDX = tuple(bytes((kind,)) for kind in (8, 9, 11, 12, 13, 14))
"""The types of elements in IDX files, as yann.lecun.com/exdb/mnist describes them."""
_PICKLES = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
_OFFICE = {"xl/": "Excel workbook (.xlsx)", "word/": "Word document (.docx)", "ppt/": "presentation (.pptx)"}


def kind_of(start: bytes) -> str | None:
    """What the first bytes of a file show: a word for messages, `TEXT`, or None if they show nothing."""
    if not start:
        return None
    for signature, kind in _SIGNATURES:
        if start.startswith(signature):
            return kind
    if start[:4] == b"RIFF":
        return "WEBP" if start[8:12] == b"WEBP" else "audio or video (RIFF)"
    if start[4:8] == b"ftyp":
        return _BRANDS.get(start[8:12], "MP4 video")
    # Text may begin like the shorter signatures, so more bytes are checked for these.
    if start.startswith(b"BM") and start[6:10] == b"\0\0\0\0":
        return "BMP"
    if start[:2] in _PORTABLE and start[2:3] in (b"\n", b"\r", b" ", b"\t"):
        return "PPM"
    if start[16:20] == b"\xde\xc0\xef\xbe":
        return "LMDB"
    if start[:2] == b"\0\0" and start[2:3] in _IDX and start[3:4] in (b"\1", b"\2", b"\3", b"\4"):
        return "IDX arrays (MNIST's form)"
    if start[257:262] == b"ustar":
        return "tar"
    if start[128:132] == b"DICM":
        return "DICOM"
    if start.startswith(_PICKLES):
        return "pickle"
    return _text(start)


def _text(start: bytes) -> str | None:
    try:
        # The last character may be cut.
        text = start.decode("utf-8-sig", "strict" if len(start) < BEGINNING - 3 else "ignore")
    except UnicodeDecodeError:
        return None
    if "\0" in text or (len(start) >= BEGINNING - 3 and len(text.encode()) < len(start) - 6):
        return None
    begins = text.lstrip()[:200].lower()
    if begins.startswith(("<!doctype html", "<html")):
        return "HTML"
    if begins.startswith("<svg") or (begins.startswith("<?xml") and "<svg" in text.lower()):
        return "SVG"
    if begins.startswith("version https://git-lfs"):
        return "pointer of Git LFS, not the file itself"
    return TEXT


def content_of(path: Path) -> str | None:
    """What a file holds by its beginning, as in `kind_of`; office documents are distinguished from other ZIP archives.

    None as well if the file cannot be read: the reader reports the error.
    """
    kind = kind_of(beginning(path))
    if kind != "ZIP":
        return kind
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()[:1_000]
    except Exception:  # damaged archives raise many exceptions
        return kind
    if names and all(name.endswith(".npy") for name in names):
        return "NumPy arrays (.npz)"
    return next((what for folder, what in _OFFICE.items() if any(n.startswith(folder) for n in names)), kind)


def within_gzip(path: Path) -> str | None:
    """What a file that is compressed with gzip holds, as in `kind_of`; None if it cannot be read."""
    try:
        with gzip.open(path) as opened:
            return kind_of(opened.read(BEGINNING))
    except (OSError, EOFError, zlib.error):
        return None


def beginning(path: Path, most: int = BEGINNING) -> bytes:
    """The first bytes of a file; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError:
        return b""

"""Images that are small as files and take long, or much memory, to decode. Each grows with its arguments."""

import io
import struct
import zlib

from PIL import Image

_SCAN = b"\xff\xda"


def encoded(form: str, side: int, mode: str = "RGB", **options: object) -> bytes:
    """A black square image."""
    content = io.BytesIO()
    Image.new(mode, (side, side)).save(content, form, **options)
    return content.getvalue()


def jpeg_of_scans(side: int, scans: int, thumbnails: int = 0) -> bytes:
    """A progressive JPEG that repeats one of its scans.

    Args:
        thumbnails: JPEGs of one scan each that lie within its headers, as cameras put them.
    """
    whole = encoded("JPEG", side, progressive=True, quality=50)
    parts = whole.split(_SCAN)
    short = min(parts[1:-1], key=len)
    repeated = parts[:-1] + [short] * (scans + 1 - len(parts)) + parts[-1:]
    small = encoded("JPEG", 8)
    within = b"".join(b"\xff\xef" + struct.pack(">H", len(small) + 2) + small for _ in range(thumbnails))
    first = repeated[0]
    return _SCAN.join([first[:2] + within + first[2:], *repeated[1:]])


def slow_png(side: int, bits: int = 16) -> bytes:
    """So many bits a colour and transparency, with the filter that takes the longest."""
    packer = zlib.compressobj(9)
    row = b"\4" + bytes(bits // 2 * side)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", side, side, bits, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def tiff(entries: dict[int, tuple[int, int, int]], content: bytes = b"") -> bytes:
    """A TIFF's header with tags (number → type, count, value), then its content, at byte 10 + 12 · tags + 4."""
    directory = b"".join(struct.pack("<HHII", tag, *value) for tag, value in sorted(entries.items()))
    return struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + directory + bytes(4) + content


def tiff_in_a_tile(side: int, tile: int) -> bytes:
    """A grey image that lies in one much larger, compressed tile."""
    content = zlib.compress(bytes(tile * tile), 9)
    at = 10 + 12 * 10 + 4
    numbers = {256: side, 257: side, 258: 8, 259: 8, 262: 1, 277: 1, 322: tile, 323: tile, 324: at}
    entries = {tag: (4, 1, number) for tag, number in numbers.items()}
    return tiff({**entries, 325: (4, 1, len(content))}, content)


def tall_tiff(height: int) -> bytes:
    """A grey image of one column, in one compressed strip."""
    content = zlib.compress(bytes(height), 1)
    at = 10 + 12 * 9 + 4
    numbers = {256: 1, 257: height, 258: 8, 259: 8, 262: 1, 273: at, 277: 1, 278: height, 279: len(content)}
    return tiff({tag: (4, 1, number) for tag, number in numbers.items()}, content)


def tiff_of_repeated_tags(tags: int, size: int) -> bytes:
    """An image whose tags each claim the same bytes."""
    at = 10 + 12 * (9 + tags) + 4
    numbers = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: at, 277: 1, 278: 8, 279: 64}
    entries = {tag: (4, 1, number) for tag, number in numbers.items()}
    return tiff({**entries, **{40_000 + tag: (7, size, at) for tag in range(tags)}}, bytes(size))


def gif_of_frames(side: int, frames: int) -> bytes:
    content = io.BytesIO()
    first, *others = (Image.new("P", (side, side), number % 256) for number in range(frames))
    first.save(content, "GIF", save_all=True, append_images=others, duration=10)
    return content.getvalue()


def webp_of_frames(side: int, frames: int) -> bytes:
    content = io.BytesIO()
    first, *others = (Image.new("RGB", (side, side), (number % 256, 0, 0)) for number in range(frames))
    first.save(content, "WEBP", save_all=True, append_images=others, duration=10, lossless=True)
    return content.getvalue()


def tiff_of_pages(side: int, pages: int) -> bytes:
    content = io.BytesIO()
    first, *others = (Image.new("RGB", (side, side), (number % 256, 0, 0)) for number in range(pages))
    first.save(content, "TIFF", save_all=True, append_images=others, compression="tiff_lzw")
    return content.getvalue()

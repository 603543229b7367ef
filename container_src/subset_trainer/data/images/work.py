"""Bounds the work and the memory that an image takes, by its header and markers, before anything of it is decoded."""

import math
import re

from PIL import Image

from subset_trainer.config.data import MOST_IMAGE_PIXELS
from subset_trainer.data.machine import memory_available

# The size is checked here, with other passes over the pixels, rather than by Pillow.
Image.MAX_IMAGE_PIXELS = None

LARGE = 1 << 25
"""Pixels of an image from which memory is checked, and of which one is decoded at a time."""
_BYTES_EACH = 12
"""Of memory for a pixel at most: 4 as Pillow holds it, 4 as RGB, and what its decoder keeps of it meanwhile."""
_SCANS = 10
"""Scans of an ordinary progressive JPEG. A pixel costs about as much as so many passes over it."""
_MOST_SCANS_IN_TIFF = 100
"""libtiff stops there."""
_START_OF_SCAN = b"\xff\xda"
_MARKER = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")
_WITHOUT_LENGTH = {0x01, 0xD8}
_SCAN, _END = 0xDA, 0xD9
_BITS, _STRIPS, _TILE_WIDTH, _TILE_HEIGHT = 258, 273, 322, 323  # tags of TIFF


class OversizedError(ValueError):
    """An image takes more work than `max_image_pixels` allows."""


def check(image: Image.Image, data: bytes, most: int = MOST_IMAGE_PIXELS) -> None:
    """Check that an opened image, whose pixels are not loaded yet, can be decoded in a bounded time.

    Args:
        data: the encoded image; empty if it will not be decoded.
        most: pixels.

    Raises:
        OversizedError: it counts more pixels.
        MemoryError: its pixels do not fit in memory.
    """
    pixels = math.prod(image.size)
    counted, why = pixels, ""
    if image.format == "TIFF":
        counted, why = _of_tiff(image, data)
    elif image.format in ("JPEG", "MPO") and (scans := data.count(_START_OF_SCAN)) * pixels > _SCANS * most:
        # Counted more closely where it matters: a thumbnail within the file has scans of its own.
        scans = _scans(data)
        counted, why = pixels * max(_SCANS, scans) // _SCANS, f" in {scans:,} scans"
    elif is_deep_colour(image):
        counted, why = 2 * pixels, " of 16 bits a colour"
    if counted > most:
        size = f"{image.width:,} x {image.height:,} pixels{why}"
        count = f", which count as {counted:,}," if counted != pixels else ""
        raise OversizedError(f"it has {size}{count} and max_image_pixels={most:,}")
    if pixels > LARGE and data and pixels * _BYTES_EACH > (free := memory_available()):
        raise MemoryError(
            f"its {pixels:,} pixels take up to {pixels * _BYTES_EACH / 1e9:.1f} GB of memory, and "
            f"{free / 1e9:.1f} GB are free"
        )


def is_deep_colour(image: Image.Image) -> bool:
    """Whether an image that is not yet loaded has 16 bits a colour, of which Pillow reads the upper 8."""
    return image.mode in ("RGB", "RGBA", "LA") and any(
        "16" in str(tile.args) for tile in getattr(image, "tile", ())
    )


def _of_tiff(image: Image.Image, data: bytes) -> tuple[int, str]:
    """What a TIFF counts: its tiles in full, once for each 4 bytes of a pixel, and the scans of a JPEG in it."""
    tags = getattr(image, "tag_v2", {})
    width, height = image.size
    counted, why = width * height, ""
    across, down = tags.get(_TILE_WIDTH, width), tags.get(_TILE_HEIGHT, height)
    if isinstance(across, int) and isinstance(down, int) and across > 0 and down > 0:
        tiles = -(-width // across) * -(-height // down)
        if tiles * across * down > 2 * counted:
            counted, why = tiles * across * down, f" in tiles of {across:,} x {down:,}"
    bits = sum(tags.get(_BITS, (1,)))
    if bits > 32:
        counted, why = counted * bits // 32, f"{why} of {bits} bits"
    parts = len(set(tags.get(_STRIPS, ()))) or 1
    if (
        image.info.get("compression") in ("tiff_jpeg", "jpeg")
        and (scans := data.count(_START_OF_SCAN)) > _SCANS * parts
    ):
        passes = min(scans, _MOST_SCANS_IN_TIFF)
        counted, why = counted * passes // _SCANS, f"{why} in {scans:,} scans"
    return counted, why


def _scans(data: bytes) -> int:
    """The scans of a JPEG, up to the end of its first image."""
    found, at = 0, 2
    while marker := _MARKER.search(data, at):
        kind, at = data[marker.end() - 1], marker.end()
        if kind == _END:
            break
        if kind in _WITHOUT_LENGTH:
            continue
        found += kind == _SCAN
        at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return found

"""The work and memory that an image takes are bounded before it is decoded."""

import io
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subset_trainer.data.images import decoding, work
from subset_trainer.data.images.decoding import (
    DamagedImageError,
    EncodedImages,
    MemoryShortError,
    OversizedImageError,
    decode,
)
from tests.slow_images import (
    encoded,
    gif_of_frames,
    jpeg_of_scans,
    slow_png,
    tiff_in_a_tile,
    tiff_of_pages,
    tiff_of_repeated_tags,
    webp_of_frames,
)


class Held(EncodedImages):
    """Images in memory."""

    def __init__(self, *contents: bytes, most: int = work.MOST_IMAGE_PIXELS) -> None:
        super().__init__([f"{number}.img" for number in range(len(contents))], "training")
        self.contents, self.most_pixels = contents, most

    def size(self, index: int) -> int:
        return len(self.contents[index])

    def read(self, index: int) -> bytes:
        return self.contents[index]


def counted(content: bytes) -> int:
    """The smallest limit that the image passes."""
    low, high = 1, 1 << 40
    while low < high:
        middle = (low + high) // 2
        try:
            with Image.open(io.BytesIO(content)) as image:
                work.check(image, content, middle)
            high = middle
        except work.OversizedError:
            low = middle + 1
    return low


@pytest.mark.parametrize(
    ("content", "pixels"),
    [
        (encoded("JPEG", 64), 64 * 64),
        (encoded("JPEG", 64, progressive=True), 64 * 64),
        (jpeg_of_scans(64, 10), 64 * 64),
        (jpeg_of_scans(64, 300), 30 * 64 * 64),
        (jpeg_of_scans(64, 10, thumbnails=40), 64 * 64),
        (jpeg_of_scans(64, 100, thumbnails=40), 10 * 64 * 64),
        (encoded("PNG", 64), 64 * 64),
        (slow_png(64), 2 * 64 * 64),
        (encoded("PNG", 64, "I;16"), 64 * 64),
        (encoded("TIFF", 64), 64 * 64),
        (encoded("TIFF", 64, compression="jpeg"), 64 * 64),
        (tiff_in_a_tile(16, 1024), 1024 * 1024),
        (tiff_of_pages(16, 50), 16 * 16),
        (gif_of_frames(16, 50), 16 * 16),
        (webp_of_frames(16, 50), 16 * 16),
        (encoded("AVIF", 64), 64 * 64),
        (encoded("BMP", 64), 64 * 64),
        (encoded("PPM", 64), 64 * 64),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else str(value),
)
def test_what_an_image_counts(content: bytes, pixels: int) -> None:
    assert counted(content) == pixels


def test_scans_are_counted_to_the_end_of_the_first_image() -> None:
    """Cameras append a second one."""
    assert counted(jpeg_of_scans(64, 20) + jpeg_of_scans(64, 300)) == 2 * 64 * 64


@pytest.mark.parametrize(
    "content",
    [jpeg_of_scans(1500, 1000), tiff_in_a_tile(16, 20_000), slow_png(400)],
    ids=["scans", "tile", "deep"],
)
def test_an_image_of_more_work_is_refused_at_once_and_by_name(content: bytes) -> None:
    images = Held(content, most=300_000)
    began = time.monotonic()
    with pytest.raises(
        OversizedImageError, match=r"'0\.img' cannot be read \(it has .* and max_image_pixels=300,000"
    ):
        images.decode(0, (8, 8))
    assert time.monotonic() - began < 1


def test_at_the_limit_it_is_decoded() -> None:
    assert Held(encoded("PNG", 20), most=400).decode(0, (8, 8)).shape == (8, 8, 3)
    with pytest.raises(DamagedImageError, match="it has 20 x 20 pixels and max_image_pixels=399"):
        Held(encoded("PNG", 20), most=399).decode(0, (8, 8))


def test_an_image_that_memory_has_no_room_for_is_not_taken_for_damaged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(work, "LARGE", 100)
    monkeypatch.setattr(work, "memory_available", lambda: 4_000)
    with pytest.raises(
        MemoryShortError, match=r"its 400 pixels take up to 0\.0 GB of memory, and 0\.0 GB are free"
    ):
        Held(encoded("PNG", 20)).decode(0, (8, 8))
    assert Held(encoded("PNG", 10)).decode(0, (8, 8)).shape == (8, 8, 3)


@pytest.mark.parametrize(
    "content", [gif_of_frames(16, 2000), webp_of_frames(16, 2000), tiff_of_pages(16, 2000)]
)
def test_of_many_frames_and_pages_the_first_is_decoded(content: bytes) -> None:
    before = time.process_time()
    assert decode(content)[0, 0].tolist() == [0, 0, 0]
    assert time.process_time() - before < 1


def told(program: str, folder: Path) -> tuple[int, str, str]:
    """The exit code, stdout and stderr of a process of its own."""
    ran = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
    return ran.returncode, ran.stdout, ran.stderr


def test_tags_that_claim_the_same_bytes_take_them_once_and_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "tags.tiff").write_bytes(tiff_of_repeated_tags(2000, 1 << 20))
    program = (
        "import pathlib, resource\n"
        "from subset_trainer.data.images.decoding import decode\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "decode(pathlib.Path('tags.tiff').read_bytes())\n"
        "assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10\n"
    )
    assert told(program, tmp_path) == (0, "", "")


def test_libtiff_prints_nothing(tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(content, "TIFF", compression="tiff_lzw")
    damaged = bytearray(content.getvalue())
    for at in range(300, 600, 3):
        damaged[at] ^= 0x55
    (tmp_path / "damaged.tiff").write_bytes(damaged)
    program = (
        "import pathlib\n"
        "from subset_trainer.data.images.decoding import decode\n"
        "try: decode(pathlib.Path('damaged.tiff').read_bytes())\n"
        "except OSError as error: print(error)\n"
    )
    assert told(program, tmp_path) == (0, "decoder error -2\n", "")


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "I;16", "1"])
def test_conversion_in_parts_is_that_of_the_whole(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(37, 23, 4), dtype=np.uint8)
    image = Image.fromarray(pixels, "RGBA")
    if mode == "I;16":
        image = Image.fromarray(pixels.astype(np.uint16)[..., 0] * 250)
    elif mode == "P":
        image = image.convert("RGB").quantize(16)
        image.info["transparency"] = 3
    elif mode != "RGBA":
        image = image.convert("L").convert(mode) if mode == "LA" else image.convert("RGB").convert(mode)
    whole = np.asarray(decoding._to_rgb(image, 40_000))
    monkeypatch.setattr(decoding, "_PIXELS_AT_ONCE", 100)
    np.testing.assert_array_equal(np.asarray(decoding._to_rgb(image, 40_000)), whole)

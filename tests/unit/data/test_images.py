"""Image files of every kind become the right RGB pixels."""

import io
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from subset_trainer.data.images.decoding import ImageFiles, cover, decode, decode_all, natural_size
from subset_trainer.errors import PlatformError, UserError


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_keep_every_pixel(rgb: np.ndarray, kind: str) -> None:
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(rgb), kind)), rgb)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_lossy_formats_come_close(kind: str) -> None:
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    np.testing.assert_allclose(decode(encoded(Image.fromarray(flat), kind)).astype(int), flat, atol=4)


def test_grey(rgb: np.ndarray) -> None:
    grey = rgb[..., 0]
    for data in (encoded(Image.fromarray(grey), "PNG"), encoded(Image.fromarray(grey), "PPM")):
        np.testing.assert_array_equal(decode(data), np.repeat(grey[..., None], 3, 2))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_down(kind: str) -> None:
    deep = np.array([[0, 257, 32896, 65535]], np.uint16)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(deep), kind))[0, :, 0], [0, 1, 128, 255])


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="floating-point"):
        decode(encoded(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF"))


def test_palette(rgb: np.ndarray) -> None:
    colours = Image.new("P", (2, 1))
    colours.putpalette([10, 20, 30, 40, 50, 60])
    colours.putpixel((1, 0), 1)
    np.testing.assert_array_equal(decode(encoded(colours, "PNG")), [[[10, 20, 30], [40, 50, 60]]])


def test_transparency_is_laid_over_black() -> None:
    image = Image.new("RGBA", (3, 1), (200, 100, 50, 255))
    image.putpixel((1, 0), (200, 100, 50, 0))
    image.putpixel((2, 0), (200, 100, 50, 128))
    np.testing.assert_allclose(
        decode(encoded(image, "PNG"))[0].astype(int), [[200, 100, 50], [0, 0, 0], [100, 50, 25]], atol=1
    )


def test_transparent_palette_entry_is_black() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    np.testing.assert_array_equal(decode(encoded(image, "PNG", transparency=1)), [[[10, 20, 30], [0, 0, 0]]])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_rotation_is_applied(kind: str, tmp_path: Path) -> None:
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255  # left half white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    (tmp_path / "x").write_bytes(encoded(Image.fromarray(pixels), kind, exif=exif))
    turned = ImageFiles(["x"], tmp_path).decode(0, None)
    assert turned.shape == (16, 8, 3)
    assert turned[:7].mean() > 240  # top half white
    assert turned[9:].mean() < 15
    assert ImageFiles(["x"], tmp_path).dimensions(0) == (16, 8)


def test_cmyk() -> None:
    image = Image.new("CMYK", (8, 8), (0, 0, 0, 0))
    assert decode(encoded(image, "JPEG")).min() >= 250


def test_cover_scales_the_shorter_side_and_cuts_the_centre() -> None:
    pixels = np.zeros((10, 40, 3), np.uint8)
    pixels[:, 10:30] = 255
    image = cover(Image.fromarray(pixels), (20, 20))
    assert image.size == (20, 20)
    assert np.asarray(image)[:, 1:-1].min() == 255


def test_cover_leaves_the_right_size_alone(rgb: np.ndarray) -> None:
    np.testing.assert_array_equal(np.asarray(cover(Image.fromarray(rgb), (6, 5))), rgb)


def test_large_jpeg_is_reduced_like_its_full_decoding() -> None:
    smooth = np.add.outer(np.arange(1600), np.arange(2000))[..., None].repeat(3, 2) * 255 // 3598
    data = encoded(Image.fromarray(smooth.astype(np.uint8)), "JPEG", quality=95)
    full = cover(Image.fromarray(decode(data)), (64, 64))
    np.testing.assert_allclose(decode(data, (64, 64)).astype(int), np.asarray(full).astype(int), atol=3)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(32, 32)] * 3, (32, 32)),
        ([(28, 20)] * 2, (28, 20)),
        ([(256, 256)], (256, 256)),
        ([(257, 100)], (160, 160)),
        ([(8, 8)] * 2, (8, 8)),
        ([(7, 7)] * 2, (32, 32)),
        ([(40, 1)] * 2, (32, 32)),
        ([(32, 32), (32, 33)], (32, 32)),
        ([(300, 300)] * 3, (224, 224)),
        ([(8, 8), (9, 9)], (32, 32)),
        ([(100, 100), (60, 150), (500, 500)], (104, 104)),  # 100 is as near to 96: the larger one
    ],
)
def test_natural_size(sizes: list[tuple[int, int]], expected: tuple[int, int]) -> None:
    assert natural_size(sizes) == expected


def damage(root: Path, rgb: np.ndarray, what: str) -> None:
    data = encoded(Image.fromarray(rgb.repeat(20, 0).repeat(20, 1)), "JPEG")
    content = {"truncated": data[: len(data) // 2], "text": b"no image", "empty": b"", "header": data[:4]}[
        what
    ]
    (root / "bad.jpg").write_bytes(content)


@pytest.mark.parametrize("what", ["truncated", "text", "empty", "header"])
def test_a_damaged_file_is_named(tmp_path: Path, rgb: np.ndarray, what: str) -> None:
    damage(tmp_path, rgb, what)
    with pytest.raises(
        UserError, match=r"^training channel: image 'bad\.jpg' cannot be read \(.+\); expected an intact"
    ):
        ImageFiles(["bad.jpg"], tmp_path, "training").decode(0, None)


@pytest.mark.parametrize("workers", [0, 2])
def test_many_files(tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subset_trainer.data.images.decoding._FEW_FILES", 1)
    pixels = np.random.default_rng(1).integers(0, 256, (600, 4, 4, 3), dtype=np.uint8)
    names = [f"{number:03}.png" for number in range(len(pixels))]
    for name, image in zip(names, pixels, strict=True):
        Image.fromarray(image).save(tmp_path / name)
    files = ImageFiles(names, tmp_path, "training")
    order = np.random.default_rng(2).permutation(600)
    np.testing.assert_array_equal(
        decode_all(files, order, (4, 4), workers), pixels[order].transpose(0, 3, 1, 2)
    )
    (tmp_path / "300.png").write_bytes(b"gone bad")
    with pytest.raises(UserError, match=r"^training channel: image '300\.png' cannot be read"):
        decode_all(files, order, (4, 4), workers)


def test_names_that_are_not_unicode_survive(tmp_path: Path, rgb: np.ndarray) -> None:
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    Image.fromarray(rgb).save(tmp_path / name, "PNG")
    np.testing.assert_array_equal(ImageFiles([name], tmp_path).decode(0, None), rgb)


def test_a_process_that_is_killed_while_it_decodes(
    tmp_path: Path, rgb: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel does where memory is short."""
    monkeypatch.setattr("subset_trainer.data.images.decoding._FEW_FILES", 1)
    whole = ImageFiles.decode

    def decode_or_die(self: ImageFiles, index: int, size: tuple[int, int] | None) -> np.ndarray:
        if index == 300:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(self, index, size)

    monkeypatch.setattr(ImageFiles, "decode", decode_or_die)
    Image.fromarray(rgb).save(tmp_path / "x.png")
    files = ImageFiles(["x.png"] * 600, tmp_path, "training")
    with pytest.raises(PlatformError, match="decoding the images of the training channel ended unexpectedly"):
        decode_all(files, np.arange(600), (4, 4), 2)


@pytest.mark.parametrize("kind", ["EPS", "ICO", "PCX", "SGI"])
def test_other_formats_under_an_image_s_name_are_not_tried(
    tmp_path: Path, rgb: np.ndarray, kind: str
) -> None:
    """Pillow would start Ghostscript for EPS."""
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(rgb), kind))
    with pytest.raises(
        UserError, match=r"'a\.png' cannot be read \(its content is not in a known image format\)"
    ):
        ImageFiles(["a.png"], tmp_path).decode(0, None)
    with pytest.raises(UserError, match="not in a known image format"):
        ImageFiles(["a.png"], tmp_path).dimensions(0)

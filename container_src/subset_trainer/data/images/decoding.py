"""Encoded images → uint8 RGB pixels: one, or many with several processes."""

import io
import logging
import mmap
import multiprocessing
import os
import signal
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
from PIL import Image, ImageOps

from subset_trainer.errors import PlatformError, UserError

logger = logging.getLogger(__name__)

DEFAULT_SIZE = 224
LARGEST_NATURAL_SIZE = 256
LARGEST_FILE = 1 << 30
"""Bytes: more than the largest picture that Pillow decodes (178,956,970 pixels) takes uncompressed."""
LARGEST_SCALED = 1 << 27
"""Pixels of a picture on its way to the size wanted."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
"""What files may hold, whatever they are called: Pillow knows more, and starts Ghostscript for some of it."""
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"GIF87a", b"GIF89a")
_PROGRESS_SECONDS = 5.0
_ORIENTATION = 0x0112  # the EXIF tag
# Below this much work one process is done before others have started.
_FEW_FILES, _FEW_BYTES = 4_000, 32 << 20


class EncodedImages(ABC):
    """N encoded images of one channel, each read when it is needed, in a form that worker processes share without
    copying.

    channel: what messages call the channel. names: what they call each image, all different.
    """

    def __init__(self, names: Sequence[str | os.PathLike[str]], channel: str):
        self.channel = channel
        # A list of strings would be copied page by page into every forked worker, by its reference counts alone.
        self.names = np.array([os.fsencode(name) for name in names], dtype=np.bytes_)

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def size(self, index: int) -> int:
        """Bytes that it takes where it lies. UserError where it is gone."""

    @abstractmethod
    def read(self, index: int) -> bytes:
        """The encoded image, whole. OSError or ValueError where that cannot be."""

    def prepare(self, indices: np.ndarray) -> None:  # noqa: B027 - most have nothing to do
        """Have at hand what this thread is going to read, [K] int64: once, and until the next call."""

    def decode(self, index: int, size: tuple[int, int] | None) -> np.ndarray:
        """Pixels [H, W, 3] uint8, of `size` (H, W) if given. UserError naming the image when it cannot be read."""
        try:
            return decode(self.read(index), size)
        except Exception as error:  # PIL's plugins raise nearly anything on damaged data
            raise self.unreadable(index, error) from error

    def dimensions(self, index: int) -> tuple[int, int]:
        """(H, W) of an image, from its header, after the rotation that its EXIF asks for."""
        try:
            return _dimensions(io.BytesIO(self.read(index)))
        except Exception as error:
            raise self.unreadable(index, error) from error

    def unreadable(self, index: int, error: Exception) -> UserError:
        where = f"{self.channel} channel: " if self.channel else ""
        if isinstance(error, Image.UnidentifiedImageError):
            reason = "its content is of no known image format"
        elif isinstance(error, FileNotFoundError):
            reason = "the file is gone"
        else:
            reason = str(error) or type(error).__name__
        return UserError(
            f"{where}image '{os.fsdecode(self.names[index])}' cannot be read ({reason}); expected an intact image file."
        )


class ImageFiles(EncodedImages):
    """Image files, one an image.

    paths: relative to `root`.
    """

    def __init__(
        self, paths: Sequence[str | os.PathLike[str]], root: str | os.PathLike[str] = "", channel: str = ""
    ):
        super().__init__(paths, channel)
        self.root = os.fsencode(root)

    def path(self, index: int) -> bytes:
        return os.path.join(self.root, self.names[index])  # noqa: PTH118  pathlib costs more than reading the file

    def size(self, index: int) -> int:
        try:
            return os.stat(self.path(index)).st_size  # noqa: PTH116
        except OSError as error:
            raise self.unreadable(index, error) from error

    def read(self, index: int) -> bytes:
        with open(self.path(index), "rb") as file:  # noqa: PTH123
            data = file.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise ValueError(f"it has more than {LARGEST_FILE >> 20} MiB")
        return data

    def dimensions(self, index: int) -> tuple[int, int]:
        try:
            # Of a file no more is read than the header.
            return _dimensions(os.fsdecode(self.path(index)))
        except Exception as error:
            raise self.unreadable(index, error) from error


def _dimensions(source: str | io.BytesIO) -> tuple[int, int]:
    with Image.open(source, formats=FORMATS) as image:
        width, height = image.size
        return (width, height) if _orientation(image) >= 5 else (height, width)


def decode(data: bytes, size: tuple[int, int] | None = None) -> np.ndarray:
    """One encoded image → pixels [H, W, 3] uint8.

    Everything becomes RGB: 16-bit grey is scaled down, transparency laid over black, a palette resolved, the
    rotation that EXIF asks for applied. With `size` (H, W) the image is scaled until it covers that size and its
    centre is cut out. Raises what Pillow raises on damaged data, ValueError on floating-point pixels.
    """
    with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
        if size is not None and opened.format == "JPEG":
            # JPEG can be decoded at 1/2, 1/4 or 1/8: enough is kept for a clean reduction to the size wanted.
            side = 2 * max(size)
            if min(opened.size) > side:
                opened.draft(None, (side, side))
        opened.load()
        image: Image.Image = opened
        if _orientation(image) != 1:
            image = ImageOps.exif_transpose(image)
        image = _to_rgb(image)
        if size is not None and image.size != (size[1], size[0]):
            image = cover(image, size)
        return np.asarray(image)


def is_encoded(data: bytes) -> bool:
    """Whether the first bytes are those of an image in one of the formats that are read."""
    # A text may begin like the shorter ones: of these more is looked at.
    return (
        data.startswith(_MAGIC)
        or (data.startswith(b"RIFF") and data[8:12] == b"WEBP")
        or (data.startswith(b"BM") and data[6:10] == b"\0\0\0\0")
        or (data[:2] in (b"P5", b"P6") and data[2:3] in (b"\n", b"\r", b" ", b"\t"))
    )


def cover(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale an RGB image until it covers `size` (H, W), then cut out its centre."""
    height, width = size
    scale = max(height / image.height, width / image.width)
    scaled = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
    if scaled[0] * scaled[1] > LARGEST_SCALED:
        # A line of pixels scaled until it covers the size would fill the memory: cut first.
        wide, high = width / scale, height / scale
        left, top = (image.width - wide) / 2, (image.height - high) / 2
        box = (max(0.0, left), max(0.0, top), min(image.width, left + wide), min(image.height, top + high))
        return image.resize((width, height), Image.Resampling.BILINEAR, box)
    if scaled != image.size:
        image = image.resize(scaled, Image.Resampling.BILINEAR)
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    return image.crop((left, top, left + width, top + height))


def _orientation(image: Image.Image) -> int:
    # Parsing EXIF costs more than decoding a small image, so first see whether there is any. (Pillow turns TIFF
    # images by itself.)
    if "exif" in image.info or "Raw profile type exif" in image.info:
        value = image.getexif().get(_ORIENTATION, 1)
        return value if value in range(1, 9) else 1
    return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, not 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Pillow would clip at 255; 65535 / 257 == 255.
        grey = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image).convert("RGB")
    return image.convert("RGB")


def natural_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The images' own size (H, W) where they agree and no side is longer than 256 pixels, else 224 by 224."""
    if len(set(sizes)) == 1 and max(sizes[0]) <= LARGEST_NATURAL_SIZE:
        return sizes[0]
    return (DEFAULT_SIZE, DEFAULT_SIZE)


def decode_all(files: EncodedImages, indices: np.ndarray, size: tuple[int, int], workers: int) -> np.ndarray:
    """Decode many files → pixels [len(indices), 3, H, W] uint8, with up to `workers` processes.

    UserError naming the first unreadable file. Progress is logged every few seconds.
    """
    count = len(indices)
    shape = (count, 3, *size)
    sampled = [files.size(int(i)) for i in indices[:: max(1, count // 64)]]
    mean_bytes = max(1, sum(sampled) // max(1, len(sampled)))
    chunk = max(1, min(256, (4 << 20) // mean_bytes))
    starts = range(0, count, chunk)
    # Threads do not help: for small images holding the interpreter's lock costs more than decoding. Processes that
    # write into one anonymous mapping do, and need neither /dev/shm nor copies.
    few = count < _FEW_FILES and count * mean_bytes < _FEW_BYTES
    if workers < 2 or few or "fork" not in multiprocessing.get_all_start_methods():
        pixels = np.empty(shape, np.uint8)
        job = _Job(files, indices, size, chunk, pixels)
        _follow(map(job, starts), count)
        return pixels
    pixels = np.frombuffer(mmap.mmap(-1, int(np.prod(shape))), np.uint8).reshape(shape)
    job = _Job(files, indices, size, chunk, pixels)
    Image.init()  # so that no worker imports Pillow's plugins again
    executor = ProcessPoolExecutor(
        min(workers, len(starts)),
        multiprocessing.get_context("fork"),
        initializer=_start_worker,
        initargs=(job,),
    )
    try:
        with warnings.catch_warnings():
            # The workers run no thread pool and take no lock that the parent could hold.
            warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
            results = executor.map(_run_chunk, starts)
        _follow(results, count)
    except BrokenProcessPool as error:
        raise PlatformError(
            f"A process decoding the images of the {files.channel} channel ended unexpectedly: the machine is "
            "probably short of memory."
        ) from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
    return pixels


class _Job:
    def __init__(
        self, files: EncodedImages, indices: np.ndarray, size: tuple[int, int], chunk: int, pixels: np.ndarray
    ):
        self.files, self.indices, self.size, self.chunk, self.pixels = files, indices, size, chunk, pixels

    def __call__(self, start: int) -> int:
        """Decode the chunk that begins at `start`; how many images it had."""
        chosen = self.indices[start : start + self.chunk]
        for position, index in enumerate(chosen, start):
            self.pixels[position] = self.files.decode(index, self.size).transpose(2, 0, 1)
        return len(chosen)


_job: _Job | None = None


def _start_worker(job: _Job) -> None:
    global _job
    _job = job
    # The handlers inherited from the parent are for the parent, which ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _run_chunk(start: int) -> int:
    assert _job is not None
    return _job(start)


def _follow(chunks: Iterator[int], total: int) -> None:
    done, started = 0, time.monotonic()
    said = started
    for count in chunks:
        done += count
        now = time.monotonic()
        if now - said >= _PROGRESS_SECONDS and done < total:
            logger.info("Decoded %s of %s images in %.0f s.", f"{done:,}", f"{total:,}", now - started)
            said = now

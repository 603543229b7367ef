"""Decodes encoded images to uint8 RGB pixels, one at a time or many in several processes."""

import contextlib
import copy
import ctypes
import functools
import io
import logging
import math
import mmap
import multiprocessing
import os
import signal
import statistics
import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from PIL import Image, ImageOps

from subset_trainer.config.data import MOST_IMAGE_PIXELS
from subset_trainer.data.content import BEGINNING, IMAGES, TEXT, beginning, kind_of
from subset_trainer.data.images import work
from subset_trainer.data.images.work import is_deep_colour
from subset_trainer.data.machine import end_with_parent
from subset_trainer.errors import PlatformError, UserError, first_line

logger = logging.getLogger(__name__)

# What Pillow warns of is an error later or no matter, and a damaged file can warn thousands of times.
warnings.filterwarnings("ignore", module=r"PIL\.")

SIDES = range(32, 225, 8)
"""The sides, in pixels, of which one is chosen for images of several sizes, or larger ones."""
SMALLEST_NATURAL_SIZE, LARGEST_NATURAL_SIZE = 8, 256
SKIP = "on_unreadable=skip"
"""The hyperparameter that leaves out damaged images, in messages."""
LARGEST_FILE = 1 << 30
"""Bytes; more than the uncompressed size of the largest image that is decoded by default."""
LARGEST_SCALED = 1 << 27
"""Largest number of pixels of an image while it is scaled to the requested size."""

_ONE_LARGE = threading.Lock()
"""Threads that decode, those of requests, decode one large image at a time, so that the memory holds it."""
_PIXELS_AT_ONCE = 1 << 20
"""Pixels that are converted to RGB at a time."""
_PLUGIN = "HEIF"
"""The format that a plugin of Pillow decodes, which is loaded when the first such image comes."""
FORMATS = tuple(form for form in IMAGES if form != _PLUGIN)
"""The formats that Pillow decodes, whatever a file's suffix. It knows more, but runs Ghostscript for some of them."""
_PROGRESS_SECONDS = 5.0
_ORIENTATION = 0x0112  # the EXIF tag
WHITE = 65535
"""White in images of 16 bits, unless the images of a channel use fewer."""
_WHITES = (255, 1023, 4095, 16383, WHITE)
_LOW_BYTES = 257
"""65535 / 255: a value of 16 bits whose bytes are equal, over either of these."""
_SAMPLED, _MOST_LOOKED_AT = 32, 20_000
# Below this amount of work one process finishes before others have started.
_FEW_FILES, _FEW_BYTES = 4_000, 32 << 20
_FAR_BYTES = 128 << 10
"""Assumed of an image that would have to be fetched to tell."""
_FEW_PIXELS = (8, 8)
_MOST_LISTED = 10


class DamagedImageError(UserError):
    """The content of an image is damaged, whichever machine reads it. `name`: the image. `reason`: what is wrong."""

    expected = "expected an intact image file"

    def __init__(self, channel: str, name: str, reason: str) -> None:
        where, settled = f"{channel} channel: ", f", or {SKIP}, which leaves out a few such images"
        super().__init__(
            f"{where * bool(channel)}image '{name}' cannot be read ({reason}); {self.expected}"
            f"{settled * bool(channel)}."
        )
        self.channel, self.name, self.reason = channel, name, reason

    def __reduce__(self) -> tuple[Any, ...]:  # it comes from worker processes
        return type(self), (self.channel, self.name, self.reason)


class OversizedImageError(DamagedImageError):
    """An image takes more work than `max_image_pixels` allows, whichever machine decodes it."""

    expected = "expected a smaller image, or a larger limit"


class MemoryShortError(UserError):
    """This machine has too little memory for an image."""


class EncodedImages(ABC):
    """N encoded images of one channel, read on demand; worker processes share the object without copying it.

    `channel`: the channel's name in messages. `names`: the images' names in messages, all different. `white`: the value
    of white in those of 16 bits. `most_pixels`: the largest image that is decoded, as `work.check` counts its pixels.
    """

    apart: ClassVar[bool] = False
    """Whether a process that reads images cannot be forked afterwards."""
    white = WHITE
    most_pixels = MOST_IMAGE_PIXELS

    def __init__(self, names: Sequence[str | os.PathLike[str]], channel: str):
        self.channel = channel
        # Reference counting alone would copy a list of strings, page by page, into every forked worker.
        self.names = np.array([os.fsencode(name) for name in names], dtype=np.bytes_)
        self.original_sizes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def size(self, index: int) -> int:
        """The encoded size in bytes. Raises UserError if the image no longer exists."""

    @abstractmethod
    def read(self, index: int) -> bytes:
        """The complete encoded image. Raises OSError or ValueError if it cannot be read."""

    def prepare(self, indices: np.ndarray) -> None:  # noqa: B027 - optional: most subclasses need no preparation
        """Prefetch the images, [K] int64, that this thread reads once each before its next call."""

    def keep_sizes(self) -> None:
        """From now on `original_sizes`, [N, 2] int32, holds (H, W) of each image as its file has it, once the image was
        decoded, in this process or a worker that is forked from it; 0 before."""
        # An anonymous mapping is shared with forked workers.
        room = mmap.mmap(-1, max(1, len(self)) * 8)
        self.original_sizes = np.frombuffer(room, np.int32, 2 * len(self)).reshape(-1, 2)

    def decode(self, index: int, size: tuple[int, int] | None) -> np.ndarray:
        """Pixels [H, W, 3] uint8, scaled to `size` (H, W) if given. Raises UserError naming an image it cannot read."""
        try:
            with _opened(io.BytesIO(self.read(index)), self.most_pixels) as opened:
                if self.original_sizes is not None:
                    self.original_sizes[index] = _upright(opened)
                return _decoded(opened, size, self.white)
        except Exception as error:  # PIL's plugins raise almost any exception on damaged data
            raise self.unreadable(index, error) from error

    def brightest(self, index: int) -> int | None:
        """The largest value of an image of 16 bits, 0 if it cannot be read; None for others."""
        try:
            with _opened(io.BytesIO(self.read(index)), self.most_pixels) as image:
                colour = is_deep_colour(image)
                if not colour and not _is_deep(image):
                    return None
                return int(np.asarray(image).max()) * (_LOW_BYTES if colour else 1)
        except Exception:  # reported when it is decoded
            return 0

    def dimensions(self, index: int) -> tuple[int, int]:
        """(H, W) of an image, read from its header, after the rotation in its EXIF data."""
        try:
            return _dimensions(io.BytesIO(self.read(index)), self.most_pixels)
        except Exception as error:
            raise self.unreadable(index, error) from error

    def unreadable(self, index: int, error: Exception) -> UserError:
        """The error about an image: a DamagedImageError if its content is the reason, not the machine or a network."""
        name = os.fsdecode(self.names[index])
        reason = first_line(error)
        where = f"{self.channel} channel: " if self.channel else ""
        if isinstance(error, Image.UnidentifiedImageError):
            reason = "its content is not in a known image format" + self._but(index)
        elif isinstance(error, work.OversizedError):
            return OversizedImageError(self.channel, name, reason)
        elif isinstance(error, MemoryError):
            return MemoryShortError(
                f"{where}image '{name}' cannot be read ({reason}); expected a smaller image, or more memory."
            )
        elif isinstance(error, OSError) and error.errno is not None:
            reason = "the file is gone" if isinstance(error, FileNotFoundError) else reason
            return UserError(
                f"{where}image '{name}' cannot be read ({reason}); expected an intact image file."
            )
        return DamagedImageError(self.channel, name, reason)

    def subset(self, rows: np.ndarray) -> Self:
        """The images at `rows` [K] int64, renumbered 0..K-1."""
        part = copy.copy(self)
        part.names = self.names[rows]
        part.original_sizes = None
        return part

    def _but(self, index: int) -> str:
        try:
            kind = kind_of(self.read(index)[:BEGINNING])
        except Exception:  # for a message only
            return ""
        return "" if kind in (None, TEXT) else f", but {kind}"


class ImageFiles(EncodedImages):
    """Image files. `paths`: relative to `root`."""

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
            # Given a path, Pillow reads no more than the header.
            return _dimensions(os.fsdecode(self.path(index)), self.most_pixels)
        except Exception as error:
            raise self.unreadable(index, error) from error


def _dimensions(source: str | io.BytesIO, most: int) -> tuple[int, int]:
    with _opened(source, most) as image:
        return _upright(image)


def _upright(image: Image.Image) -> tuple[int, int]:
    """(H, W) of an opened image, after the rotation in its EXIF data."""
    width, height = image.size
    return (width, height) if _orientation(image) >= 5 else (height, width)


def _opened(source: str | io.BytesIO, most: int) -> Image.Image:
    """Open an image in one of the formats, of at most so many pixels, as `work.check` counts them.

    Raises UnidentifiedImageError for other formats, what `work.check` raises, or what Pillow raises.
    """
    data = b"" if isinstance(source, str) else source.getvalue()
    try:
        image = Image.open(source, formats=FORMATS)
    except Image.UnidentifiedImageError:
        start = beginning(Path(source)) if isinstance(source, str) else data[:BEGINNING]
        if kind_of(start) != _PLUGIN:
            raise
        _register_heif()
        image = Image.open(source, formats=(_PLUGIN,))
    if image.format == "TIFF":
        _silence_libtiff()
    work.check(image, data, most)
    return image


@functools.cache
def _silence_libtiff() -> None:
    """Damage is reported as an exception. libtiff's own lines go to stderr otherwise, without the image's name."""
    for path in (Path(Image.__file__).parents[1] / "pillow.libs").glob("libtiff*"):
        library = ctypes.CDLL(str(path))  # the one that Pillow has loaded
        for handler in (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler):
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)


@functools.cache
def _register_heif() -> None:
    # Loaded for the first HEIC image only. One thread each, as for the other formats: processes decode side by side.
    import pi_heif

    pi_heif.register_heif_opener(decode_threads=1)


def white_of(files: EncodedImages, indices: np.ndarray, thorough: bool = True) -> int:
    """The value of white in a channel's images of 16 bits: the largest of the fewest bits that hold all their values.

    Cameras and scanners store 10, 12 or 14 bits in 16. Read as 16, all would be nearly black. Where a sample leaves
    bits unused, up to 20,000 images are read if `thorough`, because a brighter one would be clipped.
    """
    brightest = 0
    spread = indices[:: max(1, len(indices) // _SAMPLED)][:_SAMPLED]
    more = indices[:_MOST_LOOKED_AT] if thorough else indices[:0]
    for index in (*spread.tolist(), *more.tolist()):
        value = files.brightest(index)
        if value is None or value > _WHITES[-2]:
            return WHITE
        brightest = max(brightest, value)
    return next(white for white in _WHITES if brightest <= white) if brightest else WHITE


def decode(data: bytes, size: tuple[int, int] | None = None, white: int = WHITE) -> np.ndarray:
    """Decode one image → pixels [H, W, 3] uint8.

    Everything becomes RGB: 16-bit grey is scaled down, transparency is laid over black, palettes are resolved, and the
    rotation in EXIF is applied. In 16-bit grey, `white` and above become 255. With `size` (H, W), the image is scaled
    to cover that size and cropped at its centre.

    Raises:
        ValueError: the pixels are floating-point numbers.
        Exception: whatever Pillow raises on damaged data.
    """
    with _opened(io.BytesIO(data), MOST_IMAGE_PIXELS) as opened:
        return _decoded(opened, size, white)


def _decoded(opened: Image.Image, size: tuple[int, int] | None, white: int) -> np.ndarray:
    if size is not None and opened.format == "JPEG":
        # JPEG can be decoded at 1/2, 1/4 or 1/8 of its size; enough pixels are kept for a good final scaling.
        side = 2 * max(size)
        if min(opened.size) > side:
            opened.draft(None, (side, side))
    colour = is_deep_colour(opened)
    with _ONE_LARGE if math.prod(opened.size) > work.LARGE else contextlib.nullcontext():
        return _loaded(opened, size, white, colour)


def _loaded(opened: Image.Image, size: tuple[int, int] | None, white: int, colour: bool) -> np.ndarray:
    opened.load()
    image = opened
    if _orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    image = _to_rgb(image, white)
    if colour and white != WHITE:
        image = image.point([min(white, value * _LOW_BYTES) * 255 // white for value in range(256)] * 3)
    if size is not None and image.size != (size[1], size[0]):
        image = cover(image, size)
    return np.asarray(image)


def is_encoded(data: bytes) -> bool:
    """Whether the first bytes are those of an image in one of the supported formats."""
    return kind_of(data) in IMAGES


def cover(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale an RGB image to cover `size` (H, W), and crop it at its centre."""
    height, width = size
    scale = max(height / image.height, width / image.width)
    scaled = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
    if scaled[0] * scaled[1] > LARGEST_SCALED:
        # Scaling a line one pixel wide to cover the size would exhaust the memory, so it is cropped first.
        wide, high = width / scale, height / scale
        left, top = (image.width - wide) / 2, (image.height - high) / 2
        box = (max(0.0, left), max(0.0, top), min(image.width, left + wide), min(image.height, top + high))
        return image.resize((width, height), Image.Resampling.BILINEAR, box)
    if scaled != image.size:
        image = image.resize(scaled, Image.Resampling.BILINEAR)
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    return image.crop((left, top, left + width, top + height))


def _orientation(image: Image.Image) -> int:
    # Parsing EXIF costs more than decoding a small image, so first check whether there is any. (Pillow rotates TIFF
    # images itself.)
    if "exif" in image.info or "Raw profile type exif" in image.info:
        value = image.getexif().get(_ORIENTATION, 1)
        return value if value in range(1, 9) else 1
    return 1


def _is_deep(image: Image.Image) -> bool:
    return image.mode == "I" or image.mode.startswith("I;16")


def _to_rgb(image: Image.Image, white: int) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, not 8 or 16 bits")
    width, height = image.size
    rows = max(1, _PIXELS_AT_ONCE // width)
    if height > rows:
        # In parts, because a large image would take its memory several times.
        whole = Image.new("RGB", image.size)
        for top in range(0, height, rows):
            box = (0, top, width, min(top + rows, height))
            whole.paste(_to_rgb(image.crop(box), white), box)
        return whole
    if _is_deep(image):
        # Pillow would clip at 255.
        return Image.fromarray(_greys(white)[np.clip(np.asarray(image), 0, white)]).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image).convert("RGB")
    return image.convert("RGB")


@functools.cache
def _greys(white: int) -> np.ndarray:
    """uint8 [white + 1]: the grey of each value of 16 bits."""
    return ((np.arange(white + 1) * 255 + white // 2) // white).astype(np.uint8)


def natural_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The images' common size (H, W) if all agree and no side has less than 8 or more than 256 pixels; otherwise a
    square.

    Where a convolution with stride 2 meets a width of one pixel, oneDNN's gradients in bfloat16 are undefined.

    The square's side is the median of the images' √(H · W), so that the median image keeps its number of pixels,
    rounded to a multiple of 8 and at least 32 and at most 224.
    """
    fits = min(sizes[0]) >= SMALLEST_NATURAL_SIZE and max(sizes[0]) <= LARGEST_NATURAL_SIZE
    if len(set(sizes)) == 1 and fits:
        return sizes[0]
    median = statistics.median(math.sqrt(height * width) for height, width in sizes)
    side = min(SIDES, key=lambda each: (abs(each - median), -each))
    return (side, side)


def decode_all(files: EncodedImages, indices: np.ndarray, size: tuple[int, int], workers: int) -> np.ndarray:
    """Decode many files → pixels [len(indices), 3, H, W] uint8, with up to `workers` processes.

    Progress is logged every few seconds.

    Raises:
        UserError: images cannot be read; the message names the first ten, and their number.
    """
    pixels, damaged = _work(files, indices, size, workers)
    if damaged:
        raise complaint([error for _, error in damaged], len(indices))
    assert pixels is not None
    return pixels


def damaged_images(files: EncodedImages, workers: int) -> list[tuple[int, DamagedImageError]]:
    """Decode every image → index and error of each that is damaged, in order.

    They are decoded to a few pixels, which takes less time than `decode_all` and finds the same images.

    Raises:
        UserError: an image cannot be read for another reason.
    """
    return _work(files, np.arange(len(files)), _FEW_PIXELS, workers, keep=False)[1]


def damaged_among(files: EncodedImages, indices: np.ndarray) -> list[DamagedImageError]:
    """The errors of the damaged images among some; one that cannot be read for another reason is no such one."""
    found = []
    files.prepare(indices)
    for index in indices.tolist():
        try:
            files.decode(index, _FEW_PIXELS)
        except DamagedImageError as error:
            found.append(error)
        except UserError:
            continue
    return found


def complaint(errors: Sequence[DamagedImageError], total: int, looked_at: int | None = None) -> UserError:
    """One error about all damaged images, of `total`: the first ten, and their number.

    Args:
        looked_at: the number of images that were looked at, if not all were.
    """
    some = looked_at is not None and looked_at < total
    if len(errors) == 1 and not some:
        return errors[0]
    of = f"{looked_at:,} that were looked at of {total:,}" if some else f"{total:,}"
    return UserError(
        f"{errors[0].channel} channel: {len(errors):,} of {of} images cannot be read: {listed(errors)}; expected "
        f"intact image files, or {SKIP}, which leaves out a few such images."
    )


def listed(errors: Sequence[DamagedImageError]) -> str:
    """The names of the first ten, with a reason where it differs from that of the image before."""
    parts, before = [], ""
    for error in errors[:_MOST_LISTED]:
        reason = f" ({error.reason})" if error.reason != before else ""
        parts.append(f"'{error.name}'{reason}")
        before = error.reason
    more = f" and {len(errors) - _MOST_LISTED:,} more" if len(errors) > _MOST_LISTED else ""
    return ", ".join(parts) + more


_Damaged = list[tuple[int, DamagedImageError]]


def _work(
    files: EncodedImages, indices: np.ndarray, size: tuple[int, int], workers: int, keep: bool = True
) -> tuple[np.ndarray | None, _Damaged]:
    """The pixels [len(indices), 3, H, W] uint8, if they are to be kept, and the damaged images by their positions in
    `indices`, ascending."""
    count = len(indices)
    shape = (count, 3, *size)
    sampled = [_FAR_BYTES] if files.apart else [files.size(int(i)) for i in indices[:: max(1, count // 64)]]
    mean_bytes = max(1, sum(sampled) // max(1, len(sampled)))
    chunk = max(1, min(256, (4 << 20) // mean_bytes))
    starts = range(0, count, chunk)
    # Threads do not help, because contention for the interpreter lock costs more than decoding small images. Processes
    # that write into one anonymous mapping do help, and they need neither /dev/shm nor copies.
    few = count < _FEW_FILES and count * mean_bytes < _FEW_BYTES and not files.apart
    if workers < (1 if files.apart else 2) or few or "fork" not in multiprocessing.get_all_start_methods():
        pixels = np.empty(shape, np.uint8) if keep else None
        return pixels, _follow(map(_Job(files, indices, size, chunk, pixels), starts), count)
    pixels = np.frombuffer(mmap.mmap(-1, int(np.prod(shape))), np.uint8).reshape(shape) if keep else None
    job = _Job(files, indices, size, chunk, pixels)
    Image.init()  # loads Pillow's plugins once, before the workers are forked
    executor = ProcessPoolExecutor(
        min(workers, len(starts)),
        multiprocessing.get_context("fork"),
        initializer=_start_worker,
        initargs=(job,),
    )
    try:
        with warnings.catch_warnings():
            # Forking is safe here: the workers use no thread pool and no lock that the parent could hold.
            warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
            results = executor.map(_run_chunk, starts)
        return pixels, _follow(results, count)
    except BrokenProcessPool as error:
        raise PlatformError(
            f"A process decoding the images of the {files.channel} channel ended unexpectedly: the machine is "
            "probably short of memory."
        ) from error
    except BaseException:
        # At SIGTERM nobody waits for the images that are being decoded.
        for process in list((executor._processes or {}).values()):
            process.terminate()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


class _Job:
    """`pixels`: where decoded images are stored; None: nowhere."""

    def __init__(
        self,
        files: EncodedImages,
        indices: np.ndarray,
        size: tuple[int, int],
        chunk: int,
        pixels: np.ndarray | None,
    ):
        self.files, self.indices, self.size, self.chunk, self.pixels = files, indices, size, chunk, pixels

    def __call__(self, start: int) -> tuple[int, _Damaged]:
        """Decode the chunk that begins at `start`; returns its number of images, and the damaged ones."""
        chosen = self.indices[start : start + self.chunk]
        damaged: _Damaged = []
        self.files.prepare(chosen)
        for position, index in enumerate(chosen, start):
            try:
                decoded = self.files.decode(int(index), self.size)
            except DamagedImageError as error:
                damaged.append((position, error))
                continue
            if self.pixels is not None:
                self.pixels[position] = decoded.transpose(2, 0, 1)
        return len(chosen), damaged


_job: _Job | None = None


def _start_worker(job: _Job) -> None:
    global _job
    _job = job
    # The parent's signal handlers are inherited. The parent stops its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # It would wait for work for ever: its siblings hold the other end of the pipe.
    end_with_parent()


def _run_chunk(start: int) -> tuple[int, _Damaged]:
    assert _job is not None
    return _job(start)


def _follow(chunks: Iterator[tuple[int, _Damaged]], total: int) -> _Damaged:
    done, started = 0, time.monotonic()
    said = started
    damaged: _Damaged = []
    for count, some in chunks:
        done += count
        damaged += some
        now = time.monotonic()
        if now - said >= _PROGRESS_SECONDS and done < total:
            logger.info("Decoded %s of %s images in %.0f s.", f"{done:,}", f"{total:,}", now - started)
            said = now
    return damaged

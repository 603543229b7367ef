"""The kind for images: their size, normalisation and decoding."""

import base64
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from subset_trainer.config.data import LARGEST_IMAGE, MOST_IMAGE_PIXELS
from subset_trainer.data.channels import Channel
from subset_trainer.data.datasets import Dataset, MemoryDataset, StreamingDataset
from subset_trainer.data.images.decoding import (
    SIDES,
    WHITE,
    DamagedImageError,
    EncodedImages,
    cover,
    decode_all,
    natural_size,
    white_of,
)
from subset_trainer.data.images.labelled import ImageArray, LabelledImages
from subset_trainer.data.images.s3 import S3Images
from subset_trainer.data.kinds.kind import Kind
from subset_trainer.data.loading import Fitting, Loading
from subset_trainer.data.parts import Regions
from subset_trainer.data.requests import (
    JSON_LINES,
    REQUEST,
    examples_of,
    in_groups,
    lines_of,
    loaded,
    text_of,
)
from subset_trainer.data.understanding import Decision
from subset_trainer.errors import UserError, first_line, shown

Source = LabelledImages | ImageArray
ONE_IMAGE = ("image/", "application/x-image", "application/octet-stream")
"""Prefixes of the content types of a single image, whose format is detected from its first bytes."""
IMAGES_AT_ONCE = 32
"""Images of a request that are processed together, which bounds memory for any number of images."""
_SIZES_LOOKED_AT = 2_000
_STATISTICS_FILES = 2_000
_FETCHED = 256
"""Training images in S3 that are fetched to determine sizes and statistics, whatever is selected later."""


@dataclass(frozen=True)
class ImageKind(Kind):
    """`image_size`: (height, width) in pixels. `mean` and `std`: per channel (red, green, blue), for values scaled to
    0..1. Batches stay uint8; the model normalises them. `white`: the value of white in images of 16 bits.
    `most_pixels`: the largest image of a request that is decoded."""

    name = "image"
    sources = (LabelledImages, ImageArray)
    held = "images"
    default_model = "resnet18"
    augmented = True
    bytes_each = 1
    pictures = True
    takes_weights = True
    divisible = False
    stand_in = "the colour by which images are normalised"
    own_content_types = ONE_IMAGE
    accepted = ("image/png, image/jpeg or another image's, application/x-image", "images")

    classes: tuple[str, ...]
    image_size: tuple[int, int]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    white: int = WHITE
    most_pixels: int = field(default=MOST_IMAGE_PIXELS, compare=False)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (3, *self.image_size)

    @classmethod
    def fit(cls, channel: Channel, source: Source, fitting: Fitting) -> tuple["ImageKind", Dataset]:
        """Fit the image size, unless it is given, and the moments of the training pixels.

        If not all pixels are in memory, the moments come from a random sample.
        """
        rows, own, of_each = fitting.rows, fitting.own, fitting.of_each
        generator = np.random.default_rng(fitting.seed)
        images = source.images if isinstance(source, LabelledImages) else None
        far = images if isinstance(images, S3Images) else None
        looked_at = np.arange(fitting.count)
        if far is not None:
            looked_at = rows = np.sort(generator.permutation(rows)[:_FETCHED])
            if fitting.loading.decoders:
                far.prepare_apart(own(rows))
        elif fitting.image_size is None:
            looked_at = generator.permutation(fitting.count)[:_SIZES_LOOKED_AT]
        sized = cls(source.classes, _size(channel, source, fitting, own(looked_at)))
        if images is not None:
            whites = of_each(white_of(images, own(rows), far is None))
            sized = replace(sized, white=max(whites) or WHITE)
        if sized.white != WHITE:
            fitting.loading.notes.append(
                f"{channel.name} channel: the images of 16 bits use {sized.white.bit_length()}, so {sized.white:,} is "
                "read as white."
            )
        dataset = sized.encode(channel, source, fitting.loading, np.arange(len(source.classes)))
        if far is None and not all(of_each(isinstance(dataset, MemoryDataset))):
            # Decoding all images would take as long as an epoch.
            rows = np.sort(generator.permutation(rows)[:_STATISTICS_FILES])
        sums = of_each(_sums(dataset.batches(_in_chunks(own(rows)), torch.device("cpu"))))
        counts, totals, squares = zip(*sums, strict=True)
        mean, std = _moments(sum(counts), torch.stack(totals).sum(0), torch.stack(squares).sum(0))
        return sized.normalised(mean, std), dataset

    def _dataset(self, channel: Channel, source: Source, labels: Tensor, loading: Loading) -> Dataset:
        needed, size = self._bytes(len(source)), self.image_size
        if isinstance(source, ImageArray):
            loading.take(channel, needed)
            return MemoryDataset(torch.from_numpy(_resized(source.pixels, size)), labels)
        images = source.images
        images.white, images.most_pixels = self.white, loading.most_pixels
        images.keep_sizes()
        if isinstance(images, S3Images):
            loading.notes.append(
                f"{channel.name} channel: read from S3 as they are needed, and kept on the disk while it has room."
            )
            return StreamingDataset(images, labels, size, loading.workers)
        if needed > loading.memory:
            loading.notes.append(
                f"{channel.name} channel: streamed from files, because {needed / 1e9:.1f} GB of pixels exceed the "
                f"{loading.memory / 1e9:.1f} GB of memory that are left for data."
            )
            return StreamingDataset(images, labels, size, loading.workers)
        started = time.monotonic()
        pixels = decode_all(images, np.arange(len(source)), size, loading.decoders)
        loading.notes.append(
            f"{channel.name} channel: decoded to {size[0]} x {size[1]} pixels, {needed / 1e6:,.0f} MB, in "
            f"{time.monotonic() - started:.1f} s."
        )
        loading.take(channel, needed)
        return MemoryDataset(torch.from_numpy(pixels), labels, images.original_sizes)

    @classmethod
    def common(cls, source: Source) -> Mapping[str, Any]:
        return {"a white pixel's value": source.white if isinstance(source, ImageArray) else 255}

    def model(self, name: str) -> str:
        if name in ("ngrams", "encoder"):
            raise UserError(f"hyperparameter model={name!r} is for texts; images expect another model")
        return self.default_model if name == "auto" else name

    @property
    def network(self) -> dict[str, Any]:
        return {"mean": self.mean or None, "std": self.std or None}

    def normalised(self, mean: tuple[float, ...], std: tuple[float, ...]) -> Self:
        return replace(self, mean=mean, std=std)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.name,
            "classes": list(self.classes),
            "image_size": list(self.image_size),
            "mean": list(self.mean),
            "std": list(self.std),
            **({} if self.white == WHITE else {"white": self.white}),
        }

    def bounded(self, most_pixels: int) -> Self:
        return replace(self, most_pixels=most_pixels)

    def check_inputs(self) -> None:
        size = self.image_size
        if not all(0 < side <= LARGEST_IMAGE for side in size):
            raise ValueError(f"image_size: {shown(size)}")
        if not 0 < self.white <= WHITE:
            raise ValueError(f"white: {self.white}")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(self.std):
            raise ValueError(f"mean and std: {shown((self.mean, self.std))}")

    def batches(self, body: bytes, form: str, content_type: str) -> Iterator[np.ndarray]:
        """uint8 [B, 3, H, W] for one image file, or for JSON objects with images in base64."""
        if form in ONE_IMAGE:
            yield self._decoded([("of the request", body)])
            return
        text = text_of(body)
        values = lines_of(text) if form == JSON_LINES else examples_of(loaded(text, "the body"))
        images = ((place, _from_base64(value, place)) for place, value in values)
        yield from map(self._decoded, in_groups(images, IMAGES_AT_ONCE))

    def _decoded(self, images: list[tuple[str, bytes]]) -> np.ndarray:
        files = _RequestImages(images)
        files.white, files.most_pixels = self.white, self.most_pixels
        pixels = np.empty((len(images), *self.input_shape), np.uint8)
        for index in range(len(images)):
            pixels[index] = files.decode(index, self.image_size).transpose(2, 0, 1)
        return pixels

    def parts(self, inputs: Tensor, text: Any, absent: Tensor | None) -> Regions:
        assert absent is not None
        return Regions.of(inputs, absent)

    def absent(self, dataset: Dataset) -> Tensor:
        """uint8 [3]: the mean colour of the normalisation."""
        return (torch.tensor(self.mean) * 255).round().to(torch.uint8)

    def show(self, dataset: Dataset, rows: Sequence[int], texts: np.ndarray | None) -> list[np.ndarray]:
        """The pixels [H, W, 3] uint8 of each."""
        (inputs,) = dataset.batches([torch.tensor(rows)], torch.device("cpu"))
        return [pixels.permute(1, 2, 0).numpy() for pixels in inputs]


class _RequestImages(EncodedImages):
    """The encoded images of a request: each one's name in messages, and its bytes."""

    def __init__(self, images: list[tuple[str, bytes]]) -> None:
        super().__init__([place for place, _ in images], "")
        self._contents = [content for _, content in images]

    def size(self, index: int) -> int:
        return len(self._contents[index])

    def read(self, index: int) -> bytes:
        return self._contents[index]


def _from_base64(value: Any, place: str) -> bytes:
    """Decode the image in a JSON object from base64."""
    text = value.get("image") if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise REQUEST.error(
            f'{place} holds no image; expected {{"image": "…"}} with an image file in base64.'
        )
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise REQUEST.error(f"{place}: the image is not in base64 ({first_line(error)}).") from error


def _size(channel: Channel, source: Source, fitting: Fitting, looked_at: np.ndarray) -> tuple[int, int]:
    """(H, W) that images become: the requested size, or one that follows from the images at `looked_at` [K] on this
    host and the others'. The channel's understanding has it, and why."""
    if fitting.image_size is not None:
        size = (fitting.image_size, fitting.image_size)
        fitting.loading.decide(channel, Decision("size", _pixels(size), "image_size says so", "given"))
        return size
    sizes = [pair for part in fitting.of_each(_sizes(source, looked_at)) for pair in part]
    size = natural_size(sizes) if sizes else (SIDES[-1], SIDES[-1])
    decision = _why(size, sizes, fitting.count)
    fitting.loading.decide(channel, decision)
    if set(sizes) != {size}:
        fitting.loading.notes.append(f"{channel.name} channel: {decision.sentence()}.")
    return size


def _sizes(source: Source, rows: np.ndarray) -> list[tuple[int, int]]:
    """(H, W) of the images at `rows`, without those whose header is damaged: these are reported where all are decoded.

    They are a sample of up to two thousand, so that a few odd images rarely decide for all.
    """
    if isinstance(source, ImageArray):
        height, width = source.pixels.shape[2:]
        return [(height, width)]
    sizes = []
    for index in np.sort(rows):
        with suppress(DamagedImageError):
            sizes.append(source.images.dimensions(index))
    return sizes


def _why(size: tuple[int, int], sizes: list[tuple[int, int]], count: int) -> Decision:
    """The decision for `size`, from the sizes (H, W) that were looked at, of `count` images."""
    looked_at = f"{len(sizes):,} of {count:,} images" if len(sizes) < count else f"all {count:,} images"
    if not sizes:
        reason = f"the size of none of {count:,} images can be read"
    elif set(sizes) == {size}:
        reason = "the images' own size"
    else:
        smallest, largest = (
            "{} x {}".format(*chosen(sizes, key=lambda pair: (math.prod(pair), pair)))
            for chosen in (min, max)
        )
        between = f"{smallest} to {largest}" if smallest != largest else smallest
        median = statistics.median(math.sqrt(math.prod(pair)) for pair in sizes)
        reason = (
            f"the median of √(height × width) is {median:.0f} in {looked_at} of {between} pixels; a side is a multiple "
            f"of 8 from {SIDES[0]} to {SIDES[-1]}; image_size sets another"
        )
    return Decision("size", _pixels(size), reason, setting=f"image_size={size[0]}")


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} pixels"


def _in_chunks(rows: np.ndarray, size: int = 256) -> list[torch.Tensor]:
    return list(torch.from_numpy(rows).split(size))


def _sums(batches: Iterator[torch.Tensor]) -> tuple[int, torch.Tensor, torch.Tensor]:
    """The number of pixels of uint8 images [B, 3, H, W], and the sums of values and of their squares, [3] float64."""
    count = 0
    total, squares = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for batch in batches:
        values = batch.double()  # integers, so that the sums are exact in any order
        total += values.sum((0, 2, 3))
        squares += values.square().sum((0, 2, 3))
        count += batch[:, 0].numel()
    return count, total, squares


def _moments(
    count: int, total: torch.Tensor, squares: torch.Tensor
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, as fractions of 255."""
    mean = total / count / 255
    variance = (squares / count / 255**2 - mean.square()).clamp(min=0)
    # Prevents division by zero for a constant channel.
    std = torch.where(variance > 1e-12, variance.sqrt(), torch.ones_like(variance))
    return tuple(mean.tolist()), tuple(std.tolist())


def _resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if pixels.shape[2:] == size:
        return np.ascontiguousarray(pixels)
    resized = np.empty((len(pixels), 3, *size), np.uint8)
    for position, image in enumerate(pixels):
        resized[position] = np.asarray(
            cover(Image.fromarray(image.transpose(1, 2, 0).copy()), size)
        ).transpose(2, 0, 1)
    return resized

"""What an example is made of, for a person who asks why it was classified so: regions of an image, columns of a table's
row, words of a text; and the example without some of them."""

import base64
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from subset_trainer.data.tables.table import Column
from subset_trainer.data.texts.ngrams import LONG_WORD, Hashing, ngrams_of

REGIONS = 36
"""Of an image, about; one of less than 64 pixels has one a pixel."""
MOST_PARTS = 500
"""Of a table's row: of more columns some neighbours are taken together."""


class Parts(Protocol):
    """An example of M parts.

    slow: whether what a model makes of it takes long, as of images and of what goes through an encoder.
    """

    slow: ClassVar[bool]

    @property
    def count(self) -> int: ...

    @property
    def titles(self) -> list[str]:
        """[M] what the parts are called, for people."""

    def to_json(self, values: Sequence[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Plain values: of the whole, and of each part. values [M]: what stood in the data, where that is told."""

    def with_only(self, present_BM: Tensor) -> Tensor:
        """bool [B, M] → [B, …]: the example with these parts alone, as the classifier takes it."""


@dataclass(frozen=True)
class Regions:
    """An image in regions of like colour.

    A region that is absent has the colour by which images are normalised: what is nothing to the network. Blurring
    instead would leave the region's colour, which may be what decides.

    pixels: uint8 [3, H, W]. region: int64 [H, W], 0 … M - 1. absent: uint8 [3].
    """

    slow: ClassVar[bool] = True

    pixels: Tensor
    region: Tensor
    absent: Tensor

    @classmethod
    def of(cls, pixels: Tensor, absent: Tensor) -> "Regions":
        """Its superpixels, by SLIC (Achanta et al., TPAMI 2012; SLICO, which needs no measure of compactness)."""
        # Imported where images are explained, and nowhere else.
        from skimage.segmentation import slic

        found = slic(pixels.permute(1, 2, 0).numpy(), REGIONS, slic_zero=True, start_label=0, channel_axis=-1)
        _, region = np.unique(found, return_inverse=True)
        return cls(pixels, torch.from_numpy(region.reshape(found.shape)), absent)

    @property
    def count(self) -> int:
        return int(self.region.max()) + 1

    @property
    def titles(self) -> list[str]:
        return region_names(self.region)

    def to_json(self, values: Sequence[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        sizes = self.region.flatten().bincount().tolist()
        parts = [{"place": name, "pixels": size} for name, size in zip(self.titles, sizes, strict=True)]
        return {"regions": _png(self.region.numpy().astype(np.uint8))}, parts

    def with_only(self, present_BM: Tensor) -> Tensor:
        return torch.where(present_BM[:, None, self.region], self.pixels, self.absent[:, None, None])


@dataclass(frozen=True)
class Columns:
    """A table's row in the columns that the table had, each with all the inputs that it was encoded as.

    A column that is absent has the mean of the training rows as these were encoded: of a category, how often each is
    there. The most frequent one instead would never contribute anything to a row that has it.

    row: float32 [D]. part: int64 [D], which part each input is of. names: [M] tuples, the columns of each part. absent:
    float32 [D].
    """

    slow: ClassVar[bool] = False

    row: Tensor
    part: Tensor
    names: Sequence[tuple[str, ...]]
    absent: Tensor

    @classmethod
    def of(cls, row: Tensor, columns: Sequence[Column], absent: Tensor) -> "Columns":
        there = [column for column in columns if column.width]
        together = np.array_split(np.arange(len(there)), min(len(there), MOST_PARTS))
        part_of = np.repeat(np.arange(len(together)), [len(some) for some in together])
        widths = torch.tensor([column.width for column in there])
        part = torch.from_numpy(part_of).repeat_interleave(widths)
        return cls(row, part, [tuple(there[at].name for at in some) for some in together], absent)

    @property
    def count(self) -> int:
        return len(self.names)

    @property
    def titles(self) -> list[str]:
        return [some[0] if len(some) == 1 else f"{some[0]} … {some[-1]}" for some in self.names]

    def to_json(self, values: Sequence[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        told = zip(self.names, values, strict=True)
        return {}, [{"columns": list(names), "value": value or None} for names, value in told]

    def with_only(self, present_BM: Tensor) -> Tensor:
        return torch.where(present_BM[:, self.part], self.row, self.absent)


@dataclass(frozen=True)
class Words:
    """A text in its words, or, where words are not set apart by spaces, its characters.

    One that is absent is not there, nor is any n-gram that it was in; the neighbours do not make new ones.

    text: what the classifier sees of it. spans: int64 [M, 2], where in it each word begins and ends. row: int32 [L], as
    it was encoded. slot: int64 [O], where in the row each n-gram is. members: int64 [O, K], its words. nothing: what a
    row has where there is no n-gram.
    """

    slow: ClassVar[bool] = False

    text: str
    spans: Tensor
    row: Tensor
    slot: Tensor
    members: Tensor
    nothing: int

    @classmethod
    def of(cls, text: str, row: Tensor, hashing: Hashing) -> "Words":
        found = ngrams_of(text, hashing)
        place = {bucket: at for at, bucket in enumerate(row.tolist()) if bucket != hashing.buckets}
        # A row has no room for more n-grams than the longest text of training had.
        kept = np.array([bucket in place for bucket in found.buckets.tolist()], bool)
        slot = [place[bucket] for bucket in found.buckets[kept].tolist()]
        first, last = found.first[kept, None], found.last[kept, None]
        width = int((last - first).max(initial=0)) + 1
        return cls(
            found.text,
            torch.from_numpy(found.spans),
            row,
            torch.tensor(slot, dtype=torch.int64),
            torch.from_numpy(np.minimum(first + np.arange(width), last)),
            hashing.buckets,
        )

    @property
    def count(self) -> int:
        return len(self.spans)

    @property
    def titles(self) -> list[str]:
        return _pieces(self.text, self.spans)

    def to_json(self, values: Sequence[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        return _text_to_json(self.text, self.spans)

    def with_only(self, present_BM: Tensor) -> Tensor:
        whole_BO = present_BM[:, self.members].all(2)
        # As often as an n-gram is there whole.
        times_BL = torch.zeros(len(present_BM), len(self.row)).index_add_(1, self.slot, whole_BO.float())
        return torch.where(times_BL > 0, self.row, self.nothing)


@dataclass(frozen=True)
class Written:
    """A text in its words, or characters, for an encoder, which reads it anew without those that are absent: what
    stands between a word and the next goes with it.

    text: as far as the encoder sees it, at least. spans: int64 [M, 2], where in it each word begins and ends. encode:
    texts → int32 [N, L].
    """

    slow: ClassVar[bool] = True

    text: str
    spans: Tensor
    encode: Callable[[Sequence[str]], np.ndarray]

    @classmethod
    def of(cls, text: str, encode: Callable[[Sequence[str]], np.ndarray], most: int) -> "Written":
        """most: words that the encoder sees, at most: a word is one token or more."""
        apart = text.split()
        words = sum(map(len, apart)) <= LONG_WORD * len(apart)
        found = [match.span() for match in islice(re.finditer(r"\w+" if words else r"\w", text), most)]
        seen = text[: found[-1][1]] if len(found) == most else text
        return cls(seen, torch.tensor(found, dtype=torch.int64).reshape(-1, 2), encode)

    @property
    def count(self) -> int:
        return len(self.spans)

    @property
    def titles(self) -> list[str]:
        return _pieces(self.text, self.spans)

    def to_json(self, values: Sequence[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        return _text_to_json(self.text, self.spans)

    def with_only(self, present_BM: Tensor) -> Tensor:
        begins = [*self.spans[:, 0].tolist(), len(self.text)]
        pieces = [self.text[begin:end] for begin, end in pairwise(begins)]
        texts = [
            self.text[: begins[0]] + "".join(piece for piece, there in zip(pieces, row, strict=True) if there)
            for row in present_BM.tolist()
        ]
        return torch.from_numpy(self.encode(texts))


def _pieces(text: str, spans: Tensor) -> list[str]:
    return [text[begin:end] for begin, end in spans.tolist()]


def _text_to_json(text: str, spans: Tensor) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    pieces = zip(_pieces(text, spans), spans.tolist(), strict=True)
    return {"text": text}, [{"token": piece, "begin": begin, "end": end} for piece, (begin, end) in pieces]


def region_names(region_HW: Tensor) -> list[str]:
    """Where in the image each region lies, by its centre."""
    regions = region_HW.numpy()
    sizes = np.bincount(regions.ravel())
    names = []
    places = [
        np.bincount(regions.ravel(), axis.ravel()) / sizes / side
        for axis, side in zip(np.indices(regions.shape) + 0.5, regions.shape, strict=True)
    ]
    for down, across in zip(*places, strict=True):
        row, column = ("upper", "", "lower")[int(3 * down)], ("left", "", "right")[int(3 * across)]
        names.append(" ".join(filter(None, (row, column))) or "centre")
    return names


def _png(pixels_HW: np.ndarray) -> str:
    """A greyscale image, in base64."""
    file = io.BytesIO()
    Image.fromarray(pixels_HW).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()

"""Parts of an example for explanations: regions of an image, columns of a table row, or words of a text; and versions
of the example with only some of these parts present."""

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
"""Approximate number of regions per image; one of fewer than 64 pixels has one region per pixel."""
MOST_PARTS = 500
"""Most parts of a table row; with more columns, neighbouring columns are grouped."""


class Parts(Protocol):
    """An example of M parts.

    `slow`: whether evaluating the model on it is slow, as it is for images and for texts in an encoder.
    """

    @property
    def slow(self) -> bool: ...

    @property
    def count(self) -> int: ...

    @property
    def titles(self) -> list[str]:
        """[M] the names of the parts, for people."""

    def to_json(self, values: Sequence[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """JSON values for the whole example and for each part. `values` [M]: the original values, if known."""

    def with_only(self, present_BM: Tensor) -> Tensor:
        """bool [B, M] → [B, …]: versions of the example with only these parts present, as the classifier takes them."""


@dataclass(frozen=True)
class Regions:
    """An image in regions of similar colour.

    An absent region is filled with the mean colour of the normalisation, which the network sees as zero. A blurred
    region would keep its colour, and the colour may be what decides.

    `pixels`: uint8 [3, H, W]. `region`: int64 [H, W], 0 … M - 1. `absent`: uint8 [3].
    """

    slow: ClassVar[bool] = True

    pixels: Tensor
    region: Tensor
    absent: Tensor

    @classmethod
    def of(cls, pixels: Tensor, absent: Tensor) -> "Regions":
        """Its superpixels, by SLIC (Achanta et al., TPAMI 2012), in the variant SLICO, which needs no compactness."""
        # Imported here, because only explanations of images need it.
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
    """A table row in its original columns, each with all the inputs that it is encoded as.

    An absent column takes the mean of the encoded training rows; for a category, this is the frequency of each value.
    With the most frequent value instead, a row that has this value would never show a contribution.

    `row`: float32 [D]. `part`: int64 [D], the part of each input. `names`: [M] tuples of the columns of each part.
    `absent`: float32 [D].
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
    """A text in its words, or in its characters if spaces do not separate its words.

    An absent word is removed with every n-gram that contains it; its neighbours form no new n-grams.

    `text`: the part that the classifier sees. `spans`: int64 [M, 2], where each word begins and ends in it. `row`:
    int32 [L], the encoded text. `slot`: int64 [O], the position of each n-gram in the row. `members`: int64 [O, K],
    the words of each n-gram. `nothing`: the value that pads a row.
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
        # The length of a row is that of the longest training text, so further n-grams do not fit.
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
        # Counts the complete occurrences of each n-gram.
        times_BL = torch.zeros(len(present_BM), len(self.row)).index_add_(1, self.slot, whole_BO.float())
        return torch.where(times_BL > 0, self.row, self.nothing)


@dataclass(frozen=True)
class Written:
    """A text in its words, or characters, for an encoder, which encodes it again without the absent ones.

    The separator after a word is removed with it. `text`: at least the part that the encoder sees. `spans`: int64
    [M, 2], where each word begins and ends in it. `encode`: texts → int32 [N, L].
    """

    slow: ClassVar[bool] = True

    text: str
    spans: Tensor
    encode: Callable[[Sequence[str]], np.ndarray]

    @classmethod
    def of(cls, text: str, encode: Callable[[Sequence[str]], np.ndarray], most: int) -> "Written":
        """Split a text into at most `most` words: the encoder sees no more, as a word takes at least one token."""
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


@dataclass(frozen=True)
class Several:
    """An example of several parts in turn: the columns of a table's row, and the words of each of its texts.

    `several`: (the column of the text, None for the other columns; its parts), in the order of the example's values.
    """

    several: Sequence[tuple[str | None, Parts]]

    @property
    def slow(self) -> bool:
        return any(parts.slow for _, parts in self.several)

    @property
    def counts(self) -> list[int]:
        return [parts.count for _, parts in self.several]

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def titles(self) -> list[str]:
        return [
            title if column is None else f"{column}: {title}"
            for column, parts in self.several
            for title in parts.titles
        ]

    def to_json(self, values: Sequence[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        texts: dict[str, str] = {}
        told: list[dict[str, Any]] = []
        for column, parts in self.several:
            own, some = parts.to_json(values[len(told) : len(told) + parts.count])
            if column is not None:
                texts[column] = own["text"]
                some = [{"column": column, **part} for part in some]
            told += some
        return {"texts": texts}, told

    def with_only(self, present_BM: Tensor) -> Tensor:
        present = present_BM.split(self.counts, 1)
        versions = [
            parts.with_only(own).float() for (_, parts), own in zip(self.several, present, strict=True)
        ]
        return torch.cat(versions, 1)


def _pieces(text: str, spans: Tensor) -> list[str]:
    return [text[begin:end] for begin, end in spans.tolist()]


def _text_to_json(text: str, spans: Tensor) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    pieces = zip(_pieces(text, spans), spans.tolist(), strict=True)
    return {"text": text}, [{"token": piece, "begin": begin, "end": end} for piece, (begin, end) in pieces]


def region_names(region_HW: Tensor) -> list[str]:
    """The location of each region in the image, by its centre."""
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
    """A greyscale image as PNG, in base64."""
    file = io.BytesIO()
    Image.fromarray(pixels_HW).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()

"""The columns of a table as its files hold them, before they are interpreted."""

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from subset_trainer.data.channels import Channel

if TYPE_CHECKING:
    import pyarrow as pa


_UNSEEN = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad"
"""Characters without width, which copied cells begin or end with."""
_FORMULA = re.compile(r'="([^"]*)"')
"""How spreadsheets keep a number as a text."""


def cleaned(text: str) -> str:
    """A cell's text without blanks and unseen characters around it, in Unicode's form NFC."""
    text = text.strip()
    if text.isascii() and not text.startswith('="'):
        return text
    if text and (text[0] in _UNSEEN or text[-1] in _UNSEEN):
        text = text.strip(_UNSEEN + " \t\xa0")
    if text.startswith('="') and (formula := _FORMULA.fullmatch(text)):
        text = formula[1].strip()
    return unicodedata.normalize("NFC", text)


@dataclass(frozen=True)
class Coded:
    """A column of texts: row n holds `distinct[codes[n]]`. The texts are stripped and in Unicode's form NFC; '' is an
    empty cell."""

    distinct: tuple[str, ...]
    codes: np.ndarray

    @classmethod
    def of(cls, spelt: Sequence[str | None], codes: np.ndarray) -> "Coded":
        """Strip and normalise texts; None becomes ''. codes [N]: positions in `spelt`, -1 for an empty cell."""
        position: dict[str, int] = {}
        lookup = [position.setdefault(cleaned(text or ""), len(position)) for text in spelt]
        lookup.append(position.setdefault("", len(position)) if codes.min(initial=0) < 0 else 0)
        return cls(tuple(position), np.array(lookup, np.int64)[codes])

    @classmethod
    def of_arrow(cls, column: "pa.Array | pa.ChunkedArray") -> "Coded":
        """Encode a column of strings, or of dictionaries of strings."""
        import pyarrow as pa

        chunked = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
        encoded = chunked.dictionary_encode().combine_chunks() if chunked.num_chunks else None
        if encoded is None or not len(encoded):
            return cls((), np.zeros(0, np.int64))
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.unify_dictionaries().combine_chunks()
        codes = encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
        return cls.of(encoded.dictionary.cast(pa.string()).to_pylist(), codes)

    @cached_property
    def counts(self) -> np.ndarray:
        """[D] the number of rows that hold each distinct text."""
        return np.bincount(self.codes, minlength=len(self.distinct))

    @property
    def texts(self) -> np.ndarray:
        """[N] object (of str)."""
        found = np.empty(len(self.distinct), object)
        found[:] = self.distinct
        return found[self.codes]

    def first_row(self, text: str) -> int:
        """The first row that holds a text."""
        return int(np.argmax(self.codes == self.distinct.index(text)))


def distinct_of(column: "pa.ChunkedArray") -> tuple[int, int]:
    """How many texts the dictionaries of an encoded column hold, and their bytes."""
    # The chunks of a column that was encoded as a whole share one dictionary.
    found = {
        chunk.dictionary.buffers()[-1].address: chunk.dictionary
        for chunk in column.chunks
        if len(chunk.dictionary)
    }
    return sum(map(len, found.values())), sum(one.nbytes for one in found.values())


class Cells(ABC):
    """A table's columns in use, by their position among `names`.

    `header`: whether the files name the columns. `typed`: whether the files declare the columns' types. `starts`: the
    first row of each file. `indexes`: the names that the files' own metadata declare to be an index.
    """

    channel: Channel
    files: Sequence[str]
    names: Sequence[str]
    header: bool
    typed: bool
    starts: Sequence[int]
    indexes: frozenset[str]

    @abstractmethod
    def __len__(self) -> int:
        """The number of rows."""

    def prefetch(self, positions: Iterable[int]) -> None:  # noqa: B027  most read all at once
        """Read some columns in one pass over the files, where that is faster."""

    @abstractmethod
    def column(self, position: int) -> np.ndarray | Coded:
        """Plain numbers as float64, dates as datetime64[us], other columns as texts."""

    @abstractmethod
    def coded(self, position: int) -> Coded:
        """A column's values as they are spelt."""

    @abstractmethod
    def fail(self, position: int, row: int, expected: str, what: str = "value") -> NoReturn:
        """Raise a UserError that names file, line, column and value."""

    def count_rows(self, values: np.ndarray) -> bool:
        """Whether numbers [N] rise by one from row to row within each file."""
        starts = [start - 1 for start in self.starts if 0 < start < len(values)]
        steps = np.delete(np.diff(values), starts)
        return len(steps) > 0 and bool((steps == 1).all())

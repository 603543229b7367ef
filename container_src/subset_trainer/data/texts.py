"""Texts → hashed n-grams, for a classifier that needs no download.

The features are those of fastText (Joulin et al., "Bag of Tricks for Efficient Text Classification", EACL 2017): words
and pairs of words, each hashed into one of a fixed number of buckets. Where words are not set apart by spaces,
characters and their pairs and triples take their place.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from subset_trainer.data.ids import Ids
from subset_trainer.data.preprocessing import BUCKETS, MOST_NGRAMS, Hashing

_MOST_CHARACTERS = 8_192
_LONG_WORD = 15
_WORD = r"(?u)\b\w+\b"
_ROWS_AT_ONCE = 8_192


@dataclass(frozen=True)
class Texts:
    """`texts` [N] object (of str); labels [N] int64: positions in `classes`. `column`: the texts' name in a table; the
    other fields are the table's."""

    texts: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    ids: Ids
    notes: tuple[str, ...] = ()
    weights: np.ndarray | None = None
    column: str | None = None
    header: bool = False
    label_column: str | None = None
    label_index: int = 0

    def __len__(self) -> int:
        return len(self.labels)


def fit_hashing(
    texts: Sequence[str] | np.ndarray, of_each: Callable[[int], list[int]] = lambda own: [own]
) -> Hashing:
    """What the training texts say: whether words or characters are counted, and how many of them a text has at most.

    of_each: of each of several shards of the texts what it counts, given what this one does.
    """
    sample = [text[:_MOST_CHARACTERS] for text in texts[:_ROWS_AT_ONCE]]
    words = [word for text in sample for word in text.split()]
    mean = sum(of_each(sum(map(len, words)))) / max(1, sum(of_each(len(words))))
    hashing = Hashing("word" if mean <= _LONG_WORD else "character", BUCKETS, MOST_NGRAMS)
    longest = max(of_each(max((len(row) for row in _rows(texts, hashing)), default=0)))
    return Hashing(hashing.unit, BUCKETS, max(1, min(longest, MOST_NGRAMS)))


def encode_texts(texts: Sequence[str] | np.ndarray, hashing: Hashing) -> np.ndarray:
    """int32 [N, hashing.length]: the buckets of each text's different n-grams, then `hashing.buckets` where there are
    no more. Of a text with more of them, those that come first are kept."""
    encoded = np.full((len(texts), hashing.length), hashing.buckets, np.int32)
    for row, buckets in enumerate(_rows(texts, hashing)):
        encoded[row, : len(buckets)] = buckets[: hashing.length]
    return encoded


def _rows(texts: Sequence[str] | np.ndarray, hashing: Hashing) -> Iterator[np.ndarray]:
    """The buckets of each text, at most MOST_NGRAMS."""
    # Imported by who has texts: it takes a second.
    from sklearn.feature_extraction.text import HashingVectorizer

    words = hashing.unit == "word"
    vectorizer = HashingVectorizer(
        n_features=hashing.buckets,
        analyzer="word" if words else "char",
        ngram_range=(1, 2) if words else (1, 3),
        token_pattern=_WORD,
        alternate_sign=False,
        norm=None,
        dtype=np.float32,
    )
    # So many units have no more n-grams than there is room for.
    most = MOST_NGRAMS // (2 if words else 3)
    for start in range(0, len(texts), _ROWS_AT_ONCE):
        chunk = [_beginning(text, words, most) for text in texts[start : start + _ROWS_AT_ONCE]]
        counted = vectorizer.transform(chunk)
        for begin, end in zip(counted.indptr[:-1], counted.indptr[1:], strict=True):
            yield counted.indices[begin:end]


def _beginning(text: str, words: bool, most: int) -> str:
    if not words:
        return text[:most]
    return " ".join(text[: most * _LONG_WORD * 4].split()[:most])

"""Encodes texts as hashed n-grams, for a classifier that needs no download.

The n-grams are those of fastText (Joulin et al., "Bag of Tricks for Efficient Text Classification", EACL 2017): words
and pairs of words, each hashed into one of a fixed number of buckets. If spaces do not separate words, single
characters, pairs and triples are used instead.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

BUCKETS, MOST_NGRAMS = 1 << 16, 512
"""The number of buckets, and the largest number of n-grams per text."""
_MOST_CHARACTERS = 8_192
LONG_WORD = 15
"""Characters. If words are longer on average, the text is assumed not to separate words by spaces."""
_WORD = r"(?u)\b\w+\b"
_ROWS_AT_ONCE = 8_192
_UNITS = {"word": (2, " "), "character": (3, "")}
"""The largest number of units in an n-gram, and the separator between them."""


@dataclass(frozen=True)
class Hashing:
    """Hashes a text to at most `length` of `buckets` numbers: see :mod:`subset_trainer.data.texts.ngrams`."""

    unit: Literal["word", "character"]
    buckets: int
    length: int


def fit_hashing(
    texts: Sequence[str] | np.ndarray, of_each: Callable[[int], list[int]] = lambda own: [own]
) -> Hashing:
    """Determine from the training texts whether to use words or characters, and the most n-grams that a text has.

    Args:
        of_each: collects the counts of all shards, given those of this one.
    """
    sample = [text[:_MOST_CHARACTERS] for text in texts[:_ROWS_AT_ONCE]]
    words = [word for text in sample for word in text.split()]
    mean = sum(of_each(sum(map(len, words)))) / max(1, sum(of_each(len(words))))
    hashing = Hashing("word" if mean <= LONG_WORD else "character", BUCKETS, MOST_NGRAMS)
    longest = max(of_each(max((len(row) for row in _rows(texts, hashing)), default=0)))
    return Hashing(hashing.unit, BUCKETS, max(1, min(longest, MOST_NGRAMS)))


def encode_texts(texts: Sequence[str] | np.ndarray, hashing: Hashing) -> np.ndarray:
    """int32 [N, hashing.length]: the distinct buckets of each text's n-grams, padded with `hashing.buckets`. If a text
    has more, the first ones are kept."""
    encoded = np.full((len(texts), hashing.length), hashing.buckets, np.int32)
    for row, buckets in enumerate(_rows(texts, hashing)):
        encoded[row, : len(buckets)] = buckets[: hashing.length]
    return encoded


@dataclass(frozen=True)
class NGrams:
    """The T words (or characters) of a text that its classifier sees, and their O n-grams.

    `text`: the part that is seen, with white space normalised. `spans` [T, 2] int64: where each token begins and ends.
    `buckets` [O] int64: the hash of each n-gram. `first`, `last` [O] int64: its first and last token.
    """

    text: str
    spans: np.ndarray
    buckets: np.ndarray
    first: np.ndarray
    last: np.ndarray


def ngrams_of(text: str, hashing: Hashing) -> NGrams:
    """The n-grams that `encode_texts` encodes, with repetitions."""
    from sklearn.feature_extraction import FeatureHasher

    words = hashing.unit == "word"
    longest, joint = _UNITS[hashing.unit]
    seen = _beginning(text, words, MOST_NGRAMS // longest)
    if not words:
        seen = re.sub(r"\s\s+", " ", seen)
    lower = seen.lower()
    # A few letters change their length in lower case. Positions in one string then do not match the other.
    seen = seen if len(lower) == len(seen) else lower
    spans = [match.span() for match in re.finditer(_WORD if words else r"(?s).", lower)]
    single = [lower[begin:end] for begin, end in spans]
    places = [
        (start, start + length - 1)
        for length in range(1, longest + 1)
        for start in range(len(single) - length + 1)
    ]
    grams = [joint.join(single[first : last + 1]) for first, last in places]
    hasher = FeatureHasher(hashing.buckets, input_type="string", alternate_sign=False)
    buckets = hasher.transform([gram] for gram in grams).indices if grams else ()
    first, last = np.array(places, np.int64).reshape(-1, 2).T
    return NGrams(seen, np.array(spans, np.int64).reshape(-1, 2), np.array(buckets, np.int64), first, last)


def _rows(texts: Sequence[str] | np.ndarray, hashing: Hashing) -> Iterator[np.ndarray]:
    """The buckets of each text, at most MOST_NGRAMS."""
    # scikit-learn takes a second to import, so that other data skips it.
    from sklearn.feature_extraction.text import HashingVectorizer

    words = hashing.unit == "word"
    longest, _ = _UNITS[hashing.unit]
    vectorizer = HashingVectorizer(
        n_features=hashing.buckets,
        analyzer="word" if words else "char",
        ngram_range=(1, longest),
        token_pattern=_WORD,
        alternate_sign=False,
        norm=None,
        dtype=np.float32,
    )
    # This number of units yields at most MOST_NGRAMS n-grams.
    most = MOST_NGRAMS // longest
    for start in range(0, len(texts), _ROWS_AT_ONCE):
        chunk = [_beginning(text, words, most) for text in texts[start : start + _ROWS_AT_ONCE]]
        counted = vectorizer.transform(chunk)
        for begin, end in zip(counted.indptr[:-1], counted.indptr[1:], strict=True):
            yield counted.indices[begin:end]


def _beginning(text: str, words: bool, most: int) -> str:
    if not words:
        return text[:most]
    return " ".join(text[: most * LONG_WORD * 4].split()[:most])

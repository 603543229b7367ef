"""Texts → token ids, by a Hugging Face tokenizer's definition: what a `tokenizer.json` holds."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from subset_trainer.errors import UserError, first_line

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_TEXTS_AT_ONCE = 4_096
_CHARACTERS_A_TOKEN = 64
"""Of a longer text no more is looked at than so many for each token that is kept."""
NOTHING = -1


@dataclass(frozen=True)
class Tokens:
    """How a text becomes at most `length` token ids below `vocabulary`: see :mod:`subset_trainer.data.texts.tokens`.

    definition: what the tokenizer.json holds that is saved beside the JSON of all else; digest: its SHA-256.
    """

    length: int
    vocabulary: int
    digest: str
    definition: str = field(default="", compare=False, repr=False)


def read_tokenizer(definition: str, length: int, vocabulary: int) -> Tokens:
    """What makes at most `length` ids of a text, for a model that knows `vocabulary` tokens.

    Raises:
        ValueError: with the reason why it cannot be used.
    """
    found = _made(definition, length)
    known = found.get_vocab(with_added_tokens=True)
    try:
        always = found.encode("").ids
        found.encode("a " * length)
    except Exception as error:
        raise ValueError(f"it cannot take a text: {first_line(error)}") from error
    largest = max([*known.values(), *always], default=-1)
    if largest < 0:
        raise ValueError("it knows no tokens")
    if largest >= vocabulary:
        raise ValueError(
            f"it has the token {largest}, and the model knows {vocabulary:,} of them, counted from 0"
        )
    found.no_truncation()
    canonical = found.to_str()
    return Tokens(length, vocabulary, hashlib.sha256(canonical.encode()).hexdigest(), canonical)


def encode_tokens(texts: Sequence[str] | np.ndarray, tokens: Tokens) -> np.ndarray:
    """int32 [N, tokens.length]: each text's first ids, those at its ends included that the tokenizer adds, then -1.

    Raises:
        UserError: the tokenizer has no token for what a text holds.
    """
    tokenizer = _kept(tokens.definition, tokens.length)
    encoded = np.full((len(texts), tokens.length), NOTHING, np.int32)
    most = _CHARACTERS_A_TOKEN * tokens.length
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        # Half characters, which JSON may bring, are none.
        chunk = [
            text[:most].encode("utf-8", "replace").decode("utf-8")
            for text in texts[start : start + _TEXTS_AT_ONCE]
        ]
        try:
            found = tokenizer.encode_batch_fast(chunk)
        except Exception as error:
            raise UserError(f"the encoder's tokenizer cannot take a text ({first_line(error)})") from error
        for row, one in enumerate(found, start):
            ids = one.ids
            encoded[row, : len(ids)] = ids
    return encoded


def _made(definition: str, length: int) -> "Tokenizer":
    """ValueError where the definition is none."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(definition)
        tokenizer.no_padding()
        tokenizer.enable_truncation(length)
    except Exception as error:
        raise ValueError(first_line(error)) from error
    return tokenizer


_kept = lru_cache(maxsize=2)(_made)
"""Made once, for all requests that a server answers."""

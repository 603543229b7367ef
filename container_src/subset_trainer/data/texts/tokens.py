"""Encodes texts as token ids, with a Hugging Face tokenizer that a `tokenizer.json` defines."""

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
"""Characters read per token that is kept; the rest of a longer text is ignored."""
NOTHING = -1


@dataclass(frozen=True)
class Tokens:
    """Encodes a text as at most `length` token ids below `vocabulary`: see :mod:`subset_trainer.data.texts.tokens`.

    `definition`: the content of tokenizer.json, which is saved as a file of its own. `digest`: its SHA-256.
    """

    length: int
    vocabulary: int
    digest: str
    definition: str = field(default="", compare=False, repr=False)


def read_tokenizer(definition: str, length: int, vocabulary: int) -> Tokens:
    """Load a tokenizer that yields at most `length` ids per text, for a model with `vocabulary` tokens.

    Raises:
        ValueError: the tokenizer cannot be used; the message says why.
    """
    found = _made(definition, length)
    known = found.get_vocab(with_added_tokens=True)
    try:
        always = found.encode("").ids
        found.encode("a " * length)
    except Exception as error:
        raise ValueError(f"it cannot encode a text: {first_line(error)}") from error
    largest = max([*known.values(), *always], default=-1)
    if largest < 0:
        raise ValueError("it knows no tokens")
    if largest >= vocabulary:
        raise ValueError(
            f"it has the token {largest}, but the model knows only {vocabulary:,}, counted from 0"
        )
    found.no_truncation()
    canonical = found.to_str()
    return Tokens(length, vocabulary, hashlib.sha256(canonical.encode()).hexdigest(), canonical)


def encode_tokens(texts: Sequence[str] | np.ndarray, tokens: Tokens) -> np.ndarray:
    """int32 [N, tokens.length]: the first ids of each text, including special tokens, padded with -1.

    Raises:
        UserError: the tokenizer has no token for some text.
    """
    tokenizer = _kept(tokens.definition, tokens.length)
    encoded = np.full((len(texts), tokens.length), NOTHING, np.int32)
    most = _CHARACTERS_A_TOKEN * tokens.length
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        # JSON may contain lone surrogates, which are not valid characters.
        chunk = [
            text[:most].encode("utf-8", "replace").decode("utf-8")
            for text in texts[start : start + _TEXTS_AT_ONCE]
        ]
        try:
            found = tokenizer.encode_batch_fast(chunk)
        except Exception as error:
            raise UserError(f"the encoder's tokenizer cannot encode a text ({first_line(error)})") from error
        for row, one in enumerate(found, start):
            ids = one.ids
            encoded[row, : len(ids)] = ids
    return encoded


def _made(definition: str, length: int) -> "Tokenizer":
    """Build the tokenizer. Raises ValueError if the definition is invalid."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(definition)
        tokenizer.no_padding()
        tokenizer.enable_truncation(length)
    except Exception as error:
        raise ValueError(first_line(error)) from error
    return tokenizer


_kept = lru_cache(maxsize=2)(_made)
"""Cached, so that a server builds the tokenizer once for all requests."""

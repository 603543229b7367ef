"""Parses the body of a request into batches of inputs, according to its content type."""

from collections.abc import Iterator

import numpy as np

from subset_trainer.data import Kind
from subset_trainer.data.requests import CSV, JSON, JSON_LINES
from subset_trainer.errors import shown
from subset_trainer.serving.errors import RequestError

SPELLINGS = {
    "csv": CSV,
    "application/csv": CSV,
    "application/jsonl": JSON_LINES,
    "application/x-jsonlines": JSON_LINES,
    "application/x-ndjson": JSON_LINES,
}
"""Other names of these three content types."""


def form_of(content_type: str, like: Kind) -> str:
    """The content type in normal form: CSV, JSON, JSON_LINES or one of the kind's own.

    Raises:
        RequestError: the model does not accept this content type.
    """
    plain = content_type.partition(";")[0].strip().lower()
    plain = SPELLINGS.get(plain, plain)
    known = (JSON, JSON_LINES, *like.own_content_types)
    found = next(
        (one for one in known if plain == one or (one.endswith("/") and plain.startswith(one))), None
    )
    if found is None:
        accepted, taken = like.accepted
        raise RequestError(
            415,
            f"request: the content type is {shown(content_type, 80)}; expected {accepted}, {JSON_LINES} or {JSON}, "
            f"because the model takes {taken}.",
        )
    return found


def batches(body: bytes, content_type: str, like: Kind) -> Iterator[np.ndarray]:
    """Batches of the examples in a body, in order, as the model takes them.

    Raises:
        UserError: the body cannot be read; raised after the batches before the error.
        RequestError: as in `form_of`.
    """
    yield from like.batches(body, form_of(content_type, like), content_type)

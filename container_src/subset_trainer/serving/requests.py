"""The body of a request → batches of what the model takes, by its content type."""

import base64
import csv
import io
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from subset_trainer.data import Preprocessing
from subset_trainer.data.formats.content_types import understand
from subset_trainer.data.images.decoding import EncodedImages
from subset_trainer.data.tables.rows import REQUEST, encode_rows, row_of_json, rows_of_csv
from subset_trainer.data.texts.ngrams import inputs_of
from subset_trainer.errors import first_line, shown
from subset_trainer.serving.errors import RequestError

CSV = "text/csv"
JSON = "application/json"
JSON_LINES = "application/jsonlines"
SPELLINGS = {
    "csv": CSV,
    "application/csv": CSV,
    "application/jsonl": JSON_LINES,
    "application/x-jsonlines": JSON_LINES,
    "application/x-ndjson": JSON_LINES,
}
"""What else the three are called."""
PLAIN = "text/plain"
"""One text."""
ONE_IMAGE = ("image/", "application/x-image", "application/octet-stream")
"""Begin the content types of one image, whose own first bytes tell its format."""

ROWS_AT_ONCE, IMAGES_AT_ONCE, TEXTS_AT_ONCE = 4096, 32, 32
"""Of texts those that go through an encoder; so that memory stays small however many a request brings."""

T = TypeVar("T")
_OWN = {"image": ONE_IMAGE, "table": (CSV,), "text": (CSV, PLAIN)}
_SAID = {
    "image": ("image/png, image/jpeg or another image's, application/x-image", "images"),
    "table": (CSV, "rows of a table"),
    "text": (f"{PLAIN}, {CSV}", "texts"),
}


def form_of(content_type: str, like: Preprocessing) -> str:
    """CSV, JSON, JSON_LINES, PLAIN or an entry of ONE_IMAGE.

    Raises:
        RequestError: the model does not take what it says.
    """
    plain = content_type.partition(";")[0].strip().lower()
    plain = SPELLINGS.get(plain, plain)
    known = (JSON, JSON_LINES, *_OWN[like.kind])
    found = next(
        (one for one in known if plain == one or (one.endswith("/") and plain.startswith(one))), None
    )
    if found is None:
        what, taken = _SAID[like.kind]
        raise RequestError(
            415,
            f"request: the content type is {shown(content_type, 80)}; expected {what}, {JSON_LINES} or {JSON}, because "
            f"the model takes {taken}.",
        )
    return found


def batches(body: bytes, content_type: str, like: Preprocessing) -> Iterator[np.ndarray]:
    """Batches of the examples of a body, in order: uint8 [B, 3, H, W], float32 [B, D], or of texts int32 [B, L].

    Raises:
        UserError: on what can not be read, once the batches before it have been taken; RequestError as `form_of`.
    """
    form = form_of(content_type, like)
    if form in ONE_IMAGE:
        yield _decoded([("of the request", body)], like)
        return
    if like.kind == "text":
        texts = _texts(_text(body), form, like)
        at_once = TEXTS_AT_ONCE if like.tokens else ROWS_AT_ONCE
        yield from (inputs_of(some, like) for some in _in_groups(texts, at_once))
        return
    if form == CSV:
        rows = rows_of_csv(_text(body), like, understand(REQUEST, content_type).header or "auto")
        yield from (encode_rows(some, like) for some in _in_groups(rows, ROWS_AT_ONCE))
        return
    values = _lines(_text(body)) if form == JSON_LINES else _examples(_loaded(_text(body), "the body"), like)
    if like.kind == "image":
        images = ((place, _image(value, place)) for place, value in values)
        yield from (_decoded(some, like) for some in _in_groups(images, IMAGES_AT_ONCE))
    else:
        some_rows = (row_of_json(value, place, like) for place, value in values)
        yield from (encode_rows(some, like) for some in _in_groups(some_rows, ROWS_AT_ONCE))


def _in_groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise REQUEST.error(f"the body is not UTF-8 text ({error.reason} at byte {error.start}).") from error


def _loaded(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise REQUEST.error(f"{place} is nested too deeply; expected JSON of examples.") from error
    except ValueError as error:
        raise REQUEST.error(f"{place} is not JSON ({first_line(error)}).") from error


def _lines(text: str) -> Iterator[tuple[str, Any]]:
    """The value of each line that is not blank, and what to call it."""
    # Only line feeds end lines: within JSON's texts there may be what splitlines() takes for one.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"line {number}", _loaded(line, f"line {number}")


def _examples(value: Any, like: Preprocessing) -> list[tuple[str, Any]]:
    """The examples of a JSON document: one, a list of them, or such a list as `instances`."""
    if isinstance(value, dict) and isinstance(value.get("instances"), list):
        value = value["instances"]
    elif not isinstance(value, list) or (
        like.kind == "table" and value and not any(isinstance(item, list | dict) for item in value)
    ):
        value = [value]
    return [(f"example {number}", item) for number, item in enumerate(value, 1)]


def _texts(body: str, form: str, like: Preprocessing) -> Iterator[str]:
    """The texts of a body: all of it, a CSV line's only field each, or JSON's."""
    if form == PLAIN:
        yield body
    elif form == CSV:
        try:
            for number, fields in enumerate(csv.reader(io.StringIO(body, newline="")), 1):
                if len(fields) > 1:
                    raise REQUEST.error(
                        f"line {number}: {len(fields)} fields; expected one, the text, in quotes where it holds commas."
                    )
                if fields and not (number == 1 and fields[0] == like.text_column):
                    yield fields[0]
        except csv.Error as error:
            raise REQUEST.error(f"the body is no CSV ({error}).") from error
    else:
        values = _lines(body) if form == JSON_LINES else _examples(_loaded(body, "the body"), like)
        for place, value in values:
            if isinstance(value, dict):
                value = value.get("text", value.get("features"))
            text = value[0] if isinstance(value, list) and len(value) == 1 else value
            if not isinstance(text, str):
                raise REQUEST.error(
                    f'{place} holds no text; expected a text, {{"text": "…"}} or {{"features": ["…"]}}.'
                )
            yield text


def _image(value: Any, place: str) -> bytes:
    """The encoded image that a JSON object holds."""
    text = value.get("image") if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise REQUEST.error(
            f'{place} holds no image; expected {{"image": "…"}} with an image file in base64.'
        )
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise REQUEST.error(f"{place}: the image is not in base64 ({first_line(error)}).") from error


class _Images(EncodedImages):
    """Encoded images that a request brought: what messages call each, and its bytes."""

    def __init__(self, images: list[tuple[str, bytes]]) -> None:
        super().__init__([place for place, _ in images], "")
        self._contents = [content for _, content in images]

    def size(self, index: int) -> int:
        return len(self._contents[index])

    def read(self, index: int) -> bytes:
        return self._contents[index]


def _decoded(images: list[tuple[str, bytes]], like: Preprocessing) -> np.ndarray:
    assert like.image_size is not None
    files = _Images(images)
    pixels = np.empty((len(images), *like.input_shape), np.uint8)
    for index in range(len(images)):
        pixels[index] = files.decode(index, like.image_size).transpose(2, 0, 1)
    return pixels

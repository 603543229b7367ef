"""Splits the body of a prediction request into examples, for every kind of data."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from subset_trainer.data.channels import Channel
from subset_trainer.errors import UserError, first_line

CSV = "text/csv"
JSON = "application/json"
JSON_LINES = "application/jsonlines"

T = TypeVar("T")


@dataclass(frozen=True)
class Request(Channel):
    """Stands in place of a channel in messages about the rows of a request."""

    name: str = "request"
    root: Path = Path()
    files: tuple[str, ...] = ()

    def error(self, sentence: str) -> UserError:
        return UserError(f"request: {sentence}")


REQUEST = Request()


def in_groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group


def text_of(body: bytes) -> str:
    """Decode a body. Raises UserError if it is not UTF-8 text."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise REQUEST.error(f"the body is not UTF-8 text ({error.reason} at byte {error.start}).") from error


def loaded(text: str, place: str) -> Any:
    """Parse JSON. Raises UserError if it is invalid; `place`: how the message names it."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise REQUEST.error(f"{place} is nested too deeply; expected JSON of examples.") from error
    except ValueError as error:
        raise REQUEST.error(f"{place} is not JSON ({first_line(error)}).") from error


def lines_of(text: str) -> Iterator[tuple[str, Any]]:
    """(place for messages, value) of each JSON line that is not blank."""
    # Only line feeds end lines: JSON strings may contain other characters that splitlines() splits at.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"line {number}", loaded(line, f"line {number}")


def examples_of(value: Any, lists: bool = False) -> list[tuple[str, Any]]:
    """The examples of a JSON document: a single one, a list of them, or such a list under `instances`.

    Args:
        lists: whether a list of plain values is one example.
    """
    if isinstance(value, dict) and isinstance(value.get("instances"), list):
        value = value["instances"]
    elif not isinstance(value, list) or (
        lists and value and not any(isinstance(item, list | dict) for item in value)
    ):
        value = [value]
    return [(f"example {number}", item) for number, item in enumerate(value, 1)]

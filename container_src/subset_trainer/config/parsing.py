"""Converts SageMaker's strings to values, and pydantic's errors to sentences.

SageMaker passes hyperparameters as strings. Depending on the SDK's version and on what launched the job, a value
arrives as ``glister``, ``"glister"`` or ``"\\"glister\\""``, and a boolean as ``True`` or ``true``. All are accepted.
``None`` and ``null`` mean that a value is not given. A choice may be written in any case, and with hyphens, underscores
or spaces: ``GradMatch_PB`` is ``gradmatch-pb``.
"""

import difflib
import json
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from subset_trainer.errors import shown

LONGEST_INTEGER = 10_000
"""In bits. Python refuses to convert much longer integers to decimal text, because that takes quadratic time."""

LITERALS = {"True": "true", "False": "false", "None": None, "null": None}
"""What Python and JSON write for values that are no text."""


def decode(value: Any) -> Any:
    """Undo the quoting of SDKs and tuners. Returns the value itself, however often it was JSON-encoded."""
    while isinstance(value, str):
        text = value.strip()
        if text in LITERALS:
            return LITERALS[text]
        if not (len(text) >= 2 and text[0] == text[-1] == '"'):
            return text
        try:
            value = json.loads(text)
        except ValueError:
            return text
    if isinstance(value, bool):
        return "true" if value else "false"
    # A number may be meant as text (`label_column: 0`); pydantic converts it back where a number is expected.
    if isinstance(value, int):
        return str(value) if value.bit_length() < LONGEST_INTEGER else hex(value)
    return value


def canonical(value: Any, field: FieldInfo) -> Any:
    """The choice that a value means, whatever its case and its separators; any other value as it is."""
    choices = _choices(field)
    if not isinstance(value, str) or value in choices:
        return value
    meant = [choice for choice in choices if _loose(choice) == _loose(value)]
    return meant[0] if len(meant) == 1 else value


def _loose(text: str) -> str:
    return text.strip().casefold().replace("_", "-").replace(" ", "-")


_WHOLE = ("mlflow_server", "text_encoding")
"""Types of errors whose messages are whole sentences."""
LISTED = "`python -m subset_trainer.config` lists all of them"


def sentence(fault: Any, model: type[BaseModel]) -> str:
    """Describe one of pydantic's errors in a sentence with the hyperparameter, the value and what was expected.

    Args:
        fault: one entry of ``ValidationError.errors()``.
        model: the model that was validated.
    """
    if not fault["loc"] or fault["type"] in _WHOLE:
        return str(fault["msg"]).removeprefix("Value error, ")
    name = str(fault["loc"][0])
    field = model.model_fields.get(name)
    if field is None:
        near = difflib.get_close_matches(name.lower().replace("-", "_"), model.model_fields, 1, 0.5)
        # Of more than sixty names none is near, so that a list of all would only hide the mistake.
        hint = f"did you mean {near[0]!r}?" if near else LISTED
        return f"unknown hyperparameter {shown(name)}: {hint}"
    message = f"hyperparameter {name}={shown(fault['input'])}: expected {expectation(field)}"
    choices = _choices(field)
    if near := difflib.get_close_matches(shown(fault["input"]).strip("'").lower(), choices, 1, 0.5):
        message += f"; did you mean {near[0]!r}?"
    return message


def expectation(field: FieldInfo) -> str:
    """Describe in words what a field accepts, derived from its type and constraints."""
    kinds = {kind for kind, _ in _parts(field.annotation, field.metadata)}
    words_too = ""
    if choices := _choices(field):
        if len(kinds) == 1:
            return "one of " + ", ".join(choices)
        words_too = ", or " + ", ".join(choices)
    if bool in kinds:
        return "true or false"
    bounds = [bound for _, metadata in _parts(field.annotation, field.metadata) for bound in metadata]
    noun = "text" if str in kinds else "a whole number" if int in kinds else "a number"
    words = []
    for kind, phrase in (
        (annotated_types.Gt, "greater than"),
        (annotated_types.Ge, "at least"),
        (annotated_types.Lt, "less than"),
        (annotated_types.Le, "at most"),
    ):
        attribute = kind.__name__.lower()
        words += [f"{phrase} {getattr(bound, attribute)}" for bound in bounds if isinstance(bound, kind)]
    return " ".join([noun, " and ".join(words)]).strip() + words_too


def _parts(annotation: Any, metadata: list[Any]) -> Iterator[tuple[Any, list[Any]]]:
    """The plain types within an annotation, each with its constraints."""
    if get_origin(annotation) is Annotated:
        inner, *extra = get_args(annotation)
        flat = [
            item for entry in extra for item in (entry.metadata if isinstance(entry, FieldInfo) else [entry])
        ]
        yield from _parts(inner, metadata + flat)
    elif get_origin(annotation) in (typing.Union, types.UnionType):
        for member in get_args(annotation):
            if member is not type(None):
                yield from _parts(member, metadata)
    else:
        yield annotation, metadata


def _choices(field: FieldInfo) -> tuple[str, ...]:
    """The words that a field accepts, perhaps beside numbers."""
    kinds = [kind for kind, _ in _parts(field.annotation, field.metadata)]
    return tuple(choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind))

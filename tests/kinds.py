"""Casts of what was fitted on the data to the kind of data that a test expects."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from subset_trainer.data import ImageKind, Kind, TableKind, TextKind
from subset_trainer.data.formats.format import Options


def image_kind(learned: Kind) -> ImageKind:
    assert isinstance(learned, ImageKind)
    return learned


def table_kind(learned: Kind) -> TableKind:
    assert isinstance(learned, TableKind)
    return learned


def text_kind(learned: Kind) -> TextKind:
    assert isinstance(learned, TextKind)
    return learned


def gathered(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `load_splits`, with those that are fields of `Options` gathered in one."""
    names = {field.name for field in dataclasses.fields(Options)}
    options = Options(**{name: value for name, value in settings.items() if name in names})
    return {"options": options, **{name: value for name, value in settings.items() if name not in names}}

"""The list of the kinds of data."""

from collections.abc import Mapping
from typing import Any

from subset_trainer.data.kinds.image import ImageKind
from subset_trainer.data.kinds.kind import Kind, Source
from subset_trainer.data.kinds.table import TableKind
from subset_trainer.data.kinds.table_and_text import TableAndTextKind
from subset_trainer.data.kinds.text import TextKind
from subset_trainer.errors import shown

KINDS: tuple[type[Kind], ...] = (ImageKind, TableKind, TableAndTextKind, TextKind)
BY_NAME = {kind.name: kind for kind in KINDS}


def of(source: Source) -> type[Kind]:
    """The kind of a source."""
    return next(kind for kind in KINDS if kind.holds(source))


def from_json(value: Mapping[str, Any]) -> Kind:
    """Restore any kind from its `to_json`. Raises KeyError, TypeError or ValueError on anything else."""
    if value["kind"] not in BY_NAME:
        raise ValueError(f"kind: {shown(value['kind'])}")
    return BY_NAME[value["kind"]].from_json({name: one for name, one in value.items() if name != "kind"})

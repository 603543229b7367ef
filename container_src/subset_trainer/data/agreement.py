"""Combines the parts of a sharded channel, each read by another host, into one data set."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from subset_trainer.data.channels import Channel
from subset_trainer.data.classes import natural_order
from subset_trainer.data.formats.format import Format, Found
from subset_trainer.data.hosts import Shards
from subset_trainer.data.kinds import registry as kinds
from subset_trainer.data.kinds.table import TableKind
from subset_trainer.data.tables.numbers import Spelling
from subset_trainer.data.tables.table import Column, Table, is_number
from subset_trainer.errors import shown

ColumnKind = Literal["numeric", "categorical", "date", "free text"]


@dataclass(frozen=True)
class _Form:
    """The form of one host's shard.

    `common`: the values that must be equal on all hosts. `columns`: a table's columns with the kind of each, None for a
    column without any value. `texts`: those that are read as text.
    """

    format: str
    kind: str
    classes: tuple[str, ...]
    common: Mapping[str, Any]
    columns: Mapping[str, ColumnKind | None] = field(default_factory=dict)
    spellings: Mapping[str, Spelling] = field(default_factory=dict)
    texts: tuple[str, ...] = ()
    header: bool = False
    label: str | None = None
    label_index: int = 0

    @classmethod
    def of(cls, found: Found) -> "_Form":
        source = found.source
        kind = kinds.of(source)
        form = cls(found.format.name, kind.held, source.classes, kind.common(source))
        if not isinstance(source, Table):
            return form
        return replace(
            form,
            columns=dict(zip(source.names, map(_becomes, source.columns), strict=True)),
            spellings=source.spellings,
            texts=source.text_columns,
            header=source.header,
            label=source.label_column,
            label_index=source.label_index,
        )


def _becomes(values: np.ndarray) -> ColumnKind | None:
    kinds: dict[str, ColumnKind] = {"O": "categorical", "M": "date"}
    becomes = kinds.get(values.dtype.kind, "numeric")
    # A missing number (NaN) or date (NaT) does not equal itself.
    missing = values == "" if becomes == "categorical" else values != values
    return None if bool(np.all(missing)) else becomes


def agreed(
    channel: Channel, found: Found, shards: Shards, again: Callable[[TableKind], Found]
) -> tuple[Found, tuple[str, ...]]:
    """This host's examples in the form that all hosts share, and the classes of all hosts.

    Args:
        again: reads the shard again with given column kinds. It is called where this host's values alone suggest
            another kind than those of all hosts, for example where its part of a text column looks like numbers.

    Raises:
        UserError: the shards differ in format or in columns.
    """
    if found.format.undividable:
        raise channel.error(found.format.undividable)
    forms = shards.of_each(_Form.of(found))
    for name, form in zip(shards.names, forms, strict=True):
        for what, ours, theirs in _told_apart(forms[0], form, found.format):
            if ours != theirs:
                raise channel.error(
                    f"the channel is sharded, and {what} is {shown(ours)} on host {shards.names[0]} and "
                    f"{shown(theirs)} on host {name}; expected the same in every shard."
                )
    classes = natural_order({name for form in forms for name in form.classes})
    if forms[0].columns:
        found = _as_all_have(forms, forms[shards.own], found, classes, again)
    return found, classes


def _told_apart(first: _Form, other: _Form, form: Format) -> list[tuple[str, Any, Any]]:
    told: list[tuple[str, Any, Any]] = [
        ("the format", first.format, other.format),
        ("its kind of data", first.kind, other.kind),
        *((what, ours, other.common.get(what)) for what, ours in first.common.items()),
    ]
    if not form.columns_vary:
        told.append(("the list of columns", list(first.columns), list(other.columns)))
    return told


def _as_all_have(
    forms: Sequence[_Form],
    own: _Form,
    found: Found,
    classes: tuple[str, ...],
    again: Callable[[TableKind], Found],
) -> Found:
    names = {name for form in forms for name in form.columns}
    # What one host reads as text is text.
    texts = {name for form in forms for name in form.texts}
    columns = []
    for name in own.columns if len(own.columns) == len(names) else natural_order(names):
        if name in texts:
            columns.append(Column(name, "free text"))
            continue
        told: set[ColumnKind] = {held for form in forms if (held := form.columns.get(name))}
        kind = "numeric" if not told else told.pop() if len(told) == 1 else "categorical"
        spelling = next(filter(None, (form.spellings.get(name) for form in forms)), None)
        columns.append(Column(name, kind, spelling=spelling))
    # A column without a value counts as numeric. If the labels of any host are texts, the others read their numeric
    # labels again, to keep the spelling.
    same = [
        column.name in own.texts
        if column.kind == "free text"
        else (own.columns.get(column.name) or "numeric") == column.kind
        for column in columns
    ]
    numbers = all(map(is_number, classes))
    if len(own.columns) == len(columns) and all(same) and numbers == all(map(is_number, own.classes)):
        return found
    return again(
        TableKind(
            classes,
            tuple(columns),
            header=own.header,
            label_column=own.label,
            label_index=own.label_index,
        )
    )

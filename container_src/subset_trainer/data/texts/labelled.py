"""Texts with their labels, possibly from a table."""

from dataclasses import dataclass

import numpy as np

from subset_trainer.data.channels import Channel
from subset_trainer.data.ids import Ids
from subset_trainer.data.tables.table import Table
from subset_trainer.errors import UserError, shown


@dataclass(frozen=True)
class Texts:
    """`texts` [N] object (of str); labels [N] int64: positions in `classes`. `column`: the name of the texts' column in
    a table; the other fields are those of the table."""

    texts: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    ids: Ids
    notes: tuple[str, ...] = ()
    weights: np.ndarray | None = None
    column: str | None = None
    header: bool = False
    label_column: str | None = None
    label_index: int = 0
    left_out: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


def texts_of(channel: Channel, table: Table, column: str) -> Texts:
    """Read one column of a table as texts. Raises UserError if the column does not exist or is not text."""
    position = table.names.index(column) if column in table.names else None
    if position is None or table.columns[position].dtype != object:
        known = [
            name for name, values in zip(table.names, table.columns, strict=True) if values.dtype == object
        ]
        raise UserError(
            f"text_column={shown(column)}: the {channel.name} channel has no such text column; expected one of "
            f"its text columns ({', '.join(map(repr, known)) or 'none'})."
        )
    return Texts(
        table.columns[position],
        table.labels,
        table.classes,
        table.ids,
        table.notes,
        column=column,
        header=table.header,
        label_column=table.label_column,
        label_index=table.label_index,
        left_out=table.left_out,
    )

"""What the table formats share: a table may be read as texts, and is matched to the training table."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from subset_trainer.data.channels import Channel
from subset_trainer.data.formats.format import OF_COLUMNS, Claim, Format, Found, Reading
from subset_trainer.data.tables.interpret import Rules
from subset_trainer.data.tables.numbers import Spelling, without
from subset_trainer.data.tables.table import Table
from subset_trainer.data.texts.labelled import texts_of

if TYPE_CHECKING:
    from subset_trainer.data.kinds.table import TableKind


@dataclass(frozen=True)
class Asked:
    """How a table is read.

    The label is in `label_column`, or where it was in training. `csv_header`: auto, true or false. `memory`: the
    largest unpacked size of the files in bytes. `rules`: the user's settings for columns.
    """

    label_column: str | None
    like: TableKind | None
    csv_header: str
    memory: int
    rules: Rules


def _without_missing(table: Table, asked: Asked) -> Table:
    """A table whose format has numbers alone, with the numbers that stand for a missing value taken as missing."""
    trained = {} if asked.like is None else {column.name: column for column in asked.like.columns}
    words = {
        name: own.missing
        for name in table.names
        if (
            own := trained[name].spelling
            if name in trained
            else Spelling(missing=tuple(sorted(asked.rules.missing)))
        )
    }
    if not any(words.values()):
        return table
    return replace(
        table,
        columns=tuple(
            without(values, words.get(name, ())) if values.dtype.kind == "f" else values
            for name, values in zip(table.names, table.columns, strict=True)
        ),
        spellings={name: Spelling(missing=own) for name, own in words.items()} | dict(table.spellings),
    )


class TableFormat(Format):
    """Base class of the table formats."""

    heeds: ClassVar[tuple[str, ...]] = ("label_column", *OF_COLUMNS)

    suffixes: tuple[str, ...]

    def recognise(self, channel: Channel) -> Claim | None:
        files = channel.ending(*self.suffixes)
        return Claim(files) if files else None

    @abstractmethod
    def table_of(self, channel: Channel, files: tuple[str, ...], asked: Asked) -> Table:
        """Read the files as one table. Raises UserError for anything that is wrong with them."""

    def read(self, channel: Channel, claim: Claim, reading: Reading) -> Found:
        like, options, files = reading.like, reading.options, claim.files

        def table_of(label_column: str | None, trained: TableKind | None) -> Table:
            asked = Asked(label_column, trained, options.csv_header, reading.memory, options.columns)
            return _without_missing(self.table_of(channel, files, asked), asked)

        if like is not None:
            source = like.of_table(channel, files[0], table_of)
            return Found(self, source, notes=source.notes)
        table = table_of(options.label_column, None)
        if len(table.columns) == len(table.text_columns) == 1:
            texts = texts_of(channel, table, table.text_columns[0])
            return Found(self, texts, notes=texts.notes, decisions=table.decisions)
        return Found(self, table, notes=table.notes, decisions=table.decisions)

"""What the formats of tables have in common: a table may be one of texts, and is matched to training's."""

from abc import abstractmethod

from subset_trainer.data.channels import Channel
from subset_trainer.data.formats.format import Claim, Format, Found, Reading
from subset_trainer.data.kinds.preprocessing import Preprocessing
from subset_trainer.data.tables.table import Table
from subset_trainer.data.texts.labelled import text_column, texts_of


class TableFormat(Format):
    """A format of tables."""

    suffixes: tuple[str, ...]

    def recognise(self, channel: Channel) -> Claim | None:
        files = channel.ending(*self.suffixes)
        return Claim(files) if files else None

    @abstractmethod
    def table_of(
        self,
        channel: Channel,
        files: tuple[str, ...],
        label_column: str | None,
        like: Preprocessing | None,
        reading: Reading,
    ) -> Table:
        """The files as one table, its label in `label_column` or as `like` has it. UserError for what is wrong."""

    def read(self, channel: Channel, claim: Claim, reading: Reading) -> Found:
        like, options, files = reading.like, reading.options, claim.files
        if like is not None and like.kind == "image":
            raise channel.error(f"holds tables ('{files[0]}'); expected images, as in training.")
        if like is not None and like.kind == "text":
            # Of a table's other columns nothing was learned.
            table = self.table_of(channel, files, like.label_column, None, reading)
            column = like.text_column or text_column(table)
        else:
            table = self.table_of(channel, files, options.label_column, like, reading)
            column = None if like is not None else options.text_column or text_column(table)
        if column is not None:
            texts = texts_of(channel, table, column)
            return Found(self, texts, notes=texts.notes)
        if like is not None:
            return Found(self, table, notes=table.notes)
        note = (
            f"{channel.name} channel: {len(table):,} rows of {len(table.columns):,} features and "
            f"{'a label' if table.label_column is None else f'the label {table.label_column!r}'}, "
            f"{'with' if table.header else 'without'} a header, {len(table.classes)} classes."
        )
        return Found(self, table, notes=(*table.notes, note))

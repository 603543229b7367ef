"""The kind for table rows with free text: columns as in a table, and each text as in a data set of texts."""

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from subset_trainer.data.channels import Channel
from subset_trainer.data.datasets import Dataset, MemoryDataset
from subset_trainer.data.kinds.kind import Kind, Source
from subset_trainer.data.kinds.table import ROWS_AT_ONCE, TableKind, rows_of_body
from subset_trainer.data.kinds.text import TOKENISED_AT_ONCE, TextKind
from subset_trainer.data.loading import Fitting, Loading
from subset_trainer.data.parts import Parts, Several
from subset_trainer.data.requests import CSV, in_groups
from subset_trainer.data.tables.columns import describe, encode, fit_columns
from subset_trainer.data.tables.rows import Row, encode_rows
from subset_trainer.data.tables.table import Column, Table, TrainedColumns
from subset_trainer.data.texts.labelled import texts_of
from subset_trainer.data.texts.tokens import Tokens
from subset_trainer.errors import UserError, shown

_OF_TABLE = ("classes", "header", "label_column", "label_index", "left_out")
"""The fields in model.json that a text's kind has in common with the table's."""


@dataclass(frozen=True)
class TableAndTextKind(Kind):
    """`names`: all columns in the order of training. `table`: those that are not text, possibly none. `texts`: one for
    each column of texts.

    An example is one row, float32 [D + L1 + … + LT]: the table's D inputs, and the n-grams or tokens of each text,
    which float32 represents exactly, as they are numbers below 2²⁴.
    """

    name = "table_and_text"
    sources = (Table,)
    held = "a table"
    default_model = "ngrams"
    takes_encoder = True
    stand_in = "the mean of the training rows as they are encoded (a column), or by nothing (a word)"
    own_content_types = (CSV,)
    accepted = (CSV, "rows of a table")

    classes: tuple[str, ...]
    names: tuple[str, ...]
    table: TableKind
    texts: tuple[TextKind, ...]

    @property
    def tokens(self) -> Tokens | None:
        return self.texts[0].tokens

    @property
    def widths(self) -> tuple[int, ...]:
        """(D, L1, …, LT): how many values of an example are the table's, and how many each text's."""
        return (*self.table.input_shape, *(text.input_shape[0] for text in self.texts))

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (sum(self.widths),)

    @property
    def _columns_of_texts(self) -> tuple[str, ...]:
        return tuple(text.text_column or "" for text in self.texts)

    @property
    def _trained(self) -> TrainedColumns:
        """The training table, as readers of further tables take it."""
        table = self.table
        others = {column.name: column for column in table.columns}
        columns = tuple(others.get(name) or Column(name, "free text") for name in self.names)
        return TrainedColumns(
            self.classes, columns, table.header, table.label_column, table.label_index, table.left_out
        )

    @classmethod
    def holds(cls, source: Source) -> bool:
        return isinstance(source, Table) and bool(source.text_columns)

    @classmethod
    def fit(cls, channel: Channel, source: Table, fitting: Fitting) -> tuple["TableAndTextKind", Dataset]:
        others = _without_texts(source)
        columns: tuple[Column, ...] = ()
        if others.columns:
            columns = fit_columns(channel, others, fitting.own(fitting.rows), fitting.of_each)
            fitting.loading.notes.extend(describe(channel, others, columns))
        fitted = cls(
            source.classes,
            source.names,
            TableKind(
                source.classes,
                columns,
                source.header,
                source.label_column,
                source.label_index,
                source.left_out,
            ),
            tuple(
                TextKind.fitted(texts_of(channel, source, column), fitting) for column in source.text_columns
            ),
        )
        fitting.loading.notes.append(fitted._describe(channel))
        every = np.arange(len(source.classes))
        return fitted, fitted.encode(channel, source, fitting.loading, every)

    def _describe(self, channel: Channel) -> str:
        units = {"word": "words and pairs of words", "character": "characters, pairs and triples of them"}
        read = ", ".join(
            f"{text.text_column!r} ({f'up to {text.tokens.length} tokens' if text.tokens else ''}"
            f"{units[text.hashing.unit] if text.hashing else ''})"
            for text in self.texts
        )
        others = f"{self.widths[0]:,} inputs of the other columns"
        return f"{channel.name} channel: free text in {read}, joined with {others}."

    def _dataset(self, channel: Channel, source: Table, labels: Tensor, loading: Loading) -> Dataset:
        loading.take(channel, self._bytes(len(source)))
        inputs = np.empty((len(source), *self.input_shape), np.float32)
        table, *texts = np.split(inputs, np.cumsum(self.widths)[:-1], axis=1)
        table[:], notes = encode(channel, _without_texts(source), self.table.columns, self.table.header)
        loading.notes.extend(notes)
        columns = dict(zip(source.names, source.columns, strict=True))
        for text, out in zip(self.texts, texts, strict=True):
            out[:] = text.inputs(columns[text.text_column or ""])
        return MemoryDataset(torch.from_numpy(inputs), labels)

    def of_table(self, channel: Channel, file: str, read: Callable[[str | None, Any], Table]) -> Table:
        return replace(read(None, self._trained), text_columns=self._columns_of_texts)

    @classmethod
    def common(cls, source: Table) -> Mapping[str, Any]:
        return TableKind.common(source)

    def model(self, name: str) -> str:
        try:
            return self.texts[0].model(name)
        except UserError as error:
            texts = ", ".join(map(repr, self._columns_of_texts))
            raise UserError(
                f"{error}; the table has free text in {texts}, which ignore_columns leaves out"
            ) from None

    @property
    def network(self) -> dict[str, Any]:
        return {**self.texts[0].network, "widths": self.widths}

    def to_json(self) -> dict[str, Any]:
        table = self.table.to_json()
        return {
            **table,
            "kind": self.name,
            "names": list(self.names),
            "texts": [
                {name: value for name, value in text.to_json().items() if name not in ("kind", *_OF_TABLE)}
                for text in self.texts
            ],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        shared = {name: value[name] for name in _OF_TABLE if name in value}
        table = {**shared, "columns": value["columns"]}
        texts = [{**shared, **text} for text in value["texts"]]
        return super().from_json(
            {"classes": shared["classes"], "names": value["names"], "table": table, "texts": texts}
        )

    def check(self) -> None:
        super().check()
        self._check_places(len(self.names), self.table.label_index, self.table.left_out)

    def check_inputs(self) -> None:
        for part in (self.table, *self.texts):
            part.check_inputs()
        parts = [*(column.name for column in self.table.columns), *self._columns_of_texts]
        if not self.texts or sorted(parts) != sorted(self.names):
            raise ValueError(f"names: {shown(self.names)}")
        if len({text.tokens for text in self.texts}) > 1:
            raise ValueError("texts with different tokens")

    def files(self) -> Mapping[str, str]:
        return self.texts[0].files()

    def with_files(self, read: Callable[[str], str]) -> Self:
        return replace(self, texts=tuple(text.with_files(read) for text in self.texts))

    def batches(self, body: bytes, form: str, content_type: str) -> Iterator[np.ndarray]:
        """float32 [B, D + L1 + … + LT] from CSV, or from JSON lists and objects."""
        at_once = TOKENISED_AT_ONCE if self.tokens else ROWS_AT_ONCE
        rows = rows_of_body(body, form, content_type, self._trained)
        yield from map(self._encoded, in_groups(rows, at_once))

    def _encoded(self, rows: Sequence[Row]) -> np.ndarray:
        place = {name: at for at, name in enumerate(self.names)}
        others = [place[column.name] for column in self.table.columns]
        table = encode_rows([Row(row.place, [row.values[at] for at in others]) for row in rows], self.table)
        texts = [
            text.inputs([_written(row.values[place[text.text_column or ""]]) for row in rows])
            for text in self.texts
        ]
        return np.concatenate([table, *texts], axis=1, dtype=np.float32)

    def parts(self, inputs: Tensor, text: Any, absent: Tensor | None) -> Several:
        row, *texts = inputs.split(self.widths)
        parts: list[tuple[str | None, Parts]] = []
        if len(row):
            parts.append((None, self.table.parts(row, None, absent)))
        for kind, own, written in zip(self.texts, texts, text, strict=True):
            parts.append((kind.text_column, kind.parts(own.int(), written, None)))
        return Several(parts)

    def absent(self, dataset: Dataset) -> Tensor:
        """float32 [D]: the mean of the table's encoded rows."""
        return self.table.absent(_TableOf(dataset, self.widths[0]))

    def values(self, inputs: Tensor, parts: Parts) -> list[str]:
        assert isinstance(parts, Several)
        values = []
        for column, own in parts.several:
            if column is None:
                values += self.table.values(inputs[: self.widths[0]], own)
            else:
                values += [""] * own.count
        return values

    def show(
        self, dataset: Dataset, rows: Sequence[int], texts: np.ndarray | None
    ) -> list[tuple[list[tuple[str, str]], int]]:
        """As for a table, after (name, text) of each text."""
        assert texts is not None
        shown_rows = self.table.show(_TableOf(dataset, self.widths[0]), rows, None)
        return [
            ([*zip(self._columns_of_texts, texts[row].tolist(), strict=True), *cells], more)
            for row, (cells, more) in zip(rows, shown_rows, strict=True)
        ]


class _TableOf:
    """The table's inputs, the first D values, of a data set of this kind."""

    def __init__(self, dataset: Dataset, width: int) -> None:
        self.labels, self.owners = dataset.labels, dataset.owners
        self._dataset, self._width = dataset, width

    def __len__(self) -> int:
        return len(self._dataset)

    def batches(self, order: Sequence[Tensor], device: torch.device) -> Iterator[Tensor]:
        return (batch[:, : self._width] for batch in self._dataset.batches(order, device))

    def original_sizes(self, indices: Tensor) -> Tensor | None:
        return None

    def subset(self, indices: Tensor) -> "_TableOf":
        return _TableOf(self._dataset.subset(indices), self._width)

    def place(self, device: torch.device) -> bool:
        return self._dataset.place(device)


def _without_texts(table: Table) -> Table:
    """The columns that are not read as text."""
    kept = [at for at, name in enumerate(table.names) if name not in table.text_columns]
    return replace(
        table,
        names=tuple(table.names[at] for at in kept),
        columns=tuple(table.columns[at] for at in kept),
        text_columns=(),
    )


def _written(value: Any) -> str:
    """A value of a request as a training file would hold it."""
    return "" if value is None else unicodedata.normalize("NFC", str(value).strip())

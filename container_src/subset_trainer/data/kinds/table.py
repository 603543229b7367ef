"""The kind for table rows: the means, deviations, categories and dates of their columns."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from subset_trainer.data.channels import Channel
from subset_trainer.data.datasets import Dataset, MemoryDataset
from subset_trainer.data.kinds.kind import Kind, Source
from subset_trainer.data.loading import Fitting, Loading
from subset_trainer.data.media import header_of
from subset_trainer.data.parts import Columns, Parts
from subset_trainer.data.requests import (
    CSV,
    JSON_LINES,
    REQUEST,
    examples_of,
    in_groups,
    lines_of,
    loaded,
    text_of,
)
from subset_trainer.data.tables.columns import (
    cell,
    column_to_json,
    describe,
    encode,
    fit_columns,
)
from subset_trainer.data.tables.rows import Row, encode_rows, row_of_json, rows_of_csv
from subset_trainer.data.tables.table import Column, Table, TrainedTable
from subset_trainer.errors import shown

ROWS_AT_ONCE = 4_096
"""Rows of a request that are processed together, which bounds memory for any number of rows."""
COLUMNS_SHOWN = 8
"""Columns of a row that are shown to people."""
_ROWS_OF_MEAN = 100_000
"""Most training rows that the mean is computed over."""
_BATCH_OF_MEAN = 8_192


@dataclass(frozen=True)
class TableKind(Kind):
    """`columns`: in the order of the encoded inputs. `header`: whether the training files had a header. `label_column`:
    the label's name in it, or its 0-based position as text without one. `label_index`: its position. `left_out`: the
    positions in the files of columns that are not used. Batches are encoded already."""

    name = "table"
    sources = (Table,)
    held = "a table"
    default_model = "mlp"
    stand_in = "the mean of the training rows as they are encoded"
    own_content_types = (CSV,)
    accepted = (CSV, "rows of a table")

    classes: tuple[str, ...]
    columns: tuple[Column, ...]
    header: bool = False
    label_column: str | None = None
    label_index: int = 0
    left_out: tuple[int, ...] = ()

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (sum(column.width for column in self.columns),)

    @classmethod
    def holds(cls, source: Source) -> bool:
        return isinstance(source, Table) and not source.text_columns

    @classmethod
    def fit(cls, channel: Channel, source: Table, fitting: Fitting) -> tuple["TableKind", Dataset]:
        rows = fitting.own(fitting.rows)
        columns = fit_columns(channel, source, rows, fitting.of_each)
        if not any(column.width for column in columns):
            raise channel.error(
                f"no column but the label has any value in {len(rows):,} training rows; expected at least one feature."
            )
        fitted = cls(
            source.classes, columns, source.header, source.label_column, source.label_index, source.left_out
        )
        fitting.loading.notes.extend(describe(channel, source, columns))
        every = np.arange(len(source.classes))
        return fitted, fitted.encode(channel, source, fitting.loading, every)

    def _dataset(self, channel: Channel, source: Table, labels: Tensor, loading: Loading) -> Dataset:
        loading.take(channel, self._bytes(len(source)))
        inputs, notes = encode(channel, source, self.columns, self.header)
        loading.notes.extend(notes)
        return MemoryDataset(torch.from_numpy(inputs), labels)

    def of_table(self, channel: Channel, file: str, read: Callable[[str | None, Any], Table]) -> Table:
        return read(None, self)

    @classmethod
    def common(cls, source: Table) -> Mapping[str, Any]:
        return {
            "whether there is a header": source.header,
            "the label's column": source.label_column,
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.name,
            "classes": list(self.classes),
            "columns": [column_to_json(column) for column in self.columns],
            "header": self.header,
            "label_column": self.label_column,
            "label_index": self.label_index,
            **({"left_out": list(self.left_out)} if self.left_out else {}),
        }

    def check(self) -> None:
        super().check()
        if not self.columns:
            raise ValueError("kind: 'table' without columns")
        self._check_places(len(self.columns), self.label_index, self.left_out)

    def check_inputs(self) -> None:
        for column in self.columns:
            if column.std <= 0:
                raise ValueError(f"column {shown(column.name, 40)}, std: {column.std}")

    def batches(self, body: bytes, form: str, content_type: str) -> Iterator[np.ndarray]:
        """float32 [B, D] from CSV, or from JSON lists and objects."""
        rows = rows_of_body(body, form, content_type, self)
        yield from (encode_rows(some, self) for some in in_groups(rows, ROWS_AT_ONCE))

    def parts(self, inputs: Tensor, text: Any, absent: Tensor | None) -> Columns:
        assert absent is not None
        return Columns.of(inputs, self.columns, absent)

    def absent(self, dataset: Dataset) -> Tensor:
        """float32 [D]: the mean of the encoded rows; of very many rows, of some at equal distances."""
        rows = torch.arange(0, len(dataset), -(-len(dataset) // _ROWS_OF_MEAN))
        batches = dataset.batches(rows.split(_BATCH_OF_MEAN), torch.device("cpu"))
        return (sum((batch.double().sum(0) for batch in batches), torch.zeros(())) / len(rows)).float()

    def show(
        self, dataset: Dataset, rows: Sequence[int], texts: np.ndarray | None
    ) -> list[tuple[list[tuple[str, str]], int]]:
        """(name, value) for the first columns as they stood in the table (rescaled, or the category encoded as 1), and
        the number of further columns. An empty value was missing, or was unknown in training."""
        (inputs,) = dataset.batches([torch.tensor(rows)], torch.device("cpu"))
        shown = self.columns[:COLUMNS_SHOWN]
        widths = [column.width for column in shown]
        more = len(self.columns) - len(shown)
        return [
            (
                [
                    (column.name, cell(own.tolist(), column))
                    for column, own in zip(shown, row[: sum(widths)].split(widths), strict=True)
                ],
                more,
            )
            for row in inputs
        ]

    def values(self, inputs: Tensor, parts: Parts) -> list[str]:
        assert isinstance(parts, Columns)
        there = [column for column in self.columns if column.width]
        values = inputs.split([column.width for column in there])
        cells = iter([cell(own.tolist(), column) for own, column in zip(values, there, strict=True)])
        some = [[next(cells) for _ in names] for names in parts.names]
        return [group[0] if len(group) == 1 else "" for group in some]


def rows_of_body(body: bytes, form: str, content_type: str, like: TrainedTable) -> Iterator[Row]:
    """The rows of a request's body: CSV, or JSON lists and objects. Raises UserError if it cannot be read."""
    text = text_of(body)
    if form == CSV:
        return rows_of_csv(text, like, header_of(REQUEST, content_type) or "auto")
    values = lines_of(text) if form == JSON_LINES else examples_of(loaded(text, "the body"), lists=True)
    return (row_of_json(value, place, like) for place, value in values)

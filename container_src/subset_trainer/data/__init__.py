"""Reads channels as labelled data sets and splits them into training, validation and test sets."""

from subset_trainer.data.datasets import Dataset, MemoryDataset, StreamingDataset
from subset_trainer.data.ids import Ids
from subset_trainer.data.kinds.image import ImageKind
from subset_trainer.data.kinds.kind import Kind
from subset_trainer.data.kinds.table import TableKind
from subset_trainer.data.kinds.table_and_text import TableAndTextKind
from subset_trainer.data.kinds.text import TextKind
from subset_trainer.data.splits import Splits, load_channel, load_splits
from subset_trainer.data.tables.table import Column

__all__ = [
    "Column",
    "Dataset",
    "Ids",
    "ImageKind",
    "Kind",
    "MemoryDataset",
    "Splits",
    "StreamingDataset",
    "TableAndTextKind",
    "TableKind",
    "TextKind",
    "load_channel",
    "load_splits",
]

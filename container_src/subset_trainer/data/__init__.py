"""Reads channels as labelled data sets and splits them into training, validation and test sets."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
_PLACES = {
    "Column": "tables.table",
    "Dataset": "datasets",
    "Ids": "ids",
    "ImageKind": "kinds.image",
    "Kind": "kinds.kind",
    "MemoryDataset": "datasets",
    "Splits": "splits",
    "StreamingDataset": "datasets",
    "TableKind": "kinds.table",
    "TableAndTextKind": "kinds.table_and_text",
    "TextKind": "kinds.text",
    "load_channel": "splits",
    "load_splits": "splits",
}


def __getattr__(name: str) -> Any:
    # Imported on demand: what understands a channel's files is free of torch, and data sets are not.
    if name in _PLACES:
        return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

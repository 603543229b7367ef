"""A channel's files → labelled data sets, and the training, validation and test splits."""

from subset_trainer.data.datasets import Dataset, MemoryDataset, StreamingDataset
from subset_trainer.data.ids import Ids
from subset_trainer.data.kinds.preprocessing import Column, Preprocessing
from subset_trainer.data.splits import Splits, load_channel, load_splits

__all__ = [
    "Column",
    "Dataset",
    "Ids",
    "MemoryDataset",
    "Preprocessing",
    "Splits",
    "StreamingDataset",
    "load_channel",
    "load_splits",
]

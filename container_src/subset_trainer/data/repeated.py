"""Finds examples of a validation or test channel that training holds too, so that their accuracy would say little."""

import numpy as np
import torch

from subset_trainer.data.datasets import Dataset, MemoryDataset

_MOST = 1 << 30
"""Bytes of inputs; of more, nothing is compared."""
_DISTINCT = 0.9
"""Where fewer of the training examples are distinct, equal ones are nothing unusual."""
_SHARE = 0.01


def repeated(train: Dataset, other: Dataset, name: str) -> str | None:
    """A sentence on the examples of another data set whose inputs are those of a training example; None if they are
    fewer than one in a hundred, or usual among the training examples themselves."""
    if not (isinstance(train, MemoryDataset) and isinstance(other, MemoryDataset)):
        return None
    inputs, others = train.inputs, other.inputs
    if inputs.shape[1:] != others.shape[1:] or inputs.nbytes + others.nbytes > _MOST:
        return None
    known = set(_keys(inputs))
    if len(known) < _DISTINCT * len(inputs):
        return None
    count = sum(key in known for key in _keys(others))
    if count < max(1, _SHARE * len(others)):
        return None
    return (
        f"{name} channel: {count:,} of its {len(others):,} examples are in the training channel, too, so that their "
        "accuracy says little about new ones; expected examples that training does not hold."
    )


def _keys(inputs: torch.Tensor) -> list[int]:
    """A number for each example that equal ones have in common."""
    rows = np.ascontiguousarray(inputs.numpy()).reshape(len(inputs), -1)
    return [hash(row.tobytes()) for row in rows]

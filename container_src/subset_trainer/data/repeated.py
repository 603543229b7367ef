"""Finds examples of a validation or test channel that training holds too, so that their accuracy would say little."""

import numpy as np
import torch

from subset_trainer.data.datasets import Dataset, MemoryDataset

_MOST = 1 << 30
"""Bytes of inputs; of more, nothing is compared."""
_DISTINCT = 0.9
"""Where fewer of the training rows or texts are distinct, equal ones are nothing unusual."""
_SHARE = 0.01


def repeated(train: Dataset, other: Dataset) -> str | None:
    """How many examples of another data set have the inputs of a training example; None if that is not worth saying.

    Of images any is; of rows and texts, which may be equal by chance, one in a hundred.
    """
    if not (isinstance(train, MemoryDataset) and isinstance(other, MemoryDataset)):
        return None
    if train.inputs.shape[1:] != other.inputs.shape[1:] or train.inputs.nbytes + other.inputs.nbytes > _MOST:
        return None
    images = train.inputs.dtype == torch.uint8
    keys = _keys(train.inputs)
    known = set(keys)
    count = sum(key in known for key in _keys(other.inputs))
    if not count or not (images or (len(known) >= _DISTINCT * len(keys) and count >= _SHARE * len(other))):
        return None
    what, how = ("images", ", pixel for pixel") if images else ("examples", "")
    return f"{count:,} of its {len(other):,} {what} are in the training channel, too{how}"


def _keys(inputs: torch.Tensor) -> list[int]:
    """A number for each example that equal ones have in common."""
    rows = np.ascontiguousarray(inputs.numpy()).reshape(len(inputs), -1)
    return [hash(row.tobytes()) for row in rows]

"""Logits and features of many examples, kept for a selection: in memory, or in a mapped file where there is too little.

Small data stay in float32, as they were computed. Of large data float16 is kept, which halves the memory or the file;
strategies widen rows as they read them. Which of the two goes by the data's size alone, so that a run chooses the same
subset on whatever machine it goes on; where the numbers lie goes by the memory that is there.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from subset_trainer.data.machine import memory_available
from subset_trainer.errors import UserError

logger = logging.getLogger(__name__)
FLOAT32_KEPT = 1 << 26
"""Numbers, of all processes together, up to which they are kept in float32: 256 MiB."""
SHARE = 4
"""One in so many of the bytes that a process may still take goes to embeddings; what needs more lies in a file."""
SHARE_OF_A_GPU = 2
"""The same on a GPU, of which the search needs the rest; what needs more stays in main memory, or in a file."""
COPIED = 1 << 22
"""Numbers that are copied at a time from one place to another."""


class Embeddings:
    """Columns of numbers of N examples, written in parts as a pass gives them.

    Args:
        rows: N, of this process.
        widths: how many numbers each column has of an example.
        device: where they are to be, if it has room.
        examples: of all processes together.
        processes: on this host, which share its memory.

    Raises:
        UserError: neither memory nor the disk has room.
    """

    def __init__(
        self, rows: int, widths: Sequence[int], device: torch.device, examples: int, processes: int
    ) -> None:
        dtype = torch.float32 if examples * sum(widths) <= FLOAT32_KEPT else torch.float16
        self.columns = allocate(rows, [(width, dtype) for width in widths], device, processes)
        self._processes = processes

    def write(self, first: int, parts: Sequence[Tensor]) -> None:
        """Of the examples from the first on, for each column [B, width], floating.

        A column that is given a number beyond float16's range becomes float32, which holds whatever a model gives.
        """
        for position, part in enumerate(parts):
            if self.columns[position].dtype == torch.float16 and _overflows(part):
                logger.info("the model gives numbers beyond float16: float32 is kept of them")
                self.columns[position] = self._widened(self.columns[position])
            # Copying casts: what the model ran in does not matter.
            self.columns[position][first : first + len(part)] = part

    def _widened(self, column: Tensor) -> Tensor:
        rows, width = column.shape
        if column.is_cuda:
            return column.float()
        (wide,) = allocate(rows, [(width, torch.float32)], column.device, self._processes)
        at_once = _rows_at_once(width)
        for ours, theirs in zip(wide.split(at_once), column.split(at_once), strict=True):
            ours.copy_(theirs)
        return wide


def allocate(
    rows: int, columns: Sequence[tuple[int, torch.dtype]], device: torch.device, processes: int
) -> list[Tensor]:
    """Room for columns of so many numbers [rows, width] each, all in one place: on the device, where it is a GPU with
    room for them and for a search; in main memory; or in files that are mapped into it.

    Raises:
        UserError: the disk has no room either.
    """
    size = rows * sum(width * dtype.itemsize for width, dtype in columns)
    if device.type == "cuda" and size > torch.cuda.mem_get_info(device)[0] // SHARE_OF_A_GPU:
        logger.info("%.1f GB of embeddings are more than %s has room for", size / 1e9, device)
        device = torch.device("cpu")
    if device.type == "cpu" and size > memory_available() // (SHARE * processes):
        folder = tempfile.gettempdir()
        logger.info(
            "%.1f GB of numbers of all examples lie in %s: more than memory has to spare", size / 1e9, folder
        )
        return [_mapped(rows, width, dtype) for width, dtype in columns]
    return [torch.empty(rows, width, dtype=dtype, device=device) for width, dtype in columns]


def take(values: Tensor, indices: Tensor, processes: int) -> Tensor:
    """Some rows of a column, [K, width] in the order of the indices; not in memory where they are too many."""
    width = values.shape[1]
    if len(indices) * width <= FLOAT32_KEPT or values.is_cuda:
        return values[indices]
    (taken,) = allocate(len(indices), [(width, values.dtype)], values.device, processes)
    at_once = _rows_at_once(width)
    for ours, part in zip(taken.split(at_once), indices.split(at_once), strict=True):
        torch.index_select(values, 0, part, out=ours)
    return taken


def _mapped(rows: int, width: int, dtype: torch.dtype) -> Tensor:
    """In a temporary file without a name, which is gone with the last tensor that sees it."""
    size = rows * width * dtype.itemsize
    with tempfile.TemporaryFile() as file:
        try:
            # Now, while there is somebody to tell: a page that finds no room later kills the process.
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            folder = tempfile.gettempdir()
            free = shutil.disk_usage(folder).free
            raise UserError(
                f"{width:,} numbers of each of {rows:,} examples take {size / 1e9:.1f} GB, more than memory "
                f"has to spare, and {folder} has {free / 1e9:.1f} GB left ({error.strerror}); expected room there: a "
                "larger volume, or TMPDIR naming another folder, or an instance with more memory."
            ) from error
        kind = {torch.float16: np.float16, torch.float32: np.float32}[dtype]
        # The mapping outlives the descriptor.
        return torch.from_numpy(np.memmap(file, kind, "r+", shape=(rows, width)))


def _rows_at_once(width: int) -> int:
    return max(1, COPIED // width)


def _overflows(part: Tensor) -> bool:
    """Whether something is finite that would not be in float16."""
    return part.dtype != torch.float16 and bool((part.half().isinf() & part.isfinite()).any())

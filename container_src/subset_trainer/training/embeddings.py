"""Where the logits and features of many examples are stored: in memory, or in a memory-mapped file if memory is short.

The data type depends only on the size of the data, see :mod:`subset_selection.storage`; the location depends on the
memory that is available.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from subset_selection import storage
from subset_trainer.data.machine import memory_available
from subset_trainer.errors import UserError

logger = logging.getLogger(__name__)
SHARE = 4
"""Embeddings may use 1/``SHARE`` of a process's part of the available memory; larger ones are stored in a file."""
SHARE_OF_A_GPU = 2
"""Embeddings may use 1/``SHARE_OF_A_GPU`` of the free GPU memory, because the search needs the rest; larger ones are
stored in main memory or in a file."""


def allocate(
    rows: int, columns: Sequence[tuple[int, torch.dtype]], device: torch.device, processes: int
) -> list[Tensor]:
    """Allocate columns, [rows, width] each, all in one place.

    They are allocated on the device, if it is a GPU with enough memory for them and for a search; else in main memory;
    else in memory-mapped files.

    Args:
        rows: number of rows.
        columns: width and data type of each column.
        device: preferred device.
        processes: number of processes on this host, which share its memory.

    Raises:
        UserError: the disk does not have enough space either.
    """
    size = rows * sum(width * dtype.itemsize for width, dtype in columns)
    if device.type == "cuda" and size > torch.cuda.mem_get_info(device)[0] // SHARE_OF_A_GPU:
        logger.info("%.1f GB of embeddings do not fit in the memory of %s", size / 1e9, device)
        device = torch.device("cpu")
    if device.type == "cpu" and size > memory_available() // (SHARE * processes):
        folder = tempfile.gettempdir()
        logger.info("%.1f GB of model outputs are stored in %s, because memory is short", size / 1e9, folder)
        return [_mapped(rows, width, dtype) for width, dtype in columns]
    return [torch.empty(rows, width, dtype=dtype, device=device) for width, dtype in columns]


def take(values: Tensor, indices: Tensor, processes: int) -> Tensor:
    """Some rows of a column, [K, width], in the order of the indices; stored in a file if memory is short."""
    width = values.shape[1]
    if len(indices) * width <= storage.FLOAT32_KEPT or values.is_cuda:
        return values[indices]
    (taken,) = allocate(len(indices), [(width, values.dtype)], values.device, processes)
    at_once = storage.rows_at_once(width)
    for ours, part in zip(taken.split(at_once), indices.split(at_once), strict=True):
        torch.index_select(values, 0, part, out=ours)
    return taken


def _mapped(rows: int, width: int, dtype: torch.dtype) -> Tensor:
    """Allocate a column in an unnamed temporary file, which is deleted with the last tensor that uses it."""
    size = rows * width * dtype.itemsize
    with tempfile.TemporaryFile() as file:
        try:
            # Reserve the space now, because a page that cannot be allocated later would kill the process.
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            folder = tempfile.gettempdir()
            free = shutil.disk_usage(folder).free
            raise UserError(
                f"{width:,} numbers for each of {rows:,} examples take {size / 1e9:.1f} GB, more than the available "
                f"memory, and {folder} has {free / 1e9:.1f} GB left ({error.strerror}); use a larger volume, another "
                "folder for TMPDIR, or an instance with more memory"
            ) from error
        kind = {torch.float16: np.float16, torch.float32: np.float32}[dtype]
        # The mapping outlives the descriptor.
        return torch.from_numpy(np.memmap(file, kind, "r+", shape=(rows, width)))

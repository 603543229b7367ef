"""Storage for the logits and features of many examples.

Small data is stored in float32, as computed. Large data is stored in float16, which halves the space; strategies
convert rows to float32 when they read them. The data type depends only on the size of the data, so that a resumed run
selects the same subset on any machine.
"""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

logger = logging.getLogger(__name__)
FLOAT32_KEPT = 1 << 26
"""Number of elements over all processes up to which they are stored in float32: 256 MiB."""
COPIED = 1 << 22
"""Number of elements that are copied at a time."""

Allocate = Callable[[int, Sequence[tuple[int, torch.dtype]], torch.device], list[Tensor]]
"""(rows, width and type of each column, preferred device) → empty tensors for the columns, all on one device."""


def on_the_device(
    rows: int, columns: Sequence[tuple[int, torch.dtype]], device: torch.device
) -> list[Tensor]:
    """Allocate columns on the preferred device; see :data:`Allocate`."""
    return [torch.empty(rows, width, dtype=dtype, device=device) for width, dtype in columns]


class Embeddings:
    """Columns with the outputs for some examples, written in parts during a pass over the data.

    Args:
        rows: number of examples of this process.
        widths: number of elements per example in each column.
        device: preferred device, if it has enough memory.
        examples: number of examples of all processes together.
        allocate: allocates the columns.
    """

    def __init__(
        self,
        rows: int,
        widths: Sequence[int],
        device: torch.device,
        examples: int,
        allocate: Allocate = on_the_device,
    ) -> None:
        dtype = torch.float32 if examples * sum(widths) <= FLOAT32_KEPT else torch.float16
        self.columns = allocate(rows, [(width, dtype) for width in widths], device)
        self._allocate = allocate

    def write(self, first: int, parts: Sequence[Tensor]) -> None:
        """Write consecutive rows of each column.

        A float16 column is converted to float32 if a value exceeds float16's range.

        Args:
            first: position of the first row.
            parts: for each column its rows, [B, width] floating.
        """
        for position, part in enumerate(parts):
            if self.columns[position].dtype == torch.float16 and _overflows(part):
                logger.info("the model's outputs exceed the range of float16: they are stored in float32")
                self.columns[position] = self._widened(self.columns[position])
            # The assignment converts from the model's data type.
            self.columns[position][first : first + len(part)] = part

    def _widened(self, column: Tensor) -> Tensor:
        rows, width = column.shape
        if column.is_cuda:
            return column.float()
        (wide,) = self._allocate(rows, [(width, torch.float32)], column.device)
        at_once = rows_at_once(width)
        for start in range(0, rows, at_once):
            wide[start : start + at_once] = column[start : start + at_once]
        return wide


def rows_at_once(width: int) -> int:
    """Number of rows of this width that are copied at a time."""
    return max(1, COPIED // width)


def _overflows(part: Tensor) -> bool:
    """Whether a finite value would overflow in float16."""
    return part.dtype != torch.float16 and bool((part.half().isinf() & part.isfinite()).any())

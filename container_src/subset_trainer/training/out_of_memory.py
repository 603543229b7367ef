"""Handling of too little memory: evaluation in parts that fit, and an error that names what to try."""

import logging
import math
from collections.abc import Callable
from typing import NoReturn, TypeVar

import torch
from torch import Tensor

from subset_trainer.errors import UserError, first_line, short_of_memory

logger = logging.getLogger(__name__)
LEAST = 2
"""The smallest batch_size."""
Output = TypeVar("Output", Tensor, tuple[Tensor, Tensor])


class Parts:
    """Evaluates batches in as many parts as the GPU's memory requires.

    In eval mode examples do not affect each other, so the result does not depend on the parts.
    """

    def __init__(self) -> None:
        self._most: int | None = None

    def of(self, forward: Callable[[Tensor], Output], batch: Tensor) -> Output:
        """The result of ``forward`` for the whole batch, [B, …].

        Raises:
            torch.OutOfMemoryError: not even one example fits.
        """
        while True:
            size = min(len(batch), self._most or len(batch))
            try:
                if size == len(batch):
                    return forward(batch)
                outputs = [forward(part) for part in batch.split(size)]
                if isinstance(outputs[0], Tensor):
                    return torch.cat(outputs)
                first, second = zip(*outputs, strict=True)
                return torch.cat(first), torch.cat(second)
            except torch.OutOfMemoryError:
                if size < 2:
                    raise
            # Outside the handler, so that the memory held by the traceback is freed first.
            self._most = math.ceil(size / 2)
            torch.cuda.empty_cache()
            logger.info(
                "%d examples do not fit in the GPU's memory: evaluating %d at a time", size, self._most
            )


def understood(error: Exception, batch_size: int) -> NoReturn:
    """Raise the error again or, if memory ran out, a UserError that names the batch size to try.

    Raises:
        UserError: memory ran out.
    """
    where = short_of_memory(error)
    if where is None:
        raise error
    sizes = f"batch_size={max(LEAST, batch_size // 2)}, " if batch_size > LEAST else ""
    raise UserError(
        f"out of memory on the {where} with batch_size={batch_size}: try {sizes}a smaller image_size or model, or an "
        f"instance with more memory ({first_line(error)})"
    ) from error

"""The forward and backward pass of a batch, in as many parts as the memory asks for."""

import logging
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from subset_trainer.models import Classifier
from subset_trainer.training.devices import Machine

logger = logging.getLogger(__name__)


class Gradients:
    """Accumulates a batch's gradient in the parameters.

    A batch goes through in parts of equal size (but for one example), each at most ``microbatch_size``. Where a part
    does not fit in the GPU's memory, this and all later ones are halved. But for batch normalisation, whose statistics
    are those of a part, the gradient is that of the whole batch.

    Args:
        classifier: in training mode when called.
        machine: where and in what precision.
        scaler: of the loss.
        label_smoothing: share of the target spread over all classes.
        microbatch_size: examples in a part, at least 2; None: the whole batch.
    """

    def __init__(
        self,
        classifier: Classifier,
        machine: Machine,
        scaler: torch.amp.GradScaler,
        label_smoothing: float = 0.0,
        microbatch_size: int | None = None,
    ) -> None:
        self._classifier = classifier
        self._machine = machine
        self._scaler = scaler
        self._label_smoothing = label_smoothing
        self._most = microbatch_size

    def of(self, batch: Tensor, labels: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Replace the parameters' gradients by those of the weighted mean loss.

        Args:
            batch: raw inputs [B, …], on the device.
            labels: [B] int64.
            weight: [B] float32, not all zero.

        Returns:
            Each example's loss [B] and whether it was classified as labelled [B], both on the device: nothing waits.

        Raises:
            torch.OutOfMemoryError: not even three examples fit.
        """
        while True:
            size = min(len(batch), self._most or len(batch))
            try:
                # Never a part of one example, which batch normalisation could not take.
                return self._in_parts(
                    batch, labels, weight, min(math.ceil(len(batch) / size), len(batch) // 2)
                )
            except torch.OutOfMemoryError:
                if size < 4:
                    raise
            # Out of the handler, so that what the traceback holds is freed first.
            self._most = math.ceil(size / 2)
            torch.cuda.empty_cache()
            logger.info(
                "a batch of %d does not fit in the GPU's memory: it is taken in parts of %d (see microbatch_size)",
                size,
                self._most,
            )

    def state_dict(self) -> dict[str, Any]:
        """What it has found out: batch normalisation's statistics depend on the size of parts."""
        return {"most": self._most}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._most = state_dict["most"]

    def _in_parts(self, batch: Tensor, labels: Tensor, weight: Tensor, parts: int) -> tuple[Tensor, Tensor]:
        self._classifier.zero_grad(set_to_none=True)
        share = weight / weight.sum()
        losses, hits = [], []
        for inputs, targets, shares in zip(
            batch.tensor_split(parts), labels.tensor_split(parts), share.tensor_split(parts), strict=True
        ):
            with self._machine.autocast():
                logits = self._classifier(inputs)
            loss = F.cross_entropy(
                logits.float(), targets, reduction="none", label_smoothing=self._label_smoothing
            )
            self._scaler.scale(torch.dot(loss, shares)).backward()
            losses.append(loss.detach())
            hits.append(logits.detach().argmax(1) == targets)
        return torch.cat(losses), torch.cat(hits)

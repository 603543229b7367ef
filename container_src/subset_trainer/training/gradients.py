"""The forward and backward pass of a batch, in as many parts as memory requires."""

import logging
import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from subset_trainer.objectives import CLASSIFICATION, Objective
from subset_trainer.training.place import Place

logger = logging.getLogger(__name__)


class Gradients:
    """Accumulates a batch's gradient in the parameters.

    A batch is processed in parts of equal size (up to one example), each at most ``microbatch_size``. If a part does
    not fit in the GPU's memory, this part and all later ones are halved. The gradient is that of the whole batch,
    except that batch normalisation uses the statistics of each part.

    If several processes share a batch, each processes its share, and the gradient is that of the whole batch.

    Args:
        classifier: the model, wrapped by the place's ranks; in training mode when called.
        place: the device, the precision and the processes.
        scaler: the loss scaler.
        label_smoothing: fraction of the target probability spread over all classes.
        microbatch_size: number of examples in a part, at least 2; None: the whole batch.
        objective: the loss function.
    """

    def __init__(
        self,
        classifier: nn.Module,
        place: Place,
        scaler: torch.amp.GradScaler,
        label_smoothing: float = 0.0,
        microbatch_size: int | None = None,
        objective: Objective = CLASSIFICATION,
    ) -> None:
        self._objective = objective
        self._classifier = classifier
        self._machine, self._ranks = place.machine, place.ranks
        self._scaler = scaler
        self._label_smoothing = label_smoothing
        self._most = microbatch_size

    def of(
        self, batch: Tensor, labels: Tensor, weight: Tensor, total: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Replace the parameters' gradients by those of the weighted mean loss.

        Args:
            batch: raw inputs [B, …], on the device.
            labels: [B] int64.
            weight: [B] float32, not all zero.
            total: the sum of the whole batch's weights, if several processes share the batch; default: the sum of
                ``weight``.

        Returns:
            each example's loss [B] and the model's choice [B], see :meth:`Objective.choices
            <subset_trainer.objectives.objective.Objective.choices>`; both on the device, without a synchronisation.

        Raises:
            torch.OutOfMemoryError: not even three examples fit; or this process is one of several and its share does
                not fit. A retry would leave the others waiting for the exchange of gradients.
        """
        # The exchange computes the mean over the processes, but the batch's gradient is the sum.
        share = weight * self._ranks.size / (weight.sum() if total is None else total)
        while True:
            size = min(len(batch), self._most or len(batch))
            try:
                # No part has only one example, which batch normalisation does not accept.
                return self._in_parts(
                    batch, labels, share, min(math.ceil(len(batch) / size), len(batch) // 2)
                )
            except torch.OutOfMemoryError:
                if size < 4 or self._ranks.size > 1:
                    raise
            # Outside the handler, so that the memory held by the traceback is freed first.
            self._most = math.ceil(size / 2)
            torch.cuda.empty_cache()
            logger.info(
                "a batch of %d does not fit in the GPU's memory: it is taken in parts of %d (see microbatch_size)",
                size,
                self._most,
            )

    def state_dict(self) -> dict[str, Any]:
        """The size of the parts, which the statistics of batch normalisation depend on."""
        return {"most": self._most}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._most = state_dict["most"]

    def _in_parts(self, batch: Tensor, labels: Tensor, share: Tensor, parts: int) -> tuple[Tensor, Tensor]:
        self._classifier.zero_grad(set_to_none=True)
        losses, choices = [], []
        split = [values.tensor_split(parts) for values in (batch, labels, share)]
        for number, (inputs, targets, shares) in enumerate(zip(*split, strict=True), 1):
            # Gradients are exchanged once per batch, with its last part.
            with nullcontext() if number == parts else self._ranks.without_exchange(self._classifier):
                with self._machine.autocast():
                    logits = self._classifier(inputs)
                loss = self._objective.losses(logits, targets, self._label_smoothing)
                self._scaler.scale(torch.dot(loss, shares)).backward()
            losses.append(loss.detach())
            choices.append(self._objective.choices(logits.detach(), targets))
        return torch.cat(losses), torch.cat(choices)

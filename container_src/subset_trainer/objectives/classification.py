"""Classification into one of C classes."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from subset_selection.types import CrossEntropy


class Classification:
    """Targets are classes, int64; outputs are logits. The loss is the cross-entropy in nats."""

    def losses(self, outputs_BC: Tensor, targets_B: Tensor, smoothing: float = 0.0) -> Tensor:
        """See :class:`~subset_trainer.objectives.objective.Objective`."""
        return F.cross_entropy(outputs_BC.float(), targets_B, reduction="none", label_smoothing=smoothing)

    def loss_sum(self, outputs_BC: Tensor, targets_B: Tensor) -> Tensor:
        """See :class:`~subset_trainer.objectives.objective.Objective`."""
        return F.cross_entropy(outputs_BC.float(), targets_B, reduction="sum")

    def residuals(self, outputs_BC: Tensor, targets_B: Tensor) -> Tensor:
        """softmax(outputs) − onehot(target)."""
        return CrossEntropy().residuals(outputs_BC, targets_B)

    def scores(self, outputs_BC: Tensor, targets_B: Tensor) -> Tensor:
        """Whether each example is classified as labelled; the mean is the accuracy."""
        return outputs_BC.argmax(1) == targets_B

    def choices(self, outputs_BC: Tensor, targets_B: Tensor) -> Tensor:
        """The probability of the class that is chosen; negative where it is not the label."""
        chosen_B = outputs_BC.argmax(1)
        sure_B = self.answer(outputs_BC).gather(1, chosen_B[:, None]).flatten()
        return torch.where(chosen_B == targets_B, sure_B, -sure_B)

    def strata(self, targets_N: np.ndarray) -> np.ndarray:
        """The classes themselves."""
        return targets_N

    def answer(self, outputs_BC: Tensor) -> Tensor:
        """The probabilities of the classes."""
        return outputs_BC.float().softmax(1)

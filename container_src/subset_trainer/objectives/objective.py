"""What every objective answers."""

from typing import Protocol

import numpy as np
from torch import Tensor


class Objective(Protocol):
    """Of B examples: ``outputs`` [B, C] floating, as the network gives them; ``targets`` [B], their labels."""

    def losses(self, outputs_BC: Tensor, targets_B: Tensor, smoothing: float = 0.0) -> Tensor:
        """[B] float32: each example's loss.

        Args:
            smoothing: share of the target that is spread evenly, in training.
        """
        ...

    def loss_sum(self, outputs_BC: Tensor, targets_B: Tensor) -> Tensor:
        """The sum of the losses, without smoothing."""
        ...

    def residuals(self, outputs_BC: Tensor, targets_B: Tensor) -> Tensor:
        """[B, C]: the gradient of each example's loss with respect to its outputs."""
        ...

    def scores(self, outputs_BC: Tensor, targets_B: Tensor) -> Tensor:
        """[B]: what the mean is taken of to say how good a model is; the larger the better."""
        ...

    def strata(self, targets_N: np.ndarray) -> np.ndarray:
        """[N] integers: the groups of which a split of the data takes equal shares."""
        ...

    def answer(self, outputs_BC: Tensor) -> Tensor:
        """[B, C] float32: what a user is told."""
        ...

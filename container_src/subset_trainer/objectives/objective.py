"""The interface of an objective."""

from typing import Protocol

import numpy as np
from torch import Tensor


class Objective(Protocol):
    """Functions of B examples: ``outputs`` [B, C] floating-point, from the network; ``targets`` [B], the labels."""

    def losses(self, outputs_BC: Tensor, targets_B: Tensor, smoothing: float = 0.0) -> Tensor:
        """[B] float32: each example's loss.

        Args:
            smoothing: the fraction of the target that is spread evenly over the outputs, in training.
        """
        ...

    def loss_sum(self, outputs_BC: Tensor, targets_B: Tensor) -> Tensor:
        """The sum of the losses, without smoothing."""
        ...

    def residuals(self, outputs_BC: Tensor, targets_B: Tensor) -> Tensor:
        """[B, C]: the gradient of each example's loss with respect to its outputs."""
        ...

    def scores(self, outputs_BC: Tensor, targets_B: Tensor) -> Tensor:
        """[B]: each example's contribution to the mean score of a model; larger is better."""
        ...

    def choices(self, outputs_BC: Tensor, targets_B: Tensor) -> Tensor:
        """[B] float32: how sure the model is of its answer, above 0 to 1; negative where the answer is wrong."""
        ...

    def strata(self, targets_N: np.ndarray) -> np.ndarray:
        """[N] integers: the groups of which a stratified split takes equal fractions."""
        ...

    def answer(self, outputs_BC: Tensor) -> Tensor:
        """[B, C] float32: the prediction that a user receives."""
        ...

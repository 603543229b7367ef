"""What training has observed of each example: how often it was used, with what weight, and at what loss."""

from typing import Any

import torch
from torch import Tensor

from subset_selection import Subset

MEMORY = 0.7
"""Weight of the earlier epochs in the running loss."""


class Record:
    """Observations of N examples over the epochs of a run. It takes 16 bytes per example, and is part of every
    checkpoint.

    Args:
        examples: N.
    """

    def __init__(self, examples: int) -> None:
        self.visits_N = torch.zeros(examples, dtype=torch.int32)
        """Number of epochs that used each example."""
        self.weights_N = torch.full((examples,), torch.nan)
        """The weight of each example in the last of these epochs; NaN: no epoch used it."""
        self.running_losses_N = torch.full((examples,), torch.nan)
        """Exponential moving average of the example's training losses (augmented, with label smoothing); NaN: no epoch
        used it."""
        self._excess_sums_N = torch.zeros(examples)

    def excess_losses(self) -> Tensor:
        """The difference between an example's loss and the mean loss of the same epoch, averaged over the epochs that
        used the example, [N]; NaN: no epoch used it. Plain losses would depend on how early those epochs were."""
        return self._excess_sums_N / self.visits_N  # 0 / 0 is NaN

    def observe(self, visited: Subset, losses_K: Tensor) -> None:
        """Add an epoch's examples, each once, and their losses [K]; on the CPU."""
        rows = visited.indices
        earlier = self.running_losses_N[rows]
        running = torch.lerp(losses_K, earlier, MEMORY)
        self.running_losses_N[rows] = torch.where(earlier.isnan(), losses_K, running)
        self._excess_sums_N[rows] += losses_K - losses_K.mean()
        self.weights_N[rows] = visited.weights
        self.visits_N[rows] += 1

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)

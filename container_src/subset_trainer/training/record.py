"""What training has observed of each example: how often it was trained on, with what weight, and at what loss."""

from typing import Any

import torch
from torch import Tensor

from subset_selection import Subset

MEMORY = 0.7
"""Weight of the earlier epochs in the running loss."""


class Record:
    """Observations of N examples over the epochs of a run: 16 bytes each, part of every checkpoint.

    Args:
        examples: N.
    """

    def __init__(self, examples: int) -> None:
        self.visits_N = torch.zeros(examples, dtype=torch.int32)
        """Epochs that trained on it."""
        self.weights_N = torch.full((examples,), torch.nan)
        """Its weight in the last of them. Here and below NaN: there was none."""
        self.running_losses_N = torch.full((examples,), torch.nan)
        """Exponential mean of its losses as it was trained on: augmented, with label smoothing."""
        self._excess_sums_N = torch.zeros(examples)

    def excess_losses(self) -> Tensor:
        """[N] how much larger its loss was than the mean of the same epoch's examples, averaged over the epochs that
        trained on it; NaN: there was none. Plain losses would reflect how early those epochs were."""
        return self._excess_sums_N / self.visits_N  # 0 / 0 is NaN

    def observe(self, visited: Subset, losses_K: Tensor) -> None:
        """An epoch's examples, each once, and their losses; on the CPU."""
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

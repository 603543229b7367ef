"""What training has observed of each example: how often it was used, with what weight, and at what loss."""

import math
from typing import Any

import torch
from torch import Tensor

from subset_selection import Subset

FEW = (1, 3)
"""How often the examples of an epoch were seen before, on average, when the model knows something and has memorised
little."""
MEMORY = 0.7
"""Weight of the earlier epochs in the running loss."""


class Record:
    """Observations of N examples over the epochs of a run. It takes 24 bytes per example, and is part of every
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
        self.early_visits_N = torch.zeros(examples, dtype=torch.int32)
        """Number of epochs of the run's first half that used each example."""
        self.early_hits_N = torch.zeros(examples, dtype=torch.int32)
        """In how many of these the model classified it as labelled, before it learned from it again."""
        self.surest = torch.zeros(4, dtype=torch.float64)
        """Of the early epochs that saw their examples for the second to fourth time, and of the half of the examples of
        whose class the model was surest: how many it classified otherwise than labelled, and how many there were. Then
        the sum of the accuracies of validation after these epochs, and their number."""

    def excess_losses(self) -> Tensor:
        """The difference between an example's loss and the mean loss of the same epoch, averaged over the epochs that
        used the example, [N]; NaN: no epoch used it. Plain losses would depend on how early those epochs were."""
        return self._excess_sums_N / self.visits_N  # 0 / 0 is NaN

    def early_hit_rates(self) -> Tensor:
        """[N] the fraction of the early epochs in which the model classified the example as labelled; NaN: no early
        epoch used it."""
        return self.early_hits_N / self.early_visits_N

    def surest_missed(self) -> tuple[float, float]:
        """The share of examples that were classified otherwise than labelled, among those of whose class the model was
        surest, in the early epochs that saw their examples for the second to fourth time, and the mean accuracy of
        validation then; NaN: there was no such epoch.

        Before, the model knows little; afterwards it begins to memorise wrong labels."""
        missed, seen, accuracies, epochs = self.surest.tolist()
        return (missed / seen, accuracies / epochs) if seen else (math.nan, math.nan)

    def observe(self, visited: Subset, losses_K: Tensor) -> None:
        """Add an epoch's examples, each once, and their losses [K]; on the CPU.

        Args:
            visited: the examples.
            losses_K: their losses.
        """
        rows = visited.indices
        earlier = self.running_losses_N[rows]
        running = torch.lerp(losses_K, earlier, MEMORY)
        self.running_losses_N[rows] = torch.where(earlier.isnan(), losses_K, running)
        self._excess_sums_N[rows] += losses_K - losses_K.mean()
        self.weights_N[rows] = visited.weights
        self.visits_N[rows] += 1

    def observe_choices(self, visited: Subset, choices_K: Tensor, accuracy: float) -> None:
        """Add the model's choices in an epoch of the first half of the run; on the CPU.

        Args:
            visited: its examples.
            choices_K: how sure the model was of the class that it chose, negative where this is not the label.
            accuracy: of validation after the epoch.
        """
        rows, hits_K = visited.indices, choices_K > 0
        seen_before = float(self.early_visits_N[rows].double().mean())
        self.early_visits_N[rows] += 1
        self.early_hits_N[rows] += hits_K.int()
        if FEW[0] <= seen_before <= FEW[1]:
            surest = choices_K.abs().sort(descending=True, stable=True).indices[: -(-len(choices_K) // 2)]
            missed = int((~hits_K[surest]).sum())
            self.surest += torch.tensor([missed, len(surest), accuracy, 1.0], dtype=torch.float64)

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)

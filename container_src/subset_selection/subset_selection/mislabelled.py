"""Excludes the examples that look mislabelled before another strategy selects from the rest."""

import math
from typing import Any

import torch
from torch import Tensor

from subset_selection.stateful import Stateful, load_state, state_of
from subset_selection.types import Pool, Refresh, Strategy, Subset

MEMORY = 0.5
"""Weight of the earlier selections in the running loss."""


class DropMislabelled(Stateful):
    """Excludes the examples of largest running loss, as many as are estimated to be mislabelled.

    A model learns wrong labels late, if at all, so the losses of mislabelled examples stay large ("small-loss"
    selection: Han et al., "Co-teaching", NeurIPS 2018; here with the running mean of the loss over the selections).

    The number of mislabelled examples is estimated from a trusted validation set. Correctly labelled examples have
    losses like those of the validation set, or smaller because the model is trained on them. Their proportion is
    estimated from the proportion of losses below the validation set's median (Storey, "A direct approach to false
    discovery rates", JRSS B 2002, with conformal p-values and λ = 1/2). At least ``budget`` examples, those of
    smallest loss, always remain.

    Args:
        strategy: selects among the remaining examples.
    """

    needs_last_layer = True
    needs_validation = True
    STATE = ("_train_losses_N", "_validation_losses_M", "_ranked_N", "_suspects")

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        self.refresh: Refresh = strategy.refresh
        self._train_losses_N: Tensor | None = None
        self._validation_losses_M: Tensor | None = None
        self._ranked_N = torch.zeros(0, dtype=torch.int64)
        self._suspects = 0

    def select(self, train: Pool, validation: Pool, budget: int, generator: torch.Generator) -> Subset:
        """See :class:`~subset_selection.types.Strategy`."""
        if train.logits is not None:
            self.judge(train.losses(), validation.losses())
        trusted = self.trusted(len(train), budget)
        subset = self.strategy.select(train.at(trusted), validation, budget, generator)
        return self.reported(subset, trusted, len(train))

    def judge(self, train_losses_N: Tensor, validation_losses_M: Tensor) -> None:
        """See :class:`~subset_selection.types.Excluding`."""
        self._train_losses_N = _running(self._train_losses_N, train_losses_N)
        self._validation_losses_M = _running(self._validation_losses_M, validation_losses_M)
        self._ranked_N = self._train_losses_N.sort(stable=True).indices
        self._suspects = count_mislabelled(self._train_losses_N, self._validation_losses_M)

    def trusted(self, examples: int, budget: int) -> Tensor:
        """See :class:`~subset_selection.types.Excluding`."""
        return self._ranked_N[: max(budget, examples - self._suspects)].sort().values

    def reported(self, subset: Subset, trusted: Tensor, examples: int) -> Subset:
        """See :class:`~subset_selection.types.Excluding`."""
        note = f"{examples - len(trusted)} of {examples} examples look mislabelled and are left out"
        indices = trusted.cpu()[subset.indices]
        return Subset(indices, subset.weights, "; ".join(filter(None, [note, subset.note])))

    def state_dict(self) -> dict[str, Any]:
        """See :class:`~subset_selection.stateful.Stateful`."""
        return {**super().state_dict(), "strategy": state_of(self.strategy)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`~subset_selection.stateful.Stateful`."""
        super().load_state_dict(state)
        load_state(self.strategy, state["strategy"])


def count_mislabelled(losses_N: Tensor, trusted_losses_M: Tensor) -> int:
    """The number of examples to exclude, estimated from the proportion of losses below the trusted losses' median.

    The result is 0 if the estimate is within two standard errors of 0. Otherwise it is one standard error above the
    estimate: losing some correct examples costs little, while a strategy that prefers large gradients would select
    every mislabelled example that remains.

    Args:
        losses_N: running losses of the training examples.
        trusted_losses_M: running losses of the validation examples.
    """
    error = 1 / math.sqrt(len(trusted_losses_M))
    below = float((losses_N <= trusted_losses_M.median()).double().mean())
    share = 1 - 2 * below
    return int((share + error) * len(losses_N)) if share > 2 * error else 0


def _running(earlier: Tensor | None, now: Tensor) -> Tensor:
    return now if earlier is None else MEMORY * earlier.to(now.device) + (1 - MEMORY) * now

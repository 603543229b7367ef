"""What a strategy sees and what it answers.

Dimensions in names: N examples to choose from, M validation examples, C classes, D features (the last linear layer's
input), K picks.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pool:
    """Examples in data order, and what the model makes of each, evaluated in eval mode without augmentation.

    ``logits`` and ``features`` are there for strategies that need them. An example's gradient of the cross-entropy with
    respect to the last layer's weights and biases is the outer product of ``residuals`` and ``[features, 1]``; so the
    N × (C·D) matrix of gradients is never needed.
    """

    labels: Tensor
    """[N] int64."""
    logits: Tensor | None = None
    """[N, C] float32."""
    features: Tensor | None = None
    """[N, D] float32."""

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def residuals(self) -> Tensor:
        """[N, C] softmax(logits) − onehot(label): the gradient of each example's loss with respect to its logits."""
        if self.logits is None:
            raise ValueError(
                "this pool has no logits: the strategy must declare that it needs the last layer"
            )
        residuals = self.logits.softmax(dim=1)
        residuals[torch.arange(len(self), device=residuals.device), self.labels] -= 1
        return residuals


@dataclass(frozen=True)
class Subset:
    """The examples to train on, without duplicates, and how much each counts."""

    indices: Tensor
    """[K] int64, on the CPU."""
    weights: Tensor
    """[K] float32, on the CPU; the loss of a batch is the weighted mean."""

    @classmethod
    def unweighted(cls, indices: Tensor) -> "Subset":
        indices = indices.to("cpu", torch.int64)
        return cls(indices, torch.ones(len(indices)))


Refresh = Literal["once", "periodically", "every epoch"]
"""When the loop asks for a subset again: never, every ``select_every`` epochs, or always."""


class Strategy(Protocol):
    """Chooses which examples to train on."""

    needs_last_layer: bool
    """Whether the pools come with logits and features (a pass over all of the data)."""
    refresh: Refresh

    def select(self, train: Pool, validation: Pool, budget: int, generator: torch.Generator) -> Subset:
        """Choose ``budget`` of ``train``'s examples.

        Args:
            train: the N examples to choose from.
            validation: M held-out examples.
            budget: K, 1 ≤ K ≤ N.
            generator: the only source of randomness, on the CPU.
        """
        ...

"""GLISTER-ONLINE: greedily pick the examples whose gradient step lowers the validation loss most.

Source: Killamsetty et al., "GLISTER: Generalization based Data Subset Selection for Efficient and Robust
Learning", AAAI 2021, section 4 (algorithm 1 and the Taylor approximation of its inner loop). The subset
maximises the drop in validation loss after one gradient step on the last layer, taken on the sum over the
subset.
"""

import math

import torch
from torch import Tensor

from subset_trainer.selection.types import Pool, Refresh, Subset

SAMPLING_ERROR = 0.01
"""ε of stochastic greedy: each pick looks at N/K·ln(1/ε) candidates (Mirzasoleiman et al., "Lazier Than Lazy Greedy",
AAAI 2015), the value that CORDS uses."""


class Glister:
    """GLISTER over the whole pool ("supervised"), with stochastic greedy picks.

    A pick's gain is g_i · ḡ, with g_i = r_i ⊗ [1, h_i] the example's last-layer gradient and ḡ the mean
    validation gradient. After picking e the validation logits take the step Z ← Z − η·(1 + H·h_e)·r_eᵀ and ḡ is
    computed anew. Both factorise over residuals r and features h, so that time is O(K·M·(C + D·C)) and memory
    O((N + M)·(C + D)) where CORDS, which selects the same examples from the same candidates, stores N × (C +
    C·D).

    Args:
        eta: η, the step size. It multiplies a sum over the picks, as in CORDS.
    """

    needs_last_layer = True
    refresh: Refresh = "periodically"

    def __init__(self, eta: float) -> None:
        self.eta = eta

    def select(self, train: Pool, validation: Pool, budget: int, generator: torch.Generator) -> Subset:
        """See :class:`~subset_trainer.selection.types.Strategy`."""
        remaining = _Remaining(len(train))
        state = ValidationState(validation, self.eta)
        picks = []
        for candidates in _candidate_positions(len(train), budget, generator):
            indices_S = remaining.at(candidates)
            on_device = indices_S.to(train.residuals.device, non_blocking=True)
            gains_S = state.gains(train, on_device)
            position = int(gains_S.argmax())
            pick = int(indices_S[position])
            picks.append(pick)
            remaining.remove(int(candidates[position]))
            state.step(train, pick)
        return Subset.of(torch.tensor(picks))


class ValidationState:
    """The validation set's logits as the picks so far have moved them, and the mean gradient there.

    Args:
        validation: with logits [M, C] and features [M, D].
        eta: step size.
    """

    def __init__(self, validation: Pool, eta: float) -> None:
        if validation.logits is None or validation.features is None:
            raise ValueError("GLISTER needs the last layer of the validation set")
        self.eta = eta
        self._features_MD = validation.features
        self._logits_MC = validation.logits.clone()
        self._rows_M = torch.arange(len(validation), device=self._logits_MC.device)
        self._labels_M = validation.labels.to(self._logits_MC.device)
        self._refresh()

    def gains(self, train: Pool, indices_S: Tensor) -> Tensor:
        """g_i · ḡ of the named examples, [S]: the first-order drop in validation loss per unit of step."""
        assert train.features is not None
        residuals_SC = train.residuals[indices_S]
        # g_i · ḡ = r_i · ḡ_bias + r_i · (Ḡ_weights h_i)
        projected_SC = torch.addmm(
            self._bias_gradient_C, train.features[indices_S], self._weight_gradient_CD.T
        )
        return (residuals_SC * projected_SC).sum(dim=1)

    def step(self, train: Pool, pick: int) -> None:
        """Move the validation logits by the gradient step of one example."""
        assert train.features is not None
        scale_M = 1 + self._features_MD @ train.features[pick]
        self._logits_MC.addr_(scale_M, train.residuals[pick], alpha=-self.eta)
        self._refresh()

    def _refresh(self) -> None:
        residuals_MC = self._logits_MC.softmax(dim=1)
        residuals_MC[self._rows_M, self._labels_M] -= 1
        self._bias_gradient_C = residuals_MC.mean(dim=0)
        self._weight_gradient_CD = residuals_MC.T @ self._features_MD / len(residuals_MC)


class _Remaining:
    """The indices not yet picked, in an order that removal may change: O(1) for both operations."""

    def __init__(self, size: int) -> None:
        self._indices = torch.arange(size)
        self._count = size

    def at(self, positions: Tensor) -> Tensor:
        return self._indices[positions]

    def remove(self, position: int) -> None:
        self._count -= 1
        self._indices[position] = self._indices[self._count]


def _candidate_positions(size: int, budget: int, generator: torch.Generator) -> list[Tensor]:
    """For each pick, the positions (among those that remain) of the candidates that it looks at.

    Drawn with replacement, which stochastic greedy's guarantee allows: then all draws are made at once.
    """
    per_pick = min(size, max(1, int(size / budget * math.log(1 / SAMPLING_ERROR))))
    left_K = torch.arange(size, size - budget, -1, dtype=torch.float64)
    draws_KS = torch.rand(budget, per_pick, generator=generator, dtype=torch.float64)
    return list((draws_KS * left_K[:, None]).long().unbind())

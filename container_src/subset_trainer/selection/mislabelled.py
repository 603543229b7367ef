"""Leaving out the examples that look mislabelled, whatever strategy then chooses among the rest."""

import torch
from torch import Tensor

from subset_trainer.selection.types import Pool, Refresh, Strategy, Subset

FALSE_DISCOVERIES = 0.1
"""Share of the dropped examples that may be correctly labelled, in expectation."""


class DropMislabelled:
    """Drops examples whose running loss is an outlier among those of a trusted validation set.

    The loss of every example is averaged over the rounds so far: mislabelled examples are learned late, so that their
    average stays high even where they end up memorised. An example's conformal p-value is its average's rank among the
    validation examples' averages (Bates et al., "Testing for Outliers with Conformal p-values", Annals of Statistics
    2023); those that Benjamini and Hochberg's procedure rejects at ``FALSE_DISCOVERIES``, with Storey's estimate of the
    share of correct labels, are left out. Where fewer than the budget would remain, the least suspect stay.

    Args:
        strategy: chooses among the rest.
    """

    needs_last_layer = True

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self.refresh: Refresh = strategy.refresh
        self._rounds = 0
        self._train_losses_N = torch.zeros(0)
        self._validation_losses_M = torch.zeros(0)
        self._ranked_N = torch.zeros(0, dtype=torch.int64)
        self._suspects = 0

    def select(self, train: Pool, validation: Pool, budget: int, generator: torch.Generator) -> Subset:
        """See :class:`~subset_trainer.selection.types.Strategy`."""
        if train.logits is not None:
            self._judge(train.losses(), validation.losses())
        kept = max(budget, len(train) - self._suspects)
        trusted = self._ranked_N[:kept].sort().values
        subset = self._strategy.select(train.at(trusted), validation, budget, generator)
        note = f"{len(train) - kept} of {len(train)} examples look mislabelled and are left out"
        return Subset(
            trusted.cpu()[subset.indices], subset.weights, "; ".join(filter(None, [note, subset.note]))
        )

    def _judge(self, train_losses_N: Tensor, validation_losses_M: Tensor) -> None:
        if self._rounds == 0:
            self._train_losses_N = torch.zeros_like(train_losses_N)
            self._validation_losses_M = torch.zeros_like(validation_losses_M)
        self._rounds += 1
        self._train_losses_N = self._train_losses_N + train_losses_N
        self._validation_losses_M = self._validation_losses_M + validation_losses_M
        self._ranked_N = self._train_losses_N.sort(stable=True).indices
        self._suspects = outliers(self._train_losses_N, self._validation_losses_M)


def outliers(losses_N: Tensor, trusted_losses_M: Tensor) -> int:
    """How many of the largest losses are outliers among trusted ones."""
    trusted_M = trusted_losses_M.sort().values
    as_large_N = len(trusted_M) - torch.searchsorted(trusted_M, losses_N)
    p_values_N = ((1 + as_large_N).double() / (len(trusted_M) + 1)).sort().values
    count = len(p_values_N)
    correct_share = min(1.0, 2 * float((p_values_N > 0.5).double().mean()) + 1 / count)
    steps_N = torch.arange(1, count + 1, device=p_values_N.device, dtype=torch.float64)
    rejected = (p_values_N <= FALSE_DISCOVERIES * steps_N / (count * correct_share)).nonzero().flatten()
    return int(rejected[-1]) + 1 if len(rejected) else 0

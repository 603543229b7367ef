"""InfoBatch: each epoch leaves out, at random, some of the examples with a small loss.

Source: Qin et al., "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning", ICLR 2024, section 3.
"""

import torch
from torch import Tensor

from subset_selection.settings import Settings
from subset_selection.stateful import Stateful
from subset_selection.types import Subset


class InfoBatch(Stateful):
    """Soft pruning: an example whose last loss is below the mean is left out with probability r.

    If it is kept, its weight is 1 / (1 − r), so that the expected gradient is that of all data. The last epochs use
    all examples. The strategy sets its own size, about 1 − r·(fraction of examples below the mean) of the data.

    Args:
        settings: ``prune_probability`` (r), ``final_share``.
    """

    STATE = ("_losses_N",)

    def __init__(self, settings: Settings) -> None:
        self._probability = settings.prune_probability
        self.final_share = settings.final_share
        self._losses_N: Tensor | None = None

    def select(self, labels_N: Tensor, generator: torch.Generator) -> Subset:
        """See :class:`~subset_selection.types.SoftPruning`."""
        if self._losses_N is None:
            # No loss has been observed yet; infinite losses are never pruned.
            self._losses_N = torch.full((len(labels_N),), torch.inf)
        losses_N = self._losses_N
        known_N = losses_N.isfinite()
        known = losses_N if bool(known_N.all()) else losses_N[known_N]
        below_N = known_N & (losses_N < known.mean())
        draws_N = torch.rand(len(labels_N), generator=generator)
        kept_N = ~(below_N & (draws_N < self._probability))
        if not bool(kept_N.any()):
            kept_N[0] = True
        kept_K = kept_N.nonzero().flatten()
        return Subset.of(kept_K, torch.where(below_N[kept_K], 1 / (1 - self._probability), 1.0))

    def observe(self, indices_K: Tensor, losses_K: Tensor) -> None:
        """See :class:`~subset_selection.types.SoftPruning`."""
        if self._losses_N is not None:
            self._losses_N[indices_K] = losses_K.float()

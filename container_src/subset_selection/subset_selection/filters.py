"""Choosing within a batch: a forward pass over candidates, a step on some of them."""

from torch import Tensor

from subset_selection.settings import Settings
from subset_selection.stateful import Stateful


class LossFilter:
    """The candidates of highest loss.

    Sources: Jiang et al., "Accelerating Deep Learning by Focusing on the Biggest Losers", 2019; Kawaguchi & Lu,
    "Ordered SGD", AISTATS 2020 (the q largest of a batch). Mislabelled examples have high losses: not for noisy
    labels.

    Args:
        settings: ``candidates_per_pick``.
    """

    def __init__(self, settings: Settings) -> None:
        self.candidates_per_pick = settings.candidates_per_pick

    def keep(self, losses_B: Tensor, indices_B: Tensor, count: int) -> Tensor:
        """See :class:`~subset_selection.types.BatchFilter`."""
        return losses_B.sort(descending=True, stable=True).indices[:count]


class ReducibleLossFilter(Stateful):
    """The candidates whose loss exceeds most what a model trained on held-out data alone has there: learnable, not yet
    learned, and not noise, which no model learns.

    Source: Mindermann et al., "Prioritized Training on Points that are Learnable, Worth Learning, and Not Yet Learnt"
    (RHO-LOSS), ICML 2022, equation 3.

    Args:
        settings: ``candidates_per_pick``.
        irreducible_losses_N: the held-out model's loss on each training example.
    """

    STATE = ("irreducible_losses_N",)

    def __init__(self, settings: Settings, irreducible_losses_N: Tensor) -> None:
        self.candidates_per_pick = settings.candidates_per_pick
        self.irreducible_losses_N = irreducible_losses_N

    def keep(self, losses_B: Tensor, indices_B: Tensor, count: int) -> Tensor:
        """See :class:`~subset_selection.types.BatchFilter`."""
        reducible_B = losses_B - self.irreducible_losses_N.to(losses_B.device)[indices_B]
        return reducible_B.sort(descending=True, stable=True).indices[:count]

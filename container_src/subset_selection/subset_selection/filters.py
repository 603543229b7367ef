"""Selection within a batch: a forward pass over candidates, then a training step on some of them."""

from torch import Tensor

from subset_selection.settings import Settings
from subset_selection.stateful import Stateful


class LossFilter:
    """Keeps the candidates of highest loss.

    It is unsuitable for noisy labels, because mislabelled examples have high losses.

    Sources: Jiang et al., "Accelerating Deep Learning by Focusing on the Biggest Losers", 2019; Kawaguchi & Lu,
    "Ordered SGD", AISTATS 2020 (the q largest losses of a batch).

    Args:
        settings: ``candidates_per_pick``.
    """

    def __init__(self, settings: Settings) -> None:
        self.candidates_per_pick = settings.candidates_per_pick

    def keep(self, losses_B: Tensor, indices_B: Tensor, count: int) -> Tensor:
        """See :class:`~subset_selection.types.BatchFilter`."""
        return losses_B.sort(descending=True, stable=True).indices[:count]


class ReducibleLossFilter(Stateful):
    """Keeps the candidates whose loss most exceeds the loss of a model trained on held-out data alone.

    These examples are learnable and not yet learned. Mislabelled examples have a high loss under both models, so they
    are not preferred.

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

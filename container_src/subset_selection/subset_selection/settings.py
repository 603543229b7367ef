"""The settings of the strategies."""

from dataclasses import dataclass
from typing import Literal

Balance = Literal["none", "class"]
Scope = Literal["supervised", "per-class", "per-class-per-gradient", "per-batch"]
Greedy = Literal["auto", "stochastic", "naive", "rgreedy"]


@dataclass(frozen=True)
class Settings:
    """The settings of all strategies; each strategy reads those that apply to it.

    Those of GLISTER, GRAD-MATCH and CRAIG are CORDS's, CCS's β, InfoBatch's r and δ those of the papers; the table of
    strategies names them.
    """

    scope: Scope | None = None
    """The set of examples that each greedy search covers; default: the first one listed for the strategy in its
    ``Spec.choices``."""
    greedy: Greedy = "auto"
    """The greedy search. ``stochastic`` scores a random sample for each pick; ``naive`` scores all examples;
    ``rgreedy`` (``glister`` alone) picks many examples at once; ``auto``: stochastic for ``glister``, exact for others
    if the similarities of a class fit in memory."""
    greedy_rounds: int = 15
    """Number of rounds of ``rgreedy``, at least 1 (CORDS: r)."""
    eta: float = 0.05
    """``glister``: step size on the validation logits, above 0 (η)."""
    lam: float = 0.5
    """``gradmatch``: L2 penalty on the weights of the selected examples, at least 0 (λ)."""
    eps: float = 1e-4
    """``gradmatch``: matching stops when the norm of the residual is at most this fraction of the gradient's norm; from
    0 to below 1 (ε)."""
    match: Literal["training", "validation"] = "training"
    """``gradmatch``: whose gradient is matched."""
    batch_size: int = 128
    """Number of examples of a batch, where whole batches are picked (``scope="per-batch"``, ``gradmatch-pb``,
    ``craig-pb``)."""
    hardest_dropped: float = 0.1
    """``ccs``: fraction of the examples, the hardest, that is never selected; from 0 to below 1 (β)."""
    prune_probability: float = 0.5
    """``infobatch``: probability that an example with below-average loss is left out of an epoch; from 0 to below 1
    (r)."""
    final_share: float = 0.125
    """``infobatch``: fraction of the epochs, at the end of training, that use all examples; from 0 to below 1
    (1 − δ)."""
    candidates_per_pick: float = 2.0
    """Number of candidates for each example that is picked, above 1 and at most 100. ``loss-filter`` and ``rho-loss``
    take the best of each batch of candidates; other strategies evaluate a random sample of this size."""
    balance: Balance = "none"
    """``class``: the same number of examples from each class, or all of a class that has fewer; ``none``: follow the
    strategy."""


DEFAULTS = Settings()

"""The settings of the strategies."""

from dataclasses import dataclass
from typing import Literal

Balance = Literal["none", "class"]
Scope = Literal["supervised", "per-class", "per-class-per-gradient", "per-batch"]
Greedy = Literal["auto", "stochastic", "naive", "rgreedy"]


@dataclass(frozen=True)
class Settings:
    """The settings of all strategies; each strategy reads those that apply to it. They are described with the
    hyperparameters of the same names."""

    scope: Scope | None = None
    greedy: Greedy = "auto"
    greedy_rounds: int = 15
    eta: float = 0.05
    lam: float = 0.5
    eps: float = 1e-4
    match: Literal["training", "validation"] = "training"
    batch_size: int = 128
    hardest_dropped: float = 0.1
    prune_probability: float = 0.5
    final_share: float = 0.125
    candidates_per_pick: float = 2.0
    balance: Balance = "none"


DEFAULTS = Settings()

"""Data subset selection: pure functions of tensors. No files, no model, no process state."""

from collections.abc import Callable

from subset_selection.balanced import Balanced
from subset_selection.craig import CraigPerBatch, craig, feature_medoids
from subset_selection.filters import LossFilter, ReducibleLossFilter
from subset_selection.geometry import GraphCut, Herding, KCentre, Moderate
from subset_selection.glister import Glister
from subset_selection.gradmatch import GradMatch, GradMatchPerBatch
from subset_selection.infobatch import InfoBatch
from subset_selection.mislabelled import DropMislabelled
from subset_selection.scores import EL2N, CoverageCentric, Forgetting
from subset_selection.settings import Settings
from subset_selection.stateful import load_state, state_of
from subset_selection.types import (
    BatchFilter,
    NotFiniteError,
    Pool,
    Refresh,
    SoftPruning,
    Strategy,
    Subset,
)
from subset_selection.uniform import Full, Random, RepeatedSampling

__all__ = [
    "SOFT_PRUNING",
    "STRATEGIES",
    "BatchFilter",
    "LossFilter",
    "NotFiniteError",
    "Pool",
    "ReducibleLossFilter",
    "Refresh",
    "Settings",
    "SoftPruning",
    "Strategy",
    "Subset",
    "create",
    "load_state",
    "state_of",
]

STRATEGIES: dict[str, Callable[[Settings], Strategy]] = {
    "full": lambda settings: Full(),
    "random": lambda settings: Random("once"),
    "adaptive-random": lambda settings: Random("periodically"),
    "rs2": lambda settings: RepeatedSampling(),
    "rs2-with-replacement": lambda settings: Random("every epoch"),
    "glister": Glister,
    "gradmatch": GradMatch,
    "gradmatch-pb": GradMatchPerBatch,
    "craig": craig,
    "craig-pb": CraigPerBatch,
    "facility-location": feature_medoids,
    "graph-cut": lambda settings: GraphCut(settings.balance),
    "k-centre": lambda settings: KCentre(settings.balance),
    "herding": lambda settings: Herding(settings.balance),
    "el2n": lambda settings: EL2N(),
    "forgetting": lambda settings: Forgetting(),
    "moderate": lambda settings: Moderate(settings.balance),
    "ccs": lambda settings: CoverageCentric(settings.hardest_dropped),
}
"""Strategies that choose a budget of the training examples."""
SOFT_PRUNING: dict[str, Callable[[Settings], SoftPruning]] = {"infobatch": InfoBatch}
"""Strategies that set each epoch's size by themselves."""
BLIND_TO_CLASSES = (
    "random",
    "adaptive-random",
    "rs2",
    "rs2-with-replacement",
    "el2n",
    "forgetting",
    "ccs",
)
"""Strategies that ``balance=class`` runs once for each class; the others balance by themselves."""


def create(name: str, settings: Settings | None = None, *, drop_mislabelled: bool = False) -> Strategy:
    """The strategy of this name.

    Args:
        name: a key of ``STRATEGIES``.
        settings: the knobs; each strategy reads its own. None: all defaults.
        drop_mislabelled: whether it chooses among the examples that look correctly labelled.
    """
    told = settings or Settings()

    def plain() -> Strategy:
        return STRATEGIES[name](told)

    balanced = told.balance == "class" and name in BLIND_TO_CLASSES
    strategy: Strategy = Balanced(plain) if balanced else plain()
    return DropMislabelled(strategy) if drop_mislabelled else strategy

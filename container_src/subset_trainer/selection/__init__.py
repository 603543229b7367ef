"""Data subset selection: pure functions of tensors. No files, no model, no process state."""

from collections.abc import Callable

from subset_trainer.selection.glister import Glister
from subset_trainer.selection.types import Pool, Refresh, Strategy, Subset
from subset_trainer.selection.uniform import Full, Random, RepeatedSampling

__all__ = ["STRATEGIES", "Pool", "Refresh", "Strategy", "Subset", "create"]

STRATEGIES: dict[str, Callable[[float], Strategy]] = {
    "full": lambda eta: Full(),
    "random": lambda eta: Random("once"),
    "adaptive-random": lambda eta: Random("periodically"),
    "rs2": lambda eta: RepeatedSampling(),
    "glister": Glister,
}


def create(name: str, *, eta: float) -> Strategy:
    """The strategy of this name.

    Args:
        name: a key of ``STRATEGIES``.
        eta: GLISTER's step size; the others ignore it.
    """
    return STRATEGIES[name](eta)

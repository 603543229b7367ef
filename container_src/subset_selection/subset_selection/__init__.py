"""Data subset selection: loaders and samplers for any training loop, and below them pure functions of tensors.

Names are imported on first use, so that :mod:`subset_selection.catalogue` can be read without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subset_selection.catalogue import CATALOGUE, Refresh, Spec, names
    from subset_selection.embedding import embed
    from subset_selection.loader import SubsetLoader
    from subset_selection.making import create
    from subset_selection.sampler import Selection, SubsetSampler
    from subset_selection.settings import Settings
    from subset_selection.source import Reading
    from subset_selection.stateful import load_state, state_of
    from subset_selection.types import (
        BatchFilter,
        Loss,
        NotFiniteError,
        Pool,
        SoftPruning,
        Strategy,
        Subset,
    )

_HOMES = {
    "catalogue": ("CATALOGUE", "Refresh", "Spec", "names"),
    "embedding": ("embed",),
    "loader": ("SubsetLoader",),
    "making": ("create",),
    "sampler": ("Selection", "SubsetSampler"),
    "stateful": ("load_state", "state_of"),
    "settings": ("Settings",),
    "source": ("Reading",),
    "types": ("BatchFilter", "Loss", "NotFiniteError", "Pool", "SoftPruning", "Strategy", "Subset"),
}

__all__ = [
    "CATALOGUE",
    "BatchFilter",
    "Loss",
    "NotFiniteError",
    "Pool",
    "Reading",
    "Refresh",
    "Selection",
    "Settings",
    "SoftPruning",
    "Spec",
    "Strategy",
    "Subset",
    "SubsetLoader",
    "SubsetSampler",
    "create",
    "embed",
    "load_state",
    "names",
    "state_of",
]


def __getattr__(name: str) -> Any:
    for home, contents in _HOMES.items():
        if name in contents:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

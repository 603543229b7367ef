"""Creates a strategy from its name."""

from subset_selection.balanced import Balanced
from subset_selection.catalogue import CATALOGUE, names
from subset_selection.mislabelled import DropMislabelled
from subset_selection.settings import DEFAULTS, Settings
from subset_selection.types import Strategy


def create(name: str, settings: Settings = DEFAULTS, *, drop_mislabelled: bool = False) -> Strategy:
    """Create the strategy of this name, which selects a subset of a given size.

    Args:
        name: one of ``names("everything", "subset")``.
        settings: the settings; each strategy reads those that apply to it.
        drop_mislabelled: whether to select only among the examples that look correctly labelled.

    Raises:
        ValueError: there is no such strategy.
    """
    known = names("everything", "subset")
    if name not in known:
        raise ValueError(f"strategy={name!r}: expected one of {', '.join(known)}")
    spec = CATALOGUE[name]

    def plain() -> Strategy:
        strategy: Strategy = spec.load()(settings)
        return strategy

    balanced = settings.balance == "class" and "balance" in spec.knobs and not spec.balances_itself
    strategy: Strategy = Balanced(plain) if balanced else plain()
    return DropMislabelled(strategy) if drop_mislabelled else strategy

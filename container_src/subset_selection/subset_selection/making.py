"""Creates a strategy from its name."""

import dataclasses
import difflib
from typing import Any

from subset_selection.balanced import Balanced
from subset_selection.catalogue import CATALOGUE, GREEDY, Spec, names
from subset_selection.mislabelled import DropMislabelled
from subset_selection.settings import DEFAULTS, Settings
from subset_selection.types import Strategy

KNOBS = tuple(field.name for field in dataclasses.fields(Settings))
"""The names of the settings."""


def create(
    name: str, settings: Settings | None = None, *, drop_mislabelled: bool = False, **knobs: Any
) -> Strategy:
    """Create the strategy of this name, which selects a subset of a given size.

    Args:
        name: one of ``names("everything", "subset")``.
        settings: the settings; each strategy reads those that apply to it.
        drop_mislabelled: whether to select only among the examples that look correctly labelled.
        knobs: settings by name, in place of ``settings``: ``create("glister", eta=0.1)``.

    Raises:
        ValueError: there is no such strategy, or it has no such knob, or not this value of it.
    """
    known = names("everything", "subset")
    if name not in known:
        raise ValueError(f"strategy={name!r}: expected one of {', '.join(known)}")
    spec = CATALOGUE[name]
    if settings is not None and knobs:
        raise ValueError(f"settings and {', '.join(knobs)}: give the knobs in one of the two ways")
    settings = settings or settings_for(spec, knobs)

    def plain() -> Strategy:
        strategy: Strategy = spec.load()(settings)
        return strategy

    balanced = settings.balance == "class" and "balance" in spec.knobs and not spec.balances_itself
    strategy: Strategy = Balanced(plain) if balanced else plain()
    return DropMislabelled(strategy) if drop_mislabelled else strategy


def settings_for(spec: Spec, knobs: dict[str, Any]) -> Settings:
    """A strategy's settings from knobs by name.

    Raises:
        ValueError: the strategy has no such knob, or not this value of it.
    """
    own = [knob for knob in KNOBS if knob in spec.knobs]
    for knob, value in knobs.items():
        if knob not in own:
            near = difflib.get_close_matches(knob, own, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"{knob}={value!r}: {spec.name} has no such knob (it has {', '.join(own) or 'none'}){hint}"
            )
        allowed, said = _allowed(spec, knob)
        if not allowed(value):
            raise ValueError(f"{knob}={value!r}: {spec.name} expects {said}")
    defaults = {} if spec.candidates_per_pick is None else {"candidates_per_pick": spec.candidates_per_pick}
    settings = dataclasses.replace(DEFAULTS, **{**defaults, **knobs})
    if settings.scope == "per-batch" and settings.balance == "class":
        raise ValueError("balance='class' does not work with scope='per-batch'")
    return settings


def candidates_of(spec: Spec, chosen: float | None, drop_mislabelled: bool) -> float | None:
    """The number of candidates per pick that a selection evaluates; None: all examples are candidates.

    Args:
        spec: a strategy that selects a subset of a given size.
        chosen: what the user has set; None: the strategy's default.
        drop_mislabelled: whether suspects are left out, for which all examples are evaluated.
    """
    if "candidates_per_pick" not in spec.knobs or drop_mislabelled:
        return None
    return chosen or spec.candidates_per_pick


def _allowed(spec: Spec, knob: str) -> tuple[Any, str]:
    """Whether a value is allowed, and what is, in words."""
    choices = {
        "scope": (None, *spec.choices.get("scope", ())),
        "greedy": spec.choices.get("greedy", GREEDY),
        "match": ("training", "validation"),
        "balance": ("none", "class"),
    }
    if knob in choices:
        return choices[knob].__contains__, "one of " + ", ".join(map(repr, choices[knob]))
    if knob in ("greedy_rounds", "batch_size"):
        return lambda value: _number(value, whole=True) and value >= 1, "a whole number of at least 1"
    if knob in ("hardest_dropped", "prune_probability", "final_share"):
        return lambda value: _number(value) and 0 <= value < 1, "a number from 0 to below 1"
    if knob == "candidates_per_pick":
        return lambda value: _number(value) and 1 < value <= 100, "a number above 1 and at most 100"
    if knob == "eta":
        return lambda value: _number(value) and 0 < value < float("inf"), "a number above 0"
    if knob == "eps":
        return lambda value: _number(value) and 0 <= value < 1, "a number from 0 to below 1"
    return lambda value: _number(value) and 0 <= value < float("inf"), "a number of at least 0"


def _number(value: Any, whole: bool = False) -> bool:
    return isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)

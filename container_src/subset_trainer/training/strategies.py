"""Creates the selector that the hyperparameters describe."""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import subset_selection
from subset_selection import BatchFilter, Settings
from subset_selection.making import candidates_of
from subset_trainer.config import Hyperparameters
from subset_trainer.models import Classifier
from subset_trainer.training.holdout import irreducible_losses
from subset_trainer.training.place import Place
from subset_trainer.training.plan import Plan
from subset_trainer.training.rounds import (
    Data,
    FilterSelector,
    NativeSelector,
    Selector,
    SoftPruningSelector,
)


def selector(
    hp: Hyperparameters, classifier: Classifier, data: Data, plan: Plan, place: Place, classes: int
) -> Selector:
    """Create the selector of a run. Call it before creating the classifier's
    :class:`~subset_trainer.training.trainee.Trainee`.

    Raises:
        UserError: the strategy cannot work with this model or on this data.
    """
    if hp.backend == "cords":
        # Imported only on demand, because CORDS imports numba and matplotlib.
        from subset_trainer.training.cords_backend import CordsSelector

        return CordsSelector(hp, classifier, data, plan, place.device, classes)
    settings = settings_of(hp, plan)
    if hp.spec.shape == "own_size":
        return SoftPruningSelector(hp.spec.load()(settings), data.train.labels)
    if hp.spec.shape == "within_batch":
        return _filter(hp, classifier, data, plan, place, settings)
    strategy = subset_selection.create(hp.strategy, settings, drop_mislabelled=hp.mislabelled == "drop")
    candidates = candidates_of(hp.spec, hp.candidates_per_pick, hp.mislabelled == "drop")
    return NativeSelector(strategy, classifier, data, plan.budget, place, candidates)


def _filter(
    hp: Hyperparameters, classifier: Classifier, data: Data, plan: Plan, place: Place, settings: Settings
) -> FilterSelector:
    if "a held-out model" not in hp.spec.needs:
        return FilterSelector(lambda state: hp.spec.load()(settings), plan.examples, plan.budget)
    # Copied now, because a warm start trains the classifier on the training examples before the first selection.
    fresh = copy.deepcopy(classifier)

    def make(state: Mapping[str, Any]) -> BatchFilter:
        losses = state.get("irreducible_losses_N")
        if losses is None:
            losses = irreducible_losses(fresh, data, hp, place)
        made: BatchFilter = hp.spec.load()(settings, losses.to(place.device))
        return made

    return FilterSelector(make, plan.examples, plan.budget)


def settings_of(hp: Hyperparameters, plan: Plan) -> Settings:
    """The strategies' settings, from the hyperparameters of the same names. ``batch_size`` is that of all processes."""
    own = {field.name: getattr(hp, field.name) for field in dataclasses.fields(Settings)}
    own |= {
        "eta": hp.eta or plan.learning_rate,
        "batch_size": plan.effective_batch_size,
        "candidates_per_pick": hp.candidates_per_pick
        or hp.spec.candidates_per_pick
        or own["candidates_per_pick"],
    }
    return Settings(**own)

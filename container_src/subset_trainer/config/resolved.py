"""The hyperparameters of a run with the defaults of what it trains."""

from typing import Any

from subset_trainer.config.defaults import (
    ADAMW_DEFAULTS,
    ENCODER_DEFAULTS,
    FINE_TUNED_ENCODER_DEFAULTS,
    FRESH_IMAGE_DEFAULTS,
    FRESH_IMAGE_MODELS,
    FROZEN_ENCODER_RATE,
    MUON_DEFAULTS,
    SGD_DEFAULTS,
)
from subset_trainer.config.hyperparameters import Hyperparameters
from subset_trainer.errors import UserError


def as_trained(hp: Hyperparameters, kind: str, model: str, pretrained: bool = False) -> Hyperparameters:
    """Set the defaults of a model, and of the optimiser that trains it, for hyperparameters without a value.

    Args:
        kind: of the data: image, table, text or table_and_text.
        model: the network's name, with ``auto`` resolved.
        pretrained: whether it begins with given weights.

    Returns:
        hyperparameters whose ``optimizer`` is not ``auto``; what is set here does not count as given, but for an
        encoder's ``model``.

    Raises:
        UserError: encoders are not trained with this optimizer.
    """
    if model == "encoder":
        return _as_encoders_are_trained(hp)
    fresh = model in FRESH_IMAGE_MODELS and not pretrained
    usual = FRESH_IMAGE_DEFAULTS if fresh else {"optimizer": "sgd"}
    optimizer = usual["optimizer"] if hp.optimizer == "auto" else hp.optimizer
    own = {"adamw": ADAMW_DEFAULTS, "muon": MUON_DEFAULTS, "sgd": SGD_DEFAULTS.get(kind, {})}[optimizer]
    return hp.with_defaults({**usual, **own})


def optimizer_before(model: str) -> str:
    """What trained a model where a run of an earlier version has ``optimizer=auto``, or no such hyperparameter."""
    return "adamw" if model == "encoder" else "sgd"


def _as_encoders_are_trained(hp: Hyperparameters) -> Hyperparameters:
    if hp.optimizer not in ("auto", "adamw"):
        raise UserError(
            f"hyperparameter optimizer={hp.optimizer!r}: an encoder is trained with adamw; expected auto or adamw"
        )
    head: dict[str, Any] = {"learning_rate": FROZEN_ENCODER_RATE}
    usual = ENCODER_DEFAULTS | (head if hp.fine_tune == "head" else FINE_TUNED_ENCODER_DEFAULTS)
    return hp.with_defaults({**usual, "optimizer": "adamw"}).model_copy(update={"model": "encoder"})

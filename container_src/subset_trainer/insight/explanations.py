"""Selects the errors to explain, and holds the explanations."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subset_trainer.data.kinds.registry import BY_NAME
from subset_trainer.data.parts import Parts

FILE = "explanations.json"
METHOD = "KernelSHAP"


@dataclass(frozen=True)
class Explained:
    """The explanation of one misclassified example.

    Contributions are to the log-odds of the predicted class, ln(p / (1 - p)), and are additive: 0.69 doubles the odds.
    Log-odds are used because the probability itself hardly changes when the model is confident, as in these examples.
    """

    id: str
    label: str
    predicted: str
    probabilities: Mapping[str, float]
    """Class → probability, for the most probable classes and the label."""
    log_odds: float
    """Log-odds of the predicted class for the whole example."""
    log_odds_absent: float
    """Log-odds of the predicted class if all parts are absent. The contributions sum to `log_odds` minus this value."""
    contributions: np.ndarray
    """[M] float64: the contribution of each part."""
    parts: Parts
    values: Sequence[str] = ()
    """[M]: the value of each part of a table's row, or an empty text for a part of several columns. Empty otherwise."""
    exact: bool = False
    """Whether the contributions are exact Shapley values, not estimates."""
    evaluations: int = 0
    """The number of coalitions for which the model was evaluated."""

    @property
    def names(self) -> list[str]:
        """[M]: a readable name of each part."""
        return self.parts.titles


@dataclass(frozen=True)
class Explanations:
    """Explanations of some of the model's validation errors."""

    kind: str
    validated: int
    """The number of validation examples."""
    errors: int
    """The number of validation examples that the model misclassifies."""
    examples: Sequence[Explained]


def surest(
    labels_M: np.ndarray, predicted_M: np.ndarray, probability_M: np.ndarray, count: int
) -> np.ndarray:
    """int64 [at most count]: positions of the most confident errors, alternating between labels and, within each label,
    between predicted classes.

    Args:
        labels_M: class indices [M].
        predicted_M: predicted class indices [M].
        probability_M: probabilities of the predicted classes [M].
        count: the maximum number of positions.
    """
    errors = np.flatnonzero(labels_M != predicted_M)
    errors = errors[np.argsort(-probability_M[errors], kind="stable")]
    # Rank each error within its pair of label and prediction first, then within its label in that order.
    errors = errors[np.argsort(_turn(zip(labels_M[errors], predicted_M[errors], strict=True)), kind="stable")]
    turn = np.array(_turn(labels_M[errors]), np.int64)
    return errors[np.lexsort((-probability_M[errors], turn))][:count]


def _turn(groups: Iterable[Any]) -> list[int]:
    """For each item, the number of earlier items of the same group."""
    seen: dict[Any, int] = {}
    turns = []
    for group in groups:
        turns.append(seen.get(group, 0))
        seen[group] = turns[-1] + 1
    return turns


def to_json(found: Explanations) -> dict[str, Any]:
    """The content of explanations.json. docs/reference/outputs.md documents the keys."""
    return {
        "method": METHOD,
        "explains": "log-odds of the predicted class",
        "absent": BY_NAME[found.kind].stand_in,
        "kind": found.kind,
        "validation_examples": found.validated,
        "validation_errors": found.errors,
        "examples": [_example(one) for one in found.examples],
    }


def _example(one: Explained) -> dict[str, Any]:
    contributions = one.contributions.tolist()
    own, parts = one.parts.to_json(one.values)
    return {
        "id": one.id,
        "label": one.label,
        "predicted": one.predicted,
        "probabilities": dict(one.probabilities),
        "log_odds": one.log_odds,
        "log_odds_absent": one.log_odds_absent,
        "exact": one.exact,
        "evaluations": one.evaluations,
        **own,
        "parts": [
            {**part, "contribution": contribution}
            for part, contribution in zip(parts, contributions, strict=True)
        ],
    }

"""Which errors are worth an explanation, and what one says."""

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
    """Why the model takes one example for what it is not.

    Contributions are to the log-odds of the predicted class, ln(p / (1 - p)), which add up: 0.69 doubles the odds. The
    probability itself hardly moves where the model is sure, as it is of these examples.
    """

    id: str
    label: str
    predicted: str
    probabilities: Mapping[str, float]
    """Of the classes that the model holds for the most probable, and of the label."""
    log_odds: float
    """Of the predicted class, by the whole example."""
    log_odds_absent: float
    """By an example of which every part is absent: the contributions make up the difference."""
    contributions: np.ndarray
    """[M] float64, of the parts."""
    parts: Parts
    values: Sequence[str] = ()
    """[M], of a table's row, what stood there; empty: nothing, or there are several columns."""
    exact: bool = False
    """Whether the contributions are the Shapley values themselves, and no estimate."""
    evaluations: int = 0
    """How often the model was asked."""

    @property
    def names(self) -> list[str]:
        """[M], of the parts, for people."""
        return self.parts.titles


@dataclass(frozen=True)
class Explanations:
    """Of some of the errors that a model makes in validation."""

    kind: str
    validated: int
    """Validation examples."""
    errors: int
    """Those that the model takes for another class."""
    examples: Sequence[Explained]


def surest(
    labels_M: np.ndarray, predicted_M: np.ndarray, probability_M: np.ndarray, count: int
) -> np.ndarray:
    """int64 [at most count]: positions of the errors that the model is surest of, in turn of different labels, and of
    each label of different predictions.

    Args:
        probability_M: of the class that is predicted.
    """
    errors = np.flatnonzero(labels_M != predicted_M)
    errors = errors[np.argsort(-probability_M[errors], kind="stable")]
    # From within: the n-th of its pair, then the n-th of its label, in that order.
    errors = errors[np.argsort(_turn(zip(labels_M[errors], predicted_M[errors], strict=True)), kind="stable")]
    turn = np.array(_turn(labels_M[errors]), np.int64)
    return errors[np.lexsort((-probability_M[errors], turn))][:count]


def _turn(groups: Iterable[Any]) -> list[int]:
    """How many of the same group come before each."""
    seen: dict[Any, int] = {}
    turns = []
    for group in groups:
        turns.append(seen.get(group, 0))
        seen[group] = turns[-1] + 1
    return turns


def to_json(found: Explanations) -> dict[str, Any]:
    """For explanations.json: plain values. docs/reference/outputs.md says what the keys mean."""
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

"""What each epoch of a run did and cost, and the run's totals."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from subset_selection import Subset
from subset_trainer.training.evaluation import Score
from subset_trainer.training.plan import Epoch


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did and cost."""

    epoch: Epoch
    subset: Subset | None
    """The subset, where this epoch chose it (from a filter within batches: what it kept)."""
    subset_size: int
    train: Score
    """Over the epoch's own batches as they were trained on: augmented, with label smoothing and weights."""
    validation: Score
    learning_rate: float
    """At the epoch's end."""
    training_seconds: float
    selection_seconds: float
    evaluation_seconds: float
    samples_visited: int
    """From the start of the run."""

    def packed(self) -> dict[str, Any]:
        """For a checkpoint, without the subset, which is a file of its own."""
        return {
            **vars(self),
            "epoch": self.epoch.number,
            "subset": None,
            "train": list(astuple(self.train)),
            "validation": list(astuple(self.validation)),
        }

    @classmethod
    def unpacked(cls, packed: Mapping[str, Any], epochs: Sequence[Epoch]) -> "EpochReport":
        scores = {name: Score(*packed[name]) for name in ("train", "validation")}
        return cls(**{**packed, **scores, "epoch": epochs[packed["epoch"] - 1]})


def totals(reports: Sequence[EpochReport]) -> dict[str, Any]:
    """The run's totals, for summary.json."""
    if not reports:
        return {
            "validation": None,
            "best_validation_accuracy": None,
            "best_epoch": None,
            "samples_visited": 0,
        }
    best = max(reports, key=lambda report: report.validation.accuracy)
    last = reports[-1]
    return {
        "validation": {"loss": last.validation.loss, "accuracy": last.validation.accuracy},
        "best_validation_accuracy": best.validation.accuracy,
        "best_epoch": best.epoch.number,
        "samples_visited": last.samples_visited,
    }

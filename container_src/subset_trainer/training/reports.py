"""The results and costs of each epoch of a run, and the run's totals."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from subset_selection import Subset
from subset_trainer.training.evaluation import Score
from subset_trainer.training.plan import Epoch


@dataclass(frozen=True)
class EpochReport:
    """The results and costs of one epoch."""

    epoch: Epoch
    subset: Subset | None
    """The subset, if it was selected in this epoch; for a filter within batches, the examples that it kept."""
    subset_size: int
    train: Score
    """Score over the epoch's training batches: augmented, with label smoothing and weights."""
    validation: Score
    learning_rate: float
    """Learning rate at the end of the epoch."""
    training_seconds: float
    selection_seconds: float
    evaluation_seconds: float
    samples_visited: int
    """Number of samples seen since the start of the run."""

    def packed(self) -> dict[str, Any]:
        """The report for a checkpoint, without the subset, which has its own file."""
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

"""The results and costs of each epoch of a run, and the run's totals."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from subset_selection import Subset
from subset_trainer.training.measures import Score
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


def totals(reports: Sequence[EpochReport], metric: str = "accuracy") -> dict[str, Any]:
    """The run's totals, for summary.json.

    Args:
        reports: of the epochs that ended.
        metric: the measure of validation that tells which epoch was best. Epochs of a checkpoint of an earlier
            version have none but accuracy; they are never the best by another.
    """
    if not reports:
        return {
            "validation": None,
            "best_validation_accuracy": None,
            "best_epoch": None,
            "samples_visited": 0,
        }
    by_metric = [report.validation.measures().get(metric, -1.0) for report in reports]
    last, best = reports[-1], reports[by_metric.index(max(by_metric))]
    return {
        "validation": last.validation.measures(),
        "best_validation_accuracy": max(report.validation.accuracy for report in reports),
        "best_epoch": best.epoch.number,
        "samples_visited": last.samples_visited,
    }

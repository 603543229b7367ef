"""Values that the phases of a run share."""

from dataclasses import dataclass

from subset_trainer.config import Hyperparameters
from subset_trainer.contract import Contract
from subset_trainer.job.stages import Stages
from subset_trainer.tracking.trackers import Trackers
from subset_trainer.training.place import Place


@dataclass(frozen=True)
class Run:
    """A run whose data has been read and whose network has been built."""

    contract: Contract
    config: Hyperparameters
    """The hyperparameters, with the defaults that depend on the kind of model."""
    place: Place
    trackers: Trackers
    stages: Stages
    """The run's clock, which records whether SIGTERM has ended a stage."""

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.place.ranks.first

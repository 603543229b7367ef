"""What the phases of a run have in common."""

from dataclasses import dataclass

from subset_trainer.config import Hyperparameters
from subset_trainer.contract import Contract
from subset_trainer.job.stages import Stages
from subset_trainer.tracking.trackers import Trackers
from subset_trainer.training.place import Place


@dataclass(frozen=True)
class Run:
    """One run, once its data is read and its network is built."""

    contract: Contract
    config: Hyperparameters
    """With the defaults that depend on the kind of model."""
    place: Place
    trackers: Trackers
    stages: Stages
    """The run's clock, and whether SIGTERM has ended one of its stages."""

    @property
    def first(self) -> bool:
        """Whether this process writes and reports."""
        return self.place.ranks.first

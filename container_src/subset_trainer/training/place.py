"""The device and the processes that a run trains on."""

from dataclasses import dataclass, field

import torch

from subset_trainer.training.devices import Machine
from subset_trainer.training.interruption import Interruption
from subset_trainer.training.parallel.ranks import Ranks


@dataclass(frozen=True)
class Place:
    """A device with its numeric precision, the processes that share the work, and the handler of SIGTERM."""

    machine: Machine
    ranks: Ranks = field(default_factory=Ranks)

    @property
    def device(self) -> torch.device:
        return self.machine.device

    @property
    def interruption(self) -> Interruption:
        return self.ranks.interruption

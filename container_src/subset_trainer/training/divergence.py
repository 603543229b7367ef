"""A loss or weights that are no longer finite: noticed within some steps, and kept out of checkpoints."""

import math

import torch
from torch import Tensor, nn

from subset_trainer.errors import UserError
from subset_trainer.training.plan import Plan

STEPS_ON_A_GPU = 50
"""Between two looks there: reading a number waits for the step that makes it. On a CPU every step is looked at."""


class Watch:
    """Looks at one epoch's sum of losses from time to time. A sum that is not finite stays so.

    Args:
        epoch: its number, from 1.
        first: steps that are done.
        steps: of the epoch.
        plan: for the sentence.
        device: whose numbers are read.
    """

    def __init__(self, epoch: int, first: int, steps: int, plan: Plan, device: torch.device) -> None:
        self._epoch = epoch
        self._seen = first
        self._steps = steps
        self._plan = plan
        self._every = STEPS_ON_A_GPU if device.type == "cuda" else 1

    def look(self, step: int, loss_sum: Tensor) -> None:
        """After so many steps of the epoch, the last of them included in the sum.

        Raises:
            UserError: it is not finite.
        """
        if step - self._seen < self._every and step < self._steps:
            return
        if not math.isfinite(value := float(loss_sum)):
            raise self.error(f"the loss is {value}", step)
        self._seen = step

    def end(self, model: nn.Module) -> None:
        """After the epoch's last step, whose loss says nothing of the weights that it has made.

        Raises:
            UserError: they are not finite.
        """
        if not finite(model):
            raise self.error("the weights are no longer finite", self._steps)

    def error(self, what: str, step: int) -> UserError:
        first = min(self._seen + 1, step)
        where = f"step {step}" if first == step else f"steps {first} to {step}"
        return UserError(
            f"training diverged in epoch {self._epoch}, {where} of {self._steps}: {what}; "
            f"learning_rate={self._plan.learning_rate:g} with batch_size={self._plan.batch_size} is likely too high "
            "for this model"
        )


def finite(model: nn.Module) -> bool:
    """Whether all parameters and statistics are. Waits for the device."""
    state = [value for value in model.state_dict().values() if value.is_floating_point()]
    return bool(torch.stack([value.isfinite().all() for value in state]).all())

"""Detects a loss or weights that are not finite within some steps, before they are written to a checkpoint."""

import math

import torch
from torch import Tensor, nn

from subset_trainer.errors import UserError
from subset_trainer.training.plan import Plan

STEPS_ON_A_GPU = 50
"""Number of steps between checks on a GPU, where reading a number waits for the step that computes it. On a CPU every
step is checked."""


class Watch:
    """Checks one epoch's sum of losses at intervals. A sum that is not finite stays so.

    Args:
        epoch: number of the epoch, from 1.
        first: number of steps that are already done.
        steps: number of steps of the epoch.
        plan: the plan of the run, for the error message.
        device: the device that holds the sum.
    """

    def __init__(self, epoch: int, first: int, steps: int, plan: Plan, device: torch.device) -> None:
        self._epoch = epoch
        self._seen = first
        self._steps = steps
        self._plan = plan
        self._every = STEPS_ON_A_GPU if device.type == "cuda" else 1

    def look(self, step: int, loss_sum: Tensor) -> None:
        """Check the sum of losses, if a check is due.

        Args:
            step: number of completed steps of the epoch.
            loss_sum: the sum of the losses of these steps.

        Raises:
            UserError: the sum is not finite.
        """
        if step - self._seen < self._every and step < self._steps:
            return
        if not math.isfinite(value := float(loss_sum)):
            raise self.error(f"the loss is {value}", step)
        self._seen = step

    def end(self, model: nn.Module) -> None:
        """Check the weights after the epoch's last step, which its loss does not depend on.

        Raises:
            UserError: the weights are not finite.
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
    """Whether all parameters and buffers are finite. Waits for the device."""
    state = [value for value in model.state_dict().values() if value.is_floating_point()]
    return bool(torch.stack([value.isfinite().all() for value in state]).all())

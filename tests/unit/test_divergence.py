"""A loss that is no longer finite is noticed within some steps, which are named."""

import pytest
import torch
from torch import nn

from subset_trainer.config import parse
from subset_trainer.errors import UserError
from subset_trainer.training.divergence import STEPS_ON_A_GPU, Watch, finite
from subset_trainer.training.plan import Plan

PLAN = Plan.of(parse({"learning_rate": "30", "batch_size": "16"}), 100)
WHY = "learning_rate=30 with batch_size=16 is likely too high for this model"
NAN, INFINITE = torch.tensor(float("nan")), torch.tensor(float("inf"))


class Counted:
    """A sum on a GPU, which counts how often it is waited for."""

    def __init__(self, value: float) -> None:
        self.value, self.reads = value, 0

    def __float__(self) -> float:
        self.reads += 1
        return self.value


def watch(device: str, first: int = 0, steps: int = 200) -> Watch:
    return Watch(3, first, steps, PLAN, torch.device(device))


@pytest.mark.parametrize("value", [NAN, INFINITE])
def test_on_a_cpu_the_step_is_named(value: torch.Tensor) -> None:
    looking = watch("cpu")
    looking.look(1, torch.tensor(5.0))
    with pytest.raises(UserError) as error:
        looking.look(2, value)
    assert (
        str(error.value) == f"training diverged in epoch 3, step 2 of 200: the loss is {float(value)}; {WHY}"
    )


def test_on_a_gpu_the_steps_are_named() -> None:
    looking = watch("cuda")
    total = Counted(1.0)
    for step in range(1, 60):
        looking.look(step, total)  # type: ignore[arg-type]
    total.value = float("nan")
    with pytest.raises(
        UserError, match=f"in epoch 3, steps {STEPS_ON_A_GPU + 1} to {2 * STEPS_ON_A_GPU} of 200"
    ):
        for step in range(60, 201):
            looking.look(step, total)  # type: ignore[arg-type]
    assert total.reads == 2


def test_the_last_step_is_always_looked_at() -> None:
    with pytest.raises(UserError, match="steps 151 to 170 of 170"):
        watch("cuda", first=150, steps=170).look(170, NAN)


def test_going_on_within_an_epoch() -> None:
    with pytest.raises(UserError, match="step 41 of 200"):
        watch("cpu", first=40).look(41, NAN)


def test_weights_of_a_last_step() -> None:
    """The epoch's last loss is that of the weights before it."""
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    looking = watch("cpu", steps=7)
    looking.look(7, torch.tensor(1.0))
    looking.end(model)
    with torch.no_grad():
        next(model.parameters())[0, 0] = float("inf")
    with pytest.raises(UserError) as error:
        looking.end(model)
    assert (
        str(error.value)
        == f"training diverged in epoch 3, step 7 of 7: the weights are no longer finite; {WHY}"
    )


def test_statistics_count() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert finite(model)
    next(model.buffers())[1] = float("nan")
    assert not finite(model)

"""What training has seen of each example."""

import math

import pytest
import torch

from subset_selection import Subset
from subset_trainer.training.record import MEMORY, Record


def test_each_visit_counts() -> None:
    record = Record(4)
    first = Subset.of(torch.tensor([2, 0]))
    record.observe(first, torch.tensor([1.0, 3.0]))
    record.observe_choices(first, torch.tensor([0.6, -0.9]), 0.5)
    second = Subset.of(torch.tensor([2, 1]), torch.tensor([0.5, 2.0]))
    record.observe(second, torch.tensor([2.0, 4.0]))
    record.observe_choices(second, torch.tensor([-0.9, 0.6]), 0.75)
    assert record.visits_N.tolist() == [1, 1, 2, 0]
    assert record.early_hit_rates()[:3].tolist() == [0.0, 1.0, 0.5] and record.early_hit_rates()[3].isnan()
    assert record.weights_N.tolist()[:3] == [1.0, 2.0, 0.5] and record.weights_N[3].isnan()
    assert record.running_losses_N[:2].tolist() == [3.0, 4.0] and record.running_losses_N[3].isnan()
    assert (
        record.running_losses_N[2].item() == torch.lerp(torch.tensor(2.0), torch.tensor(1.0), MEMORY).item()
    )
    assert record.excess_losses()[:3].tolist() == [1.0, 1.0, -1.0] and record.excess_losses()[3].isnan()


def test_the_surest_half_of_the_choices_counts() -> None:
    record = Record(5)
    assert all(map(math.isnan, record.surest_missed()))
    every = Subset.of(torch.arange(5))
    record.observe_choices(every, torch.tensor([-1.0, -1, -1, -1, -1]), 0.0)  # it knew nothing yet
    record.observe_choices(every, torch.tensor([-0.9, 0.8, 0.7, -0.6, -0.5]), 0.5)
    record.observe_choices(every, torch.tensor([0.5, 0.6, -0.7, -0.8, -0.9]), 0.5)
    record.observe_choices(every, torch.tensor([0.5, 0.6, 0.7, 0.8, 0.9]), 0.8)
    record.observe_choices(every, torch.tensor([-1.0, -1, -1, -1, -1]), 0.0)  # the fifth time
    missed, accuracy = record.surest_missed()
    assert missed == pytest.approx(4 / 9) and accuracy == pytest.approx(0.6)


def test_later_epochs_do_not_count_as_early() -> None:
    record = Record(2)
    record.observe(Subset.of(torch.tensor([1])), torch.tensor([1.0]))
    assert record.early_hit_rates().isnan().all()
    assert record.visits_N.tolist() == [0, 1]


def test_it_goes_on_from_a_checkpoint() -> None:
    whole, part, rest = Record(3), Record(3), Record(3)
    draw = torch.Generator().manual_seed(0)
    for epoch in range(6):
        visited = Subset.of(torch.randperm(3, generator=draw)[:2])
        losses = torch.rand(2, generator=draw)
        whole.observe(visited, losses)
        whole.observe_choices(visited, losses - 0.5, 0.5)
        if epoch == 3:
            rest.load_state_dict({name: value.clone() for name, value in part.state_dict().items()})
        one = part if epoch < 3 else rest
        one.observe(visited, losses)
        one.observe_choices(visited, losses - 0.5, 0.5)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(rest.state_dict()[name], value, rtol=0, atol=0, equal_nan=True)

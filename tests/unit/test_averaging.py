import pytest
import torch
from torch import nn

from subset_trainer.models import Classifier
from subset_trainer.training.averaging import MovingAverage


def classifier() -> Classifier:
    return Classifier(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))


def test_the_average_is_the_recurrence_written_out() -> None:
    model = classifier()
    average = MovingAverage(model, decay=0.3)
    weight = model.network[0].weight  # type: ignore[index]
    expected = 1.0
    for update in range(1, 8):
        with torch.no_grad():
            weight.fill_(update**2)
            model.network[1].running_mean.fill_(-update)  # type: ignore[index]
        average.update_parameters(model)
        decay = min(0.3, (1 + update) / (10 + update))
        expected = 1.0 if update == 1 else decay * expected + (1 - decay) * update**2
        assert average.module.network[0].weight.mean().item() == pytest.approx(expected)  # type: ignore[index]
    assert -7 < average.module.network[1].running_mean.mean().item() < -6  # type: ignore[index]
    assert weight.mean() == 49


def test_the_copy_has_the_names_of_the_original() -> None:
    model = classifier()
    assert list(MovingAverage(model, 0.9).module.state_dict()) == list(model.state_dict())

"""What a label is, is one class: the training and the evaluation ask it, and another one needs nothing else."""

import numpy as np
import torch
from torch import Tensor, nn

import subset_selection
from subset_trainer.config import parse
from subset_trainer.data import MemoryDataset
from subset_trainer.models import Classifier
from subset_trainer.objectives import Classification, Objective
from subset_trainer.training import loop
from subset_trainer.training.devices import Machine
from subset_trainer.training.evaluation import look_at
from subset_trainer.training.place import Place
from subset_trainer.training.plan import Plan
from subset_trainer.training.reports import EpochReport
from subset_trainer.training.rounds import Data, NativeSelector
from subset_trainer.training.trainee import Trainee

CPU = Place(Machine(torch.device("cpu"), torch.float32))


class LeastSquares:
    """Targets are numbers, and each output is one."""

    def losses(self, outputs_BC: Tensor, targets_B: Tensor, smoothing: float = 0.0) -> Tensor:
        return (outputs_BC[:, 0] - targets_B).square() / 2

    def loss_sum(self, outputs_BC: Tensor, targets_B: Tensor) -> Tensor:
        return self.losses(outputs_BC, targets_B).sum()

    def residuals(self, outputs_BC: Tensor, targets_B: Tensor) -> Tensor:
        return outputs_BC - targets_B[:, None]

    def scores(self, outputs_BC: Tensor, targets_B: Tensor) -> Tensor:
        return (outputs_BC[:, 0] - targets_B).abs() < 0.1

    def choices(self, outputs_BC: Tensor, targets_B: Tensor) -> Tensor:
        return self.scores(outputs_BC, targets_B).float() * 2 - 1

    def strata(self, targets_N: np.ndarray) -> np.ndarray:
        return np.zeros(len(targets_N), np.int64)

    def answer(self, outputs_BC: Tensor) -> Tensor:
        return outputs_BC.float()


def check_residuals(objective: Objective, outputs: Tensor, targets: Tensor) -> None:
    outputs.requires_grad_()
    (expected,) = torch.autograd.grad(objective.losses(outputs, targets).sum(), outputs)
    torch.testing.assert_close(objective.residuals(outputs.detach(), targets), expected)
    torch.testing.assert_close(objective.loss_sum(outputs, targets), objective.losses(outputs, targets).sum())


def test_residuals_are_the_gradient_of_the_losses() -> None:
    draw = torch.Generator().manual_seed(0)
    check_residuals(Classification(), torch.randn(7, 3, generator=draw), torch.arange(7) % 3)
    check_residuals(LeastSquares(), torch.randn(7, 1, generator=draw), torch.randn(7, generator=draw))


def test_a_choice_is_as_sure_as_its_probability_and_negative_where_it_is_wrong() -> None:
    outputs = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 9.0], [1.0, 1.0, 1.0]])
    choices = Classification().choices(outputs, torch.tensor([0, 1, 0]))
    sure = outputs.softmax(1).max(1).values
    torch.testing.assert_close(choices, sure * torch.tensor([1.0, -1.0, 1.0]))


def data(examples: int, seed: int) -> MemoryDataset:
    inputs = torch.randn(examples, 3, generator=torch.Generator().manual_seed(seed))
    return MemoryDataset(inputs, inputs @ torch.tensor([1.0, -2.0, 0.5]) + 0.25)


def test_a_regression_needs_nothing_but_its_objective() -> None:
    torch.manual_seed(0)
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3, 1)), objective=LeastSquares())
    sets = Data(data(200, 0), data(50, 1))
    hp = parse({"strategy": "rs2", "fraction": 0.5, "epochs": 40, "batch_size": 10, "weight_decay": 0})
    plan = Plan.of(hp, 200)
    reports: list[EpochReport] = []
    selector = NativeSelector(subset_selection.create("rs2"), classifier, sets, plan.budget, CPU)
    loop.train(Trainee(classifier, hp, plan, CPU), sets, selector, plan, reports.append)
    assert reports[0].validation.loss > 0.1 > 1e-3 > reports[-1].validation.loss
    assert reports[-1].validation.accuracy == 1.0
    pool, _ = look_at(classifier, sets.train, CPU)
    expected = classifier(data(200, 0).inputs)[:, 0] - sets.train.labels
    torch.testing.assert_close(pool.residuals[:, 0], expected.detach())

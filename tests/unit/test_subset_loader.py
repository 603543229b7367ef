"""A loader that selects, in a loop of one's own, beside the trainer: the same subsets and model, bit for bit."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import TensorDataset

from subset_selection import CATALOGUE, SubsetLoader
from subset_trainer import models
from subset_trainer.config import parse
from subset_trainer.data import MemoryDataset
from subset_trainer.models import Classifier
from subset_trainer.training import loop, optimizer, strategies
from subset_trainer.training.devices import Machine
from subset_trainer.training.holdout import irreducible_losses
from subset_trainer.training.place import Place
from subset_trainer.training.plan import Plan
from subset_trainer.training.reports import EpochReport
from subset_trainer.training.rounds import Data
from subset_trainer.training.trainee import Trainee, shorten_batch_norm_memory

CPU = Place(Machine(torch.device("cpu"), torch.float32))
EXAMPLES, VALIDATION, CLASSES = 240, 60, 4
SETTINGS: dict[str, Any] = {
    "fraction": 0.3,
    "epochs": 5,
    "select_every": 2,
    "batch_size": 16,
    "learning_rate": 0.1,
    "seed": 3,
}
STRATEGIES = [name for name, spec in CATALOGUE.items() if spec.trains_on == "training"]
VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {"strategy": name} for name in STRATEGIES},
    "warm start": {"strategy": "glister", "warm_fraction": 0.5},
    "balanced": {"strategy": "herding", "balance": "class"},
    "balanced at random": {"strategy": "rs2", "balance": "class"},
    "without suspects": {"strategy": "rs2", "mislabelled": "drop"},
    "few candidates": {"strategy": "gradmatch", "candidates_per_pick": 1.5, "match": "validation"},
    "rgreedy": {"strategy": "glister", "greedy": "rgreedy", "scope": "supervised", "eta": 0.2},
}


def data(examples: int, seed: int) -> MemoryDataset:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (examples,), generator=draw)
    wrong = torch.rand(examples, generator=draw) < (0.2 if seed == 0 else 0)
    given = torch.where(wrong, torch.randint(CLASSES, (examples,), generator=draw), labels)
    return MemoryDataset(torch.randn(examples, 6, generator=draw) + 0.7 * labels[:, None], given)


def build() -> Classifier:
    torch.manual_seed(0)
    return models.build("mlp", (6,), CLASSES)


def as_trained(settings: dict[str, Any]) -> tuple[Classifier, list[EpochReport]]:
    hp = parse({**SETTINGS, **settings})
    classifier, seen = build(), Data(data(EXAMPLES, 0), data(VALIDATION, 1))
    plan, reports = Plan.of(hp, EXAMPLES), list[EpochReport]()
    selector = strategies.selector(hp, classifier, seen, plan, CPU, CLASSES)
    loop.train(Trainee(classifier, hp, plan, CPU), seen, selector, plan, reports.append)
    return classifier, reports


def in_a_loop(settings: dict[str, Any]) -> tuple[Classifier, list[tuple[Tensor, Tensor]]]:
    """The same run by a loader, in a loop that is written out."""
    hp = parse({**SETTINGS, **settings})
    plan = Plan.of(hp, EXAMPLES)
    training, validation = data(EXAMPLES, 0), data(VALIDATION, 1)
    options: dict[str, Any] = {**SETTINGS, **settings}
    del options["learning_rate"]
    model = build()
    if "eta" in hp.spec.knobs:
        options.setdefault("eta", 0.1)  # the trainer's is its learning rate
    if not hp.spec.takes_fraction:
        del options["fraction"]
    if "a held-out model" in hp.spec.needs:
        options["held_out"] = build()
        irreducible_losses(options["held_out"], Data(training, validation), hp, CPU)
    loader = SubsetLoader(
        TensorDataset(training.inputs, training.labels),
        model,
        validation=TensorDataset(validation.inputs, validation.labels),
        **options,
    )
    shorten_batch_norm_memory(model, plan.steps)
    updates = optimizer.make(model, hp, plan.learning_rate)
    chosen = []
    assert loader.epochs == len(plan.epochs)
    for epoch in plan.epochs:
        model.train()
        known = loader.last_selection
        for step, (inputs, labels, weights) in enumerate(loader):
            losses = F.cross_entropy(
                model(inputs), labels, reduction="none", label_smoothing=hp.label_smoothing
            )
            model.zero_grad(set_to_none=True)
            torch.dot(losses, weights / weights.sum()).backward()
            optimizer.set_rate(updates, plan.rate(epoch, step, len(loader)))
            updates.step()
            loader.observe(losses)
        if loader.last_selection is not known:
            assert loader.last_selection is not None and loader.last_selection.epoch == epoch.number
            chosen.append((loader.last_selection.subset.indices, loader.last_selection.subset.weights))
    return model, chosen


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_loop_of_one_s_own_chooses_and_learns_what_the_trainer_does(variant: str) -> None:
    trained, reports = as_trained(VARIANTS[variant])
    model, chosen = in_a_loop(VARIANTS[variant])
    expected = [report.subset for report in reports if report.subset is not None]
    if CATALOGUE[VARIANTS[variant]["strategy"]].shape != "within_batch":
        # Of a filter, the trainer's report has what each batch kept; it shows in the weights of the model.
        assert len(chosen) == len(expected) > 0
        for (indices, weights), subset in zip(chosen, expected, strict=True):
            assert torch.equal(indices, subset.indices) and torch.equal(weights, subset.weights)
    for (name, weight), own in zip(model.state_dict().items(), trained.state_dict().values(), strict=True):
        assert torch.equal(weight, own), name

"""The loop beside one that is written out plainly: the same weights, bit for bit, and the same losses."""

import math
from collections.abc import Iterator, Sequence

import pytest
import torch
import torch.nn.functional as F

import subset_selection
from subset_selection import Pool
from subset_trainer import models
from subset_trainer.config import parse
from subset_trainer.data import MemoryDataset
from subset_trainer.models import Classifier
from subset_trainer.training import loop
from subset_trainer.training.averaging import MovingAverage
from subset_trainer.training.devices import Machine
from subset_trainer.training.place import Place
from subset_trainer.training.plan import Plan
from subset_trainer.training.reports import EpochReport
from subset_trainer.training.rounds import Data, NativeSelector
from subset_trainer.training.trainee import Trainee

CPU = Place(Machine(torch.device("cpu"), torch.float32))
EXAMPLES, VALIDATION, CLASSES = 90, 30, 3
SETTINGS = {
    "strategy": "rs2",
    "fraction": 0.5,
    "epochs": 5,
    "batch_size": 16,
    "learning_rate": 0.1,
    "augmentation": "none",
    "seed": 3,
}


def data(images: bool, examples: int, seed: int) -> MemoryDataset:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (examples,), generator=draw)
    if images:
        inputs = torch.randint(200, (examples, 3, 8, 8), generator=draw) + 20 * labels[:, None, None, None]
        return MemoryDataset(inputs.to(torch.uint8), labels)
    return MemoryDataset(torch.randn(examples, 5, generator=draw) + labels[:, None], labels)


def build(images: bool) -> Classifier:
    torch.manual_seed(0)
    if images:
        return models.build("cnn", (3, 8, 8), CLASSES, (0.5,) * 3, (0.25,) * 3)
    return models.build("mlp", (5,), CLASSES)


def run(
    images: bool, settings: dict[str, object], average: float = 0.0
) -> tuple[Classifier, MovingAverage | None, list[EpochReport]]:
    hp = parse({**SETTINGS, **settings})
    classifier = build(images)
    averaged = MovingAverage(classifier, average) if average else None
    training, validation = data(images, EXAMPLES, 0), data(images, VALIDATION, 1)
    strategy = subset_selection.create(hp.strategy)
    seen, plan = Data(training, validation), Plan.of(hp, EXAMPLES)
    selector = NativeSelector(strategy, classifier, seen, plan.budget, CPU)
    reports: list[EpochReport] = []
    loop.train(Trainee(classifier, hp, plan, CPU, averaged), seen, selector, plan, reports.append)
    return classifier, averaged, reports


class Watched(MemoryDataset):
    """Notes which examples were asked for, pass by pass."""

    def __init__(self, whole: MemoryDataset) -> None:
        super().__init__(whole.inputs, whole.labels)
        self.passes: list[list[int]] = []

    def batches(self, order: Sequence[torch.Tensor], device: torch.device) -> Iterator[torch.Tensor]:
        self.passes.append(torch.cat(list(order)).tolist())
        return super().batches(order, device)


@pytest.mark.parametrize("strategy", ["random", "rs2"])
def test_an_epoch_reads_its_subset_and_nothing_else(strategy: str) -> None:
    hp = parse({**SETTINGS, "strategy": strategy, "epochs": 3})
    classifier, training, validation = (
        build(True),
        Watched(data(True, EXAMPLES, 0)),
        data(True, VALIDATION, 1),
    )
    seen, plan = Data(training, validation), Plan.of(hp, EXAMPLES)
    selector = NativeSelector(subset_selection.create(strategy), classifier, seen, plan.budget, CPU)
    reports: list[EpochReport] = []
    loop.train(Trainee(classifier, hp, plan, CPU), seen, selector, plan, reports.append)
    chosen = [report.subset.indices.tolist() for report in reports if report.subset]
    assert len(training.passes) == 3
    for number, read in enumerate(training.passes):
        assert sorted(read) == sorted(chosen[min(number, len(chosen) - 1)])


def plain_run(images: bool) -> tuple[Classifier, list[float], list[float]]:
    """What SETTINGS ask for, written out; the mean loss of every epoch in training and in validation."""
    classifier = build(images)
    training, validation = data(images, EXAMPLES, 0), data(images, VALIDATION, 1)
    budget, epochs, steps_an_epoch = EXAMPLES // 2, 5, 3
    steps = epochs * steps_an_epoch
    for module in classifier.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = 0.5
    matrices = [p for p in classifier.parameters() if p.ndim > 1]
    vectors = [p for p in classifier.parameters() if p.ndim == 1]
    optimizer = torch.optim.SGD(
        [{"params": matrices, "weight_decay": 5e-4}, {"params": vectors, "weight_decay": 0}],
        lr=0.1,
        momentum=0.9,
        nesterov=True,
        fused=True,
    )
    chooses, shuffles = (torch.Generator().manual_seed(3 * 3 + purpose) for purpose in (0, 1))
    strategy = subset_selection.create("rs2")
    losses, validation_losses = [], []
    for epoch in range(epochs):
        subset = strategy.select(Pool(training.labels), Pool(validation.labels), budget, chooses).indices
        order = subset[torch.randperm(budget, generator=shuffles)]
        classifier.train()
        total = 0.0
        for step, batch in enumerate(order.tensor_split(steps_an_epoch)):
            at, rise = epoch * steps_an_epoch + step, 2  # 15% of the 15 steps
            factor = (
                (at + 1) / (rise + 1)
                if at < rise
                else 0.5 * (1 + math.cos(math.pi * (at - rise) / (steps - rise)))
            )
            for group in optimizer.param_groups:
                group["lr"] = 0.1 * factor
            each = F.cross_entropy(
                classifier(training.inputs[batch]),
                training.labels[batch],
                reduction="none",
                label_smoothing=0.1,
            )
            optimizer.zero_grad()
            torch.dot(each, torch.full((len(batch),), 1 / len(batch))).backward()
            optimizer.step()
            total += float(each.detach().sum())
        losses.append(total / budget)
        classifier.eval()
        with torch.no_grad():
            validation_losses.append(float(F.cross_entropy(classifier(validation.inputs), validation.labels)))
    return classifier, losses, validation_losses


@pytest.mark.parametrize("images", [False, True])
def test_the_loop_is_the_plain_one_to_the_last_bit(images: bool) -> None:
    classifier, _, reports = run(images, {})
    plain, losses, validation_losses = plain_run(images)
    for (name, weight), expected in zip(
        classifier.state_dict().items(), plain.state_dict().values(), strict=True
    ):
        assert torch.equal(weight, expected), name
    assert [report.train.loss for report in reports] == pytest.approx(losses, rel=1e-6)
    assert [report.validation.loss for report in reports] == pytest.approx(validation_losses, rel=1e-6)
    assert losses[-1] < losses[0]


def test_what_is_evaluated_is_the_average() -> None:
    classifier, average, reports = run(False, {}, average=0.9)
    _, _, plain = run(False, {})
    assert average is not None
    validation = data(False, VALIDATION, 1)

    def loss(model: Classifier) -> float:
        with torch.no_grad():
            return float(F.cross_entropy(model.eval()(validation.inputs), validation.labels))

    assert reports[-1].validation.loss == pytest.approx(loss(average.module), rel=1e-6)
    # Averaging changes nothing of what is trained.
    assert loss(classifier) == pytest.approx(plain[-1].validation.loss, rel=1e-6)
    assert reports[-1].validation.loss != pytest.approx(plain[-1].validation.loss, rel=1e-4)


def test_parts_of_a_batch_are_one_step() -> None:
    """Batch normalisation sees parts, so that the curves are near each other, not equal."""
    _, _, whole = run(False, {})
    _, _, parts = run(False, {"microbatch_size": 8})
    assert [r.samples_visited for r in whole] == [r.samples_visited for r in parts]
    assert parts[-1].train.loss == pytest.approx(whole[-1].train.loss, rel=0.25)
    assert parts[-1].train.loss != whole[-1].train.loss


def test_an_epoch_s_time_is_estimated_once_by_ten_steps_and_ten_seconds() -> None:
    pace = loop.Pace(1_000)
    said = [pace.step(100 + (0 if step == 0 else 50 + 0.5 * step)) for step in range(60)]
    # The first step took 50 s and does not count; ten seconds are twenty steps of the others.
    assert [step for step, sentence in enumerate(said) if sentence] == [21]
    assert said[21] == (
        "an epoch of 1,000 steps takes about 8 min, beside selection and evaluation: 20 steps took 10.0 s"
    )
    slow = loop.Pace(50)
    said = [slow.step(20.0 * step, (96, 64)) for step in range(50)]
    assert (said[11] or "").startswith(
        "an epoch of 50 steps with images of 96 x 64 pixels (image_size) takes about"
    )
    assert [step for step, sentence in enumerate(said) if sentence] == [11]
    assert "takes about 17 min" in (said[11] or "")
    quick = loop.Pace(50)
    assert not any(quick.step(0.1 * step) for step in range(50))


def test_the_estimate_is_in_the_log_of_the_first_epoch_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loop, "PACE_STEPS", 1)
    monkeypatch.setattr(loop, "PACE_SECONDS", 0.0)
    with caplog.at_level("INFO"):
        run(False, {})
    assert caplog.text.count("takes about") == 1
    assert "an epoch of 3 steps takes about " in caplog.text

"""What a device computes in its own arithmetic, beside the CPU in float64."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from subset_trainer import models
from subset_trainer.data import MemoryDataset
from subset_trainer.models import Classifier
from subset_trainer.training.augmentation import Augmentation
from subset_trainer.training.devices import Machine
from subset_trainer.training.evaluation import evaluate, look_at
from subset_trainer.training.place import Place

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
TOLERANCES = {torch.float32: 5e-3, torch.bfloat16: 5e-2}
"""Of ‖out − ref‖ / ‖ref‖; a GPU's float32 products have TF32's ten bits, bfloat16 has seven."""
EXAMPLES, CLASSES = 24, 10


@pytest.fixture
def images() -> Tensor:
    return torch.randint(
        256, (EXAMPLES, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@pytest.fixture
def labels() -> Tensor:
    return torch.arange(EXAMPLES) % CLASSES


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    return models.build("resnet18", (3, 32, 32), CLASSES, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def placed(classifier: Classifier, device: str, dtype: torch.dtype) -> tuple[Classifier, Machine]:
    machine = Machine(torch.device(device), dtype)
    there = copy.deepcopy(classifier)
    there.place(machine.device, machine.memory_format((32, 32)))
    return there, machine


def gradient(classifier: Classifier, machine: Machine, images: Tensor, labels: Tensor) -> Tensor:
    """Of all parameters in a row, after a forward pass in training mode."""
    classifier.train()
    with machine.autocast():
        logits = classifier(images.to(machine.device))
    F.cross_entropy(
        logits.to(torch.promote_types(logits.dtype, torch.float32)), labels.to(machine.device)
    ).backward()
    return torch.cat(
        [parameter.grad.flatten() for parameter in classifier.parameters() if parameter.grad is not None]
    )


def error(found: Tensor, reference: Tensor) -> float:
    return float((found.cpu().double() - reference).norm() / reference.norm())


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("device", DEVICES)
def test_logits_and_features_are_those_of_float64(
    device: str, dtype: torch.dtype, classifier: Classifier, images: Tensor
) -> None:
    exact = copy.deepcopy(classifier).double().eval()
    there, machine = placed(classifier.eval(), device, dtype)
    with torch.no_grad(), machine.autocast():
        logits, features = there.logits_and_features(images.to(device))
    with torch.no_grad():
        wanted_logits, wanted_features = exact.logits_and_features(images)
    assert wanted_logits.dtype == torch.float64
    assert error(logits, wanted_logits) < TOLERANCES[dtype]
    assert error(features, wanted_features) < TOLERANCES[dtype]


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_are_those_of_float64(
    device: str, classifier: Classifier, images: Tensor, labels: Tensor
) -> None:
    exact = copy.deepcopy(classifier).double()
    wanted = gradient(exact, Machine(torch.device("cpu"), torch.float32), images, labels)
    found = gradient(*placed(classifier, device, torch.float32), images, labels)
    # Eighteen layers and batch normalisation over 24 images carry TF32's rounding further than a forward pass does.
    assert error(found, wanted) < 2e-2


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["flip-crop", "crop"])
def test_augmentation_gives_every_device_the_same_bits(device: str, kind: str, images: Tensor) -> None:
    augmentation = Augmentation(kind, 0.3)
    chances = augmentation.draw(EXAMPLES, torch.Generator().manual_seed(1))
    here = augmentation.apply(images, chances)
    there = augmentation.apply(images.to(device), chances.to(device))
    assert not torch.equal(here, images)
    assert torch.equal(there.cpu(), here)


@pytest.mark.parametrize("device", DEVICES)
def test_an_evaluation_is_that_of_float64(
    device: str, classifier: Classifier, images: Tensor, labels: Tensor
) -> None:
    with torch.no_grad():
        logits = copy.deepcopy(classifier).double().eval()(images)
    score = evaluate(*_evaluated(classifier, device, images, labels))
    assert score.loss == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-3)
    pool, own = look_at(*_evaluated(classifier, device, images, labels))
    assert own.tolist() == list(range(EXAMPLES)) and pool.logits is not None
    assert error(pool.logits, logits) < TOLERANCES[torch.float32]
    assert pool.labels.tolist() == labels.tolist()


def _evaluated(
    classifier: Classifier, device: str, images: Tensor, labels: Tensor
) -> tuple[Classifier, MemoryDataset, Place]:
    there, machine = placed(classifier, device, torch.float32)
    return there, MemoryDataset(images, labels), Place(machine)

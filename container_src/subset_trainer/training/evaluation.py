"""What a model makes of a data set: its accuracy, and what selection needs to know of each example."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from subset_trainer.data import Dataset
from subset_trainer.models import Classifier
from subset_trainer.selection import Pool
from subset_trainer.training.devices import Machine
from subset_trainer.training.memory import Parts

BATCH = 512
BATCH_OF_IMAGES_ON_A_CPU = 64
"""What fits its caches: a tenth (ResNet-18) to a fifth (cnn) faster than the larger batch."""


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy in nats, and share of examples that are classified as labelled."""

    loss: float
    accuracy: float


def _in_order(dataset: Dataset, classifier: Classifier, machine: Machine) -> list[Tensor]:
    images_on_a_cpu = machine.device.type == "cpu" and classifier.mean is not None
    return list(torch.arange(len(dataset)).split(BATCH_OF_IMAGES_ON_A_CPU if images_on_a_cpu else BATCH))


@torch.inference_mode()
def evaluate(classifier: Classifier, dataset: Dataset, machine: Machine, flip: bool = False) -> Score:
    """Loss and accuracy in eval mode, without augmentation or label smoothing.

    Args:
        flip: whether an image's logits are the mean over it and its mirror image.
    """
    classifier.eval()
    loss = torch.zeros((), device=machine.device, dtype=torch.float64)
    correct = torch.zeros((), device=machine.device, dtype=torch.int64)
    order = _in_order(dataset, classifier, machine)
    parts = Parts()
    for indices, inputs in zip(order, dataset.batches(order, machine.device), strict=True):
        labels = dataset.labels[indices].to(machine.device, non_blocking=True)
        with machine.autocast():
            logits = parts.of(classifier, inputs)
            if flip:
                logits = (logits + parts.of(classifier, inputs.flip(3))) / 2
        loss += F.cross_entropy(logits.float(), labels, reduction="sum")
        correct += (logits.argmax(1) == labels).sum()
    return Score(float(loss) / len(dataset), int(correct) / len(dataset))


@torch.inference_mode()
def look_at(classifier: Classifier, dataset: Dataset, machine: Machine) -> Pool:
    """Logits and last-layer features of every example, in data order, on the device; memory 4·N·(C + D) bytes."""
    classifier.eval()
    logits_NC: Tensor | None = None
    features_ND: Tensor | None = None
    order = _in_order(dataset, classifier, machine)
    parts = Parts()
    for indices, inputs in zip(order, dataset.batches(order, machine.device), strict=True):
        with machine.autocast():
            logits, features = parts.of(classifier.logits_and_features, inputs)
        if logits_NC is None or features_ND is None:
            logits_NC = torch.empty(len(dataset), logits.shape[1], device=machine.device)
            features_ND = torch.empty(len(dataset), features.shape[1], device=machine.device)
        # Copying casts: selection computes in float32 whatever the model ran in.
        logits_NC[indices[0] : indices[-1] + 1] = logits
        features_ND[indices[0] : indices[-1] + 1] = features
    return Pool(dataset.labels.to(machine.device), logits_NC, features_ND)


@torch.no_grad()
def losses_in_eval_mode(classifier: Classifier, inputs: Tensor, labels: Tensor, machine: Machine) -> Tensor:
    """Cross-entropy of a batch of training, [B], without touching the statistics of batch normalisation; leaves the
    classifier in training mode."""
    classifier.eval()
    with machine.autocast():
        logits = Parts().of(classifier, inputs)
    classifier.train()
    return F.cross_entropy(logits.float(), labels, reduction="none")

"""The one place where the proof calls the trainer's insides: what changes there is followed here.

All else goes through `benchmarks.training`, `benchmarks.selection` and the `train` program.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - torch's habit
from torch import Tensor

from benchmarks import training as benchmark
from subset_trainer.config import Hyperparameters
from subset_trainer.data import MemoryDataset
from subset_trainer.training import optimizer
from subset_trainer.training.augmentation import Augmentation
from subset_trainer.training.devices import Machine
from subset_trainer.training.evaluation import look_at
from subset_trainer.training.place import Place


class Watched(MemoryDataset):
    """Reports when the first batch of each pass is handed over, and when the last one is."""

    moved: Callable[[bool], None]

    def batches(self, order: Sequence[Tensor], device: torch.device) -> Iterator[Tensor]:
        for number, batch in enumerate(super().batches(order, device), 1):
            if number == 1:
                self.moved(True)
            if number == len(order):
                self.moved(False)
            yield batch


class Step:
    """All that a step of the loop does on the device, over buffers that stay where they are: augment, normalise,
    forward, loss, backward, update, sums. The learning rate is a tensor, so that a captured step can follow a schedule.
    """

    def __init__(self, settings: benchmark.Settings, machine: Machine, data: benchmark.Data) -> None:
        self.machine = machine
        self.classifier = benchmark._classifier(settings, machine).train()
        self.optimizer = optimizer.make(self.classifier, Hyperparameters(), benchmark.LEARNING_RATE)
        rate = torch.tensor(benchmark.LEARNING_RATE, device=machine.device)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.augmentation = Augmentation("flip-crop")
        chances = self.augmentation.draw(settings.batch_size, torch.Generator().manual_seed(settings.seed))
        self.images = data.train.inputs[: settings.batch_size].to(machine.device)
        self.labels = data.train.labels[: settings.batch_size].to(machine.device)
        self.chances = chances.to(machine.device)
        self.weight = torch.full((settings.batch_size,), 1 / settings.batch_size, device=machine.device)
        self.network: Callable[[Tensor], Tensor] = self.classifier.network
        self.loss_sum = torch.zeros((), device=machine.device)
        self.correct = torch.zeros((), device=machine.device, dtype=torch.int64)

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        inputs = self.classifier.prepare(self.augmentation.apply(self.images, self.chances))
        with self.machine.autocast():
            logits = self.network(inputs)
        losses = F.cross_entropy(logits.float(), self.labels, reduction="none", label_smoothing=0.1)
        loss = torch.dot(losses, self.weight)
        loss.backward()
        self.optimizer.step()
        self.loss_sum += loss.detach()
        self.correct += (logits.detach().argmax(1) == self.labels).sum()


def embed(settings: benchmark.Settings, machine: Machine, data: MemoryDataset) -> Callable[[], None]:
    """A pass that keeps logits and features of all examples, as a selection makes it."""
    classifier = benchmark._classifier(settings, machine)

    def work() -> None:
        look_at(classifier, data, Place(machine))

    return work

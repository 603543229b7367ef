"""The model that a run trains, and all that a step changes."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from subset_trainer.config import Hyperparameters
from subset_trainer.data import Dataset
from subset_trainer.models import Classifier
from subset_trainer.training import optimizer
from subset_trainer.training.augmentation import Augmentation
from subset_trainer.training.averaging import MovingAverage
from subset_trainer.training.batches import Batch
from subset_trainer.training.evaluation import Score, evaluate, losses_in_eval_mode
from subset_trainer.training.gradients import Gradients
from subset_trainer.training.place import Place
from subset_trainer.training.plan import Plan
from subset_trainer.training.record import Record
from subset_trainer.training.state import Stateful


class Trainee:
    """A classifier with its optimizer, loss scaler, average and record.

    To be made after what copies the classifier: batch normalisation's memory is set to the length of this run.

    Args:
        classifier: trained in place.
        average: follows the classifier, and is then what is evaluated.
        record: keeps what training sees of each example; default: a new one.
    """

    def __init__(
        self,
        classifier: Classifier,
        hp: Hyperparameters,
        plan: Plan,
        place: Place,
        average: MovingAverage | None = None,
        record: Record | None = None,
    ) -> None:
        shorten_batch_norm_memory(classifier, plan.steps)
        machine = place.machine
        self.classifier, self.average, self.place = classifier, average, place
        self.record = record or Record(plan.examples)
        self._optimizer = optimizer.make(classifier, hp, plan.learning_rate)
        self._scaler = torch.amp.GradScaler(machine.device.type, enabled=machine.needs_loss_scaling)
        self._gradients = Gradients(
            place.ranks.wrap(classifier),
            place,
            self._scaler,
            hp.label_smoothing,
            hp.microbatch_size,
            classifier.objective,
        )
        self.augmentation = (
            Augmentation(hp.augmentation, hp.cutout, classifier.mean_colour)
            if classifier.takes_images
            else None
        )
        self._flip = hp.test_time_flip and classifier.takes_images

    @property
    def evaluated(self) -> Classifier:
        """What is evaluated and saved: the average where there is one."""
        return self.average.module if self.average else self.classifier

    def modules(self) -> Mapping[str, Stateful]:
        """Name in a checkpoint → what has a state."""
        modules: dict[str, Stateful] = {
            "record": self.record,
            "classifier": self.classifier,
            "optimizer": self._optimizer,
            "scaler": self._scaler,
            "gradients": self._gradients,
        }
        return {**modules, "average": self.average} if self.average else modules

    def step(self, batch: Batch, rate: float) -> tuple[Tensor, Tensor]:
        """One update at this learning rate.

        Returns:
            Of this process's examples, each one's loss and whether it was classified as labelled; on the device.
        """
        losses, hits = self._gradients.of(
            batch.inputs, batch.filled(batch.labels), batch.filled(batch.weights), batch.total
        )
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self.average:
            self.average.update_parameters(self.classifier)
        return batch.share.counted(losses), batch.share.counted(hits)

    def losses(self, batch: Batch) -> Tensor:
        """[own] in evaluation mode, of this process's share of a batch of candidates."""
        return losses_in_eval_mode(self.classifier, batch.inputs, batch.filled(batch.labels), self.place)

    def evaluate(self, dataset: Dataset) -> Score:
        """Raises Terminated where SIGTERM has reached one of several processes."""
        return evaluate(self.evaluated, dataset, self.place, self._flip)


def shorten_batch_norm_memory(classifier: nn.Module, steps: int) -> None:
    """Let batch normalisation's running statistics follow faster in a run of few updates.

    At torch's momentum of 0.1 they look back over some thirty batches. A small subset makes hardly more updates than
    that in all, so that evaluation would use statistics of weights long gone.
    """
    momentum = min(0.5, max(0.1, 20 / steps))
    for module in classifier.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum == 0.1:
            module.momentum = momentum

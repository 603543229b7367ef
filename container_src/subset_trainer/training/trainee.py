"""The model that a run trains, with everything that a training step changes."""

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
from subset_trainer.training.evaluation import evaluate, losses_in_eval_mode, predict
from subset_trainer.training.gradients import Gradients
from subset_trainer.training.measures import Predictions, Score
from subset_trainer.training.place import Place
from subset_trainer.training.plan import Plan
from subset_trainer.training.record import Record
from subset_trainer.training.state import Stateful


class Trainee:
    """A classifier with its optimizer, loss scaler, weight average and record.

    Creating it adapts the momentum of the classifier's batch normalisation to the length of this run, so copies of the
    classifier must be made before.

    Args:
        classifier: the model, trained in place.
        hp: the run's hyperparameters.
        plan: the plan of this training.
        place: the device and the processes.
        average: moving average of the classifier's weights; if given, it is evaluated in place of the classifier.
        record: stores what training observes of each example; default: a new one.
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
        self._optimizer = optimizer.make(classifier, hp, plan.learning_rate, plan.effective_batch_size)
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
            Augmentation(
                hp.augmentation,
                hp.cutout,
                classifier.mean_colour,
                hp.augmentation_reach,
                hp.flip == "alternating",
            )
            if classifier.takes_images
            else None
        )
        self._flip = hp.test_time_flip and classifier.takes_images

    @property
    def evaluated(self) -> Classifier:
        """The model that is evaluated and saved: the average, if there is one."""
        return self.average.module if self.average else self.classifier

    def modules(self) -> Mapping[str, Stateful]:
        """Name in a checkpoint → object with state."""
        modules: dict[str, Stateful] = {
            "record": self.record,
            "classifier": self.classifier,
            "optimizer": self._optimizer,
            "scaler": self._scaler,
            "gradients": self._gradients,
        }
        return {**modules, "average": self.average} if self.average else modules

    def step(self, batch: Batch, rate: float) -> tuple[Tensor, Tensor]:
        """Make one update at this learning rate.

        Returns:
            the losses of this process's examples, and the model's choices (above 0: as labelled); on the device.
        """
        losses, choices = self._gradients.of(
            batch.inputs, batch.filled(batch.labels), batch.filled(batch.weights), batch.total
        )
        optimizer.set_rate(self._optimizer, rate)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self.average:
            self.average.update_parameters(self.classifier)
        return batch.share.counted(losses), batch.share.counted(choices)

    def losses(self, batch: Batch) -> Tensor:
        """The losses of this process's share of a batch of candidates, [own], in evaluation mode."""
        return losses_in_eval_mode(self.classifier, batch.inputs, batch.filled(batch.labels), self.place)

    def evaluate(self, dataset: Dataset) -> Score:
        """Evaluate the model on a data set, over all processes.

        Raises:
            Terminated: SIGTERM has reached one of several processes.
        """
        return evaluate(self.evaluated, dataset, self.place, self._flip)

    def predict(self, dataset: Dataset) -> tuple[Score, Predictions | None]:
        """As :meth:`evaluate`, with the predictions for each example; None where the labels are no classes."""
        return predict(self.evaluated, dataset, self.place, self._flip)


def shorten_batch_norm_memory(classifier: nn.Module, steps: int) -> None:
    """Increase the momentum of batch normalisation's running statistics for a run with few updates.

    With torch's momentum of 0.1, the statistics average over about thirty batches. A run on a small subset makes hardly
    more updates than that in total, so evaluation would use statistics of outdated weights.
    """
    momentum = min(0.5, max(0.1, 20 / steps))
    for module in classifier.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum == 0.1:
            module.momentum = momentum

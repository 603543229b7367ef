"""A frozen backbone: its outputs are computed once for every example, and only what follows it trains, on them.

The outputs take the place of a data set's inputs, so that training, evaluation, selection and the report read them
without another pass through the backbone. Before a linear layer they are standardised: embeddings of texts are small
and have a common direction, which makes learning rates that suit other layers much too low. The saved layer takes the
outputs as they are.
"""

import copy
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from subset_selection.embedding import collect
from subset_selection.progress import with_progress
from subset_selection.storage import Embeddings
from subset_trainer.data import Dataset, MemoryDataset
from subset_trainer.data.hosts import ShardedDataset
from subset_trainer.models import Classifier
from subset_trainer.training.embeddings import take
from subset_trainer.training.evaluation import BATCH
from subset_trainer.training.out_of_memory import Parts
from subset_trainer.training.place import Place

logger = logging.getLogger(__name__)
ROWS_AT_ONCE = 1 << 14
LEAST_DEVIATION = 1e-6
"""Relative to the mean deviation; outputs that vary less do not vary."""


class Tail(nn.Module):
    """What follows a backbone, of its outputs [B, F] in any precision → logits [B, C]."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, outputs: Tensor) -> Tensor:
        logits: Tensor = self.layers(outputs.float())
        return logits


@dataclass(frozen=True)
class Scale:
    """The outputs' mean and standard deviation, [F] float32 each; constant ones have a deviation of 1."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, outputs_NF: Tensor, place: Place, split: bool) -> "Scale":
        """Args: outputs_NF: on the CPU. split: whether each process has others of all examples."""
        count = torch.tensor(float(len(outputs_NF)), dtype=torch.float64)
        parts = outputs_NF.split(ROWS_AT_ONCE)
        width = outputs_NF.shape[1]

        def total(values: Iterable[Tensor]) -> Tensor:
            found = sum(values, torch.zeros(width, dtype=torch.float64))
            return place.ranks.total(found.to(place.device)).cpu() if split else found

        count = place.ranks.total(count.to(place.device)).cpu() if split else count
        mean = total(part.double().sum(0) for part in parts) / count
        deviation = (total((part.double() - mean).square().sum(0) for part in parts) / count).sqrt()
        varies = deviation > LEAST_DEVIATION * deviation.mean()
        return cls(mean.float(), torch.where(varies, deviation, 1.0).float())

    def apply(self, outputs_NF: Tensor) -> None:
        """Standardise rows on the CPU, in place."""
        for part in outputs_NF.split(ROWS_AT_ONCE):
            part.copy_((part.float() - self.mean) / self.deviation)


@dataclass(frozen=True)
class Frozen:
    """A classifier, divided into its frozen backbone and what follows."""

    whole: Classifier
    scale: Scale | None
    """None: the layers that follow take the outputs as they are."""

    def alone(self) -> Classifier:
        """What follows the backbone, as a classifier of its outputs; a copy."""
        layers = copy.deepcopy(self.whole.tail)
        if self.scale is not None:
            assert isinstance(layers, nn.Linear)
            mean, deviation = (
                each.to(layers.weight.device) for each in (self.scale.mean, self.scale.deviation)
            )
            with torch.no_grad():
                layers.bias.add_(layers.weight @ mean)
                layers.weight.mul_(deviation)
        return Classifier(Tail(layers), objective=self.whole.objective)

    def joined(self, trained: Classifier) -> Classifier:
        """The whole classifier, with what was trained of :meth:`alone`."""
        network, tail = trained.network, self.whole.tail
        assert isinstance(network, Tail)
        tail.load_state_dict(network.layers.state_dict())
        if self.scale is not None:
            assert isinstance(tail, nn.Linear)
            mean, deviation = (
                each.to(tail.weight.device) for each in (self.scale.mean, self.scale.deviation)
            )
            with torch.no_grad():
                tail.weight.div_(deviation)
                tail.bias.sub_(tail.weight @ mean)
        return self.whole.eval()


def divide(classifier: Classifier, training: Tensor, place: Place, split: bool) -> Frozen:
    """Divide a classifier whose backbone is frozen.

    Args:
        training: [N, F] what came of the training examples; on the CPU.
        split: whether each process has others of them.
    """
    tail = classifier.tail
    linear = isinstance(tail, nn.Linear) and tail.bias is not None
    return Frozen(classifier, Scale.of(training, place, split) if linear else None)


@torch.no_grad()
def outputs(classifier: Classifier, dataset: Dataset, place: Place) -> Tensor:
    """The backbone's outputs for all examples [N, F], on every process and on the CPU; of a sharded data set, for this
    process's own. Large ones are in float16; see :mod:`~subset_trainer.training.embeddings`.

    Raises:
        Terminated: SIGTERM has reached one of several processes.
        UserError: neither memory nor the disk has enough space.
    """
    machine, ranks = place.machine, place.ranks
    classifier.eval()
    own = torch.arange(len(dataset))[ranks.places(len(dataset), dataset.owners)]
    # Examples of similar length together, and the longest first, so that memory runs out at once if it does.
    lengths = [classifier.lengths(each) for each in dataset.batches(own.split(BATCH), torch.device("cpu"))]
    order = torch.cat(lengths).argsort(descending=True, stable=True) if lengths else own
    parts, cpu = Parts(), torch.device("cpu")

    def results() -> Iterator[list[Tensor]]:
        batches = ranks.until_asked(dataset.batches(own[order].split(BATCH), machine.device))
        for inputs in with_progress(batches, len(own), "the frozen backbone, examples read", len):
            with machine.autocast():
                made = parts.of(classifier.embedded, inputs)
            yield [made]

    found = collect(
        results(), lambda *widths: Embeddings(len(own), widths, cpu, len(dataset), ranks.allocate)
    )
    ranks.check()
    width = max(ranks.everyones(0 if found is None else found.columns[0].shape[1]))
    column = (
        torch.zeros(0, width) if found is None else take(found.columns[0], order.argsort(), ranks.local_size)
    )
    return column if dataset.owners is not None else ranks.whole(column, own, len(dataset))


def embedded(dataset: Dataset, outputs: Tensor, rank: int) -> Dataset:
    """The data set with a backbone's outputs in place of its inputs.

    Args:
        outputs: as the function :func:`outputs` returns them.
        rank: this process's.
    """
    if dataset.owners is None:
        return MemoryDataset(outputs, dataset.labels)
    own = dataset.owners == rank
    rows = torch.full((len(dataset),), -1)
    rows[own] = torch.arange(len(outputs))
    return ShardedDataset(MemoryDataset(outputs, dataset.labels[own]), dataset.labels, dataset.owners, rows)

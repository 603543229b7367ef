"""The selection of a training: the library's selectors on the trainer's data, model and processes."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from subset_selection import NotFiniteError, Pool, Strategy, Subset, distributed
from subset_selection.selectors import Asking as Asking
from subset_selection.selectors import Choice as Choice
from subset_selection.selectors import FilterSelector as FilterSelector
from subset_selection.selectors import PoolSelector, Shard
from subset_selection.selectors import Selector as Selector
from subset_selection.selectors import SoftPruningSelector as SoftPruningSelector
from subset_selection.selectors import checked as checked
from subset_selection.selectors import everything as everything
from subset_trainer.data import Dataset
from subset_trainer.errors import UserError
from subset_trainer.models import Classifier
from subset_trainer.training.evaluation import look_at
from subset_trainer.training.place import Place


@dataclass(frozen=True)
class Data:
    """The data sets of a training."""

    train: Dataset
    validation: Dataset
    weights: Tensor | None = None
    """[N] float32: a factor for each training example's loss, in addition to the weight from selection; None: all 1."""


@dataclass(frozen=True)
class Examples:
    """A data set and the model that is evaluated on it; see :class:`subset_selection.selectors.Source`."""

    dataset: Dataset
    classifier: Classifier
    place: Place

    def __len__(self) -> int:
        return len(self.dataset)

    def pool(self, positions: Tensor | None, look: bool) -> Shard:
        """This process's part of some examples as a pool, and their indices among the positions.

        Raises:
            Terminated: SIGTERM has reached one of several processes.
            UserError: neither memory nor the disk has enough space.
        """
        dataset = self.dataset if positions is None else self.dataset.subset(positions)
        if look:
            return look_at(self.classifier, dataset, self.place)
        own = torch.arange(len(dataset))[self.place.ranks.places(len(dataset), dataset.owners)]
        return Pool(dataset.labels[own]), own


class NativeSelector(PoolSelector):
    """Runs a strategy of :mod:`subset_selection` on the model's current outputs.

    If there are several processes, the first one selects for all and holds the strategy's state.

    Args:
        strategy: the strategy of one run.
        classifier: the model whose outputs the strategy uses.
        data: the examples to select from.
        budget: K.
        place: the device and the processes.
        candidates_per_pick: see :class:`~subset_selection.selectors.PoolSelector`.
    """

    def __init__(
        self,
        strategy: Strategy,
        classifier: Classifier,
        data: Data,
        budget: int,
        place: Place,
        candidates_per_pick: float | None = None,
    ) -> None:
        train, validation = (Examples(each, classifier, place) for each in (data.train, data.validation))
        choose = partial(distributed.select, place.ranks)
        super().__init__(strategy, train, validation, budget, candidates_per_pick, choose)
        if strategy.needs_last_layer:
            classifier.head  # noqa: B018 - raises before training if the network has no last linear layer

    def select(self, generator: torch.Generator, look: bool = True) -> Subset:
        """See :class:`Asking`.

        Raises:
            UserError: the model's outputs are not finite.
            Terminated: on every process, if SIGTERM has reached one of several.
        """
        try:
            return super().select(generator, look)
        except NotFiniteError as error:
            raise UserError(f"training diverged: {error}; learning_rate is likely too high") from error

"""A data set of one's own as the source of a selector."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from subset_selection.embedding import Evaluation
from subset_selection.items import Fields, as_labels
from subset_selection.processes import Processes
from subset_selection.types import Pool


@dataclass(frozen=True)
class Reading:
    """How a pass reads the data: as a ``torch.utils.data.DataLoader`` with these options."""

    batch_size: int = 512
    """Number of examples that the model evaluates at a time."""
    num_workers: int = 0
    """Number of processes that read; 0: this one."""
    collate_fn: Callable[[list[Any]], Any] | None = None
    """Items → a batch; default: torch's."""
    pin_memory: bool = False
    """Whether batches are copied to page-locked memory, from where a GPU takes them faster."""

    def loader(self, dataset: Any, batches: Sequence[list[int]]) -> DataLoader[Any]:
        """A loader of these batches."""
        # A generator of its own: the loader's seed for its workers is not drawn from torch's generator.
        return DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=self.num_workers,
            collate_fn=self.collate_fn,
            pin_memory=self.pin_memory,
            generator=torch.Generator(),
        )


class Examples:
    """A map-style data set, and how a model is evaluated on it; see :class:`~subset_selection.selectors.Source`.

    Args:
        dataset: N items.
        evaluation: None: for strategies that need no model.
        fields: where the label of an item is.
        reading: how a pass reads the data.
        processes: each evaluates its share.
        labels: [N] all labels; None: they are read with the items.
        need_labels: whether pools need labels where the model is not evaluated.
        what: the examples, in words.
    """

    def __init__(
        self,
        dataset: Any,
        evaluation: Evaluation | None,
        fields: Fields,
        reading: Reading,
        processes: Processes,
        labels: Any = None,
        need_labels: bool = False,
        what: str = "training",
    ) -> None:
        self._dataset, self._evaluation, self._fields = dataset, evaluation, fields
        self._reading, self._processes, self._what = reading, processes, what
        self._labels = None if labels is None else as_labels(labels).cpu()
        self._need_labels = need_labels
        if self._labels is not None and len(self._labels) != len(dataset):
            raise ValueError(f"labels has {len(self._labels)} entries for {len(dataset)} {what} examples")

    def __len__(self) -> int:
        return len(self._dataset)

    def pool(self, positions: Tensor | None, look: bool) -> tuple[Pool, Tensor]:
        """See :class:`~subset_selection.selectors.Source`."""
        count = len(self) if positions is None else len(positions)
        if not look:
            own = torch.arange(count)[self._processes.share(count)]
            labels = self._all_labels()
            return Pool(labels[own if positions is None else positions[own]]), own
        assert self._evaluation is not None
        # If there are several processes, the batches, and hence their results, equal those of a single one.
        batches = [part for part in torch.arange(count).split(self._reading.batch_size) if len(part)]
        mine = batches[self._processes.share(len(batches))]
        own = torch.cat(mine) if mine else torch.empty(0, dtype=torch.int64)
        rows = [(batch if positions is None else positions[batch]).tolist() for batch in mine]
        self._processes.same_buffers(self._evaluation.model)
        pool = self._evaluation.pool(
            self._reading.loader(self._dataset, rows),
            len(own),
            count,
            what=f"evaluating {self._what} examples",
            everyones=self._processes.everyones,
        )
        if positions is None and self._processes.size == 1:
            self._labels = pool.labels.cpu()
        return pool, own

    def losses_by(self, evaluation: Evaluation) -> Tensor:
        """Another model's loss on every example, [N], on its device and on every process."""
        other = copy.copy(self)
        other._evaluation = evaluation
        pool, own = other.pool(None, look=True)
        return self._processes.whole(pool.losses(), own.to(pool.device), len(self))

    def _all_labels(self) -> Tensor:
        """The labels of all examples [N]; zeros where nothing reads them."""
        if self._labels is None and self._need_labels:
            every = torch.arange(len(self)).split(self._reading.batch_size)
            read = self._reading.loader(self._dataset, [batch.tolist() for batch in every])
            self._labels = torch.cat([self._fields.split(batch)[1] for batch in read])
        return torch.zeros(len(self), dtype=torch.int64) if self._labels is None else self._labels

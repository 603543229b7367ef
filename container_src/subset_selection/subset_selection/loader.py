"""A data loader of a subset that is chosen again as the model learns."""

import inspect
from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from subset_selection.embedding import evaluating
from subset_selection.items import taken
from subset_selection.processes import Processes
from subset_selection.sampler import Options, Selection, SubsetSampler, Within
from subset_selection.schedule import batch_count
from subset_selection.source import Reading
from subset_selection.types import BatchFilter


class LoaderOptions(Options, total=False):
    """The options of :class:`SubsetLoader`: those of a selection, and those of ``torch.utils.data.DataLoader``."""

    drop_last: bool
    num_workers: int
    collate_fn: Any
    pin_memory: bool
    timeout: float
    worker_init_fn: Any
    multiprocessing_context: Any
    generator: Any
    prefetch_factor: int | None
    persistent_workers: bool
    pin_memory_device: str
    in_order: bool


class _Batches:
    """The batch sampler: this process's part of each of the epoch's remaining batches."""

    def __init__(self) -> None:
        self.batches: list[Tensor] = []
        self.count = 0
        self.begun = False

    def __iter__(self) -> Iterator[list[int]]:
        if not self.begun:  # They would be those of the epoch before, or none.
            raise RuntimeError(
                "a SubsetLoader's batches belong to an epoch that it begins itself: iterate over the SubsetLoader, not "
                "over a loader that was made of it (as by skip_first_batches; load_state_dict resumes within an epoch)"
            )
        return (batch.tolist() for batch in self.batches)

    def __len__(self) -> int:
        return self.count


class SubsetLoader(DataLoader[Any]):
    """A ``DataLoader`` that chooses which examples each epoch reads::

        loader = SubsetLoader(train_set, model, validation=validation_set, strategy="glister", batch_size=128)
        for epoch in range(30):
            for inputs, labels, weights in loader:
                losses = cross_entropy(model(inputs), labels, reduction="none")
                (losses @ weights / weights.sum()).backward()

    Each ``iter(loader)`` is an epoch. Before it, if a selection is due, the model is evaluated in eval mode on all
    examples, in data order, and the strategy chooses. A batch has what the data set's items collate to, and the weights
    [B] float32 of its examples: after the last field of a tuple, under ``weights`` in a dict.

    The sizes of an epoch's batches differ by one at most, so that none has a single example, which batch normalisation
    does not accept; ``drop_last=True`` leaves out examples, so that all have ``batch_size``. Of several processes, each
    yields its part of each batch, of ``batch_size`` examples.

    Args:
        dataset: N items, map-style: tuples (input, label), dicts or Hugging Face rows.
        model: the model in training, for strategies that evaluate it.
        options: see :class:`~subset_selection.sampler.Options`, and ``torch.utils.data.DataLoader``. ``batch_size``,
            by default 1, is the number of examples of a step in each process.

    Raises:
        ValueError: an option is not understood, or the strategy needs what is not given.
    """

    def __init__(
        self, dataset: Any, model: nn.Module | None = None, **options: Unpack[LoaderOptions]
    ) -> None:
        batch_size = options.pop("batch_size", 1)
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size!r}: expected a whole number of at least 1")
        known = inspect.signature(DataLoader.__init__).parameters
        own: dict[str, Any] = {
            name: value for name, value in options.items() if name in Options.__annotations__
        }
        given: dict[str, Any] = {name: value for name, value in options.items() if name not in own}
        unknown = [
            name for name in given if name not in known or name in ("sampler", "batch_sampler", "dataset")
        ]
        if unknown:
            raise ValueError(
                f"{', '.join(unknown)}: no such option; there are DataLoader's and {', '.join(Options.__annotations__)}"
            )
        if own.get("reading") is None:
            shared = ("num_workers", "collate_fn", "pin_memory")
            own["reading"] = Reading(**{name: given[name] for name in shared if name in given})
        own["batch_size"] = batch_size * Processes.current().size
        self.subsets = SubsetSampler(dataset, model, **own)
        """The sampler, which chooses."""
        self._size, self._drop_last = batch_size, bool(given.pop("drop_last", False))
        self._batches = _Batches()
        self._accelerated = False
        self.end_of_dataloader, self.remainder = False, 0
        self._current: Tensor | None = None
        super().__init__(dataset, batch_sampler=self._batches, **given)
        self._batches.count = self._steps()

    def __iter__(self) -> Any:
        """Begin an epoch; see :meth:`SubsetSampler.begin <subset_selection.sampler.SubsetSampler.begin>`."""
        subsets, processes = self.subsets, self.subsets._processes
        within = subsets.begin()
        steps, choice = self._steps(), within.choice
        read = len(within.read.indices)
        used = (
            min(read, steps * self._size * processes.size) if self._drop_last and not choice.filter else read
        )

        def mine(column: Tensor) -> list[Tensor]:
            parts = column[:used].tensor_split(steps)[within.done :]
            return [part[processes.share(len(part))] for part in parts]

        self._batches.batches, weights = mine(within.read.indices), mine(within.read.weights)
        self._batches.count = steps
        kept: list[int] = []
        if choice.filter is not None:
            kept = [len(part) for part in torch.arange(choice.size).tensor_split(steps)][within.done :]
        self._batches.begun = True
        loaded = super().__iter__()
        self._batches.begun = False

        def batches() -> Iterator[Any]:
            for step, batch in enumerate(loaded):
                indices, weight = self._batches.batches[step], weights[step]
                if choice.filter is not None:
                    rows = self._kept(choice.filter, batch, indices, kept[step])
                    batch, indices, weight = taken(batch, rows), indices[rows], weight[rows]
                self._current = indices
                within.done += 1
                within.complete = within.done == steps
                yield _with_weights(batch, weight.pin_memory() if self.pin_memory else weight)
            within.ended = True
            subsets.share_losses()

        return self._as_accelerate_expects(within, batches()) if self._accelerated else batches()

    def __len__(self) -> int:
        """The number of batches of the epoch that has begun, or of the coming one."""
        return self._steps()

    def observe(self, losses: Tensor) -> None:
        """Record the losses of the batch that was yielded last, for strategies that need them (InfoBatch); others
        ignore it.

        Args:
            losses: [B], each example's own, without its weight.

        Raises:
            ValueError: there is not one loss for each example.
        """
        if self._current is None:
            raise ValueError("observe: no batch was yielded yet")
        self.subsets.observe(self._current, losses)

    @property
    def last_selection(self) -> Selection | None:
        """What the latest selection did: epoch, seconds, subset and note; None before the first."""
        return self.subsets.last_selection

    @property
    def epoch(self) -> int:
        """The number of complete epochs: where a loop over the epochs goes on after ``load_state_dict``."""
        return self.subsets.epoch

    @property
    def epochs(self) -> int | None:
        """The number of epochs of the run, which a warm start makes fewer; None: not known."""
        return self.subsets.epochs

    def state_dict(self) -> dict[str, Any]:
        """A copy of the state, for ``torch.save``; also within an epoch, whose later batches a resumed run yields.

        Of several processes, the first one's state is that of all.
        """
        return {"subsets": self.subsets.state_dict(), "steps": self._steps()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned, in a loader with the same options. The next ``iter`` resumes the epoch
        that had begun, if it is not complete.

        Raises:
            ValueError: the state belongs to other options.
        """
        self.subsets.load_state_dict(state["subsets"])
        within = self.subsets._within
        if within is not None and not within.complete and state["steps"] != self._steps():
            raise ValueError(
                f"the state is within an epoch of {state['steps']} steps, which has {self._steps()} here: expected the "
                "same batch_size, drop_last and number of processes"
            )
        self._batches.count = self._steps()

    # Accelerate

    @property
    def _is_accelerate_prepared(self) -> bool:
        """Asked by Accelerate's ``prepare``, which leaves such a loader as it is: each process yields its part of a
        batch already, and a loader made of this one's parts would not select."""
        self._accelerated = True
        return True

    def _as_accelerate_expects(self, within: Within, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches on the accelerator's device. ``accelerate`` hears of the last one, because it ends an
        accumulation of gradients."""
        state, utils = import_module("accelerate.state"), import_module("accelerate.utils")
        gradients, device = state.GradientState(), state.PartialState().device
        self.end_of_dataloader = False
        gradients._add_dataloader(self)
        try:
            for batch in batches:
                self.end_of_dataloader = within.complete
                yield utils.send_to_device(batch, device, non_blocking=self.pin_memory)
        finally:
            gradients._remove_dataloader(self)

    def _steps(self) -> int:
        size, processes = self.subsets.size, self.subsets._processes.size
        if self._drop_last or self._size == 1:
            return max(1, size // (self._size * processes))
        return batch_count(size, self._size, processes)

    def _kept(self, by: BatchFilter, batch: Any, indices: Tensor, count: int) -> Tensor:
        """The positions of the candidates that a filter keeps, on the CPU."""
        evaluation = self.subsets.evaluation
        assert evaluation is not None
        with evaluating(evaluation.model):
            logits, _, labels = evaluation.of(batch)
            losses = evaluation.loss.losses(logits, labels.to(logits.device))
            return by.keep(losses, indices.to(losses.device), count).cpu()


def _with_weights(batch: Any, weights: Tensor) -> Any:
    if isinstance(batch, Mapping):
        if "weights" in batch:
            raise ValueError(
                "an item has a field 'weights', under which a batch has those of the selection: rename it"
            )
        if isinstance(batch, MutableMapping):  # of its own class, such as Hugging Face's BatchEncoding
            batch["weights"] = weights
            return batch
        return {**batch, "weights": weights}
    if isinstance(batch, tuple | list):
        return (*batch, weights)
    raise ValueError(
        f"a batch is a {type(batch).__name__}: expected a tuple (input, label) or a dict with both"
    )

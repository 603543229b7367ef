"""A data loader of a subset that is chosen again as the model learns."""

import inspect
from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from subset_selection.embedding import evaluating
from subset_selection.filtering import filtered
from subset_selection.processes import Processes
from subset_selection.sampler import Options, Selection, SubsetSampler, Within
from subset_selection.schedule import batch_count
from subset_selection.source import Reading
from subset_selection.types import BatchFilter


class LoaderOptions(Options, total=False):
    """The options of :class:`SubsetLoader`: those of a selection, and those of ``torch.utils.data.DataLoader``."""

    indices: bool
    """Whether a batch also has its examples' indices [B] int64; default False. For :meth:`SubsetLoader.observe` where
    something fetches batches before the loop needs them."""
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

    def __init__(self, sampler: SubsetSampler) -> None:
        self.sampler = sampler  # where trainers look for set_epoch
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
                loader.mean(losses).backward()

    Each loop over it is an epoch. Before the first batch, if a selection is due, the model is evaluated in eval mode
    on all examples, in data order, and the strategy chooses. A batch has what the data set's items collate to, and
    the weights [B] float32 of its examples: after the last field of a tuple, under ``weights`` in a dict.

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
        self._indices = bool(options.pop("indices", False))
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
                f"{', '.join(unknown)}: no such option; there are DataLoader's, indices, and "
                + ", ".join(Options.__annotations__)
            )
        if own.get("reading") is None:
            shared = ("num_workers", "collate_fn", "pin_memory")
            own["reading"] = Reading(**{name: given[name] for name in shared if name in given})
        self._size, self._drop_last = batch_size, bool(given.pop("drop_last", False))
        self._model, self._own = model, own
        self.subsets = self._sampler(dataset)
        """The sampler, which chooses."""
        self._batches = _Batches(self.subsets)
        self._ready: Within | None = None
        self._accelerated = False
        self.end_of_dataloader, self.remainder = False, 0
        self._current: tuple[Within, Tensor, Tensor] | None = None
        self._own_generator = torch.Generator() if given.get("generator") is None else None
        given["generator"] = given.get("generator") or self._own_generator
        super().__init__(dataset, batch_sampler=self._batches, **given)
        self._place()

    def _seed_workers(self, epoch: int) -> None:
        """Seed what a plain loader draws from torch's generator: the same in an epoch that is resumed, and without a
        draw that would shift the model's own (dropout) in it."""
        if self._own_generator is not None:
            seed, rank = self.subsets._seed, self.subsets._processes.rank
            # A generator heeds 32 bits.
            self._own_generator.manual_seed((seed * 1_000_003 + epoch * 8_191 + rank) % 2**32)

    def _sampler(self, dataset: Any) -> SubsetSampler:
        size = self._size * Processes.current().size
        return SubsetSampler(dataset, self._model, **{**self._own, "batch_size": size})

    def _place(self) -> None:
        """Follow ``torch.distributed``: a trainer may initialise it between the making of a loader and its use."""
        now, own = Processes.current(), self.subsets._processes
        if (now.rank, now.size) != (own.rank, own.size) and not self.subsets._begun:
            self.subsets = self._batches.sampler = self._sampler(self.dataset)
        # DataLoader does not let its own be replaced, which it does not use beside a batch sampler. Trainers look here
        # whether a loader is ready for several processes.
        self.__dict__["sampler"] = self.subsets
        self._batches.count = self._steps()

    def __iter__(self) -> Any:
        """An epoch, which begins with its first batch; see :meth:`begin`."""
        self._place()
        return self._as_accelerate_expects(self._epoch()) if self._accelerated else self._epoch()

    def begin(self) -> None:
        """Begin the coming epoch before its first batch is read: ``len`` and ``last_selection`` are the epoch's then.
        The next loop yields it. See :meth:`SubsetSampler.begin <subset_selection.sampler.SubsetSampler.begin>`."""
        if self._ready is None:
            self._place()
            self._ready = self.subsets.begin()
            self._batches.count = self._steps()

    def _epoch(self) -> Iterator[Any]:
        self.begin()
        within, self._ready = self._ready, None
        assert within is not None
        processes, steps, choice = self.subsets._processes, self._steps(), within.choice
        read = len(within.read.indices)
        used = (
            min(read, steps * self._size * processes.size) if self._drop_last and not choice.filter else read
        )

        def whole(column: Tensor) -> list[Tensor]:
            return list(column[:used].tensor_split(steps)[within.done :])

        def mine(parts: list[Tensor]) -> list[Tensor]:
            return parts if processes.size == 1 else [part[processes.share(len(part))] for part in parts]

        everyones, everyones_weights = whole(within.read.indices), whole(within.read.weights)
        self._batches.batches, weights = mine(everyones), mine(everyones_weights)
        self._batches.count = steps
        kept: list[int] = []
        if choice.filter is not None:
            kept = [len(part) for part in torch.arange(choice.size).tensor_split(steps)][within.done :]
        self._seed_workers(self.subsets._begun)
        batches = self._batches.batches
        self._batches.begun = True
        loaded = super().__iter__()
        self._batches.begun = False
        for step, batch in enumerate(loaded):
            indices, weight = batches[step], weights[step]
            if choice.filter is not None:
                candidates = everyones[step]
                batch, rows = self._kept(choice.filter, batch, candidates, kept[step])
                indices, weight = candidates[rows], everyones_weights[step][rows]
            self._current = within, indices, weight
            within.done += 1
            within.examples += len(indices)
            within.complete = within.done == steps
            more = {"weights": weight, "indices": indices} if self._indices else {"weights": weight}
            pinned = {name: values.pin_memory() for name, values in more.items()} if self.pin_memory else more
            yield _with(batch, pinned)
        within.ended = True

    def __len__(self) -> int:
        """The number of batches of the epoch that has begun, or of the coming one."""
        return self._steps()

    def observe(self, losses: Tensor, indices: Tensor | None = None) -> None:
        """Record the losses of the batch that was yielded last, for strategies that need them (InfoBatch); others
        ignore it. :meth:`mean` does so, too.

        Args:
            losses: [B], each example's own, without its weight.
            indices: [B], the examples, where it is not the batch that was yielded last; see ``indices=True``.

        Raises:
            ValueError: there is not one loss for each example.
            RuntimeError: the loop over the epoch has ended, so that it is not said which batch it is.
        """
        self.subsets.observe(self._yielded("observe")[0] if indices is None else indices, losses)

    def mean(self, losses: Tensor) -> Tensor:
        """The loss to train on: the weighted mean of the losses of the batch that was yielded last, which are observed,
        too.

        Args:
            losses: [B], each example's own.

        Returns:
            a scalar; 0 where the weights of all the batch's examples are 0.

        Raises:
            ValueError: there is not one loss for each example.
            RuntimeError: the loop over the epoch has ended, so that it is not said which batch it is.
        """
        indices, weights = self._yielded("mean")
        self.subsets.observe(indices, losses)
        weights = weights.to(losses.device, losses.dtype)
        return torch.dot(losses, weights / weights.sum().clamp(min=torch.finfo(losses.dtype).tiny))

    def _yielded(self, asked: str) -> tuple[Tensor, Tensor]:
        """Indices and weights of the batch that was yielded last."""
        if self._current is None:
            raise ValueError(f"{asked}: no batch was yielded yet")
        within, indices, weights = self._current
        if within.ended:
            raise RuntimeError(
                f"{asked}: the loop over the epoch has ended, and losses are those of the batch that was yielded last: "
                "expected the call within the loop. Where something between the loader and the loop fetches batches "
                "ahead, make the loader with indices=True and give a batch's to observe(losses, indices)"
            )
        return indices, weights

    @property
    def last_selection(self) -> Selection | None:
        """What the latest selection did: epoch, seconds, subset and note; None before the first."""
        return self.subsets.last_selection

    @property
    def epoch(self) -> int:
        """The number of complete epochs: where a loop over the epochs resumes after ``load_state_dict``."""
        return self.subsets.epoch

    @property
    def epochs(self) -> int | None:
        """The number of epochs of the run, which a warm start makes fewer; None: not known."""
        return self.subsets.epochs

    @property
    def under_way(self) -> bool:
        """Whether an epoch has begun that is not complete."""
        within = self.subsets._within
        return within is not None and not within.complete

    @property
    def done(self) -> int:
        """The number of batches of the epoch that were handed out; 0 before the first epoch."""
        return 0 if self.subsets._within is None else self.subsets._within.done

    def state_dict(self, done: int | None = None) -> dict[str, Any]:
        """A copy of the state, for ``torch.save``; also within an epoch, whose later batches a resumed run yields.

        Of several processes, the first one's state is that of all; within an epoch of a strategy that needs losses,
        after :meth:`share_losses`.

        Args:
            done: the number of the epoch's batches that count as done, where it is not all that were handed out.
        """
        state, steps = self.subsets.state_dict(), self._steps()
        if done is not None and state["within"] is not None:
            state["within"] |= {"done": done, "complete": done == steps}
        return {"subsets": state, "steps": steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned, in a loader with the same options. The next ``iter`` resumes the epoch
        that had begun, if it is not complete.

        Raises:
            ValueError: the state belongs to other options.
        """
        self._place()
        self.subsets.load_state_dict(state["subsets"])
        self._ready = self._current = None
        within = self.subsets._within
        if within is not None and not within.complete and state["steps"] != self._steps():
            raise ValueError(
                f"the state is within an epoch of {state['steps']} steps, which has {self._steps()} here: expected the "
                "same batch_size, drop_last and number of processes"
            )
        self._batches.count = self._steps()

    def share_losses(self) -> None:
        """See :meth:`SubsetSampler.share_losses <subset_selection.sampler.SubsetSampler.share_losses>`."""
        self.subsets.share_losses()

    def end_epoch(self) -> None:
        """See :meth:`SubsetSampler.end_epoch <subset_selection.sampler.SubsetSampler.end_epoch>`."""
        self.subsets.end_epoch()

    def set_epoch(self, epoch: int) -> None:
        """See :meth:`SubsetSampler.set_epoch <subset_selection.sampler.SubsetSampler.set_epoch>`."""
        self.subsets.set_epoch(epoch)

    @property
    def _is_accelerate_prepared(self) -> bool:
        """Asked by Accelerate's ``prepare``, which leaves such a loader as it is: each process yields its part of a
        batch already, and a loader made of this one's parts would not select."""
        self._accelerated = True
        return True

    @_is_accelerate_prepared.setter
    def _is_accelerate_prepared(self, prepared: bool) -> None:
        self._accelerated = prepared

    def _as_accelerate_expects(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches on the accelerator's device. ``accelerate`` hears of the last one, because it ends an
        accumulation of gradients."""
        state, utils = import_module("accelerate.state"), import_module("accelerate.utils")
        gradients, device = state.GradientState(), state.PartialState().device
        self.end_of_dataloader = False
        gradients._add_dataloader(self)
        try:
            for batch in batches:
                self.end_of_dataloader = not self.under_way
                yield utils.send_to_device(batch, device, non_blocking=self.pin_memory)
        finally:
            gradients._remove_dataloader(self)

    def _steps(self) -> int:
        size, processes = self.subsets.size, self.subsets._processes.size
        if self._drop_last or self._size == 1:
            return max(1, size // (self._size * processes))
        return batch_count(size, self._size, processes)

    def _kept(self, by: BatchFilter, batch: Any, candidates: Tensor, count: int) -> tuple[Any, Tensor]:
        """This process's part of what a filter keeps, see :func:`~subset_selection.filtering.filtered`."""
        evaluation, processes = self.subsets.evaluation, self.subsets._processes
        assert evaluation is not None
        processes.same_buffers(evaluation.model)
        with evaluating(evaluation.model):
            logits, _, labels = evaluation.of(batch)
            losses = evaluation.loss.losses(logits, labels.to(logits.device))
        return filtered(processes, by, batch, losses, candidates, count)


def _with(batch: Any, more: dict[str, Tensor]) -> Any:
    """The batch with further columns."""
    if isinstance(batch, Mapping):
        for name in more:
            if name in batch:
                raise ValueError(
                    f"an item has a field {name!r}, under which a batch has those of the selection: rename it"
                )
        if isinstance(batch, MutableMapping):  # of its own class, such as Hugging Face's BatchEncoding
            for name, values in more.items():
                batch[name] = values
            return batch
        return {**batch, **more}
    if isinstance(batch, tuple | list):
        return (*batch, *more.values())
    raise ValueError(
        f"a batch is a {type(batch).__name__}: expected a tuple (input, label) or a dict with both"
    )

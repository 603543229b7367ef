"""A sampler that chooses a subset, again and again as the model learns."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypedDict, Unpack

import torch
from torch import Tensor, nn
from torch.utils.data.distributed import DistributedSampler

from subset_selection import distributed
from subset_selection.catalogue import CATALOGUE, DEFAULT, Spec
from subset_selection.embedding import Evaluation
from subset_selection.items import Fields, Key, device_of
from subset_selection.last_layer import Outputs
from subset_selection.making import candidates_of, create, settings_for
from subset_selection.processes import Processes, under_accelerate
from subset_selection.schedule import Epoch, epochs, generators, open_ended
from subset_selection.selectors import (
    Choice,
    FilterSelector,
    PoolSelector,
    Selector,
    SoftPruningSelector,
    everything,
)
from subset_selection.settings import Settings
from subset_selection.source import Examples, Reading
from subset_selection.types import CROSS_ENTROPY, BatchFilter, Loss, Subset

logger = logging.getLogger(__name__)
FRACTION = 0.3
SELECT_EVERY = 5


class Knobs(TypedDict, total=False):
    """A strategy's own settings; see :class:`~subset_selection.settings.Settings`. A strategy refuses those that it
    does not read."""

    scope: str | None
    greedy: str
    greedy_rounds: int
    eta: float
    lam: float
    eps: float
    match: str
    batch_size: int
    hardest_dropped: float
    prune_probability: float
    final_share: float
    candidates_per_pick: float
    balance: str


class Options(Knobs, total=False):
    """The options of :class:`SubsetSampler` and :class:`~subset_selection.loader.SubsetLoader`."""

    strategy: str
    """A name of the catalogue; default ``rs2``."""
    fraction: float
    """Share of the examples that an epoch uses, above 0 to 1; default 0.3."""
    validation: Any
    """A data set of held-out examples, for strategies that need one."""
    select_every: int
    """Number of epochs between selections; default 5."""
    epochs: int | None
    """Length of the run; default: not known. ``warm_fraction`` and InfoBatch's last epochs need it."""
    warm_fraction: float
    """Share of the run's samples that is spent on all examples before the first selection; default 0."""
    mislabelled: Literal["keep", "drop"]
    """Whether to leave out examples that look mislabelled beside the validation set; default ``keep``."""
    seed: int
    """Two runs with one seed and one model choose the same; default 0."""
    shuffle: bool
    """Whether an epoch reads its subset in random order; default True."""
    selection_set: Any
    """The training examples as a selection reads them: the same items in the same order, without augmentation. Default:
    the data set itself."""
    labels: Any
    """[N] all labels, which saves a pass where a strategy needs labels alone (``balance="class"``)."""
    inputs: Key | tuple[Key, ...] | None
    """The field of the model's input in an item, or several; default: found, see
    :class:`~subset_selection.items.Fields`."""
    label: Key | None
    """The field of the label; default: found."""
    head: nn.Module | str | None
    """The model's last linear layer, or its name; default: found by a hook."""
    outputs: Outputs | None
    """(model, inputs) → logits [B, C] and features [B, D], for models without such a layer."""
    autocast: torch.dtype | None
    """Data type of a selection's forward passes; default: what is active when the epoch begins."""
    loss: Loss
    """The loss whose gradients strategies use; default: cross-entropy."""
    held_out: nn.Module | None
    """For ``rho-loss``: a model that was trained on the validation set alone."""
    reading: Reading
    """How a selection's passes read the data; default: batches of 512. A loader passes its own workers and
    ``collate_fn`` on."""


@dataclass(frozen=True)
class Selection:
    """What a selection did."""

    epoch: int
    """The epoch that it was made for, from 1."""
    seconds: float
    """Its time, the passes over the data included."""
    subset: Subset
    """Indices and weights, in the order of picking."""
    note: str
    """What the strategy says, for example about a fallback; may be empty."""


@dataclass
class Within:
    """An epoch that has begun."""

    read: Subset
    """The examples in the order in which the epoch reads them."""
    choice: Choice
    done: int = 0
    """Number of steps that were handed out."""
    complete: bool = False
    """Whether all of its steps were handed out."""
    ended: bool = False
    """Whether the loop over it has ended."""
    examples: int = 0
    """Number of examples that a loader of this process has handed out since its start."""


class SubsetSampler(DistributedSampler[int]):
    """Yields the indices of each epoch's subset, for a loader of one's own::

        sampler = SubsetSampler(train_set, model, validation=validation_set, strategy="glister")
        loader = DataLoader(train_set, batch_size=128, sampler=sampler)

    ``weights`` has every example's weight; the loss of a batch is the weighted mean. A loader of :class:`SubsetLoader
    <subset_selection.loader.SubsetLoader>` yields the weights with each batch.

    It is a ``DistributedSampler`` in that each of several processes gets its share: trainers that would wrap a
    sampler for several processes leave it as it is.

    Args:
        dataset: N items, map-style: tuples (input, label), dicts or Hugging Face rows.
        model: the model in training, for strategies that evaluate it.
        options: see :class:`Options`.

    Raises:
        ValueError: an option is not understood, or the strategy needs what is not given.
    """

    def __init__(self, dataset: Any, model: nn.Module | None = None, **options: Unpack[Options]) -> None:
        unknown = [name for name in options if name not in Options.__annotations__]
        if unknown:
            raise ValueError(
                f"{', '.join(unknown)}: no such option; there are {', '.join(Options.__annotations__)}"
            )
        spec = _spec(options.get("strategy", DEFAULT))
        self._spec, self._examples = spec, len(dataset)
        self._processes = Processes.current()
        # Its base class's; the base class itself would draw the indices.
        self.dataset, self.num_replicas, self.rank = dataset, self._processes.size, self._processes.rank
        if "fraction" in options and not spec.takes_fraction:
            logger.warning("strategy %r sets its own size: fraction is not used", spec.name)
        self._fraction = options.get("fraction", FRACTION) if spec.takes_fraction else 1.0
        if not 0 < self._fraction <= 1:
            raise ValueError(f"fraction={self._fraction!r}: expected a number above 0 and at most 1")
        self.budget = round(self._fraction * self._examples)
        """K, the number of examples of an epoch on a subset."""
        if self.budget < 1:
            raise ValueError(
                f"fraction={self._fraction:g} of {self._examples} examples: expected at least one"
            )
        self._seed, self._shuffle = options.get("seed", 0), options.get("shuffle", True)
        self._select_every = options.get("select_every", SELECT_EVERY)
        if self._select_every < 1:
            raise ValueError(f"select_every={self._select_every!r}: expected a whole number of at least 1")
        settings = _settings(spec, options)
        self._schedule = _schedule(spec, options, settings, self._fraction, self._select_every)
        self.evaluation = _evaluation(spec, model, options)
        """How the model is evaluated; None: without a model."""
        self._selector = _selector(
            spec, settings, dataset, self.evaluation, self.budget, options, self._processes
        )
        self._generators = generators(self._seed)
        self._begun = 0
        self._choice = Choice(everything(self._examples))
        self._within: Within | None = None
        self._resumed = False
        self._observed_N: Tensor | None = None
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._shared = self._said = False
        self._expected = 0
        self.last_selection: Selection | None = None
        """What the latest selection did; None before the first, and after ``load_state_dict``."""

    # An epoch

    def __iter__(self) -> Iterator[int]:
        """Begin an epoch, and yield its examples' indices; of several processes, each yields its share."""
        if self._spec.shape == "within_batch":
            raise ValueError(
                f"strategy={self._spec.name!r} chooses within each batch: expected a SubsetLoader, which reads batches"
            )
        if self._processes.size > 1 and under_accelerate():
            raise ValueError(
                "Accelerate divides what a prepared DataLoader reads between the processes, and a SubsetSampler has "
                "done so already: expected a SubsetLoader, which accelerator.prepare leaves as it is"
            )
        within = self.begin()
        # Every process yields equally many, so that none waits for another in a step that the other does not make.
        even = len(within.read.indices) // self._processes.size * self._processes.size
        yield from within.read.indices[self._processes.rank : even : self._processes.size].tolist()
        within.complete = within.ended = True

    def __len__(self) -> int:
        """The number of indices of the coming epoch, or of the one that has begun."""
        return self.size // self._processes.size

    @property
    def size(self) -> int:
        """The number of examples that the epoch trains on, over all processes: of the one that has begun, else of the
        coming one. For a strategy that sets its own size, all examples until the epoch has begun."""
        over = self._schedule is not None and self._begun >= len(self._schedule)
        if self._within is not None and (over or not self._within.ended):
            return self._within.choice.size
        if self._spec.shape == "own_size" or self._coming().everything:
            return self._examples
        return self.budget

    @property
    def epoch(self) -> int:  # type: ignore[override]  # nothing sets it, see set_epoch
        """The number of complete epochs."""
        return self._begun - (self._within is not None and not self._within.complete)

    @property
    def epochs(self) -> int | None:
        """The number of epochs of the run, which a warm start makes fewer; None: not known."""
        return None if self._schedule is None else len(self._schedule)

    @property
    def weights(self) -> Tensor:
        """[N] float32: every example's weight in the epoch that has begun; 0 for those that it does not use."""
        weights_N = torch.zeros(self._examples)
        if self._within is not None:
            weights_N[self._within.read.indices] = self._within.read.weights
        return weights_N

    def begin(self) -> Within:
        """Begin the next epoch, with a selection if one is due; or resume the one that ``load_state_dict`` restored.

        Raises:
            NotFiniteError: the model's outputs are not finite.
            RuntimeError: the run's epochs are over; or the strategy needs losses, and none were observed; or the
                sampler was made for other processes; or the state of earlier epochs was not restored.
        """
        now, own = Processes.current(), self._processes
        if (now.rank, now.size) != (own.rank, own.size):
            raise RuntimeError(
                f"the subsets are for process {own.rank} of {own.size}, and this is process {now.rank} of {now.size}: "
                "expected a sampler or loader made after torch.distributed was initialised"
            )
        if self._expected > self._begun:
            raise RuntimeError(
                f"epoch {self._expected + 1} of the training begins, and the subsets are at epoch {self._begun + 1}: "
                "expected the state of before (load_state_dict; with Lightning, "
                "subset_selection.lightning.SubsetCallback)"
            )
        if self._resumed and self._within is not None and not self._within.complete:
            self._resumed = False
            return self._within
        self._end()
        epoch, begun = self._coming(), time.monotonic()
        chosen = None if epoch.everything else self._selector.choose(epoch, self._generators["selection"])
        self._choice = chosen or self._choice
        choice = Choice(everything(self._examples)) if epoch.everything else self._choice
        if chosen is not None:
            self.last_selection = Selection(
                epoch.number, time.monotonic() - begun, chosen.subset, chosen.subset.note
            )
        order = torch.arange(len(choice.subset.indices))
        if self._shuffle:
            order = torch.randperm(len(order), generator=self._generators["order"])
        read = Subset(choice.subset.indices[order], choice.subset.weights[order], choice.subset.note)
        self._begun, self._within = epoch.number, Within(read, choice)
        return self._within

    def observe(self, indices: Tensor, losses: Tensor) -> None:
        """Record the losses of some examples of the epoch, for strategies that need them; others ignore it.

        Args:
            indices: [B] int64.
            losses: [B], each example's own, without its weight.
        """
        if losses.shape != indices.shape or losses.ndim != 1:
            raise ValueError(
                f"the losses have the shape {tuple(losses.shape)}: expected one for each of {len(indices)} examples "
                "(reduction='none')"
            )
        if not self.needs_losses:
            return
        # Kept as they are until someone reads them. The loop does not wait for a GPU, and on a CPU a batch has just
        # emptied the caches, so that each operation on the table costs many times what it costs at the epoch's end.
        self._waiting.append((indices, losses.detach().clone()))
        self._shared = False

    def _observed(self) -> Tensor | None:
        """The losses that were observed in the epoch under way [N], NaN where none was; None: none at all."""
        for indices, losses in self._waiting:
            losses = losses.float()
            if self._observed_N is None:
                self._observed_N = torch.full((self._examples,), torch.nan, device=losses.device)
            self._observed_N = self._observed_N.to(losses.device)
            # NaN stands for no loss. A loss that is not a number counts as infinite, of which nothing is concluded.
            losses = losses.nan_to_num(torch.inf, torch.inf, -torch.inf)
            self._observed_N[indices.to(losses.device)] = losses
        self._waiting.clear()
        return self._observed_N

    @property
    def needs_losses(self) -> bool:
        """Whether the strategy chooses by the losses that ``observe`` is given."""
        return "training losses" in self._spec.needs

    def share_losses(self) -> None:
        """Give each process the losses that all have observed in this epoch, so that the first one's state within an
        epoch is that of all. To be called by all, before a state within an epoch is saved, where the strategy needs
        losses; for other strategies it does nothing."""
        if not self.needs_losses or self._processes.size == 1:
            return
        own_N = self._observed()
        own_N = None if own_N is None else own_N.cpu()
        for other_N in self._processes.everyones(own_N):
            if other_N is not None:
                own_N = other_N if own_N is None else torch.where(own_N.isnan(), other_N, own_N)
        self._observed_N = own_N
        self._shared = True

    def end_epoch(self) -> None:
        """Count the epoch under way as complete, where a loop leaves it early: what comes next, here and in a run
        that is resumed, is the next epoch."""
        if self._within is not None:
            self._within.complete = self._within.ended = True

    def set_epoch(self, epoch: int) -> None:
        """Nothing has to be set. Trainers that call it before each epoch, as for a ``DistributedSampler``, say which
        they are at (from 0): where earlier epochs are unknown here, the epoch is refused when it begins."""
        self._expected = epoch

    def _end(self) -> None:
        """End the epoch that has begun: pass on what was observed."""
        if self._within is None or not self.needs_losses:
            return
        own_N = self._observed()
        observed = 0 if own_N is None else int((~own_N.isnan()).sum())
        self.share_losses()
        if self._observed_N is None:
            raise RuntimeError(
                f"strategy={self._spec.name!r} needs the losses, and epoch {self._begun} gave none: call "
                "observe(losses) after each batch, with one loss for each of its examples; or loader.mean(losses), "
                "which is also the loss to train on"
            )
        if observed < self._within.examples and not self._said:
            self._said = True
            logger.warning(
                "strategy %r chooses by the losses: epoch %d gave those of %d of the %d examples that it trained on; "
                "of the others an earlier loss counts, or none",
                *(self._spec.name, self._begun, observed, self._within.examples),
            )
        observed_N = self._observed_N.cpu()
        indices = (~observed_N.isnan()).nonzero().flatten()
        self._selector.observe(indices, observed_N[indices])
        self._observed_N = None

    def _coming(self) -> Epoch:
        if self._schedule is None:
            return open_ended(self._begun + 1, self._select_every)
        if self._begun >= len(self._schedule):
            raise RuntimeError(f"the {len(self._schedule)} epochs of this run are over (epochs=)")
        return self._schedule[self._begun]

    # State

    def state_dict(self) -> dict[str, Any]:
        """A copy of the state: dicts, tensors on the CPU, numbers, texts and None, for ``torch.save``.

        Of several processes, the first one's state is that of all; within an epoch of a strategy that needs losses,
        after :meth:`share_losses`. Within an epoch, the epoch's progress is known to a loader; a sampler's epoch is
        resumed from its beginning.
        """
        observed_N = self._observed()
        if self._processes.size > 1 and observed_N is not None and not self._shared:
            logger.warning(
                "the state has the losses that this process has observed in the epoch, and those of the %d others are "
                "missing: expected share_losses() in all processes before state_dict()",
                self._processes.size - 1,
            )
        within = self._within
        return {
            "identity": self._identity(),
            "begun": self._begun,
            "generators": {name: generator.get_state() for name, generator in self._generators.items()},
            "selector": self._selector.state_dict(),
            "subset": dict(vars(self._choice.subset)),
            "within": within
            and {"read": dict(vars(within.read)), "done": within.done, "complete": within.complete},
            "observed": None if observed_N is None else observed_N.to("cpu", copy=True),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned, in a sampler with the same options.

        Raises:
            ValueError: the state belongs to other options.
        """
        own = self._identity()
        other = [
            f"{name}={state['identity'].get(name)!r}"
            for name in own
            if state["identity"].get(name) != own[name]
        ]
        if other:
            raise ValueError(f"the state belongs to another run, with {', '.join(other)}")
        self._begun = state["begun"]
        for name, generator in self._generators.items():
            generator.set_state(state["generators"][name])
        self._selector.load_state_dict(state["selector"])
        self._choice = self._selector.choice_of(Subset(**state["subset"]))
        self._within, self._resumed, self.last_selection = None, True, None
        self._observed_N = None if state["observed"] is None else state["observed"].clone()
        self._waiting.clear()
        if (within := state["within"]) is not None:
            read = Subset(**within["read"])
            whole = self._schedule is not None and self._schedule[self._begun - 1].everything
            choice = Choice(everything(self._examples)) if whole else self._choice
            complete = within["complete"]
            self._within = Within(read, choice, within["done"], complete, ended=complete)

    def _identity(self) -> dict[str, Any]:
        return {
            "strategy": self._spec.name,
            "examples": self._examples,
            "budget": self.budget,
            "select_every": self._select_every,
            "epochs": self.epochs,
            "seed": self._seed,
            "shuffle": self._shuffle,
        }


def _spec(name: str) -> Spec:
    usable = [spec.name for spec in CATALOGUE.values() if spec.trains_on == "training"]
    if name in usable:
        return CATALOGUE[name]
    if name in CATALOGUE:
        raise ValueError(
            f"strategy={name!r} trains on validation examples: give them as the data set, with strategy='rs2'"
        )
    raise ValueError(f"strategy={name!r}: expected one of {', '.join(usable)}")


def _settings(spec: Spec, options: Options) -> Settings:
    # A batch size is the loader's as well: it is no knob of most strategies, and none of theirs to refuse.
    skipped = {"batch_size"} - {*spec.knobs}
    return settings_for(
        spec,
        {
            name: value
            for name, value in options.items()
            if name in Knobs.__annotations__ and name not in skipped
        },
    )


def _schedule(
    spec: Spec, options: Options, settings: Settings, fraction: float, select_every: int
) -> list[Epoch] | None:
    warm, count = options.get("warm_fraction", 0.0), options.get("epochs")
    if not 0 <= warm < 1:
        raise ValueError(f"warm_fraction={warm!r}: expected a number from 0 to below 1")
    if count is None:
        if warm or "final_share" in options:
            raise ValueError(
                "warm_fraction and final_share are shares of a run: give its length with epochs="
            )
        return None
    if count < 1:
        raise ValueError(f"epochs={count!r}: expected a whole number of at least 1")
    last = settings.final_share if "final_share" in spec.knobs else 0.0
    return epochs(count, fraction, select_every, warm, last)


def _selector(
    spec: Spec,
    settings: Settings,
    dataset: Any,
    evaluation: Evaluation | None,
    budget: int,
    options: Options,
    processes: Processes,
) -> Selector:
    drop = _drops(options)
    examples = len(dataset)
    if spec.shape == "own_size":
        return SoftPruningSelector(spec.load()(settings), torch.zeros(examples, dtype=torch.int64))
    fields = Fields(options.get("inputs"), options.get("label"))
    clean = options.get("selection_set")
    clean = dataset if clean is None else clean
    if len(clean) != examples:
        raise ValueError(
            f"selection_set has {len(clean)} items: expected the data set's {examples}, in its order"
        )
    reading, needs_labels = options.get("reading", Reading()), settings.balance == "class"
    train = Examples(clean, evaluation, fields, reading, processes, options.get("labels"), needs_labels)
    if spec.shape == "within_batch":
        return FilterSelector(_filter_maker(spec, settings, train, fields, options), examples, budget)
    validation = options.get("validation")
    if validation is None and (drop or "validation" in spec.needs or settings.match == "validation"):
        raise ValueError(f"strategy={spec.name!r} needs held-out examples: give them with validation=")
    guides = [] if validation is None else validation
    return PoolSelector(
        create(spec.name, settings, drop_mislabelled=drop),
        train,
        Examples(guides, evaluation, fields, reading, processes, what="validation"),
        budget,
        candidates_of(spec, options.get("candidates_per_pick"), drop),
        partial(distributed.select, processes),
    )


def _drops(options: Options) -> bool:
    mislabelled = options.get("mislabelled", "keep")
    if mislabelled not in ("keep", "drop"):
        raise ValueError(f"mislabelled={mislabelled!r}: expected 'keep' or 'drop'")
    return mislabelled == "drop"


def _evaluation(spec: Spec, model: nn.Module | None, options: Options) -> Evaluation | None:
    drop = _drops(options)
    if drop and "mislabelled" not in spec.knobs:
        raise ValueError(f"mislabelled='drop' does not work with strategy={spec.name!r}")
    if model is None:
        if drop or {*spec.needs} - {"training losses"}:
            raise ValueError(f"strategy={spec.name!r} evaluates the model: give it as the second argument")
        return None
    return Evaluation(
        model,
        Fields(options.get("inputs"), options.get("label")),
        options.get("head"),
        options.get("outputs"),
        options.get("autocast"),
        options.get("loss", CROSS_ENTROPY),
    )


def _filter_maker(
    spec: Spec, settings: Settings, train: Examples, fields: Fields, options: Options
) -> Callable[[Mapping[str, Any]], BatchFilter]:
    if "a held-out model" not in spec.needs:
        return lambda state: spec.load()(settings)
    held_out = options.get("held_out")
    if held_out is None:
        raise ValueError(
            f"strategy={spec.name!r} needs a model that was trained on the validation set alone: give it with held_out="
        )
    judge = Evaluation(
        held_out, fields, outputs=options.get("outputs"), loss=options.get("loss", CROSS_ENTROPY)
    )

    def make(state: Mapping[str, Any]) -> BatchFilter:
        losses = state.get("irreducible_losses_N")
        if losses is None:
            losses = train.losses_by(judge)
        made: BatchFilter = spec.load()(settings, losses.to(device_of(held_out)))
        return made

    return make

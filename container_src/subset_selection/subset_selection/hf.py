"""Hugging Face's ``Trainer`` on a subset that is chosen again as the model learns::

    trainer = SubsetTrainer(
        model=model, args=arguments, train_dataset=rows,
        selection={"strategy": "glister", "fraction": 0.3, "select_every": 1, "validation": held_out_rows},
    )
    trainer.train(resume_from_checkpoint=True)

Every strategy but ``loss-filter`` and ``rho-loss`` is served for classification of sequences or images with one class
index as label. Token-level tasks and language models (TRL's ``SFTTrainer``) are served by ``rs2``, ``random`` and
``adaptive-random``, and by ``infobatch`` with ``losses=sequence_losses``; a strategy that evaluates the model refuses
them.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint, seed_worker

from subset_selection.catalogue import CATALOGUE, DEFAULT
from subset_selection.embedding import evaluating
from subset_selection.processes import Processes
from subset_selection.sampler import Options, Selection, SubsetSampler, Within
from subset_selection.schedule import batch_count
from subset_selection.source import Reading

Losses = Callable[[Any, Tensor], Tensor]
"""(the model's output, the labels of a batch) → the loss of each of its B examples, [B]."""
INDICES = "subset_indices"
"""The field of a batch that has its examples' indices in the training data."""
STATE = "subset_selection.pt"
"""The file of a checkpoint that has the selection's state."""
if TYPE_CHECKING:
    _Base = Trainer
else:
    _Base = object


class SelectsSubsets(_Base):
    """For a subclass of ``Trainer`` of one's own: ``class MyTrainer(SelectsSubsets, Trainer)``.

    An epoch of the ``Trainer`` is one on a subset. Each update trains on ``gradient_accumulation_steps`` batches of
    every process, whose sizes differ by one at most; ``per_device_train_batch_size`` is the largest. If the model's
    loss is the mean cross-entropy of its logits [B, C], the loss of an update is the weighted mean over all of its
    examples, in all batches and processes. So it is, with ``losses=``, of any other model. Without, the loss is what
    the ``Trainer`` computes, which a strategy with weights refuses.

    The log has ``subset_size`` and ``selection_seconds`` of each selection. Checkpoints have the state, from which a
    resumed run gets the same subsets.

    Other arguments are those of ``Trainer``.

    Args:
        selection: the options of a selection, see :class:`~subset_selection.sampler.Options`. ``epochs`` is that of
            the ``Trainer``, and so is ``seed`` if it is not given.
        losses: for models whose loss is not the mean cross-entropy of their logits [B, C]: the loss of each example.

    Raises:
        ValueError: an option is not understood, or an argument of the ``Trainer`` does not go with a selection.
    """

    def __init__(
        self, *args: Any, selection: Options | Mapping[str, Any], losses: Losses | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._options: dict[str, Any] = {"strategy": DEFAULT, **selection}
        self._losses_of = losses
        self._checkpoint: str | None = None
        self._total_weight: Tensor | None = None
        self._recognised: bool | None = None
        self._loss_checked = False
        _refuse_what_is_not_served(self)
        self.subsets = self._sampler()
        """The sampler, which chooses."""
        self._steps = _Steps(self)
        self.add_callback(_Pace(self))

    @property
    def last_selection(self) -> Selection | None:
        """What the latest selection did: epoch, seconds, subset and note; None before the first."""
        return self.subsets.last_selection

    # The data

    def get_train_dataloader(self) -> DataLoader[Any]:
        """A loader of each epoch's subset, prepared by Accelerate. Every call begins the selection anew; within a
        resumed ``train``, from the checkpoint."""
        arguments = self.args
        self.subsets = self._sampler()
        if self._checkpoint is not None:
            self.subsets.load_state_dict(_read(self._checkpoint))
        self._steps = _Steps(self)
        loader = DataLoader(
            _Numbered(self.train_dataset),
            batch_sampler=self._steps,
            collate_fn=_Numbering(self._collate()),
            num_workers=arguments.dataloader_num_workers,
            pin_memory=arguments.dataloader_pin_memory,
            persistent_workers=arguments.dataloader_persistent_workers,
            prefetch_factor=arguments.dataloader_prefetch_factor,
            worker_init_fn=partial(
                seed_worker, num_workers=arguments.dataloader_num_workers, rank=arguments.process_index
            ),
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def num_examples(self, dataloader: DataLoader[Any]) -> int:
        """The number of examples that an epoch trains on."""
        own = isinstance(dataloader.dataset, _Numbered)
        return self.subsets.size if own else super().num_examples(dataloader)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """The batches of one update. Their examples' weights are summed up over all processes."""
        answer = super().get_batch_samples(*args, **kwargs)
        batches = answer[0]
        if batches and INDICES in batches[0]:
            own = sum(float(self._steps.weights_of(batch[INDICES]).sum()) for batch in batches)
            summed = self.accelerator.gather(torch.tensor(own, device=self.accelerator.device))
            self._total_weight = summed.sum().clamp_min(torch.finfo(torch.float32).tiny)
        return answer

    def _sampler(self) -> SubsetSampler:
        arguments = self.args
        seed = arguments.seed if arguments.data_seed is None else arguments.data_seed
        given: dict[str, Any] = {
            "seed": seed,
            "label": self.label_names[0] if len(self.label_names) == 1 else None,
            "reading": Reading(
                arguments.eval_batch_size,
                arguments.dataloader_num_workers,
                self._collate(),
                arguments.dataloader_pin_memory and torch.cuda.is_available(),
            ),
            **self._options,
            "batch_size": self._train_batch_size
            * arguments.gradient_accumulation_steps
            * arguments.world_size,
            "epochs": None if arguments.max_steps > 0 else math.ceil(arguments.num_train_epochs),
        }
        return SubsetSampler(self.train_dataset, self.model, **given)

    def _collate(self) -> Callable[[list[Any]], Any]:
        collate: Callable[[list[Any]], Any] = self._get_collator_with_removed_columns(
            self.data_collator, description="selection"
        )
        return collate

    # The loss

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """One batch's forward and backward pass."""
        loss: Tensor = super().training_step(*args, **kwargs)
        self._steps.trained()
        return loss

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The batch's part of the update's weighted mean; see the class. Of an evaluation, the loss of the
        ``Trainer``."""
        indices = inputs.pop(INDICES, None)
        if indices is None or not self._is_mean_of_losses(inputs):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch=num_items_in_batch)
        labels = _label_of(inputs, self.label_names)
        outputs = model(**inputs)
        losses = self._example_losses(outputs, labels)
        self.subsets.observe(indices, losses)
        # The processes' gradients are averaged; and the mean over an update's batches is taken of a loss that the
        # Trainer does not take for one that is divided by the update's number of items.
        factor = Processes.current().size
        if not self._is_divided(num_items_in_batch):
            factor *= self.current_gradient_accumulation_steps
        assert self._total_weight is not None
        loss = losses @ (self._steps.weights_of(indices).to(losses) * factor / self._total_weight)
        return (loss, outputs) if return_outputs else loss

    def _is_divided(self, num_items_in_batch: Any) -> bool:
        said = getattr(self, "loss_is_scaled_for_ga", None)
        if said is not None:
            return bool(said)
        counted = self.model_accepts_loss_kwargs and num_items_in_batch is not None
        return bool(counted) or self.compute_loss_func is not None

    def _is_mean_of_losses(self, inputs: Any) -> bool:
        """Whether the weighted mean of the examples' losses is the loss: if it has to be, or if the model's own is
        their mean. Every process comes to the same answer."""
        if self._losses_of is not None or self._steps.weighted:
            return True
        if self._recognised is None:
            labels = [inputs[name] for name in self.label_names if name in inputs]
            own = len(labels) == 1 and self._replaced() is None
            if own:
                model: Any = self.model
                with evaluating(model):
                    own = _fault(model(**inputs), labels[0]) is None
            self._recognised = all(Processes.current().everyones(own))
        return self._recognised

    def _replaced(self) -> str | None:
        """What computes the loss in place of the model; None: nothing does."""
        if self.compute_loss_func is not None:
            return "compute_loss_func gives one number for a batch"
        if _inherited_loss(self) is not Trainer.compute_loss:
            return "the compute_loss of the Trainer's subclass gives one number for a batch"
        return None

    def _example_losses(self, outputs: Any, labels: Tensor) -> Tensor:
        """Each example's loss, [B] float32."""
        if self._losses_of is not None:
            losses = self._losses_of(outputs, labels)
            if losses.shape != labels.shape[:1]:
                raise ValueError(
                    f"losses= gives the shape {tuple(losses.shape)}: expected one loss for each of {len(labels)} "
                    "examples"
                )
            return losses.float()
        fault = None if self._loss_checked else self._replaced() or _fault(outputs, labels)
        if fault is not None:
            raise ValueError(
                f"strategy={self._options['strategy']!r} needs the loss of each example in training, and {fault}: "
                "give losses=, a function (outputs, labels) → [B]"
            )
        # In a batch of one class, a loss with weights of classes equals one without.
        self._loss_checked = self._loss_checked or len(labels.unique()) > 1
        smoothing = self.args.label_smoothing_factor
        logits = _field(outputs, "logits")
        assert logits is not None
        return cross_entropy(logits.float(), labels, reduction="none", label_smoothing=smoothing)

    # Epochs of different sizes

    def set_initial_training_values(self, *args: Any, **kwargs: Any) -> Any:
        """The length of the run: exact, also if the epochs of a warm start are longer."""
        values = super().set_initial_training_values(*args, **kwargs)
        updates = self._steps.planned()
        if updates is None:
            return values
        samples, accumulated = values[2], self.args.gradient_accumulation_steps
        return (
            len(updates),
            max(updates),
            samples,
            sum(self._steps.sizes()),
            values[4],
            max(updates) * accumulated,
            sum(updates),
        )

    def _init_training_state(self, *args: Any, **kwargs: Any) -> Any:
        """The place at which a run resumes. The ``Trainer`` takes all epochs for equally long."""
        place = super()._init_training_state(*args, **kwargs)
        return place if self._checkpoint is None else (self.subsets.epoch, self._steps.done())

    # State

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """See ``Trainer.train``. A resumed run gets the subsets that it would have got."""
        folder = resume_from_checkpoint
        if folder is True:
            folder = get_last_checkpoint(self.args.output_dir)  # type: ignore[no-untyped-call]
        self._checkpoint = folder or None
        try:
            return super().train(folder or resume_from_checkpoint, *args, **kwargs)
        finally:
            self._checkpoint = None

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        self.subsets.share_losses()
        if self.args.should_save:
            torch.save(self.subsets.state_dict(), Path(output_dir) / STATE)


class SubsetTrainer(SelectsSubsets, Trainer):
    """Hugging Face's ``Trainer`` on a subset; see :class:`SelectsSubsets`."""


def sequence_losses(outputs: Any, labels: Tensor) -> Tensor:
    """The loss of each sequence under a causal language model: the mean cross-entropy of its tokens.

    Args:
        outputs: has ``logits`` [B, T, V].
        labels: [B, T] int64, the tokens themselves; −100: none.

    Returns:
        [B]; 0 for a sequence without a token to predict.
    """
    logits, targets = outputs["logits"][:, :-1].float(), labels[:, 1:]
    losses = cross_entropy(logits.transpose(1, 2), targets, reduction="none", ignore_index=-100)
    return losses.sum(1) / (targets != -100).sum(1).clamp_min(1)


class _Steps:
    """The batch sampler: of each of the epoch's updates, the batches of every process in turn, among which Accelerate
    divides them.

    Args:
        trainer: whose arguments hold.
    """

    def __init__(self, trainer: SelectsSubsets) -> None:
        arguments = trainer.args
        self._trainer, self._subsets = trainer, trainer.subsets
        self._batch: int = trainer._train_batch_size
        self._accumulated: int = arguments.gradient_accumulation_steps
        self._processes = Processes.current().size
        self._parts = self._accumulated * self._processes
        # Batches of one example cannot differ by one.
        self._drop_last = arguments.dataloader_drop_last or self._batch == 1
        self._varying = _varying(trainer)
        self._weights_N: Tensor | None = None
        self.weighted = False
        """Whether the epoch's loss is the weighted mean of the examples' losses."""
        self._expect_enough(self._subsets.budget)

    def __len__(self) -> int:
        return self.updates(self._subsets.size) * self._parts

    def __iter__(self) -> Iterator[list[int]]:
        known = self._subsets.last_selection
        within = self._subsets.begin()
        read, weights = within.read.indices, within.read.weights
        self.weighted = self._subsets.needs_losses or bool((weights != 1).any())
        self._weights_N = self._subsets.weights
        self._report(known)
        self._expect_enough(len(read))
        updates = self.updates(len(read))
        if self._drop_last:
            read = read[: updates * self._batch * self._parts]
        for update in read.tensor_split(updates):
            for batch in update.tensor_split(self._accumulated):
                for part in batch.tensor_split(self._processes):
                    yield part.tolist()

    def weights_of(self, indices_B: Tensor) -> Tensor:
        """The weights of some examples of the epoch, on the CPU."""
        assert self._weights_N is not None
        return self._weights_N[indices_B.cpu()]

    def updates(self, size: int) -> int:
        """The number of updates of an epoch on so many examples."""
        if self._drop_last:
            return max(1, size // (self._batch * self._parts))
        return batch_count(size, self._batch, self._parts)

    def sizes(self) -> list[int]:
        """The planned number of examples of each epoch of the run."""
        subsets = self._subsets
        every = subsets._examples
        return [every if epoch.everything else subsets.budget for epoch in subsets._schedule or ()]

    def planned(self) -> list[int] | None:
        """The planned number of updates of each epoch; None: equally many in all."""
        return [self.updates(size) for size in self.sizes()] if self._varying else None

    def within(self) -> Within | None:
        """The epoch that has begun, if it is not complete."""
        within = self._subsets._within
        return None if within is None or within.complete else within

    def done(self) -> int:
        """The number of batches that this process has trained on in the epoch that is not complete."""
        within = self.within()
        return 0 if within is None else within.done

    def trained(self) -> None:
        """Count a batch. A loader reads ahead, so that what was read does not say what was trained on."""
        within = self.within()
        if within is not None:
            within.done += 1
            within.complete = within.ended = (
                within.done == self.updates(within.choice.size) * self._accumulated
            )

    def _expect_enough(self, size: int) -> None:
        if size < self._parts:
            raise ValueError(
                f"an epoch has {size} examples, fewer than the {self._parts} batches of one update "
                "(gradient_accumulation_steps × processes): expected at least one example for each"
            )

    def _report(self, known: Selection | None) -> None:
        made = self._subsets.last_selection
        if made is not None and made is not known:
            self._trainer.log(
                {"subset_size": float(len(made.subset.indices)), "selection_seconds": made.seconds}
            )


class _Pace(TrainerCallback):
    """Keeps the learning rate and the number of epochs to the plan, where an epoch has fewer updates than planned."""

    def __init__(self, trainer: SelectsSubsets) -> None:
        self._trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        steps, within = self._trainer._steps, self._trainer.subsets._within
        planned = steps.planned()
        if planned is None or within is None:
            return
        number = self._trainer.subsets._begun
        share = within.done / (steps.updates(within.choice.size) * args.gradient_accumulation_steps)
        state.epoch = number - 1 + share
        scheduler = self._trainer.lr_scheduler
        due = sum(planned[: number - 1]) + round(share * planned[number - 1])
        if isinstance(scheduler, LRScheduler) and not isinstance(scheduler, ReduceLROnPlateau):
            while scheduler.last_epoch < due:
                scheduler.step()


class _Numbered(Dataset[Any]):
    """Items with their indices."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, self.rows[index]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[int, Any]]:
        many = getattr(self.rows, "__getitems__", None)
        rows = [self.rows[index] for index in indices] if many is None else many(list(indices))
        return list(zip(indices, rows, strict=True))


class _Numbering:
    """Collates items, and adds their indices."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self._collate = collate

    def __call__(self, items: list[tuple[int, Any]]) -> Any:
        batch = self._collate([row for _, row in items])
        if not isinstance(batch, MutableMapping):
            raise ValueError(f"the data collator gives a {type(batch).__name__}: expected a dict")
        batch[INDICES] = torch.tensor([index for index, _ in items])
        return batch


def _varying(trainer: SelectsSubsets) -> bool:
    """Whether the epochs of a run differ in size."""
    return (
        CATALOGUE[trainer._options["strategy"]].shape == "own_size"
        or trainer._options.get("warm_fraction", 0) > 0
    )


def _refuse_what_is_not_served(trainer: SelectsSubsets) -> None:
    arguments, options = trainer.args, trainer._options
    spec = CATALOGUE.get(options["strategy"])
    config: Any = arguments.accelerator_config
    sharded = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled
    ordered = getattr(arguments, "train_sampling_strategy", "random")
    faults = {
        "train_dataset: expected a data set with a length, whose items are chosen": not hasattr(
            trainer.train_dataset, "__len__"
        ),
        "compute_loss of a subclass would replace that of SelectsSubsets: expected it in a class that SelectsSubsets "
        "comes before, as in class Mine(SelectsSubsets, WithMyLoss)": (
            type(trainer).compute_loss is not SelectsSubsets.compute_loss
        ),
        "epochs is the Trainer's: give num_train_epochs in its arguments": "epochs" in options,
        f"strategy={options['strategy']!r} chooses within each batch, which a Trainer cannot: use a SubsetLoader in a "
        "loop of your own": spec is not None and spec.shape == "within_batch",
        f"strategy={options['strategy']!r} evaluates the model, which it cannot while DeepSpeed or FSDP shards it: "
        "expected rs2, random, adaptive-random or infobatch": (
            sharded and spec is not None and bool({*spec.needs} - {"training losses"})
        ),
        f"n_gpu={arguments.n_gpu}: expected one process for each GPU, started by torchrun or accelerate launch": (
            arguments.n_gpu > 1
        ),
        "parallelism_config: expected none, because each process reads its own examples": (
            getattr(arguments, "parallelism_config", None) is not None
        ),
        f"train_sampling_strategy={ordered!r}: expected 'random', because the selection orders the examples": (
            ordered != "random" or getattr(arguments, "group_by_length", False)
        ),
        "accelerator_config: expected split_batches=False and dispatch_batches other than True": bool(
            config.split_batches or config.dispatch_batches
        ),
        "ignore_data_skip=True: expected False; nothing is read to skip, because the checkpoint has the order": (
            arguments.ignore_data_skip
        ),
    }
    if spec is not None and _varying(trainer):
        told = f"strategy={options['strategy']!r} and warm_fraction={options.get('warm_fraction', 0)!r} make epochs of "
        epochs = arguments.num_train_epochs
        faults |= {
            f"{told}different sizes: give their number with num_train_epochs, not max_steps": arguments.max_steps
            > 0,
            f"{told}different sizes: num_train_epochs={epochs!r}, expected a whole number": epochs
            != int(epochs),
            f"{told}different sizes, for which this version of transformers has no place: expected 5.24 or newer": not (
                hasattr(Trainer, "_init_training_state") and hasattr(Trainer, "set_initial_training_values")
            ),
        }
    found = [fault for fault, there in faults.items() if there]
    if found:
        raise ValueError("; ".join(found))


def _read(folder: str) -> Any:
    file = Path(folder) / STATE
    if not file.is_file():
        raise ValueError(
            f"{folder} has no {STATE}: expected a checkpoint of a Trainer with the same selection=, without "
            "save_only_model"
        )
    return torch.load(file, map_location="cpu", weights_only=True)


def _label_of(inputs: Any, names: Sequence[str]) -> Tensor:
    there = [name for name in names if name in inputs]
    if len(there) != 1:
        raise ValueError(
            f"a batch has the labels {there or 'none'} of {list(names)}: expected one (label_names)"
        )
    label: Tensor = inputs[there[0]]
    return label


def _fault(outputs: Any, labels: Tensor) -> str | None:
    """Why the model's loss is not the mean of the examples' cross-entropy; None: it is."""
    logits, own = _field(outputs, "logits"), _field(outputs, "loss")
    if logits is None or logits.ndim != 2 or labels.ndim != 1 or labels.is_floating_point():
        shape = "none" if logits is None else tuple(logits.shape)
        return (
            f"the model has logits of shape {shape} for labels of shape {tuple(labels.shape)}, where logits [B, C] and "
            "class indices [B] were expected"
        )
    mean = cross_entropy(logits, labels)
    if own is None or not torch.allclose(own.float().mean(), mean.float(), rtol=1e-5):
        return "the model's loss is not the mean cross-entropy of its logits"
    return None


def _field(outputs: Any, name: str) -> Tensor | None:
    found = outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)
    return found if isinstance(found, Tensor) else None


def _inherited_loss(trainer: SelectsSubsets) -> Any:
    """The ``compute_loss`` that the one of :class:`SelectsSubsets` stands for."""
    own = inspect.getmro(type(trainer))
    after = own[own.index(SelectsSubsets) + 1 :]
    return next(vars(cls)["compute_loss"] for cls in after if "compute_loss" in vars(cls))

"""Evaluates a model on a data set: the logits and features of every example, as a pool."""

import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler

from subset_selection.items import Fields, Key, device_of, to_device
from subset_selection.last_layer import LastLayer, Outputs, unwrapped
from subset_selection.progress import with_progress
from subset_selection.storage import Allocate, Embeddings, on_the_device
from subset_selection.types import CROSS_ENTROPY, Loss, Pool


class Room(Protocol):
    """Makes storage for columns of these widths; see :class:`~subset_selection.storage.Embeddings`."""

    def __call__(self, *widths: int) -> Embeddings: ...


def collect(outputs: Iterable[Sequence[Tensor]], room: Room) -> Embeddings | None:
    """Write a pass's outputs, part by part, into columns.

    Args:
        outputs: for each batch its columns' rows, [B, width] each.
        room: makes the columns, called with the widths of the first batch.

    Returns:
        the storage; None if there is no batch.
    """
    found: Embeddings | None = None
    done = 0
    for parts in outputs:
        found = found or room(*(part.shape[1] for part in parts))
        found.write(done, parts)
        done += len(parts[0])
    return found


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Eval mode without gradients. Afterwards every module has its own mode again, and the random generators of torch,
    Python and NumPy (if it is loaded) have the states of before."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    gpus = sorted({device.index for device in map(device_of, models) if device.type == "cuda"})
    numpy = sys.modules.get("numpy")
    drawn, arrays = random.getstate(), None if numpy is None else numpy.random.get_state()
    try:
        with torch.random.fork_rng(gpus), torch.no_grad():
            for model in models:
                model.eval()
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        random.setstate(drawn)
        if numpy is not None:
            numpy.random.set_state(arrays)


class Evaluation:
    """How a model is evaluated on batches.

    Args:
        model: any module; its device is used.
        fields: where the input and the label of a batch are.
        head: the last linear layer, or its name; None: found by a hook.
        outputs: gives the logits and features in place of a hook.
        autocast: the data type of the forward pass; None: what is active where the pass is made.
        loss: the loss whose gradients strategies use.
    """

    def __init__(
        self,
        model: nn.Module,
        fields: Fields,
        head: nn.Module | str | None = None,
        outputs: Outputs | None = None,
        autocast: torch.dtype | None = None,
        loss: Loss = CROSS_ENTROPY,
    ) -> None:
        if head is not None and outputs is not None:
            raise ValueError(
                "head= and outputs= both say where logits and features come from: give one of them"
            )
        self.model = unwrapped(model)
        self.fields, self.loss = fields, loss
        self._autocast = autocast
        self.precision: Callable[[], AbstractContextManager[Any]]
        """The context of a forward pass, where no data type is given: a trainer's own."""
        self.convert: Callable[[Any], Any]
        """Makes a forward pass's input of a batch's: to a trainer's data type."""
        self.reset_precision()
        self._forward: Callable[[Any], tuple[Tensor, Tensor]]
        self._forward = (
            LastLayer(model, head) if outputs is None else lambda inputs: outputs(self.model, inputs)
        )

    def reset_precision(self) -> None:
        """Evaluate in what is active where a pass is made, and on inputs as they are."""
        self.precision, self.convert = nullcontext, lambda inputs: inputs

    def of(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [B, C] and features [B, D] on the model's device, and labels [B] on the batch's. To be called within
        :func:`evaluating`.

        Raises:
            ValueError: the batch is not understood, or a label is not one of the C classes.
        """
        inputs, labels = self.fields.split(batch)
        device = device_of(self.model)
        given = None if self._autocast is None else torch.autocast(device.type, self._autocast)
        with given or self.precision():
            logits, features = self._forward(self.convert(to_device(inputs, device)))
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[1]:
            raise ValueError(
                f"the labels reach from {int(labels.min())} to {int(labels.max())}: expected classes from 0 to "
                f"{logits.shape[1] - 1}, because the model has {logits.shape[1]} outputs"
            )
        return logits, features, labels

    def pool(
        self,
        batches: Iterable[Any],
        rows: int,
        examples: int,
        allocate: Allocate = on_the_device,
        what: str = "evaluating the model",
        everyones: Callable[[Any], list[Any]] = lambda own: [own],
    ) -> Pool:
        """The outputs for all examples of a pass, in its order.

        Args:
            batches: what a data loader yields.
            rows: number of examples of this process.
            examples: number of examples of all processes together.
            allocate: allocates the columns.
            what: what the pass is for, in progress reports.
            everyones: gives the values of all processes for this one's.

        Raises:
            NotFiniteError: an output is NaN or infinite.
            ValueError: a batch is not understood, or there are not ``rows`` examples.
        """
        device = device_of(self.model)
        labels: list[Tensor] = []

        def results() -> Iterator[tuple[Tensor, Tensor]]:
            for batch in with_progress(batches, rows, what, lambda batch: len(labels[-1])):
                logits, features, own = self.of(batch)
                labels.append(own)
                yield logits, features

        def room(*widths: int) -> Embeddings:
            return Embeddings(rows, widths, device, examples, allocate)

        with evaluating(self.model):
            found = collect(results(), room)
        if sum(map(len, labels)) != rows:
            raise ValueError(
                f"the loader yields {sum(map(len, labels))} examples: expected all {rows} (drop_last?)"
            )
        # A process without examples needs columns of the others' widths.
        widths = everyones(None if found is None else [column.shape[1] for column in found.columns])
        if found is None:
            known = [of_one for of_one in widths if of_one is not None]
            if not known:
                raise ValueError("the data set is empty: expected at least one example")
            found, labels = room(*known[0]), [torch.empty(0, dtype=torch.int64)]
        logits, features = found.columns
        return Pool(torch.cat(labels).to(logits.device), logits, features, loss=self.loss)


def embed(
    model: nn.Module,
    loader: DataLoader[Any],
    *,
    inputs: Key | tuple[Key, ...] | None = None,
    label: Key | None = None,
    head: nn.Module | str | None = None,
    outputs: Outputs | None = None,
    autocast: torch.dtype | None = None,
    loss: Loss = CROSS_ENTROPY,
) -> Pool:
    """Evaluate a model on all examples of a loader, for a strategy's ``select``.

    The model is evaluated in eval mode without gradients, on its own device. Afterwards its modules' modes and the
    random generators' states are those of before.

    Args:
        model: any module that ends in a linear layer.
        loader: yields batches in data order, tuples (input, label) or dicts. Its data set should not augment.
        inputs: the field of the input, or several; default: found, see :class:`~subset_selection.items.Fields`.
        label: the field of the label; default: found.
        head: the last linear layer or its name; default: the layer whose output is the model's.
        outputs: (model, inputs) → logits [B, C] and features [B, D], for models without such a layer.
        autocast: data type of the forward pass; default: what is active.
        loss: the loss whose gradients strategies use.

    Returns:
        labels [N], logits [N, C] and features [N, D] on the model's device, in float32; in float16 for more than 2²⁶
        numbers, if they are in its range.

    Raises:
        NotFiniteError: an output is NaN or infinite.
        ValueError: the loader shuffles, a batch is not understood, or the last layer is not found.
    """
    if isinstance(getattr(loader, "sampler", None), RandomSampler):
        raise ValueError(
            "the loader shuffles: expected one in data order (shuffle=False), as indices refer to it"
        )
    rows = len(loader.dataset)  # type: ignore[arg-type]
    evaluation = Evaluation(model, Fields(inputs, label), head, outputs, autocast, loss)
    return evaluation.pool(loader, rows, rows)

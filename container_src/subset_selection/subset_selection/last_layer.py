"""The last linear layer of a model, and its input: found by a hook on the model as it is."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from subset_selection.items import call

Output = TypeVar("Output")
Outputs = Callable[[nn.Module, Any], tuple[Tensor, Tensor]]
"""(model, inputs of a batch) → logits [B, C] and the last layer's input [B, D]."""


def with_input_of(module: nn.Module, forward: Callable[[], Output]) -> tuple[Output, Tensor]:
    """Run a forward pass, and capture the input of one of the model's modules.

    Returns:
        what ``forward`` returns, and the module's input in its last call, [B, D].

    Raises:
        ValueError: the pass does not reach the module.
    """
    with _calls([module]) as calls:
        output = forward()
    if not calls:
        raise ValueError(f"the forward pass does not reach the layer {type(module).__name__} given as head=")
    return output, calls[-1][1].flatten(1)


class LastLayer:
    """The logits and the last linear layer's input, of any model.

    The layer is the ``nn.Linear`` whose output is the model's output, directly or through a softmax or a log-softmax.
    It is found in the first batch.

    Args:
        model: a model whose output is a tensor [B, C], has it as ``logits`` (an attribute or a key), or is a tuple with
            one tensor [B, C].
        head: the layer, or its name in ``model.named_modules()``; None: it is found.

    Raises:
        ValueError: ``head`` is no linear layer of the model.
    """

    def __init__(self, model: nn.Module, head: nn.Module | str | None = None) -> None:
        self._model = unwrapped(model)
        self._head = None if head is None else _given(self._model, head)

    def __call__(self, inputs: Any) -> tuple[Tensor, Tensor]:
        """The logits [B, C], and the layer's input [B, D].

        Raises:
            ValueError: the layer is not found.
        """
        layers = [self._head] if self._head else _linears(self._model)
        with _calls(layers) as calls:
            output = call(self._model, inputs)
        if self._head is None:
            self._head = _producer(calls, output, type(self._model).__name__)
        made = [(features, logits) for layer, features, logits in calls if layer is self._head]
        if not made:
            raise ValueError("the forward pass does not reach the layer given as head=")
        features, logits = made[-1]
        if logits.ndim != 2 or logits.shape[1] < 2:
            raise ValueError(
                f"the last linear layer gives {tuple(logits.shape)}: expected one logit for each class, [B, C] with at "
                "least 2 classes; give outputs=, a function (model, inputs) → (logits, features)"
            )
        return logits, features.flatten(1)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself: of a compiled model, because hooks are not part of its graph; of one that several processes
    train, because its forward pass waits for the others."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


@contextmanager
def _calls(layers: list[Any]) -> Iterator[list[tuple[nn.Module, Tensor, Tensor]]]:
    """The calls of some layers within the context: (layer, its input, its output)."""
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []

    def note(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        if arguments and isinstance(arguments[0], Tensor):
            calls.append((module, arguments[0], output))

    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _given(model: nn.Module, head: nn.Module | str) -> nn.Module:
    named = dict(model.named_modules())
    layer = named.get(head) if isinstance(head, str) else head
    known = [name for name, module in named.items() if isinstance(module, nn.Linear)]
    if not isinstance(layer, nn.Linear) or not any(module is layer for module in named.values()):
        said = repr(head) if isinstance(head, str) else type(head).__name__
        raise ValueError(
            f"head={said}: expected a linear layer of the model, one of {', '.join(known) or 'none'}"
        )
    return layer


def _linears(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


def _producer(calls: list[tuple[nn.Module, Tensor, Tensor]], output: Any, model: str) -> nn.Module:
    """The layer whose output the model's output is."""
    answer = _answer(output)
    if answer is not None:
        for layer, _, made in reversed(calls):
            if made is answer or (made.shape == answer.shape and _same(made, answer)):
                return layer
    raise ValueError(
        f"the output of {model} is not that of a linear layer, nor its softmax: name the last layer with head=, or "
        "give outputs=, a function (model, inputs) → (logits [B, C], features [B, D])"
    )


def _answer(output: Any) -> Tensor | None:
    """The tensor [B, C] in what a model returns; None: it cannot be said."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping) and "logits" in output:
        output = output["logits"]
    elif hasattr(output, "logits"):
        output = output.logits
    elif isinstance(output, tuple | list):
        tensors = [value for value in output if isinstance(value, Tensor) and value.ndim == 2]
        output = tensors[0] if len(tensors) == 1 else None
    return output if isinstance(output, Tensor) else None


def _same(made: Tensor, answer: Tensor) -> bool:
    if made.ndim != 2:
        return False
    wide, given = made.float(), answer.float()
    forms = (wide, wide.log_softmax(1), wide.softmax(1))
    return any(torch.allclose(form, given, rtol=1e-3, atol=1e-5) for form in forms)

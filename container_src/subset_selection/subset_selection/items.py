"""What a data loader yields: where the input and the label of a batch are, and how a batch is moved and cut."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Key = str | int
"""A field of an item: a name in a dict, a position in a tuple."""
LABELS = ("label", "labels", "target", "targets")
"""The names under which a dict's label is found."""
INPUTS = ("input", "inputs", "image", "images", "pixel_values", "features", "x")
"""The names under which a dict's input is found, if it has more fields than one beside the label."""
TOKENS = "input_ids"
"""A dict with this field is what Hugging Face's models take: all its fields but the label are passed by name."""


@dataclass(frozen=True)
class Fields:
    """Where the input and the label of a batch are. None: found; see :meth:`split`."""

    inputs: Key | tuple[Key, ...] | None = None
    label: Key | None = None

    def split(self, batch: Any) -> tuple[Any, Tensor]:
        """The model's input, and the labels [B] int64.

        In a pair, the first is the input and the second the label. In a dict, the label is the one field of
        :data:`LABELS`; the input is the one other field, or all others if one is :data:`TOKENS`, or the one field of
        :data:`INPUTS`.

        Returns:
            the input as it is in the batch; a dict, if several named fields are the input; a tuple, if several
            positions are.

        Raises:
            ValueError: it cannot be said what is the input, or what is the label; or the labels are no classes.
        """
        if isinstance(batch, Mapping):
            label = _named_label(batch) if self.label is None else self.label
            inputs = _named_input(batch, label) if self.inputs is None else self.inputs
        elif isinstance(batch, list | tuple):
            if (self.inputs is None or self.label is None) and len(batch) != 2:
                raise ValueError(
                    f"an item is a tuple of {len(batch)} fields: expected (input, label), or inputs= and label= "
                    "with their positions"
                )
            label = 1 if self.label is None else self.label
            inputs = 0 if self.inputs is None else self.inputs
        else:
            raise ValueError(
                f"an item is a {type(batch).__name__}: expected a tuple (input, label) or a dict with both"
            )
        if not isinstance(inputs, tuple):
            return _field(batch, inputs), as_labels(_field(batch, label))
        picked = {key: _field(batch, key) for key in inputs}
        given = picked if isinstance(batch, Mapping) else tuple(picked.values())
        return given, as_labels(_field(batch, label))


def as_labels(values: Any) -> Tensor:
    """Labels as int64 [B].

    Raises:
        ValueError: they are not one class index for each example.
    """
    labels = torch.as_tensor(values)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels.flatten()
    if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(
            f"the labels are {labels.dtype} of shape {tuple(labels.shape)}: expected one class index for each "
            "example, an integer from 0 (label= names another field)"
        )
    return labels.to(torch.int64)


def _field(batch: Any, key: Key) -> Any:
    try:
        return batch[key]
    except (KeyError, IndexError, TypeError):
        there = list(batch) if isinstance(batch, Mapping) else f"{len(batch)} positions"
        raise ValueError(f"an item has no field {key!r}: it has {there}") from None


def _named_label(batch: Mapping[Any, Any]) -> Key:
    found = [name for name in LABELS if name in batch]
    if len(found) != 1:
        raise ValueError(
            f"an item has the fields {list(batch)}, of which {found or 'none'} may be the label: "
            "name it with label="
        )
    return found[0]


def _named_input(batch: Mapping[Any, Any], label: Key) -> Key | tuple[Key, ...]:
    others: list[Key] = [name for name in batch if name != label]
    if TOKENS in others:
        return tuple(others)
    found = others if len(others) == 1 else [name for name in INPUTS if name in others]
    if len(found) != 1:
        raise ValueError(
            f"an item has the fields {list(batch)}, of which {found or 'none'} may be the input: "
            "name it with inputs="
        )
    return found[0]


def call(model: Callable[..., Any], inputs: Any) -> Any:
    """The model's output: several named inputs are passed by name, several positions one after the other."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch with all of its tensors on the device."""
    return mapped(lambda tensor: tensor.to(device, non_blocking=True), batch)


def taken(batch: Any, positions_K: Tensor) -> Any:
    """Some examples of a collated batch: rows of its tensors, and entries of its lists of anything else."""

    def rows(tensor: Tensor) -> Tensor:
        return tensor[positions_K.to(tensor.device)]

    return mapped(rows, batch, lambda values: [values[position] for position in positions_K.tolist()])


def mapped(
    of_tensor: Callable[[Tensor], Tensor], batch: Any, of_list: Callable[[Any], Any] = lambda values: values
) -> Any:
    """The batch with a function applied to its tensors, and another to its lists that hold no tensors."""
    if isinstance(batch, Tensor):
        return of_tensor(batch)
    if isinstance(batch, Mapping):
        return {key: mapped(of_tensor, value, of_list) for key, value in batch.items()}
    if isinstance(batch, Sequence) and not isinstance(batch, str | bytes):
        if not any(isinstance(value, Tensor | Mapping | list | tuple) for value in batch):
            return of_list(batch)
        parts = (mapped(of_tensor, value, of_list) for value in batch)
        # A named tuple takes its fields one by one.
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)  # type: ignore[call-arg]
    return batch


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's first parameter or buffer; the CPU for a model without any."""
    for values in (model.parameters(), model.buffers()):
        for value in values:
            return value.device
    return torch.device("cpu")

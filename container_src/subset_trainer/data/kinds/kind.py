"""The interface of a kind of data: everything that differs between images, rows of tables and texts."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from subset_trainer.data.channels import Channel
from subset_trainer.data.datasets import Dataset
from subset_trainer.data.images.labelled import ImageArray, LabelledImages
from subset_trainer.data.loading import Fitting, Loading
from subset_trainer.data.parts import Parts
from subset_trainer.data.tables.table import Table
from subset_trainer.data.texts.labelled import Texts
from subset_trainer.data.texts.tokens import Tokens
from subset_trainer.errors import UserError, shown

Source = LabelledImages | ImageArray | Table | Texts
"""Labelled examples as a format reads them."""


class Kind(ABC):
    """One kind of data; an instance holds what was fitted on training data and is needed for inference.

    To add a kind, write a subclass as a frozen dataclass in a file of its own, and enter it in
    :data:`subset_trainer.data.kinds.registry.KINDS`.
    """

    # How model.json is read. Fields are added, never given another meaning, so that an unknown one is damage.
    __pydantic_config__: ClassVar = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    name: ClassVar[str]
    """The kind's name in model.json."""
    sources: ClassVar[tuple[type, ...]]
    """The types of sources of this kind."""
    held: ClassVar[str]
    """What a channel of this kind holds, in messages."""
    default_model: ClassVar[str]
    augmented: ClassVar[bool] = False
    """Whether training augments the examples in each epoch, as images are shifted and mirrored."""
    bytes_each: ClassVar[int] = 4
    """Bytes per input value."""
    pictures: ClassVar[bool] = False
    """Whether the examples are images, which may be dark, bright or blurry."""
    takes_weights: ClassVar[bool] = False
    """Whether the channel `pretrained` may hold the weights of a network for this kind."""
    takes_encoder: ClassVar[bool] = False
    """Whether the channel `pretrained` may hold an encoder."""
    divisible: ClassVar[bool] = True
    """Whether a request's body consists of records, which batch transform may split and join."""
    stand_in: ClassVar[str]
    """What replaces an absent part, in words."""
    own_content_types: ClassVar[tuple[str, ...]]
    """Content types of requests, beside JSON and JSON Lines. A final slash makes one a prefix."""
    accepted: ClassVar[tuple[str, str]]
    """For messages: these content types, and what the model takes."""

    classes: tuple[str, ...]
    """In the order of the model's outputs."""

    @property
    def tokens(self) -> Tokens | None:
        """The tokenizer of an encoder; None without one."""
        return None

    # Fitting and encoding

    @classmethod
    def holds(cls, source: Source) -> bool:
        """Whether a source is of this kind."""
        return isinstance(source, cls.sources)

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example as the model takes it."""

    @classmethod
    @abstractmethod
    def fit(cls, channel: Channel, source: Any, fitting: Fitting) -> tuple["Kind", Dataset]:
        """Fit on the training examples, and encode all examples on this host.

        Raises:
            UserError: nothing can be learned from them.
        """

    def encode(self, channel: Channel, source: Any, loading: Loading, trained: np.ndarray) -> Dataset:
        """Encode labelled inputs.

        Args:
            trained: the class numbers that may occur in the labels.

        Raises:
            UserError: there are other labels, or too little memory.
        """
        return self._dataset(
            channel, source, torch.from_numpy(self._labels(channel, source, trained)), loading
        )

    @abstractmethod
    def _dataset(self, channel: Channel, source: Any, labels: Tensor, loading: Loading) -> Dataset:
        """The encoded inputs of all the source's examples, with labels [N] int64."""

    def _bytes(self, examples: int) -> int:
        """The encoded size of so many examples in bytes."""
        return examples * int(np.prod(self.input_shape)) * self.bytes_each

    def _labels(self, channel: Channel, source: Source, trained: np.ndarray) -> np.ndarray:
        """[N] int64: positions in the classes. Raises UserError for classes that are not among `trained`."""
        position = {self.classes[index]: index for index in trained.tolist()}
        unknown = [source.classes[i] for i in np.unique(source.labels) if source.classes[i] not in position]
        if unknown:
            known = ", ".join(map(repr, list(position)[:10])) + (", …" if len(position) > 10 else "")
            some = ", ".join(map(repr, unknown[:5])) + (
                f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            )
            raise channel.error(f"the labels {some} do not occur in training; expected some of {known}.")
        lookup = np.array([position.get(name, -1) for name in source.classes], np.int64)
        return lookup[source.labels]

    def of_table(
        self, channel: Channel, file: str, read: Callable[[str | None, Any], Table]
    ) -> Table | Texts:
        """Interpret a channel of tables for this kind of model.

        Args:
            file: the channel's first file.
            read: reads the table, with the label in a given column or as in training.

        Raises:
            UserError: a table is not of this kind, or it cannot be read.
        """
        raise channel.error(f"holds tables ('{file}'); expected {self.held}, as in training.")

    @classmethod
    def common(cls, source: Any) -> Mapping[str, Any]:
        """What all parts of a sharded channel must share: name of the property → value."""
        return {}

    # The model

    def model(self, name: str) -> str:
        """The model's name, with ``auto`` resolved. Raises UserError if the model does not fit this kind."""
        resolved = self.default_model if name == "auto" else name
        if resolved != self.default_model:
            raise UserError(
                f"hyperparameter model={name!r} is not for {self.name}s; these expect {self.default_model}"
            )
        return resolved

    @property
    def network(self) -> dict[str, Any]:
        """Arguments of :func:`subset_trainer.models.build` beside the shape of inputs."""
        return {}

    def normalised(self, mean: tuple[float, ...], std: tuple[float, ...]) -> Self:
        """The same kind, with the normalisation that pretrained weights expect."""
        raise NotImplementedError(f"{self.name}s are not normalised by channel")

    # model.json

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """JSON values. `from_json` returns an equal object, except for the content of `files`."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`, by the types of the fields. Raises KeyError, TypeError or ValueError on anything
        else."""
        try:
            return TypeAdapter(cls).validate_json(json.dumps(value))
        except ValidationError as error:
            (fault, *_) = error.errors(include_url=False)
            place = ".".join(map(str, fault["loc"]))
            raise ValueError(f"{place}: {shown(fault['input'], 40)}: {fault['msg']}") from error

    def check(self) -> None:
        """Raise ValueError if no training can have produced this."""
        if not self.classes:
            raise ValueError(f"classes: {shown(self.classes)}")
        self.check_inputs()

    @abstractmethod
    def check_inputs(self) -> None:
        """Raise ValueError if examples cannot be encoded by this."""

    @staticmethod
    def _check_places(columns: int, label_index: int, left_out: Sequence[int]) -> None:
        """Raise ValueError if the label or what is left out cannot stand beside so many columns."""
        total = columns + len(left_out) + 1
        if len({label_index, *left_out} & set(range(total))) != len(left_out) + 1:
            raise ValueError(
                f"label_index and left_out: {shown((label_index, *left_out))} of {total:,} columns"
            )

    def files(self) -> Mapping[str, str]:
        """Name → content of the files that are saved beside model.json."""
        return {}

    def with_files(self, read: Callable[[str], str]) -> Self:
        """The same kind with the files beside model.json. `read`: returns a file's content. Raises ValueError if that
        belongs to another model."""
        return self

    # Requests

    def bounded(self, most_pixels: int) -> Self:
        """The same kind, which refuses images of more pixels in requests."""
        return self

    @abstractmethod
    def batches(self, body: bytes, form: str, content_type: str) -> Iterator[np.ndarray]:
        """Batches of a request's examples as the model takes them.

        Args:
            form: `content_type` without parameters, normalised.

        Raises:
            UserError: the body cannot be read; raised after the batches before the error.
        """

    # Explanations and reports

    @abstractmethod
    def parts(self, inputs: Tensor, text: Any, absent: Tensor | None) -> Parts:
        """The parts of one example. `text`: its original text, or the sequence of its texts; None: it has none.
        `absent`: the result of `absent`."""

    def absent(self, dataset: Dataset) -> Tensor | None:
        """The value that replaces absent parts; None: they are removed."""
        return None

    def values(self, inputs: Tensor, parts: Parts) -> list[str]:
        """[M] the original value of each part. Empty strings: it cannot be recovered. An empty list: the parts hold
        their values themselves."""
        return []

    @abstractmethod
    def show(self, dataset: Dataset, rows: Sequence[int], texts: np.ndarray | None) -> list[Any]:
        """Some examples in readable form. `texts`: the original texts of a data set, [N] or [N, T]."""

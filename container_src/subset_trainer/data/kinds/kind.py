"""What a kind of data is: all that is decided by whether examples are images, rows of tables or texts."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
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
"""Labelled examples as they lie in a channel."""


class Kind(ABC):
    """One kind of data; an object of it holds what was learned from training data and is needed at inference.

    To add one: a file with such a class, a frozen dataclass, and its entry in
    :data:`subset_trainer.data.kinds.registry.KINDS`.
    """

    name: ClassVar[str]
    """In model.json."""
    sources: ClassVar[tuple[type, ...]]
    """What readers bring that is of this kind."""
    held: ClassVar[str]
    """What a channel of it holds, in messages."""
    default_model: ClassVar[str]
    augmented: ClassVar[bool] = False
    """Whether training changes the examples from epoch to epoch, as images are shifted and mirrored."""
    bytes_each: ClassVar[int] = 4
    """Of a number that the model takes."""
    takes_weights: ClassVar[bool] = False
    """Whether the channel `pretrained` may hold the weights of a network for it."""
    takes_encoder: ClassVar[bool] = False
    """Whether it may hold an encoder."""
    divisible: ClassVar[bool] = True
    """Whether a request's body is made of records, which batch transform may cut and put together."""
    stand_in: ClassVar[str]
    """What takes the place of a part that is not there, in words."""
    own_content_types: ClassVar[tuple[str, ...]]
    """Of requests, beside JSON and JSON Lines; one that ends in a slash stands for all that begin so."""
    accepted: ClassVar[tuple[str, str]]
    """For messages: these content types, and what the model takes."""

    classes: tuple[str, ...]
    """In the order of the model's outputs."""
    tokens: Tokens | None = None
    """How texts become an encoder's tokens, where they do."""

    # What is learned of the examples, and what becomes of them

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Of one example as the model takes it."""

    @classmethod
    @abstractmethod
    def fit(cls, channel: Channel, source: Any, fitting: Fitting) -> tuple["Kind", Dataset]:
        """Learn from some of the channel's examples, and encode them all, those of this host. UserError where nothing
        can be learned."""

    def encode(self, channel: Channel, source: Any, loading: Loading, trained: np.ndarray) -> Dataset:
        """Labelled inputs. trained: the classes, by number, that labels may be of. UserError for others, and where the
        memory does not suffice."""
        return self._dataset(
            channel, source, torch.from_numpy(self._labels(channel, source, trained)), loading
        )

    @abstractmethod
    def _dataset(self, channel: Channel, source: Any, labels: Tensor, loading: Loading) -> Dataset:
        """The inputs of all of the source's examples, with labels [N] int64."""

    def _bytes(self, examples: int) -> int:
        """Of so many examples as the model takes them."""
        return examples * int(np.prod(self.input_shape)) * self.bytes_each

    def _labels(self, channel: Channel, source: Source, trained: np.ndarray) -> np.ndarray:
        """[N] int64: positions in the classes. UserError on classes that are not among `trained`."""
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
        """What a channel of tables is to a model of this kind.

        Args:
            file: the first one.
            read: the table with the label in a column, or as training had it.

        Raises:
            UserError: nothing; or as reading.
        """
        raise channel.error(f"holds tables ('{file}'); expected {self.held}, as in training.")

    @classmethod
    def common(cls, source: Any) -> Mapping[str, Any]:
        """What the parts of one channel on several hosts must have in common: what it is called → what it is."""
        return {}

    # The model

    def model(self, name: str) -> str:
        """The model's name, ``auto`` replaced. UserError where it does not fit this kind."""
        resolved = self.default_model if name == "auto" else name
        if resolved != self.default_model:
            raise UserError(
                f"hyperparameter model={name!r} is not for {self.name}s; these expect {self.default_model}"
            )
        return resolved

    @property
    def network(self) -> dict[str, Any]:
        """What :func:`subset_trainer.models.build` must be told beside the shape of inputs."""
        return {}

    def normalised(self, mean: tuple[float, ...], std: tuple[float, ...]) -> Self:
        """The same with the normalisation that given weights were trained with."""
        raise NotImplementedError(f"{self.name}s are not normalised by channel")

    # model.json

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Plain values that survive JSON; `from_json` gives an equal object back, but for what `files` holds."""

    @classmethod
    @abstractmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. KeyError, TypeError or ValueError on anything else."""

    def check(self) -> None:
        """Raises ValueError where no model can have learned this."""
        if not self.classes or not all(isinstance(name, str) for name in self.classes):
            raise ValueError(f"classes: {shown(self.classes)}")

    @staticmethod
    def _check_numbers(*numbers: Any) -> None:
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
            raise ValueError("a mean or standard deviation that is no number")

    def files(self) -> Mapping[str, str]:
        """Name → content of what is saved beside model.json."""
        return {}

    def with_files(self, read: Callable[[str], str]) -> Self:
        """The same with what was saved beside model.json; read: a file's content. ValueError where it is another's."""
        return self

    # Requests

    @abstractmethod
    def batches(self, body: bytes, form: str, content_type: str) -> Iterator[np.ndarray]:
        """Batches of a request's examples as the model takes them. form: `content_type` without parameters, in one
        spelling. UserError where it cannot be read, once the batches before have been taken."""

    # For people

    @abstractmethod
    def parts(self, inputs: Tensor, text: str | None, absent: Tensor | None) -> Parts:
        """What one example is made of. text: of a text; absent: what `absent` gives."""

    def absent(self, dataset: Dataset) -> Tensor | None:
        """What takes the place of a part that is not there; None: nothing."""
        return None

    def values(self, inputs: Tensor, parts: Parts) -> list[str]:
        """[M] what stood in the data for each part; empty: nothing that could be told. Of parts that tell it
        themselves: none."""
        return []

    @abstractmethod
    def show(self, dataset: Dataset, rows: Sequence[int], texts: np.ndarray | None) -> list[Any]:
        """Some examples as a person knows them. texts [N]: of a data set of texts."""

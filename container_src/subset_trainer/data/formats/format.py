"""The interface of a data format: recognising a channel by its files, and reading them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from subset_trainer.data.channels import Channel, LabelFolder
from subset_trainer.data.class_names import LabelNames
from subset_trainer.data.images.labelled import ImageArray
from subset_trainer.data.tables.interpret import Rules
from subset_trainer.data.understanding import Decision, Understanding

if TYPE_CHECKING:  # the formats are free of torch
    from subset_trainer.data.kinds.kind import Kind, Source


OF_COLUMNS = (
    *("text_column", "ignore_columns", "keep_columns", "number_columns"),
    *("date_order", "decimal_mark", "missing_values"),
)
OF_MANIFESTS = ("min_confidence", "confidence_weighting", "human_annotated_only", "verified_as", "s3_images")


@dataclass(frozen=True)
class ManifestOptions:
    """How a manifest is read.

    `min_confidence`: labels with less confidence are left out. `weighted`: whether an image is weighted by the
    confidence of its label. `human_only`: leave out machine annotations. `accepted`: the verdicts of a label
    verification (in lower case) whose images are kept; empty: the usual words. `from_s3`: read S3 URIs from S3, rather
    than from the channel.
    """

    min_confidence: float = 0.0
    weighted: bool = False
    human_only: bool = False
    accepted: tuple[str, ...] = ()
    from_s3: bool = False


@dataclass(frozen=True)
class Options:
    """The user's settings for reading labels.

    `label_column`: a column's name or 0-based position, or the label attribute of a manifest; None: detected.
    `csv_header`: auto, true or false. `label_names`: whether names of classes that differ in spelling alone are one
    class; None: they are refused. `label_folder`: which of nested folders are the classes; None: detected.
    `text_encoding`: that of files of text; None: UTF-8, or by their byte order mark. `content_types`: the content type
    of each channel, as the platform gives it. `columns`: the settings for a table's columns.
    """

    label_column: str | None = None
    csv_header: str = "auto"
    label_names: LabelNames | None = None
    label_folder: LabelFolder | None = None
    manifest: ManifestOptions = field(default_factory=ManifestOptions)
    text_encoding: str | None = None
    content_types: Mapping[str, str] = field(default_factory=dict)
    columns: Rules = field(default_factory=Rules)

    def given(self) -> dict[str, str]:
        """Hyperparameter → value, of those that formats heed or do not, where they are not the default."""
        manifest, columns = self.manifest, self.columns
        values = {
            "label_column": self.label_column,
            "label_folder": self.label_folder,
            "csv_header": None if self.csv_header == "auto" else self.csv_header,
            "text_encoding": self.text_encoding,
            "min_confidence": manifest.min_confidence,
            "confidence_weighting": manifest.weighted,
            "human_annotated_only": manifest.human_only,
            "verified_as": ",".join(manifest.accepted),
            "s3_images": manifest.from_s3,
            "text_column": ",".join(columns.texts),
            "ignore_columns": ",".join(columns.ignored),
            "keep_columns": ",".join(columns.kept),
            "number_columns": ",".join(columns.numbers),
            "date_order": columns.date_order,
            "decimal_mark": columns.decimal_mark,
            "missing_values": ",".join(sorted(columns.missing)),
        }
        return {
            name: str(value).lower() if value is True else str(value)
            for name, value in values.items()
            if value
        }


@dataclass(frozen=True)
class Claim:
    """The files of a channel that a format recognises as its own.

    `images`: the images that these files name, or may name. `beside`: files that belong to the format but are not read.
    `certain`: whether the recognition holds regardless of other files' names. `weak`: whether it yields to any other.
    """

    files: tuple[str, ...]
    images: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    certain: bool = False
    weak: bool = False


@dataclass(frozen=True)
class Reading:
    """Settings for reading one channel.

    `memory`: the largest unpacked size of its files in bytes. `like`: what was fitted on the training channel; None
    when the training channel itself is read.
    """

    options: Options
    memory: int
    like: Kind | None = None


@dataclass(frozen=True)
class Found:
    """The examples of a channel, the test examples that come with a CIFAR set, notes for the log, the format, and the
    decisions behind this reading."""

    format: Format
    source: Source
    test: ImageArray | None = None
    notes: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()

    def understanding(self, channel: str, labels: np.ndarray | None = None) -> Understanding:
        """What the channel was taken to be. `labels` [N] int64: those of all hosts, by default of this source."""
        labels = self.source.labels if labels is None else labels
        counts = np.bincount(labels, minlength=len(self.source.classes)).tolist()
        classes = dict(zip(self.source.classes, counts, strict=True))
        return Understanding(channel, self.format.name, len(labels), classes, self.decisions)


class Format(ABC):
    """A form in which a channel may hold its examples.

    To add a format, write a file with a subclass and enter it in
    :data:`subset_trainer.data.formats.registry.FORMATS`.
    """

    name: ClassVar[str]
    """Unique among the formats."""
    expected: ClassVar[tuple[str, str, str]]
    """For the sentence that lists the formats: the words before, those of this format, and those after. Consecutive
    formats with the same words before and after are listed together."""
    telling: ClassVar[tuple[str, ...]] = ()
    """Suffixes that identify this format even if the content type declares tables."""
    shared: ClassVar[tuple[str, ...]] = ()
    """Suffixes that do not identify the format, because its table files may have them too."""
    beginning: ClassVar[Literal["lines", "rows", "some"] | None] = None
    """What can be read by itself: first lines, first rows, or some of many files; None: nothing."""
    splits: ClassVar[Literal["files", "folders", "none"]] = "files"
    """Where names may say a split: those of its files, those of the folders around its examples, or none because the
    format brings its own test examples."""
    contents: ClassVar[tuple[str, ...]] = ()
    """What its files hold by their first bytes; empty: the format looks itself."""
    table: ClassVar[str | None] = None
    """The name of a table format in messages; None: the format holds no tables, or other data too."""
    content_types: ClassVar[tuple[str, ...]] = ()
    """Content types of SageMaker's built-in algorithms that denote a table in this format."""
    columns_vary: ClassVar[bool] = False
    """Whether a file may lack columns of another."""
    heeds: ClassVar[tuple[str, ...]] = ()
    """The hyperparameters for reading labels and columns that this format heeds, beside those of every format. Others
    that are given are refused or said: see :func:`subset_trainer.data.formats.reading.laid_out`."""
    undividable: ClassVar[str | None] = None
    """A sentence that explains why the files cannot be divided among hosts; None: they can."""

    @property
    def in_folders(self) -> bool:
        """Whether the folders around its examples name their classes or splits."""
        return self.splits == "folders"

    @abstractmethod
    def recognise(self, channel: Channel) -> Claim | None:
        """Claim the files in this format, as far as names (and perhaps first bytes) show.

        Returns:
            None: the channel holds none.

        Raises:
            UserError: the channel can only be of this format, and something is missing.
        """

    @abstractmethod
    def read(self, channel: Channel, claim: Claim, reading: Reading) -> Found:
        """Read the claimed files. Raises UserError for anything that is wrong with them."""

    def doubts(self, channel: Channel, claim: Claim) -> list[Decision]:
        """The open decisions on the claimed files that names and first bytes show."""
        return []

    def near_miss(self, channel: Channel) -> str | None:
        """If no format is recognised: a sentence on what would make the channel one of this format, or None."""
        return None

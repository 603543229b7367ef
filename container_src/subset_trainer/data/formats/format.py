"""What a format is: how a channel of it is recognised by its files, and how these are read."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from subset_trainer.data.channels import Channel
from subset_trainer.data.images.labelled import ImageArray
from subset_trainer.data.kinds.kind import Kind, Source


@dataclass(frozen=True)
class ManifestOptions:
    """What of a manifest is used. min_confidence: labels of less are left out. weighted: whether an image
    counts as much as its label's confidence. human_only: leave out what machines annotated. accepted: the classes of a
    verification (in lower case) whose images are kept; empty: by the usual words. from_s3: read what is named by an S3
    URI from there, and not from the channel."""

    min_confidence: float = 0.0
    weighted: bool = False
    human_only: bool = False
    accepted: tuple[str, ...] = ()
    from_s3: bool = False


@dataclass(frozen=True)
class Options:
    """What the user says of how labels are to be read.

    label_column: a column's name or 0-based position, or a manifest's attribute; None: found. csv_header: auto, true or
    false. content_types: channel's name → what the platform says of its files.
    text_column: a table's column whose texts are classified; None: found.
    """

    label_column: str | None = None
    csv_header: str = "auto"
    manifest: ManifestOptions = field(default_factory=ManifestOptions)
    content_types: Mapping[str, str] = field(default_factory=dict)
    text_column: str | None = None


@dataclass(frozen=True)
class Claim:
    """The files of a channel that are in a format. `images`: those that these files name, or may name. `beside`: what
    belongs to the format and is not read. `certain`: whatever the names of other files look like."""

    files: tuple[str, ...]
    images: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    certain: bool = False


@dataclass(frozen=True)
class Reading:
    """What reading one channel is told. memory: bytes that its files may unpack to. like: what the training channel
    taught, where this is another one."""

    options: Options
    memory: int
    like: Kind | None = None


@dataclass(frozen=True)
class Found:
    """A channel's examples, the test examples that a CIFAR set brings with it, what is worth logging about them, and
    the format that they are in."""

    format: "Format"
    source: Source
    test: ImageArray | None = None
    notes: tuple[str, ...] = ()


class Format(ABC):
    """One form in which a channel may hold its examples. To add one: a file with such a class, and its entry in
    :data:`subset_trainer.data.formats.registry.FORMATS`."""

    name: ClassVar[str]
    """All different."""
    expected: ClassVar[tuple[str, str, str]]
    """For the sentence that lists what a channel may hold: the words before, those of this format, and after; formats
    that follow each other with the same words around them are listed together."""
    telling: ClassVar[tuple[str, ...]] = ()
    """Suffixes that tell this format even where the platform says that the files are tables."""
    shared: ClassVar[tuple[str, ...]] = ()
    """Suffixes that do not, since files of this format have them, too."""
    last_resort: ClassVar[bool] = False
    """Only where no other format is recognised."""
    table: ClassVar[str | None] = None
    """What a table's format is called in messages; None: it holds something else, too, or nothing of the kind."""
    content_types: ClassVar[tuple[str, ...]] = ()
    """Of SageMaker's built-in algorithms: those that mean a table in this format."""
    columns_vary: ClassVar[bool] = False
    """Whether one file may lack columns of another."""
    undividable: ClassVar[str | None] = None
    """A sentence on why each of several hosts cannot have a part of the files; None: it can."""

    @abstractmethod
    def recognise(self, channel: Channel) -> Claim | None:
        """What of the channel is in this format, as far as names (and perhaps first bytes) tell. UserError where no
        other format can be meant and something is missing."""

    @abstractmethod
    def read(self, channel: Channel, claim: Claim, reading: Reading) -> Found:
        """The examples in those files. UserError for everything that is wrong with them."""

    def near_miss(self, channel: Channel) -> str | None:
        """A sentence on what would make it this format, where no format is recognised."""
        return None

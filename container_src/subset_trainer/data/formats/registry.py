"""The list of formats, and the detection of a channel's format."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from subset_trainer.data import channels
from subset_trainer.data.channels import Channel, some
from subset_trainer.data.formats.cifar import CIFAR
from subset_trainer.data.formats.csv_tables import CsvTables
from subset_trainer.data.formats.format import Claim, Format
from subset_trainer.data.formats.image_folders import ImageFolders
from subset_trainer.data.formats.labels_csv import LabelsCsv
from subset_trainer.data.formats.libsvm import Libsvm
from subset_trainer.data.formats.lst import Lst
from subset_trainer.data.formats.manifest import Manifest
from subset_trainer.data.formats.metadata_jsonl import MetadataJsonl
from subset_trainer.data.formats.npz import Npz
from subset_trainer.data.formats.parquet import Parquet
from subset_trainer.data.formats.pipe import Pipe
from subset_trainer.data.formats.recordio_images import RecordIOImages
from subset_trainer.data.formats.recordio_protobuf import RecordIOProtobuf
from subset_trainer.data.formats.tar_shards import TarArchives
from subset_trainer.data.formats.text_folders import TextFolders
from subset_trainer.data.understanding import Decision

FORMATS: tuple[Format, ...] = (
    Pipe(),
    ImageFolders(),
    LabelsCsv(),
    MetadataJsonl(),
    Lst(),
    Manifest(),
    TarArchives(),
    RecordIOImages(),
    CIFAR,
    CsvTables(),
    Parquet(),
    Libsvm(),
    RecordIOProtobuf(),
    Npz(),
    TextFolders(),
)
"""In the order of their mention in messages."""


def _expected() -> str:
    told: list[str] = []
    for (before, after), group in groupby(FORMATS, lambda form: (form.expected[0], form.expected[2])):
        words = [form.expected[1] for form in group if form.expected[1]]
        told += [f"{before}{_either(words)}{after}"] if before or after else words
    return f"{', '.join(told[:-1])}, or {told[-1]}"


def _either(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if words[1:] else words[0]


EXPECTED = _expected()


@dataclass(frozen=True)
class Layout:
    """A channel's files in `format`. `unused`: files that fit no format and are not read. `decisions`: why it is this
    format, and what is left out."""

    format: Format
    claim: Claim
    unused: tuple[str, ...]
    decisions: tuple[Decision, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        return self.claim.files

    @classmethod
    def of(cls, channel: Channel, form: Format, claim: Claim) -> "Layout":
        listed = () if channel.listing else claim.files  # otherwise these are files of the companion channel
        used = {*listed, *claim.images, *claim.beside}
        return cls(form, claim, tuple(file for file in channel.files if file not in used))


def open_channel(name: str, root: Path, listing: Path | None = None) -> Channel:
    """List a channel's files.

    Args:
        listing: the directory of its companion channel, which holds one `.lst`.

    Raises:
        UserError: the directory does not exist or holds no data.
    """
    return channels.open_channel(name, root, listing, expected=EXPECTED)


def detect(channel: Channel) -> Layout:
    """Detect a channel's format by its files. Raises UserError if none or more than one fits."""
    claims: dict[Format, Claim] = {}
    for form in FORMATS:
        if form.last_resort and claims:
            continue
        claim = form.recognise(channel)
        if claim is not None and claim.certain:
            return Layout.of(channel, form, claim)
        if claim is not None:
            claims[form] = claim
    fitting = _undisputed(claims)
    if len(fitting) > 1:
        examples = " and ".join(f"'{claim.files[0]}'" for _, claim in fitting)
        raise channel.error(f"files of several formats ({examples}); expected one of: {EXPECTED}.")
    if not fitting:
        near = next(filter(None, (form.near_miss(channel) for form in FORMATS)), None)
        raise channel.error(near or f"found {some(channel.files)}; expected {EXPECTED}.")
    return Layout.of(channel, *fitting[0])


def _undisputed(claims: Mapping[Format, Claim]) -> list[tuple[Format, Claim]]:
    """The claims without overlaps: a list that names images owns these images and itself, and the first of two lists
    owns what both claim."""
    taken = {image for claim in claims.values() for image in claim.images}
    left: dict[Format, tuple[str, ...]] = {}
    # Lists come first, because the files of other formats may be named like them.
    for form, claim in sorted(claims.items(), key=lambda item: not item[1].images):
        left[form] = tuple(file for file in claim.files if file not in taken)
        if claim.images:
            taken.update(claim.files)
    return [(form, replace(claim, files=left[form])) for form, claim in claims.items() if left[form]]

"""The formats that a channel may be in: which one it is, and reading it."""

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
"""In the order in which messages list them."""


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
    """A channel's files in `format`; `unused` fit no format and are left alone."""

    format: Format
    claim: Claim
    unused: tuple[str, ...]

    @property
    def files(self) -> tuple[str, ...]:
        return self.claim.files

    @classmethod
    def of(cls, channel: Channel, form: Format, claim: Claim) -> "Layout":
        listed = () if channel.listing else claim.files  # else these are another channel's
        used = {*listed, *claim.images, *claim.beside}
        return cls(form, claim, tuple(file for file in channel.files if file not in used))


def open_channel(name: str, root: Path, listing: Path | None = None) -> Channel:
    """List a channel's files. listing: the directory of its companion, with one `.lst`. UserError when the directory is
    absent or holds no data."""
    return channels.open_channel(name, root, listing, expected=EXPECTED)


def detect(channel: Channel) -> Layout:
    """Tell a channel's format by its files. UserError when none or more than one fits."""
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
    """What is left to each format: a list that names images has these, and itself, for its own. What is claimed by two
    lists is the first one's."""
    taken = {image for claim in claims.values() for image in claim.images}
    left: dict[Format, tuple[str, ...]] = {}
    # Lists before others, whose files may be called the same.
    for form, claim in sorted(claims.items(), key=lambda item: not item[1].images):
        left[form] = tuple(file for file in claim.files if file not in taken)
        if claim.images:
            taken.update(claim.files)
    return [(form, replace(claim, files=left[form])) for form, claim in claims.items() if left[form]]

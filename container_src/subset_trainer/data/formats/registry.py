"""The list of formats, and the detection of a channel's format."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from subset_trainer.data import channels
from subset_trainer.data.channels import Channel, some, suffix_of
from subset_trainer.data.content import TEXT, beginning, within_gzip
from subset_trainer.data.formats import side_files
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
from subset_trainer.data.split_names import splits_of_files, splits_of_folders, splits_of_names
from subset_trainer.data.understanding import Decision, refuse_open

_SHOWN = 3
_OPENED = 1_000
"""Files whose first bytes are compared with their format."""

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
    format, and what is left out; open ones are to be refused."""

    format: Format
    claim: Claim
    unused: tuple[str, ...]
    decisions: tuple[Decision, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        return self.claim.files

    @classmethod
    def of(
        cls,
        channel: Channel,
        form: Format,
        claim: Claim,
        aside: Sequence[Decision] = (),
        told: Decision | None = None,
    ) -> "Layout":
        """Decide on the other files of the channel, and on whether the claimed ones are of one split.

        Args:
            aside: the decisions on files that are left out.
            told: the decision on the format, if anything but its files decided it.
        """
        listed = () if channel.listing else claim.files  # otherwise these are files of the companion channel
        used = {*listed, *claim.images, *claim.beside}
        unused = tuple(file for file in channel.files if file not in used)
        said = {decision.name for decision in aside}
        more = f" and {len(claim.files) - 1:,} more" if len(claim.files) > 1 else ""
        lists = f", for {len(claim.images):,} images" if claim.images else ""
        decisions = [
            told or Decision("format", form.name, f"by '{claim.files[0]}'{more}{lists}"),
            *_system_folders(channel),
            *_empty_folders(channel),
            *aside,
            *side_files.unused([file for file in unused if file not in said]),
        ]
        splits = _splits(form, claim)
        rest = (
            replace(channel, files=tuple(file for file in channel.files if file not in said))
            if said
            else channel
        )
        decisions += [splits] if splits is not None else form.doubts(rest, claim)
        decisions += _contradictions(channel, form, claim)
        return cls(form, claim, unused, tuple(decisions))


def _system_folders(channel: Channel) -> list[Decision]:
    found: dict[str, list[str]] = {}
    for folder in channel.system:
        found.setdefault(folder.removesuffix("/").rsplit("/", 1)[-1], []).append(folder)
    return [
        side_files.left_out(name, "a folder of the system or of a tool", *folders[:3])
        for name, folders in found.items()
    ]


def _empty_folders(channel: Channel) -> list[Decision]:
    if not channel.empty:
        return []
    more = f"; {len(channel.empty):,} such folders" if len(channel.empty) > 1 else ""
    return [side_files.left_out(channel.empty[0], f"an empty folder{more}")]


def _splits(form: Format, claim: Claim) -> Decision | None:
    if form.splits == "files":
        return splits_of_files(claim.files)
    if form.splits == "folders":
        return splits_of_folders(claim.files) or splits_of_names(claim.files)
    return None


def _contradictions(channel: Channel, form: Format, claim: Claim) -> list[Decision]:
    """The open decisions on files that hold, by their first bytes, something else than their format does."""
    if not form.contents:
        return []
    expected = " or ".join(form.contents)
    return [
        Decision("format", held, f"it holds {held}; expected {expected}", "open", name=file)
        for file in claim.files[:_OPENED]
        if (held := channel.content(file)) is not None and held not in form.contents
    ]


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
        claim = form.recognise(channel)
        if claim is not None and claim.certain:
            return Layout.of(channel, form, claim)
        if claim is not None:
            claims[form] = claim
    if strong := {form: claim for form, claim in claims.items() if not claim.weak}:
        claims = strong
    fitting, aside = side_files.without_side_files(channel, _undisputed(claims))
    if len(fitting) > 1:
        examples = " and ".join(f"'{claim.files[0]}'" for _, claim in fitting)
        raise channel.error(f"files of several formats ({examples}); expected one of: {EXPECTED}.")
    if not fitting:
        if (splits := splits_of_files(channel.files)) is not None:
            refuse_open(channel.name, [splits])
        near = next(filter(None, (form.near_miss(channel) for form in FORMATS)), None)
        near = near or _near_records(channel) or _near_table(channel) or _near_texts(channel)
        raise channel.error(near or f"found {_held(channel)}; expected {EXPECTED}.")
    return Layout.of(channel, *fitting[0], aside)


_PANDAS = "such as Parquet, which pandas writes: pandas.{read}.to_parquet('{stem}.parquet')"


def _near_records(channel: Channel) -> str | None:
    """A sentence on the first file that holds records in a form that is not read, with the step that makes it one."""
    for file in channel.files[:_SHOWN]:
        content, start = channel.content(file), beginning(channel.root / file).lstrip()
        stem = file.rsplit("/", 1)[-1].split(".", 1)[0]
        if content == "Arrow" or suffix_of(file) == ".arrow":
            return (
                f"'{file}' holds Arrow's records; expected Parquet, which datasets.load_from_disk(…).to_parquet(…) or "
                f"pandas.read_feather(…).to_parquet(…) writes."
            )
        if content is not None and "Excel" in content:
            read = f"read_excel('{file}')"
            return f"'{file}' holds {content}; expected a table, {_PANDAS.format(read=read, stem=stem)}."
        if content == TEXT and start[:1] in (b"{", b"[") and not file.endswith("metadata.jsonl"):
            lines = start[:1] == b"{" and suffix_of(file) != ".json"
            read = f"read_json('{file}'{', lines=True' * lines})"
            return (
                f"'{file}' holds JSON that is neither a manifest nor a list of images; expected a table, "
                f"{_PANDAS.format(read=read, stem=stem)}."
            )
    return None


def _near_texts(channel: Channel) -> str | None:
    """A sentence on folders of text files whose names do not say so."""
    folders = {file.rpartition("/")[0] for file in channel.files}
    sample = channel.files[:: max(1, len(channel.files) // 10)]
    if len(folders - {""}) < 2 or any(channel.content(file) not in (TEXT, "HTML") for file in sample):
        return None
    return f"{some(channel.files)} hold text in folders; expected names that end in .txt for class folders of texts."


def _near_table(channel: Channel) -> str | None:
    """A sentence on the first file that holds text in columns, whatever its name."""
    for file in channel.files[:_SHOWN]:
        first, *rest = beginning(channel.root / file, 1 << 14).splitlines()[:3] or [b""]
        marks = () if first.startswith((b"{", b"[", b"<")) else (b",", b"\t", b";")
        mark = next((mark for mark in marks if mark in first), None)
        if mark and rest and first.count(mark) == rest[0].count(mark) and channel.content(file) == TEXT:
            suffix = ".tsv" if mark == b"\t" else ".csv"
            return (
                f"'{file}' holds text in {first.count(mark) + 1} columns; expected a name that ends in {suffix}, or "
                "the channel's content type, text/csv."
            )
    return None


def _held(channel: Channel) -> str:
    """The first files of a channel, with what they hold if their first bytes show it."""
    held = {file: channel.content(file) for file in channel.files[:_SHOWN]}
    inside = {within_gzip(channel.root / file) for file, content in held.items() if content == "gzip"}
    told = {content for content in (*held.values(), *inside) if content not in (None, TEXT)}
    packed = ", which is to be unpacked" if told & {"ZIP", "7-Zip", "RAR", "bzip2", "xz", "zstandard"} else ""
    return (
        some(channel.files)
        + packed
        + (f", by content {' and '.join(sorted(map(str, told)))}" if told else "")
    )


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

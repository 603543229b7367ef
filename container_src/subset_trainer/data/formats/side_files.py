"""Files beside the data that are not data: descriptions, lists of classes, archives of what lies beside them."""

import gzip
import hashlib
import re
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from subset_trainer.data.archives import open_tar
from subset_trainer.data.channels import Channel, base_name, suffix_of
from subset_trainer.data.formats.format import Claim, Format
from subset_trainer.data.formats.labels_csv import Finders, listing_of, rows_of
from subset_trainer.data.understanding import Decision
from subset_trainer.errors import UserError

_DESCRIPTION = re.compile(
    r"(read[\s_-]?me|licen[cs]e|copying|copyright|notice|authors|contributors|credits|attributions?|citations?|changelog|"
    r"changes|version|(data|dataset|model)[\s_-]?card|data[\s_-]?sheet|codebook|data[\s_-]?dictionary|about|croissant|"
    r"dataset[\s_-]?(infos?|dict|description|metadata)|state|sources|download|urls(_.*)?)"
    r"([._-](first|en|[a-z]{2}|\d+))?(\.(txt|md|rst|html?|pdf|docx?|rtf|bib|cff|json|ya?ml|text|log))?",
    re.IGNORECASE,
)
_CLASS_LIST = re.compile(
    r"((class|label|category|categories|classes|labels|target|synset|wnid)s?[\s_-]?(names?|list|map|mapping|ind(ex|ices)|"
    r"ids?|to[\s_-]?(idx|id|index)|words|legend)?|(idx|id|index)[\s_-]?(2|to)[\s_-]?(class|label)(es|s)?|(class|label)2id|"
    r"label_?encoder|wnids|words|vocab|imdb|.*\.?vocab|names|legend)(\.(txt|csv|tsv|json|ya?ml|names|vocab|pbtxt|pkl))?",
    re.IGNORECASE,
)
_COPY = re.compile(
    r"(?: ?\(\d+\)|[ _-]+copy(?:[ _-]?\d+)?| - Copy(?: \(\d+\))?)?(\.[a-z]+)(?:\.gz)?$", re.IGNORECASE
)
_MEMBERS = 200
"""Members of an archive that are compared with the files beside it."""


def is_description(file: str) -> bool:
    """Whether a file is named like a readme, a licence or another description of the data."""
    return _DESCRIPTION.fullmatch(base_name(file)) is not None


def is_class_list(file: str) -> bool:
    """Whether a file is named like a list of the classes."""
    return _CLASS_LIST.fullmatch(base_name(file)) is not None


def left_out(name: str, reason: str, *examples: str) -> Decision:
    return Decision("left out", "left out", reason, name=name, examples=examples)


def without_side_files(
    channel: Channel, claims: Sequence[tuple[Format, Claim]]
) -> tuple[list[tuple[Format, Claim]], list[Decision]]:
    """The claims that are left when side files are left out, with the decisions on these.

    Beside class folders, a table is a side file if it lists the classes or names the images without giving them other
    labels. Beside any data, an archive is a side file if its members lie there unpacked.
    """
    archives = [pair for pair in claims if pair[0].name == "archives"]
    folders = next((pair for pair in claims if pair[0].splits == "folders"), None)
    kept: list[tuple[Format, Claim]] = []
    decisions: list[Decision] = []
    for form, claim in claims:
        others = [file for other, theirs in claims if other is not form for file in theirs.files]
        aside: Callable[[str], str | None] | None = None
        if len(claims) > 1 and (form, claim) in archives:
            aside = _unpacked_beside(channel, others)
        elif folders is not None and form.table is not None:
            aside = _about_folders(channel, folders[1])
        reasons = {file: reason for file in claim.files if aside and (reason := aside(file)) is not None}
        if form.table is not None:
            reasons |= _copies(channel, claim.files)
        decisions += [left_out(file, reason) for file, reason in reasons.items()]
        rest = tuple(file for file in claim.files if file not in reasons)
        if rest:
            kept.append((form, replace(claim, files=rest)))
    return kept, decisions


def _copies(channel: Channel, files: Sequence[str]) -> dict[str, str]:
    """Why tables with the name of a copy, such as `a (1).csv` or `a.csv.gz` beside `a.csv`, are left out: their content
    is the same."""
    known, found = set(files), {}
    for file in files:
        original = _COPY.sub(r"\1", file)
        if original == file or original not in known:
            continue
        digest = _digest(channel, file)
        if digest is not None and digest == _digest(channel, original):
            found[file] = f"a copy of '{original}'"
    return found


def _digest(channel: Channel, file: str) -> bytes | None:
    """A digest of a file's content, unpacked if it is compressed; None if it cannot be read."""
    path = channel.root / file
    try:
        with gzip.open(path) if channel.content(file) == "gzip" else path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").digest()
    except (OSError, EOFError, zlib.error):
        return None


def _unpacked_beside(channel: Channel, others: Collection[str]) -> Callable[[str], str | None]:
    beside = set(channel.files)
    ends = {base_name(file) for file in others}

    def aside(archive: str) -> str | None:
        names = members(channel, archive, _MEMBERS)
        parent = archive.removesuffix(base_name(archive))
        inside = [name for name in names if base_name(name) in ends]
        if not inside or len(inside) < len(names) / 2:
            return None
        for name in inside:
            path = name.removeprefix("./")
            below = path.partition("/")[2]
            if not {path, parent + path, parent + below, *((below,) if below else ())} & beside:
                return None
        return f"an archive whose members lie beside it, such as '{inside[0].removeprefix('./')}'"

    return aside


def members(channel: Channel, archive: str, most: int) -> list[str]:
    """The names of an archive's first files, without hidden ones; none if it cannot be read."""
    names: list[str] = []
    try:
        with open_tar(channel.root / archive) as opened:
            for member in opened:
                if member.isfile() and not base_name(member.name).startswith("."):
                    names.append(member.name)
                if len(names) == most:
                    break
    except Exception:  # damaged archives raise almost any exception; the error is reported when it is read
        return []
    return names


def _about_folders(channel: Channel, folders: Claim) -> Callable[[str], str | None]:
    """Why a table beside class folders is a side file; None for one that is not."""
    names = {part.casefold() for file in folders.files for part in file.split("/")[:-1]}
    finders = Finders(folders.files)

    def aside(file: str) -> str | None:
        if suffix_of(file) not in (".csv", ".tsv"):
            return None
        try:
            rows = rows_of(channel, file, 2 * len(names) + 50)
        except UserError:
            return None
        cells = {cell.strip().casefold() for row in rows for cell in row}
        few = len(rows) <= 2 * len(names) + 2
        if few and (is_class_list(file) or len(cells & names) > 1):
            return "a list of the classes, which the folders name"
        listing = listing_of(channel, file, finders.of(file))
        if listing is None:
            return None
        if not listing.labelled or not (listing.named or listing.as_folders):
            return "it names the images and no classes; the folders are the classes"
        return "it gives the images the same classes as the folders" if listing.as_folders else None

    return aside


def unused(files: Sequence[str]) -> list[Decision]:
    """The decisions on files that fit no format: descriptions, lists of classes, and others by suffix."""
    groups: dict[str, list[str]] = {}
    for file in files:
        if is_description(file):
            reason = "a description of the data"
        elif is_class_list(file):
            reason = "a list of the classes"
        else:
            reason = f"it fits no format ({suffix_of(file) or 'no suffix'})"
        groups.setdefault(reason, []).append(file)
    return [
        left_out(found[0], reason if len(found) == 1 else f"{reason}; {len(found):,} such files")
        for reason, found in groups.items()
    ]

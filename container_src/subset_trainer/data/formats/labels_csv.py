"""Images whose labels are in a table beside them: `labels.csv`, `labels.tsv`, `metadata.csv`, or one of another name
that names the images.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING

from subset_trainer.data.channels import IMAGE_SUFFIXES, Channel, base_name
from subset_trainer.data.formats.format import Claim, Format, Found, Reading
from subset_trainer.data.formats.lists import Finder, lines, listed, only
from subset_trainer.data.label_columns import beside_images, refuse_rivals
from subset_trainer.data.split_names import says_splits, split_of, splits_of_values
from subset_trainer.data.tables.beginning import told_separator
from subset_trainer.data.understanding import Decision, refuse_open
from subset_trainer.errors import UserError, shown

if TYPE_CHECKING:
    from subset_trainer.data.images.labelled import LabelledImages

_TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_NAMES = tuple(f"labels{suffix}" for suffix in _TABLES)
"""Names of tables that label the images beside them, rather than holding the examples themselves."""
_METADATA = "metadata.csv"
"""Hugging Face's name: the classes of the images if it has a column for them, captions and the like otherwise."""
_PEEKED = 2_000
"""Rows that are read to tell whether a table names the images."""


def read_labels_csv(
    channel: Channel, file: str, images: tuple[str, ...], label_column: str | None = None
) -> "LabelledImages":
    """Read images labelled by a table with a column of file names and one of class names, with or without a header.

    A file name is a path in the channel, or a base name, with or without suffix.

    Args:
        label_column: the header's name, or the 0-based position, of the labels. By default the column with a label's
            name, or the only other column.

    Raises:
        UserError: the table does not have this form; the message names the line. Or two columns are named like a label
            and give the images other classes.
    """
    expected = "a column of image files and one of their classes"
    found = Finder(images, file.removesuffix(base_name(file)))
    rows = _rows(channel, file, expected)
    number, first = next(rows, (1, []))
    if len(first) < 2:
        raise channel.error(f"'{file}', line {number:,}: {len(first)} columns; expected {expected}.")
    looks_listed = any(found.find(cell) or cell.lower().endswith(IMAGE_SUFFIXES) for cell in first)
    header = None if looks_listed else first
    start = [] if header else [(number, first)]
    files: int | None = None
    label, split = 0, _split_position(header)
    names: list[tuple[int, str, str]] = []
    told: dict[int, list[str]] = {}
    splits: dict[str, None] = {}
    for number, row in chain(start, rows):
        if len(row) != len(first):
            raise channel.error(
                f"'{file}', line {number:,}: {len(row)} columns; expected {len(first)}, as above."
            )
        if files is None:
            files = next((position for position, cell in enumerate(row) if found.find(cell)), None)
            if files is None:
                raise channel.error(
                    f"'{file}', line {number:,}: none of {shown(row)} is an image of the channel, such as "
                    f"'{images[0]}'; expected {expected}."
                )
            label = _label_position(channel, file, header, len(first), files, label_column)
            told = {at: [] for at in _named_labels(header, files)} if label_column is None else {}
        for at, values in told.items():
            values.append(row[at].strip())
        names.append((number, row[files], row[label].strip()))
        if split not in (None, label):
            splits.setdefault(row[split].strip())
    if header and split is not None and (several := splits_of_values(header[split], splits)):
        refuse_open(channel.name, [several])
    if header and told:
        refuse_rivals(channel.name, file, {header[at].strip(): values for at, values in told.items()})
    title = repr(header[label]) if header else f"column {label} (counted from 0)"
    reason = f"label_column names this column of '{file}'" if label_column else f"this column of '{file}'"
    decision = Decision("label", title, reason, "given" if label_column else "certain")
    return replace(listed(channel, file, images, names, found), decisions=(decision,))


def _rows(channel: Channel, file: str, expected: str) -> Iterator[tuple[int, list[str]]]:
    """(number, cells) of each line. The delimiter is what a first line such as `sep=;` says, else comma, semicolon or
    tab, the most frequent in the first line."""
    delimiter = ""
    for number, text in lines(channel, file, expected):
        if not delimiter and (told := told_separator(text)):
            delimiter = told
            continue
        delimiter = delimiter or max(",;\t", key=text.count)
        try:
            # Each line is one record: tools for S3 write no file names with line breaks.
            yield number, next(csv.reader([text], delimiter=delimiter, strict=True))
        except csv.Error as error:
            raise channel.error(f"'{file}', line {number:,}: {error}; expected {expected}.") from error


def _split_position(header: Sequence[str] | None) -> int | None:
    """The position of a column that may say the split of each row."""
    return next((at for at, name in enumerate(header or ()) if says_splits(name)), None)


@dataclass(frozen=True)
class Listing:
    """A table that names images of the channel.

    `labelled`: whether a column may hold their classes. `as_folders`: whether it tells the same images apart as their
    folders do. `named`: whether its name says so, rather than that it is the only one under another name, as captions
    are.
    """

    labelled: bool
    as_folders: bool
    named: bool = True


def rows_of(channel: Channel, file: str, most: int) -> list[list[str]]:
    """The first rows of a table. Raises UserError if it cannot be read."""
    return [row for _, row in islice(_rows(channel, file, "a table"), most)]


def listing_of(channel: Channel, file: str, finder: Finder) -> Listing | None:
    """What the first rows of a table say of the channel's images; None if they name none."""
    try:
        rows = rows_of(channel, file, _PEEKED)
    except UserError:
        return None
    width = len(rows[0]) if rows else 0
    body = rows[1:] or rows
    files = next(
        (at for at in range(width) if _names_images([row[at : at + 1] for row in body], finder)), None
    )
    if files is None:
        return None
    header = None if finder.find(rows[0][files]) else [name.strip() for name in rows[0]]
    body = [row for row in (rows[1:] if header else rows) if len(row) == width]
    label = next(iter(_named_labels(header, files)), None)
    if header and channel.label in header:
        label = header.index(channel.label)
    others = [at for at in range(width) if at != files]
    named = label is not None or header is None
    if label is None and len(others) == 1:
        distinct = {row[others[0]] for row in body}
        label = others[0] if len(distinct) <= max(2, len(body) // 2) else None
    if label is None:
        return Listing(False, False)
    found = [
        (path.split("/")[:-1], row[label]) for row in body if (path := finder.find(row[files])) is not None
    ]
    depth = min((len(folders) for folders, _ in found), default=0)
    same = any(_bijective([(folders[at], name) for folders, name in found]) for at in range(depth))
    return Listing(True, same, named)


def _names_images(cells: Sequence[Sequence[str]], finder: Finder) -> bool:
    """Whether a column names images: most of its first cells do, by a path or a name with its suffix, or all of several
    do."""
    sample = [cell[0].strip() for cell in cells[:20] if cell]
    found = [cell for cell in sample if finder.find(cell) is not None]
    paths = [cell for cell in found if "/" in cell or cell.lower().endswith(IMAGE_SUFFIXES)]
    return 2 * len(paths) > len(sample) or (len(set(found)) == len(sample) > 2)


def _bijective(pairs: Sequence[tuple[str, str]]) -> bool:
    different = set(pairs)
    return 1 < len(different) == len({one for one, _ in different}) == len({other for _, other in different})


class Finders:
    """Finders of the images for lists in different folders, made when they are needed."""

    def __init__(self, images: Sequence[str]):
        self._images, self._known = images, dict[str, Finder]()

    def of(self, file: str) -> Finder:
        folder = file.removesuffix(base_name(file))
        if folder not in self._known:
            self._known[folder] = Finder(self._images, folder)
        return self._known[folder]


def has_class_folders(images: Sequence[str]) -> bool:
    """Whether images lie in several folders that may be classes, none beside these folders."""
    depths = {file.count("/") for file in images}
    if not depths or 0 in depths:
        return False
    folders = {file.rpartition("/")[0] for file in images}
    tops = {folder.split("/")[at] for at in range(min(depths)) for folder in folders}
    several = any(len({folder.split("/")[at] for folder in folders}) > 1 for at in range(min(depths)))
    return several and not all(split_of(top) for top in tops)


def _named_labels(header: Sequence[str] | None, files: int) -> list[int]:
    """The positions of the columns with a label's name but that of the files, the likeliest first."""
    names = [name.strip() for name in header or ()]
    return [at for name in beside_images(names) if (at := names.index(name)) != files]


def _label_position(
    channel: Channel, file: str, header: list[str] | None, width: int, files: int, label_column: str | None
) -> int:
    if label_column is not None:
        if header and label_column in header:
            return header.index(label_column)
        if label_column.isdecimal() and int(label_column) < width:
            return int(label_column)
        known = f"a name of its header ({', '.join(map(repr, header))})" if header else "a position"
        raise UserError(
            f"label_column={shown(label_column)}: '{file}' of the {channel.name} channel has no such column; expected "
            f"{known} or a number from 0 to {width - 1}."
        )
    others = _named_labels(header, files)[:1] or [position for position in range(width) if position != files]
    if len(others) > 1:
        if header and (columns := _one_hot(rows_of(channel, file, _PEEKED)[1:], others)):
            raise channel.error(
                f"'{file}' gives the classes as 0 and 1 in the {len(columns)} columns "
                f"{', '.join(repr(header[at]) for at in columns[:4])} (one-hot); expected one column with the class's "
                "name, and label_column to name it."
            )
        raise channel.error(
            f"'{file}' has {width} columns, and none has a label's name, such as label or class; expected "
            "label_column to name the one with the classes."
        )
    return others[0]


def _one_hot(rows: Sequence[Sequence[str]], columns: Sequence[int]) -> list[int]:
    """The columns that hold 0 or 1 in every row, if there are several."""
    zero, one = ("0", "0.0", "0.", "false"), ("1", "1.0", "1.", "true")
    found = [
        at for at in columns if all(row[at].strip().lower() in (*zero, *one) for row in rows if at < len(row))
    ]
    return found if len(found) > 1 else []


class LabelsCsv(Format):
    """Images with a table of labels, which is recognised by its name or by the images that it names."""

    name = "listing"
    heeds = ("label_column", "text_encoding")
    expected = ("images with ", "a labels.csv", "")

    def recognise(self, channel: Channel) -> Claim | None:
        tables = channel.ending(*_TABLES)
        images = channel.images if tables else ()
        if not images or not tables:
            return None
        named = tuple(file for file in tables if base_name(file).lower() in _NAMES)
        if named:
            return Claim(named, images)
        folders, finders = has_class_folders(images), Finders(images)
        files = tuple(file for file in tables if self._labels(channel, file, finders.of(file), folders))
        return Claim(files, images) if files else None

    @staticmethod
    def _labels(channel: Channel, file: str, finder: Finder, folders: bool) -> bool:
        """Whether a table is the source of the images' classes."""
        listing, metadata = listing_of(channel, file, finder), base_name(file).lower() == _METADATA
        if listing is None:
            return metadata and not folders
        if not folders:
            return listing.labelled or metadata or len(channel.ending(*_TABLES)) == 1
        return listing.labelled and listing.named and (metadata or not listing.as_folders)

    def doubts(self, channel: Channel, claim: Claim) -> list[Decision]:
        known = base_name(claim.files[0]).lower() in (*_NAMES, _METADATA)
        if known or len(claim.files) > 1 or channel.label or not has_class_folders(claim.images):
            return []
        reason = "it gives the images other classes than their folders do, so either may hold them"
        settle = "label_column to name its column, or only one of the two in the channel"
        return [Decision("label", "the classes", f"{reason}; expected {settle}", "open", name=claim.files[0])]

    def read(self, channel: Channel, claim: Claim, reading: Reading) -> Found:
        file = only(channel, claim)
        images = read_labels_csv(channel, file, claim.images, reading.options.label_column)
        return Found(self, images, notes=images.notes, decisions=images.decisions)

"""Images whose labels are in a table beside them: `labels.csv`, `labels.tsv` or `metadata.csv`."""

import csv
from collections.abc import Iterator
from itertools import chain

from subset_trainer.data.channels import IMAGE_SUFFIXES, Channel, base_name
from subset_trainer.data.formats.format import Claim, Format, Found, Reading
from subset_trainer.data.formats.lists import Finder, lines, listed, only
from subset_trainer.data.images.labelled import LabelledImages
from subset_trainer.errors import UserError, shown

_NAMES = ("labels.csv", "labels.tsv", "metadata.csv")
"""Names of tables that label the images beside them, rather than holding the examples themselves."""
_LABEL_NAMES = ("label", "class", "category", "target")


def read_labels_csv(
    channel: Channel, file: str, images: tuple[str, ...], label_column: str | None = None
) -> LabelledImages:
    """Read images labelled by a table with a column of file names and one of class names, with or without a header.

    A file name is a path in the channel, or a base name, with or without suffix.

    Args:
        label_column: the header's name, or the 0-based position, of the labels. By default the column named label,
            class, category or target, or the only other column.

    Raises:
        UserError: the table does not have this form; the message names the line.
    """
    expected = "a column of image files and one of their classes"
    found = Finder(images)
    rows = _rows(channel, file, expected)
    number, first = next(rows, (1, []))
    if len(first) < 2:
        raise channel.error(f"'{file}', line {number:,}: {len(first)} columns; expected {expected}.")
    looks_listed = any(found.find(cell) or cell.lower().endswith(IMAGE_SUFFIXES) for cell in first)
    header = None if looks_listed else first
    start = [] if header else [(number, first)]
    files: int | None = None
    label = 0
    names: list[tuple[int, str, str]] = []
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
        names.append((number, row[files], row[label].strip()))
    return listed(channel, file, images, names, found)


def _rows(channel: Channel, file: str, expected: str) -> Iterator[tuple[int, list[str]]]:
    """(number, cells) of each line. The delimiter is comma, semicolon or tab, the most frequent in the first line."""
    delimiter = ""
    for number, text in lines(channel, file, expected):
        delimiter = delimiter or max(",;\t", key=text.count)
        try:
            # Each line is one record: tools for S3 write no file names with line breaks.
            yield number, next(csv.reader([text], delimiter=delimiter, strict=True))
        except csv.Error as error:
            raise channel.error(f"'{file}', line {number:,}: {error}; expected {expected}.") from error


def _label_position(
    channel: Channel, file: str, header: list[str] | None, width: int, files: int, label_column: str | None
) -> int:
    names = [name.strip().lower() for name in header or []]
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
    named = [names.index(name) for name in _LABEL_NAMES if name in names and names.index(name) != files]
    others = named[:1] or [position for position in range(width) if position != files]
    if len(others) > 1:
        raise channel.error(
            f"'{file}' has {width} columns, and none is called {', '.join(_LABEL_NAMES)}; expected label_column to "
            "name the one with the classes."
        )
    return others[0]


class LabelsCsv(Format):
    """Images with a table of labels, which is recognised by its name."""

    name = "listing"
    expected = ("images with ", "a labels.csv", "")

    def recognise(self, channel: Channel) -> Claim | None:
        images = channel.images
        files = tuple(file for file in channel.ending(".csv", ".tsv") if base_name(file).lower() in _NAMES)
        return Claim(files, images) if images and files else None

    def read(self, channel: Channel, claim: Claim, reading: Reading) -> Found:
        file = only(channel, claim)
        images = read_labels_csv(channel, file, claim.images, reading.options.label_column)
        return Found(self, images, notes=images.notes)

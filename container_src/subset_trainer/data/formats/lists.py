"""Files that list images with their classes: reading their lines, and finding the images that they name."""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from subset_trainer.data.channels import IMAGE_SUFFIXES, Channel
from subset_trainer.data.classes import coded, looks_continuous, spelt_classes
from subset_trainer.data.formats.format import Claim
from subset_trainer.data.images.decoding import ImageFiles
from subset_trainer.data.images.labelled import LabelledImages
from subset_trainer.data.split_names import splits_of_folders, splits_of_names
from subset_trainer.data.understanding import refuse_open
from subset_trainer.errors import shown

LONGEST_LINE = 1 << 20
"""Longest line in bytes; a longer one is not part of a list of images and classes."""


def lines(channel: Channel, file: str, expected: str) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of each line that is not blank.

    Raises:
        UserError: the file cannot be read, is not UTF-8 text or has too long a line; the message adds `expected`.
    """
    try:
        path = channel.root / file
        with gzip.open(path) if channel.content(file) == "gzip" else path.open("rb") as opened:
            number = 0
            while raw := opened.readline(LONGEST_LINE + 1):
                number += 1
                if len(raw) > LONGEST_LINE:
                    raise ValueError(f"line {number:,} has more than {LONGEST_LINE:,} bytes")
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                if "\0" in text:
                    raise ValueError(f"line {number:,} holds a NUL character")
                if text:
                    yield number, text
    except UnicodeDecodeError as error:
        raise channel.error(
            f"file '{file}' is not UTF-8 text (line {number:,}: {error.reason}); expected {expected}."
        ) from error
    except ValueError as error:
        raise channel.error(f"file '{file}' cannot be read ({error}); expected {expected}.") from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise channel.error(f"file '{file}' cannot be read ({reason}); expected {expected}.") from error


class Finder:
    """Finds the image of the channel to which a path, a URL or a name refers.

    It tries, in this order: the path from `folder`, where the list lies ('' or 'a/b/'); the path itself; the path
    without its leading folders, removed one after another (an S3 URI begins with a bucket and a prefix that the channel
    does not have); and the base name alone, which may lack its suffix and lie in any folder, unless the reference names
    a folder of the channel. What is not found so is tried with backslashes as separators, and in any case.
    """

    def __init__(self, files: Sequence[str], folder: str = ""):
        self._folder = folder
        self._files = set(files)
        self._folders = {part for file in files for part in file.split("/")[:-1]}
        self._loose: dict[str, str | None] = {}  # None: the name is ambiguous
        for file in files:
            base = file.rsplit("/", 1)[-1]
            for name in {base, base.rsplit(".", 1)[0]}:
                self._loose[name] = None if name in self._loose else file

    def find(self, reference: str) -> str | None:
        """The path of the image; None if there is no such image, or more than one."""
        found = self._find(reference)
        if found is not None or not reference.lower().endswith(IMAGE_SUFFIXES):
            return found
        finder, spelt = self._of_any_case
        reference = reference.replace("\\", "/")
        return self._find(reference) or spelt.get(finder._find(reference.lower()) or "")

    def _find(self, reference: str) -> str | None:
        parts = _parts(reference)
        if not parts or ".." in parts:
            return None
        if self._folder and (path := self._folder + "/".join(parts)) in self._files:
            return path
        for skipped in range(len(parts)):
            if (path := "/".join(parts[skipped:])) in self._files:
                return path
        found = self._loose.get(parts[-1])
        if found is None or len(parts) < 2 or parts[-2] not in self._folders:
            return found
        # 'dog/1.jpg' is not 'cat/1.jpg', but may be 'images/dog/1.jpg'.
        return found if found.split("/")[-2:-1] == [parts[-2]] else None

    @cached_property
    def _of_any_case(self) -> "tuple[Finder, dict[str, str | None]]":
        """A finder of the files in lower case, and the file of each, None if several agree."""
        spelt: dict[str, str | None] = {}
        for file in self._files:
            spelt[file.lower()] = None if file.lower() in spelt else file
        return Finder(list(spelt), self._folder.lower()), spelt


def _parts(reference: str) -> list[str]:
    return [part for part in reference.split("://", 1)[-1].split("/") if part not in ("", ".")]


def class_name(value: float) -> str:
    """A class number as text, such as '3' for 3.0. Raises ValueError unless it is a non-negative whole number."""
    if not (value >= 0 and value == int(value)):
        raise ValueError(f"the label {value:g}")
    return str(int(value))


def listed(
    channel: Channel, file: str, images: tuple[str, ...], names: list[tuple[int, str, str]], finder: Finder
) -> LabelledImages:
    """Images with the labels that a file lists. `names`: (line, image, class) for each."""
    if not names:
        raise channel.error(f"'{file}' names no images; expected a line for each.")
    paths: dict[str, tuple[int, str]] = {}
    again = 0
    _check_measured(channel, file, [name for *_, name in names])
    for number, reference, name in names:
        path = finder.find(reference)
        if path is None:
            raise channel.error(
                f"'{file}', line {number:,}: the image {shown(reference)} is not in the channel, or several have this "
                "name; expected the path of one image."
            )
        if not name:
            raise channel.error(f"'{file}', line {number:,}: no class for {shown(reference)}; expected one.")
        if path in paths and paths[path][1] != name:
            raise channel.error(
                f"'{file}', lines {paths[path][0]:,} and {number:,} both name the image '{path}', as "
                f"{shown(paths[path][1], 60)} and {shown(name, 60)}; expected one class for each image, and no boxes."
            )
        again += path in paths
        paths.setdefault(path, (number, name))
    refuse_splits(channel, list(paths))
    labels, classes = coded([name for _, name in paths.values()])
    left = len(images) - len(paths)
    note = f"{channel.name} channel: {len(paths):,} images of {len(classes)} classes, labelled by '{file}'"
    note += f"; {left:,} that it does not name are left out" if left else ""
    note += f"; {again:,} lines that repeat an image and its class are left out." if again else "."
    files = ImageFiles([Path(path) for path in paths], channel.root, channel.name)
    return LabelledImages(files, labels, classes, (note,))


def _check_measured(channel: Channel, file: str, names: Sequence[str]) -> None:
    """Raise UserError if label texts are measurements rather than classes."""
    if not spelt_classes(sorted({name for name in names if name})):
        return
    values = np.array([float(name) for name in names if name])
    if looks_continuous(values):
        raise channel.error(
            f"'{file}' gives the images {len(np.unique(values)):,} different numbers such as {values[0]:g}; expected "
            "classes, because regression is not supported, or label_column to name the column that holds them."
        )


def refuse_splits(channel: Channel, images: Sequence[str]) -> None:
    """Raise UserError if the paths of the examples, or their names, show several splits."""
    refuse_open(channel.name, filter(None, [splits_of_folders(images) or splits_of_names(images)]))


def only(channel: Channel, claim: Claim) -> str:
    """The only file that labels the images. Raises UserError if there are several."""
    first, *others = claim.files
    if others:
        raise channel.error(
            f"'{first}' and '{others[0]}' both list the images and their classes; expected only one of them."
        )
    return first

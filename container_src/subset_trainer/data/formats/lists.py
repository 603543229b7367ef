"""Files that list images with their classes: reading their lines, and finding the images that they name."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from subset_trainer.data.channels import IMAGE_SUFFIXES, Channel, some
from subset_trainer.data.classes import coded
from subset_trainer.data.content import beginning
from subset_trainer.data.formats.format import Claim
from subset_trainer.data.images.decoding import ImageFiles
from subset_trainer.data.images.labelled import LabelledImages
from subset_trainer.data.split_names import splits_of_folders, splits_of_names
from subset_trainer.data.understanding import Decision, refuse_open
from subset_trainer.errors import shown

LONGEST_LINE = 1 << 20
"""Longest line in bytes; a longer one is not part of a list of images and classes."""


def lines(channel: Channel, file: str, expected: str) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of each line that is not blank.

    Raises:
        UserError: the file cannot be read, is not UTF-8 text or has too long a line; the message adds `expected`.
    """
    try:
        with (channel.root / file).open("rb") as opened:
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
    except OSError as error:
        raise channel.error(
            f"file '{file}' cannot be read ({error.strerror}); expected {expected}."
        ) from error


class Finder:
    """Finds the image of the channel to which a path, a URL or a name refers.

    It tries, in this order: the path from `folder`, where the list lies ('' or 'a/b/'); the path itself; the path
    without its leading folders, removed one after another (an S3 URI begins with a bucket and a prefix that the channel
    does not have); and the base name alone, which may lack its suffix and lie in any folder.
    """

    def __init__(self, files: Sequence[str], folder: str = ""):
        self._folder = folder
        self._files = set(files)
        self._loose: dict[str, str | None] = {}  # None: the name is ambiguous
        for file in files:
            base = file.rsplit("/", 1)[-1]
            for name in {base, base.rsplit(".", 1)[0]}:
                self._loose[name] = None if name in self._loose else file
        self._strip = 0

    def find(self, reference: str) -> str | None:
        """The path of the image; None if there is no such image, or more than one."""
        parts = [part for part in reference.split("://", 1)[-1].split("/") if part not in ("", ".")]
        if ".." in parts:
            return None
        if self._folder and (path := self._folder + "/".join(parts)) in self._files:
            return path
        # Consecutive references mostly have the same number of leading folders.
        for skipped in (self._strip, *range(len(parts))):
            if skipped < len(parts) and (path := "/".join(parts[skipped:])) in self._files:
                self._strip = skipped
                return path
        return self._loose.get(parts[-1]) if parts else None


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
    for number, reference, name in names:
        path = finder.find(reference)
        if path is None:
            raise channel.error(
                f"'{file}', line {number:,}: the image {shown(reference)} is not in the channel, or several have this "
                "name; expected the path of one image."
            )
        if not name:
            raise channel.error(f"'{file}', line {number:,}: no class for {shown(reference)}; expected one.")
        if path in paths:
            raise channel.error(
                f"'{file}', lines {paths[path][0]:,} and {number:,} both name the image '{path}'; expected each once."
            )
        paths[path] = (number, name)
    refuse_splits(channel, list(paths))
    labels, classes = coded([name for _, name in paths.values()])
    left = len(images) - len(paths)
    note = f"{channel.name} channel: {len(paths):,} images of {len(classes)} classes, labelled by '{file}'"
    note += f"; {left:,} that it does not name are left out." if left else "."
    files = ImageFiles([Path(path) for path in paths], channel.root, channel.name)
    return LabelledImages(files, labels, classes, (note,))


_IMAGE_NAME = re.compile(
    rf"""[^\s"'<>,;:|]+?(?:{"|".join(map(re.escape, IMAGE_SUFFIXES))})\b""", re.IGNORECASE
)
_TELLS_CLASSES = re.compile(
    r"""["']?(label|class|category|target|tag|annotation|species|breed)(s|es|ies|_id|_ids|_name|_index)?["']?\s*[:=]""",
    re.IGNORECASE,
)
_LISTS = (".json", ".jsonl", ".ndjson", ".txt", ".yaml", ".yml", ".xml")
_HEAD = 1 << 16


def rival_lists(channel: Channel, images: Sequence[str], folder: str) -> list[Decision]:
    """The open decisions on files beside class folders that name the images with classes, in no form that is read.

    The folders may then be no classes. A file that contains the name of every class folder as a word of its own agrees
    with them.
    """
    beside = [file for file in channel.ending(*_LISTS) if "/" not in file.removeprefix(folder)]
    if not beside:
        return []
    known = {image.rsplit("/", 1)[-1] for image in images}
    names = {image[len(folder) :].split("/", 1)[0] for image in images}
    decisions = []
    for file in beside:
        head = beginning(channel.root / file, _HEAD).decode("utf-8", "replace")
        named = {found.rsplit("/", 1)[-1] for found in _IMAGE_NAME.findall(head)} & known
        if not named:
            continue
        apart = set(re.split(r"[\s\"',;:|\[\]{}]+", head))
        if names <= apart or not (_TELLS_CLASSES.search(head) or _pairs(head)):
            continue
        decisions.append(
            Decision(
                "label",
                "the classes",
                f"it names images, such as '{sorted(named)[0]}', and classes in a form that is not read, so the "
                f"folders {some(sorted(names))} may be no classes; expected a labels.csv or a manifest in its place, "
                "or only the class folders",
                "open",
                name=file,
            )
        )
    return decisions


def _pairs(head: str) -> bool:
    """Whether lines are an image and one word or number, as in `img/0.jpg 3`, that others have as well."""
    rows = [row.split() for row in head.replace(",", " ").replace("\t", " ").splitlines()[:-1] if row.strip()]
    return (
        bool(rows)
        and all(len(row) == 2 for row in rows)
        and len({row[1] for row in rows}) <= max(2, len(rows) / 2)
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

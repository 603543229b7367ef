"""Files that say which image is of which class: their lines, and the images that they name."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from subset_trainer.data.channels import Channel
from subset_trainer.data.classes import coded
from subset_trainer.data.formats.format import Claim
from subset_trainer.data.images.decoding import ImageFiles
from subset_trainer.data.images.labelled import LabelledImages
from subset_trainer.errors import shown

LONGEST_LINE = 1 << 20
"""Bytes of a line of a text that says which image is of which class: what is longer is no such text."""


def lines(channel: Channel, file: str, expected: str) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of each line that is not blank.

    Raises:
        UserError: the file cannot be read, is no UTF-8 text or has a line too long to be one; with what was expected.
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
    """The channel's image that a text means by a path, a URL or a name.

    Tried in this order: the path itself, the path without one leading folder after the other (an S3 URI names a bucket
    and a prefix that the channel does not have), and the last part alone, which may lack its suffix and lie in any
    folder.
    """

    def __init__(self, files: Sequence[str]):
        self._files = set(files)
        self._loose: dict[str, str | None] = {}  # None: several files are called so
        for file in files:
            base = file.rsplit("/", 1)[-1]
            for name in {base, base.rsplit(".", 1)[0]}:
                self._loose[name] = None if name in self._loose else file
        self._strip = 0

    def find(self, reference: str) -> str | None:
        """None where there is no such image, or more than one."""
        parts = [part for part in reference.split("://", 1)[-1].split("/") if part not in ("", ".")]
        if ".." in parts:
            return None
        # Where the last one was found, this one mostly is too.
        for skipped in (self._strip, *range(len(parts))):
            if skipped < len(parts) and (path := "/".join(parts[skipped:])) in self._files:
                self._strip = skipped
                return path
        return self._loose.get(parts[-1]) if parts else None


def class_name(value: float) -> str:
    """'3' for 3.0. ValueError where it is no whole number from 0."""
    if not (value >= 0 and value == int(value)):
        raise ValueError(f"the label {value:g}")
    return str(int(value))


def listed(
    channel: Channel, file: str, images: tuple[str, ...], names: list[tuple[int, str, str]], finder: Finder
) -> LabelledImages:
    """names: (line, image, class) each."""
    if not names:
        raise channel.error(f"'{file}' names no images; expected a line for each.")
    paths: dict[str, tuple[int, str]] = {}
    for number, reference, name in names:
        path = finder.find(reference)
        if path is None:
            raise channel.error(
                f"'{file}', line {number:,}: the image {shown(reference)} is not in the channel (nor one only that is "
                "called so); expected each image that is named."
            )
        if not name:
            raise channel.error(f"'{file}', line {number:,}: no class for {shown(reference)}; expected one.")
        if path in paths:
            raise channel.error(
                f"'{file}', lines {paths[path][0]:,} and {number:,} both name the image '{path}'; expected each once."
            )
        paths[path] = (number, name)
    labels, classes = coded([name for _, name in paths.values()])
    left = len(images) - len(paths)
    note = f"{channel.name} channel: {len(paths):,} images, of {len(classes)} classes as '{file}' says"
    note += f"; {left:,} that it does not name are left out." if left else "."
    files = ImageFiles([Path(path) for path in paths], channel.root, channel.name)
    return LabelledImages(files, labels, classes, (note,))


def only(channel: Channel, claim: Claim) -> str:
    """The one file that says what the images are. UserError where there are several."""
    first, *others = claim.files
    if others:
        raise channel.error(
            f"'{first}' and '{others[0]}' both say what the images are; expected one of them."
        )
    return first

"""Images with their labels, wherever the images lie and whatever told the labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from subset_trainer.data.channels import Channel
from subset_trainer.data.formats.csv_tables import natural_order
from subset_trainer.data.ids import Ids
from subset_trainer.data.images.decoding import EncodedImages

LONGEST_LINE = 1 << 20
"""Bytes of a line of a text that says which image is of which class: what is longer is no such text."""


@dataclass(frozen=True)
class LabelledImages:
    """`labels` [N] int64: positions in `classes`. `weights` [N] float32: how much each image counts, None: all alike.
    `notes`: what was found, used and left out. `references`: what the images are called where they come from, such as
    [N] URIs as bytes; None: what `images` calls them."""

    images: EncodedImages
    labels: np.ndarray
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    weights: np.ndarray | None = None
    references: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def ids(self) -> Ids:
        return Ids.of_paths(self.images.names if self.references is None else self.references)


def coded(names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels [N] int64 of class names, and the classes in their order."""
    classes = natural_order(set(names))
    position = {name: index for index, name in enumerate(classes)}
    return np.fromiter((position[name] for name in names), np.int64, len(names)), classes


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

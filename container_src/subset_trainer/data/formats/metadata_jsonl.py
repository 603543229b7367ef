"""Hugging Face's `metadata.jsonl`: one line of JSON per image, in the folder of the images or above it.

Format: Hugging Face `datasets`, "Create an image dataset", ImageFolder. `file_name` is a path relative to the file's
folder, and the other names are columns. Several folders may each have such a file.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from subset_trainer.data.channels import Channel, base_name
from subset_trainer.data.classes import coded
from subset_trainer.data.content import beginning
from subset_trainer.data.formats.format import Claim, Format, Found, Reading
from subset_trainer.data.formats.labels_csv import has_class_folders
from subset_trainer.data.formats.lists import lines, refuse_splits
from subset_trainer.data.formats.manifest import json_object
from subset_trainer.data.images.decoding import ImageFiles
from subset_trainer.data.images.labelled import LabelledImages
from subset_trainer.data.label_columns import beside_images
from subset_trainer.data.understanding import Decision
from subset_trainer.errors import shown

_FILE, _LABEL = "file_name", "label"
_EXPECTED = f"lines of JSON objects with {_FILE} and a label"


class MetadataJsonl(Format):
    """Images with Hugging Face's metadata in their folder or above it."""

    name = "metadata"
    heeds = ("label_column",)
    expected = ("images with ", "a metadata.jsonl", "")

    def recognise(self, channel: Channel) -> Claim | None:
        images = channel.images
        files = tuple(file for file in channel.ending(".jsonl") if _is_metadata(channel, file))
        if files and has_class_folders(images) and not any(_has_label(channel, file) for file in files):
            return None  # captions and the like: the folders are the classes
        return Claim(files, images) if images and files else None

    def read(self, channel: Channel, claim: Claim, reading: Reading) -> Found:
        images = read_metadata(channel, claim.files, claim.images, reading.options.label_column)
        return Found(self, images, notes=images.notes, decisions=images.decisions)


def read_metadata(
    channel: Channel, files: tuple[str, ...], images: tuple[str, ...], label_column: str | None = None
) -> LabelledImages:
    """Read the images that the files name, each with the class in `label_column` or in what has a label's name.

    Raises:
        UserError: a line is not a JSON object or has no class, or an image does not exist or is named twice; the
            message names the line.
    """
    column, known = label_column or _label_of(channel, files[0]), set(images)
    places: dict[str, str] = {}
    unlabelled: set[str | None] = set()
    names: list[str] = []
    for place, folder, entry in _entries(channel, files):
        path = _path(folder, entry.get(_FILE))
        if path not in known:
            raise channel.error(
                f"{place}: {_FILE} is {shown(entry.get(_FILE))}, which is not an image below '{folder or '.'}'; "
                "expected a path from the folder of the metadata.jsonl to an image of the channel."
            )
        if path in places:
            raise channel.error(
                f"{places[path]} and {place} both name the image '{path}'; expected each once."
            )
        if column not in entry:
            told = ", ".join(shown(name, 60) for name in entry if name != _FILE) or "nothing"
            raise channel.error(
                f"{place}: it has no {column!r} beside {_FILE}, but {told[:300]}; expected the class as {_LABEL!r}, or "
                "label_column to name what holds it (a caption is not a class)."
            )
        if entry[column] is None:
            unlabelled.add(path)
            continue
        name = _class(entry[column])
        if name is None:
            raise channel.error(
                f"{place}: {column} is {shown(entry[column], 60)}; expected a class: its name or whole number."
            )
        places[path] = place
        names.append(name)
    if not names:
        raise channel.error(f"'{files[0]}' names no images; expected {_EXPECTED}.")
    labels, classes = coded(names)
    refuse_splits(channel, list(places))
    left = len(images) - len(names) - len(unlabelled)
    says = f"labelled by {column!r} of '{files[0]}'"
    note = f"{channel.name} channel: {len(names):,} images of {len(classes)} classes, {says}"
    note += f"; {left:,} that it does not name are left out" if left else ""
    note += f"; {len(unlabelled):,} without a label left out." if unlabelled else "."
    encoded = ImageFiles([Path(path) for path in places], channel.root, channel.name)
    decisions = [
        Decision("label", repr(column), f"this name in '{files[0]}'", "given" if label_column else "certain"),
        *([_unlabelled(files[0], len(unlabelled))] if unlabelled else ()),
    ]
    return LabelledImages(encoded, labels, classes, (note,), decisions=tuple(decisions))


def _is_metadata(channel: Channel, file: str) -> bool:
    if base_name(file).lower() != "metadata.jsonl":
        return False
    try:
        with (channel.root / file).open("rb") as opened:
            return json.dumps(_FILE).encode() in opened.read(1 << 12)
    except OSError:
        return False


def _unlabelled(file: str, count: int) -> Decision:
    return Decision("left out", "left out", f"{count:,} of its lines have null for a label", name=file)


def _has_label(channel: Channel, file: str) -> bool:
    head = beginning(channel.root / file, 1 << 16)
    return json.dumps(channel.label or _label_of(channel, file)).encode() in head


def _label_of(channel: Channel, file: str) -> str:
    """What the first line calls the label; its usual name if it has none."""
    first = beginning(channel.root / file, 1 << 16).decode("utf-8-sig", "replace").lstrip().partition("\n")[0]
    try:
        return next(iter(beside_images(json_object(first))), _LABEL)
    except ValueError:
        return _LABEL


def _entries(channel: Channel, files: tuple[str, ...]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(name of the line for messages, folder of its file as '' or 'a/b/', content) of each line."""
    for file in files:
        for number, text in lines(channel, file, _EXPECTED):
            place = f"'{file}', line {number:,}"
            try:
                yield place, file.removesuffix(base_name(file)), json_object(text)
            except ValueError as error:
                raise channel.error(f"{place}: {error}; expected {_EXPECTED}.") from error


def _path(folder: str, reference: Any) -> str | None:
    """The path of an image; None if the reference is not a path or leaves the folder."""
    if not isinstance(reference, str) or reference.startswith("/"):
        return None
    parts = [part for part in reference.split("/") if part not in ("", ".")]
    return None if ".." in parts else folder + "/".join(parts)


def _class(value: Any) -> str | None:
    """The class name; None if the value is not a class."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return str(int(value)) if value == int(value) else None

"""Pipe mode: the images and labels of an augmented manifest, sent through a named pipe as RecordIO.

Format: SageMaker developer guide, "Augmented Manifest Files for Training Jobs". Each line of the manifest yields one
record for each of the job's AttributeNames, in their order: the object itself for `source-ref`, and the value in the
line for others. The container does not know the names, so it recognises an image by its first bytes and treats the
records between two images as labels.
"""

from pathlib import Path
from typing import Any

import numpy as np

from subset_trainer.data.channels import Channel
from subset_trainer.data.formats import recordio
from subset_trainer.data.formats.format import OF_MANIFESTS, Claim, Format, Found, ManifestOptions, Reading
from subset_trainer.data.formats.manifest import Label, Labels, json_object, labelled
from subset_trainer.data.images.decoding import is_encoded
from subset_trainer.data.images.labelled import LabelledImages
from subset_trainer.data.images.packed import PackedImages, Spool

_CHUNK = 1 << 20


def read_pipe(name: str, path: Path, attribute: str | None, options: ManifestOptions) -> LabelledImages:
    """Read the pipe once to its end; the images are kept in a temporary file.

    If AttributeNames are `source-ref`, the label and its metadata, in this order, confidence and class name are used.
    Without the metadata, the label is a class number or name.

    Raises:
        UserError: the records do not have this form.
    """
    channel = Channel(name, path.parent, (path.name,))
    expected = "an augmented manifest's records: AttributeNames of source-ref, the label and its metadata"
    spool, labels = Spool(name), Labels(attribute, options)
    try:
        with path.open("rb") as incoming:
            while chunk := incoming.read(_CHUNK):
                spool.append(chunk)
        places: list[tuple[int, int, int]] = []
        groups: list[list[bytes]] = []
        for start, length in list(recordio.spans(spool.file)):
            if is_encoded(recordio.read(spool.file, start, 16)):
                places.append((0, start, length))
                groups.append([])
            elif groups:
                groups[-1].append(recordio.read(spool.file, start))
            else:
                raise ValueError("its first record is not an image")
        if not places:
            raise ValueError("no image came through it")
        if len({len(group) for group in groups}) != 1 or not groups[0]:
            raise ValueError(f"{len(places):,} images came with {sum(map(len, groups)):,} other records")
        entries = [_entry(group, number) for number, group in enumerate(groups)]
        if attribute not in entries[0]:
            labels.wanted = None  # attribute names are not sent through the pipe
        found = [labels.of(entry) for entry in entries]
    except (OSError, ValueError) as error:
        raise channel.error(
            f"the pipe '{path.name}' sent unexpected data ({error}); expected {expected}."
        ) from error
    kept: list[Label] = [label for label in found if label is not None]
    if not kept:
        raise channel.error(f"no example is left ({labels.note(kept)}); expected labelled images.")
    positions = [position for position, label in enumerate(found) if label is not None]
    names = [f"{path.name}[{position}]" for position in positions]
    pieces = np.array(places, np.int64)[positions]
    return labelled(name, PackedImages([spool], pieces, names, name, recordio.whole), kept, labels)


def _entry(records: list[bytes], number: int) -> dict[str, Any]:
    """The records of an image as a line of the manifest; an object is the metadata of the label before it."""
    entry: dict[str, Any] = {}
    name = ""
    for record in records:
        try:
            text = record.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise ValueError(
                f"a record of image {number} (counted from 0) is neither an image nor text"
            ) from None
        if text.startswith("{"):
            if not name:
                raise ValueError(f"image {number} (counted from 0) has metadata without a label before them")
            entry[f"{name}-metadata"] = json_object(text)
        else:
            name = f"attribute {len(entry) + 1}"
            entry[name] = text.strip('"')
    return entry


class Pipe(Format):
    """Pipe mode: the channel is a named pipe, which can be read only once."""

    name = "pipe"
    heeds = ("label_column", *OF_MANIFESTS)
    splits = "none"
    expected = ("", "", "")

    def recognise(self, channel: Channel) -> Claim | None:
        return Claim(channel.files, certain=True) if channel.pipe else None

    def read(self, channel: Channel, claim: Claim, reading: Reading) -> Found:
        options = reading.options
        path = channel.root / claim.files[0]
        images = read_pipe(channel.name, path, options.label_column, options.manifest)
        return Found(self, images, notes=images.notes, decisions=images.decisions)

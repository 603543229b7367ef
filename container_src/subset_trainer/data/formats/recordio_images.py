"""MXNet's image records in RecordIO, the format of SageMaker's image classification.

A record is a header (the number of labels that follow it or 0, the label, and two numbers that identify the image) and
the encoded image: mxnet.recordio.pack in MXNet 1.9.
"""

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from subset_trainer.data.channels import Channel
from subset_trainer.data.classes import coded
from subset_trainer.data.formats import recordio
from subset_trainer.data.formats.format import Claim, Format, Found, Reading
from subset_trainer.data.formats.lists import class_name
from subset_trainer.data.formats.protobuf_messages import holds_messages
from subset_trainer.data.images.labelled import LabelledImages
from subset_trainer.data.images.packed import PackedImages
from subset_trainer.data.understanding import Decision

_HEADER = struct.Struct("<IfQQ")


def read_image_records(channel: Channel, files: tuple[str, ...]) -> LabelledImages:
    """Index the images of `.rec` files, in name order; only headers are read.

    Raises:
        UserError: a file is damaged, a record is not an image, or an image has several labels.
    """
    places: list[tuple[int, int, int]] = []
    names: list[str] = []
    labels: list[str] = []
    for position, file in enumerate(files):
        try:
            with (channel.root / file).open("rb") as opened:
                for record, (start, length) in enumerate(list(recordio.spans(opened))):
                    places.append((position, start, length))
                    names.append(f"{file}[{record}]")
                    labels.append(_label(opened, start, record))
        except (OSError, ValueError) as error:
            raise channel.error(
                f"file '{file}' cannot be read ({error}); expected image records, each with one class's number."
            ) from error
    if not places:
        raise channel.error(f"file '{files[0]}' holds no records; expected image records.")
    coded_labels, classes = coded(labels)
    images = PackedImages(
        [Path(channel.root, file) for file in files],
        np.array(places, np.int64),
        names,
        channel.name,
        encoded_image,
    )
    note = f"{channel.name} channel: {len(places):,} images in RecordIO, {len(classes)} classes."
    decision = Decision("label", "class numbers", "the header of each record")
    return LabelledImages(images, coded_labels, classes, (note,), decisions=(decision,))


def encoded_image(framed: bytes) -> bytes:
    """The encoded image in a framed record. Raises ValueError if the record is damaged."""
    record = recordio.whole(framed)
    return record[_header(record)[1] :]


def _label(file: BinaryIO, start: int, number: int) -> str:
    try:
        record = recordio.read(file, start, _HEADER.size)
        if record.startswith(b"\1\0\0\0"):  # one label, after the header
            record = recordio.read(file, start, _HEADER.size + 4)
        values, _ = _header(record)
        if len(values) != 1:
            raise ValueError(f"it has {len(values)} labels")
        return class_name(values[0])
    except ValueError as error:
        raise ValueError(f"record {number} (counted from 0): {error}") from error


def _header(record: bytes) -> tuple[tuple[float, ...], int]:
    """The labels, and the offset of the image."""
    if len(record) < _HEADER.size:
        raise ValueError(f"it has {len(record)} bytes, fewer than an image record's header")
    count, label, _, _ = _HEADER.unpack_from(record)
    if not count:
        return (label,), _HEADER.size
    end = _HEADER.size + 4 * count
    if end > len(record):
        raise ValueError(f"it has {count:,} labels; expected one, because each image has one class")
    return struct.unpack_from(f"<{count}f", record, _HEADER.size), end


class RecordIOImages(Format):
    """RecordIO files of MXNet's image records; the index and the list from their creation may lie beside them."""

    name = "records"
    expected = ("", "RecordIO", "")
    telling = recordio.SUFFIXES

    def recognise(self, channel: Channel) -> Claim | None:
        found = channel.ending(*recordio.SUFFIXES)
        files = tuple(file for file in found if not holds_messages(channel.root / file))
        return Claim(files, beside=channel.ending(".idx", ".lst")) if files else None

    def read(self, channel: Channel, claim: Claim, reading: Reading) -> Found:
        images = read_image_records(channel, claim.files)
        return Found(self, images, notes=images.notes, decisions=images.decisions)

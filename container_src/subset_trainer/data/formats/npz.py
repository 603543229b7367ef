"""Reads `.npz` files with `x` and `y` as images or as a table."""

import sys
import zipfile
from dataclasses import replace

import numpy as np

from subset_trainer.data.channels import Channel
from subset_trainer.data.classes import coded, label_names, looks_continuous
from subset_trainer.data.formats.format import Claim, Format, Found, Reading
from subset_trainer.data.ids import Ids
from subset_trainer.data.images.labelled import ImageArray
from subset_trainer.data.room import Room
from subset_trainer.data.split_names import splits_of_files
from subset_trainer.data.tables.table import Table
from subset_trainer.data.understanding import refuse_open
from subset_trainer.errors import UserError

_NUMBER = 16
"""Bytes that a table's number takes beside the array that was read: two float64, and the model's float32."""


def read_npz(channel: Channel, files: tuple[str, ...], memory: int | None = None) -> ImageArray | Table:
    """Read files with `x` and `y`, concatenated in name order; nothing is unpickled.

    x: [N, D] numbers are a table. [N, H, W], [N, H, W, C] or [N, C, H, W] with C of 1 or 3 are images, with values
    0..255, or 0..1 if they are floating-point numbers of at most 1. y: [N] (or [N, 1]) integers or strings.

    Raises:
        UserError: the arrays have another form, or a file unpacks to more than `memory` bytes.
    """
    room = Room(channel, memory)
    _check_size(channel, files, room)
    inputs, labels = zip(*(_read(channel, file) for file in files), strict=True)
    for file, x, y in zip(files, inputs, labels, strict=True):
        if x.shape[1:] != inputs[0].shape[1:]:
            raise channel.error(
                f"file '{file}': x has examples of shape {x.shape[1:]}; expected {inputs[0].shape[1:]}, as in "
                f"'{files[0]}'."
            )
        if (y.dtype.kind == "U") != (labels[0].dtype.kind == "U"):
            raise channel.error(
                f"file '{file}': y mixes texts and numbers with '{files[0]}'; expected one of the two."
            )
    y = np.concatenate(labels)
    if y.dtype.kind == "U":
        codes, classes = coded(y.tolist())
    else:
        distinct, codes = np.unique(y, return_inverse=True)
        classes = tuple(label_names(distinct))
    codes = codes.astype(np.int64)
    ids = Ids.numbered(files, [len(x) for x in inputs])
    room.look(f"file '{files[0]}'", sum(x.size * (_NUMBER if x.ndim == 2 else x.itemsize) for x in inputs))
    if inputs[0].ndim == 2:
        x = np.concatenate(inputs).astype(np.float64)
        columns = tuple(x.T)
        return Table(tuple(str(position) for position in range(len(columns))), columns, codes, classes, ids)
    pixels, white = _pixels(channel, files, inputs)
    return ImageArray(np.concatenate(pixels), codes, classes, ids, white)


def _check_size(channel: Channel, files: tuple[str, ...], room: Room) -> None:
    """Check the sizes that the archives declare: a small archive may unpack to any number of zeros."""
    unpacked = 0
    for file in files:
        try:
            with zipfile.ZipFile(channel.root / file) as archive:
                unpacked += sum(member.file_size for member in archive.infolist())
        except Exception:  # noqa: S112
            continue  # the error is reported when it is read
        room.check(unpacked, f"file '{file}'")


def _read(channel: Channel, file: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(channel.root / file, allow_pickle=False) as archive:
            lacking = [name for name in ("x", "y") if name not in archive.files]
            if lacking:
                if (splits := splits_of_files(archive.files)) is not None:
                    refuse_open(channel.name, [replace(splits, name=file)])
                held = ", ".join(repr(name) for name in archive.files) or "nothing"
                raise channel.error(f"file '{file}' holds {held}; expected arrays 'x' and 'y'.")
            x, y = archive["x"], archive["y"]
            if not (isinstance(x, np.ndarray) and isinstance(y, np.ndarray)):
                raise ValueError("a member is not an array")
    except UserError:
        raise
    except Exception as error:  # damaged archives and headers raise almost any exception
        if "Object arrays" in str(error):
            reason = "it holds Python objects, which are not read"
        else:
            reason = str(error) or type(error).__name__
        raise channel.error(
            f"file '{file}' cannot be read ({reason}); expected arrays of numbers x and y."
        ) from error
    if x.dtype.kind not in "biuf":
        raise channel.error(f"file '{file}': x is of type {x.dtype}; expected numbers.")
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise channel.error(
            f"file '{file}': x has the shape {x.shape}; expected [N, D] for a table, or [N, H, W], [N, H, W, C] or "
            "[N, C, H, W] for images."
        )
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise channel.error(f"file '{file}': y has the shape {y.shape}; expected [N], one class an example.")
    if len(x) != len(y):
        raise channel.error(
            f"file '{file}': x has {len(x):,} examples and y {len(y):,}; expected equal numbers."
        )
    if x.dtype.kind == "f":
        bad = ~np.isfinite(x.reshape(len(x), -1)).all(axis=1)
        if bad.any():
            raise channel.error(
                f"file '{file}': x is not finite in {bad.sum():,} examples, first in number {bad.argmax()} (counted "
                "from 0); expected finite numbers."
            )
    return x, _labels(channel, file, y)


def _labels(channel: Channel, file: str, y: np.ndarray) -> np.ndarray:
    if y.dtype.kind in "US":
        try:
            texts = np.ascontiguousarray(y.astype(np.str_))
        except UnicodeDecodeError:
            raise channel.error(
                f"file '{file}': y holds bytes that are not ASCII; expected integers or texts."
            ) from None
        # NumPy stores four bytes per character, and does not check that they are valid code points.
        if texts.dtype.itemsize and texts.view(np.uint32).max(initial=0) > sys.maxunicode:
            raise channel.error(
                f"file '{file}': y holds texts with invalid characters; expected integers or texts."
            )
        return texts
    if y.dtype.kind not in "biuf":
        raise channel.error(f"file '{file}': y is of type {y.dtype}; expected integers or texts.")
    # Whole numbers beyond 2^53 would be merged as floating-point numbers.
    y = y.astype(np.float64 if y.dtype.kind == "f" else np.uint64 if y.dtype == np.uint64 else np.int64)
    if not np.isfinite(y).all():
        raise channel.error(
            f"file '{file}': y is not finite in number {(~np.isfinite(y)).argmax()}; expected classes."
        )
    if looks_continuous(y):
        raise channel.error(
            f"file '{file}': y has {len(np.unique(y)):,} different values; expected classes, because regression is "
            "not supported."
        )
    return y


def _pixels(
    channel: Channel, files: tuple[str, ...], inputs: tuple[np.ndarray, ...]
) -> tuple[list[np.ndarray], int]:
    """The pixels of each file, and the value of white in the files."""
    # All files share one scale, so that a file of dark images is not read as if 1 were white.
    scale = 255 if all(x.dtype.kind == "f" and x.max() <= 1 for x in inputs) else 1
    pixels = []
    for file, x in zip(files, inputs, strict=True):
        if x.dtype.kind == "b":
            x = x.astype(np.uint8) * 255
        if x.min() < 0 or x.max() * scale > 255:
            raise channel.error(
                f"file '{file}': x has values from {x.min():g} to {x.max():g}; expected images of 0 to 255, or of 0 "
                "to 1 as floating-point numbers."
            )
        if x.dtype != np.uint8:
            x = np.round(x * scale).astype(np.uint8)
        if x.ndim == 3:
            x = x[:, None]
        elif x.shape[3] in (1, 3):
            x = x.transpose(0, 3, 1, 2)
        elif x.shape[1] not in (1, 3):
            raise channel.error(
                f"file '{file}': x has the shape {x.shape}; expected 1 or 3 colour channels, first or last."
            )
        pixels.append(np.broadcast_to(x, (len(x), 3, *x.shape[2:])))
    return pixels, 255 // scale


class Npz(Format):
    """`.npz` files with `x` and `y`."""

    name = "npz"
    expected = ("", ".npz", " files")
    telling = (".npz",)
    contents = ("NumPy arrays (.npz)", "ZIP")

    def recognise(self, channel: Channel) -> Claim | None:
        files = channel.ending(".npz")
        return Claim(files) if files else None

    def read(self, channel: Channel, claim: Claim, reading: Reading) -> Found:
        source = read_npz(channel, claim.files, reading.memory)
        note = (
            f"{channel.name} channel: {len(source):,} examples from arrays, read as "
            f"{'a table' if isinstance(source, Table) else 'images'}, {len(source.classes)} classes."
        )
        return Found(self, source, notes=(note,))

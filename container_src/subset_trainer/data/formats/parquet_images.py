"""Parquet files with encoded images in a column: plain bytes, or Hugging Face's struct of `bytes` and `path`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from subset_trainer.data.channels import Channel
from subset_trainer.data.classes import coded, label_names, looks_continuous
from subset_trainer.data.images.labelled import LabelledImages
from subset_trainer.data.images.packed import PackedImages, Spool
from subset_trainer.data.label_columns import beside_images, refuse_rivals
from subset_trainer.data.understanding import Decision
from subset_trainer.errors import UserError, first_line, shown

_IMAGE_NAMES = (
    "image",
    "img",
    "images",
    "image_bytes",
    "picture",
    "photo",
    "jpg",
    "jpeg",
    "png",
    "bytes",
    "content",
)
_ROWS_AT_ONCE = 256


def image_column(channel: Channel, file: str) -> str | None:
    """The column of a Parquet file that holds images; None if the file is a table without images.

    Raises:
        UserError: the file cannot be read.
    """
    return next(iter(_image_columns(_schema(channel, file))), None)


def _image_columns(schema: pa.Schema) -> list[str]:
    """The columns that may hold the images: those with the name of one, or else Hugging Face's structs."""
    structs = [
        field.name
        for field in schema
        if pa.types.is_struct(field.type)
        and field.type.get_field_index("bytes") >= 0
        and _is_binary(field.type.field("bytes").type)
    ]
    plain = [field.name for field in schema if _is_binary(field.type)]
    named = [name for name in (*structs, *plain) if name.lower() in _IMAGE_NAMES]
    return named or structs


def read_parquet_images(
    channel: Channel, files: tuple[str, ...], label_column: str | None = None
) -> LabelledImages:
    """Read the images of Parquet files, in name order. They are copied out, because pages allow no random access.

    Args:
        label_column: a column of whole numbers or strings. By default a column with a usual name such as label, or the
            only one beside the image. Names for numbers come from Hugging Face's schema if it has them.

    Raises:
        UserError: the files do not have this form.
    """
    spool = Spool(channel.name)
    places: list[tuple[int, int, int]] = []
    names: list[str] = []
    values: list[Any] = []
    label = ""
    rivals: dict[str, list[Any]] = {}
    schemas = [_schema(channel, file) for file in files]
    for file, schema in zip(files, schemas, strict=True):
        able = _image_columns(schema)
        if len(able) != 1:
            several = (
                f"several columns of images, {', '.join(map(repr, able))}; expected one, called 'image'."
            )
            none = f"no column of images, as '{files[0]}' has; expected the same in all files."
            raise channel.error(f"file '{file}' has {several if able else none}")
        [image] = able
        found = _label(channel, file, schema, image, label_column)
        if label and found != label:
            raise channel.error(
                f"file '{file}' has its labels in {found!r}, '{files[0]}' in {label!r}; expected one."
            )
        if not label and label_column is None:
            rivals = {name: [] for name in beside_images(_able(schema, image)) if name != found}
        label = found
        row = 0
        try:
            with pq.ParquetFile(channel.root / file) as opened:
                for batch in opened.iter_batches(_ROWS_AT_ONCE, columns=[image, label, *rivals]):
                    images = batch.column(image)
                    data = images.field("bytes") if pa.types.is_struct(images.type) else images
                    for content in data:
                        raw = content.as_buffer() if content.is_valid else None
                        if raw is None:
                            raise ValueError(f"row {row} (counted from 0) has no image")
                        places.append((0, spool.append(raw), len(raw)))
                        names.append(f"{file}[{row}]")
                        row += 1
                    values.extend(batch.column(label).to_pylist())
                    for name, told in rivals.items():
                        told.extend(batch.column(name).to_pylist())
        except UserError:
            raise
        except Exception as error:  # damaged pages raise almost any exception
            raise _unreadable(channel, file, error) from error
    if not places:
        raise channel.error(f"file '{files[0]}' has no rows; expected images and their classes.")
    refuse_rivals(channel.name, files[0], {label: values, **rivals})
    labels, classes = coded(_names(channel, label, values, schemas[0], names))
    note = f"{channel.name} channel: {len(places):,} images in Parquet, {len(classes)} classes by {label!r}."
    images = PackedImages([spool], np.array(places, np.int64), names, channel.name)
    reason = (
        "label_column names this column"
        if label_column
        else "the column with a label's name, or the only one"
    )
    decision = Decision("label", repr(label), reason, "given" if label_column else "certain")
    return LabelledImages(images, labels, classes, (note,), decisions=(decision,))


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _schema(channel: Channel, file: str) -> pa.Schema:
    try:
        return pq.read_schema(Path(channel.root, file))
    except Exception as error:
        raise _unreadable(channel, file, error) from error


def _unreadable(channel: Channel, file: str, error: Exception) -> UserError:
    return channel.error(f"file '{file}' cannot be read ({first_line(error)}); expected Parquet.")


def _label(channel: Channel, file: str, schema: pa.Schema, image: str, label_column: str | None) -> str:
    others = _able(schema, image)
    if label_column is not None:
        if label_column in others:
            return label_column
        raise UserError(
            f"label_column={shown(label_column)}: '{file}' of the {channel.name} channel has no such column; expected "
            f"one of its columns of whole numbers or texts ({', '.join(map(repr, others)) or 'none'})."
        )
    named = beside_images(others)
    if named or len(others) == 1:
        return (named or others)[0]
    raise channel.error(
        f"file '{file}' has the columns {', '.join(map(repr, schema.names))}; expected one called 'label', or "
        "label_column to name the one with the classes."
    )


def _able(schema: pa.Schema, image: str) -> list[str]:
    """The columns that can hold classes: of whole numbers or texts."""
    return [
        field.name
        for field in schema
        if field.name != image and (pa.types.is_integer(field.type) or _is_text(field.type))
    ]


def _is_text(kind: pa.DataType) -> bool:
    texts = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(texts) or pa.types.is_large_string(texts)


def _names(
    channel: Channel, column: str, values: Sequence[Any], schema: pa.Schema, rows: Sequence[str]
) -> list[str]:
    missing = next((position for position, value in enumerate(values) if value in (None, "")), None)
    if missing is not None:
        raise channel.error(f"'{rows[missing]}' has no label in {column!r}; expected one in each row.")
    if len({type(value) for value in values}) > 1:
        raise channel.error(
            f"column {column!r} holds texts in one file and numbers in another; expected one of the two."
        )
    if isinstance(values[0], str):
        return [str(value) for value in values]
    numbers = np.array(values)
    if looks_continuous(numbers):
        raise channel.error(
            f"column {column!r} has {len(np.unique(numbers)):,} different values; expected classes, because "
            "regression is not supported."
        )
    known = _hugging_face_names(schema, column)
    if not known:
        return label_names(numbers)
    if len(outside := np.flatnonzero((numbers < 0) | (numbers >= len(known)))):
        unlabelled = numbers[outside[0]] == -1
        what = "by which Hugging Face marks examples without a label" if unlabelled else "without a name"
        raise channel.error(
            f"{len(outside):,} of {len(values):,} rows have the label {numbers[outside[0]]} in {column!r}, {what} "
            f"(first '{rows[outside[0]]}'); expected labelled rows alone: one of the schema's {len(known)} names each."
        )
    return [known[value] for value in values]


def _hugging_face_names(schema: pa.Schema, column: str) -> list[str]:
    """The class names of a ClassLabel that `datasets` stores in the schema's metadata; empty if it has none."""
    try:
        info = json.loads((schema.metadata or {})[b"huggingface"])
        names = info["info"]["features"][column]["names"]
        if all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
            return list(names)
    except (KeyError, TypeError, ValueError, RecursionError):
        pass
    return []

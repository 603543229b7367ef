"""Reads a channel in any known format as labelled examples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from subset_trainer.data.channels import Channel
from subset_trainer.data.class_names import as_training, merged, without_effect
from subset_trainer.data.formats.content_types import understand
from subset_trainer.data.formats.format import Format, Found, Options, Reading
from subset_trainer.data.formats.registry import FORMATS, Layout
from subset_trainer.data.split_names import says_splits, splits_of_values
from subset_trainer.data.tables.table import Table
from subset_trainer.data.understanding import Decision, refuse_open

if TYPE_CHECKING:  # the formats are free of torch
    from subset_trainer.data.kinds.kind import Kind, Source

OF_LABELS = ("label_column", "label_folder")
"""Hyperparameters that say where the labels are."""


def read(channel: Channel, options: Options, memory: int, like: Kind | None = None) -> Found:
    """Read the channel.

    Args:
        memory: the largest unpacked size of a file in bytes.
        like: what was fitted on the training channel. The data must then be of the same kind, and of a CIFAR set the
            test batch is read.

    Raises:
        UserError: anything is wrong with the data.
    """
    channel, options, layout = laid_out(channel, options)
    return read_laid_out(channel, layout, Reading(options, memory, like))


def read_laid_out(channel: Channel, layout: Layout, reading: Reading) -> Found:
    """Read a channel whose layout is known. Raises UserError as `read` does."""
    options, like = reading.options, reading.like
    found = layout.format.read(channel, layout.claim, reading)
    found = replace(found, decisions=(*layout.decisions, *found.decisions))
    said = (
        without_effect(options.label_names, found.source.classes, len(found.source)) if like is None else None
    )
    if said is not None:
        found = replace(found, decisions=(*found.decisions, said))
    if options.label_names == "merged":
        labels, classes = merged(found.source.labels, found.source.classes)
        found = replace(found, source=replace(found.source, labels=labels, classes=classes))
    if like is not None and options.label_names is None:
        found = _in_trained_spelling(channel, found, like)
    if like is None:
        refuse_open(channel.name, _splits_of_rows(found.source, options))
    if like is not None and not isinstance(found.source, like.sources):
        from subset_trainer.data.kinds import registry as kinds  # not needed to understand a channel

        held = kinds.of(found.source).held
        raise channel.error(f"'{layout.files[0]}' holds {held}; expected {like.held}, as in training.")
    return found


def _in_trained_spelling(channel: Channel, found: Found, like: Kind) -> Found:
    source = found.source
    labels, classes, same = as_training(source.labels, source.classes, like.classes)
    if not same:
        return found
    other, own = next(iter(same.items()))
    note = f"{channel.name} channel: labels are spelt otherwise; {other!r} is read as training's {own!r}."
    source = replace(source, labels=labels, classes=classes)
    return replace(found, source=source, notes=(*found.notes, note))


def laid_out(channel: Channel, options: Options) -> tuple[Channel, Options, Layout]:
    """The channel and the options as its format reads them, and its layout, by names and first bytes.

    Raises:
        UserError: no format fits, or a decision on the layout is open.
    """
    channel = replace(
        channel,
        label=options.label_column,
        label_folder=options.label_folder,
        encoding=options.text_encoding,
    )
    told = understand(channel, options.content_types.get(channel.name))
    layout = told.layout(channel)
    layout = replace(layout, decisions=(*layout.decisions, *_unheeded(channel, layout.format, options)))
    refuse_open(channel.name, layout.decisions)
    options = replace(options, csv_header=told.header or options.csv_header)
    return channel, options, layout


def _unheeded(channel: Channel, format_: Format, options: Options) -> Iterator[Decision]:
    """The decisions on given hyperparameters that the format of the training channel does not heed.

    Those that say where the labels are, are open: another label would be learned than the user meant. Of the others it
    is said that they have no effect.
    """
    if channel.name != "training":
        return
    for name, value in options.given().items():
        if name in format_.heeds:
            continue
        others = [other.name for other in FORMATS if name in other.heeds]
        reason = f"{name}={value} has no effect on data of the format {format_.name!r}, only on {', '.join(others)}"
        if name in OF_LABELS:
            yield Decision("label", name, f"{reason}; expected no {name}", "open")
        else:
            yield Decision("format", "not used", reason, "given", name=name)


def _splits_of_rows(source: Source, options: Options) -> Iterator[Decision]:
    """The open decision on a column that says the split of each row, unless the user keeps or leaves it out."""
    if not isinstance(source, Table):
        return
    for name, values in zip(source.names, source.columns, strict=True):
        if values.dtype.kind not in "Of" or name in options.columns.kept or not says_splits(name):
            continue
        told = (
            values
            if values.dtype == object
            else [f"{value:g}" for value in np.unique(values[~np.isnan(values)])[:3]]
        )
        if (several := splits_of_values(name, sorted(set(told)))) is not None:
            yield replace(several, setting=f"keep_columns={name} if it is an input")

"""Reads a channel in any known format as labelled examples."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from subset_trainer.data.channels import Channel
from subset_trainer.data.formats.content_types import understand
from subset_trainer.data.formats.format import Found, Options, Reading
from subset_trainer.data.formats.registry import Layout
from subset_trainer.data.understanding import refuse_open

if TYPE_CHECKING:  # the formats are free of torch
    from subset_trainer.data.kinds.kind import Kind


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
    found = layout.format.read(channel, layout.claim, Reading(options, memory, like))
    found = replace(found, decisions=(*layout.decisions, *found.decisions))
    if like is not None and not isinstance(found.source, like.sources):
        from subset_trainer.data.kinds import registry as kinds  # not needed to understand a channel

        held = kinds.of(found.source).held
        raise channel.error(f"'{layout.files[0]}' holds {held}; expected {like.held}, as in training.")
    return found


def laid_out(channel: Channel, options: Options) -> tuple[Channel, Options, Layout]:
    """The channel and the options as its format reads them, and its layout, by names and first bytes.

    Raises:
        UserError: no format fits, or a decision on the layout is open.
    """
    channel = replace(channel, label=options.label_column)
    told = understand(channel, options.content_types.get(channel.name))
    layout = told.layout(channel)
    refuse_open(channel.name, layout.decisions)
    options = replace(options, csv_header=told.header or options.csv_header)
    return channel, options, layout

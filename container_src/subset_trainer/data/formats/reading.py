"""A channel → labelled examples as they lie there, in whichever of the known formats."""

from dataclasses import replace

from subset_trainer.data.channels import Channel
from subset_trainer.data.formats.content_types import understand
from subset_trainer.data.formats.format import Found, Options, Reading
from subset_trainer.data.kinds import registry as kinds
from subset_trainer.data.kinds.kind import Kind


def read(channel: Channel, options: Options, memory: int, like: Kind | None = None) -> Found:
    """Read the channel.

    like: what the training channel taught; then what is found must be of its kind, and of a CIFAR set the test batch is
    meant. memory: bytes that a file may unpack to. UserError for everything that is wrong with the data.
    """
    told = understand(channel, options.content_types.get(channel.name))
    layout = told.layout(channel)
    options = replace(options, csv_header=told.header or options.csv_header)
    found = layout.format.read(channel, layout.claim, Reading(options, memory, like))
    if layout.unused:
        more = f" and {len(layout.unused) - 1:,} more" if len(layout.unused) > 1 else ""
        note = f"{channel.name} channel: not used: '{layout.unused[0]}'{more}."
        found = replace(found, notes=(note, *found.notes))
    held = kinds.of(found.source).held
    if like is not None and held != like.held:
        raise channel.error(f"'{layout.files[0]}' holds {held}; expected {like.held}, as in training.")
    return found

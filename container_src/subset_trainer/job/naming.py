"""What a run is called in the title of its report: the run, its strategy and its data."""

import itertools
import os
from pathlib import Path

from subset_trainer.contract import Contract
from subset_trainer.data import Kind, Splits
from subset_trainer.job.check import CHANNELS
from subset_trainer.readable import number

EXAMPLES = {"image": "images", "table": "rows", "table_and_text": "rows", "text": "texts"}
UNNAMED = {*CHANNELS, "train", "data", "input", "ml", ""}
"""Names of folders that say nothing of what is in them."""


def title(contract: Contract, strategy: str, fraction: float | None, seed: int, splits: Splits) -> str:
    """As in "job-7: rs2 at 30% on flowers".

    Args:
        fraction: of the examples in an epoch; None: the strategy has none.
    """
    at = "" if fraction is None else f" at {number(100 * fraction, '.3g')}%"
    # Of a sharded channel each host has other files.
    channel = None if CHANNELS[0] in contract.sharded else contract.channels[CHANNELS[0]]
    data = (channel and name_of(channel)) or counted(splits)
    run = contract.job_name or (contract.base.name if contract.base.name not in UNNAMED else None)
    what = f"{strategy}{at} on {data}"
    return f"{run}: {what}" if run else f"{what}, seed {seed}"


def counted(splits: Splits) -> str:
    """As in "1,437 images in 10 classes": of the training channel, with what is set aside for validation; of a sharded
    one without it."""
    understood = splits.understandings[0] if splits.understandings and splits.train.owners is None else None
    count = len(splits.train) if understood is None or understood.examples is None else understood.examples
    kind: Kind = splits.preprocessing
    return f"{count:,} {EXAMPLES[kind.name]} in {len(kind.classes):,} classes"


def name_of(channel: Path) -> str | None:
    """The name of the channel's only file, or of the folder that the channel is a link to. None: it has no name but the
    platform's."""
    try:
        with os.scandir(channel) as entries:
            first = list(itertools.islice(entries, 2))
    except OSError:  # the files may be gone by now, and the model is saved
        first = []
    if len(first) == 1 and first[0].is_file():
        return first[0].name
    if not channel.is_symlink():
        return None
    own = channel.resolve()
    return next((name for name in (own.name, own.parent.name) if name.lower() not in UNNAMED), None)

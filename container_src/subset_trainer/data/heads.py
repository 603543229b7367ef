"""The beginnings of a channel's files, as a small channel that the formats read like any other. Free of torch."""

from __future__ import annotations

import gzip
import zlib
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from subset_trainer.data.formats.format import Claim

if TYPE_CHECKING:
    from subset_trainer.data.channels import Channel
    from subset_trainer.data.formats.registry import Layout

BEGINNING = 1 << 20
"""Bytes that are read of a file, before it is unpacked."""
MOST_TABLES, MOST_TEXTS = 16, 1_000
"""Files that are read, from the whole of a channel."""
_ROWS = 10_000
_NEWLINE, _QUOTE = b"\n", b'"'


def is_cut(layout: Layout) -> bool:
    """Whether files in this format can be read by their beginnings."""
    return layout.format.beginning in ("lines", "rows")


def beginnings(channel: Channel, layout: Layout, folder: Path) -> tuple[Channel, Claim, bool]:
    """A channel of the beginnings of some files, its claim, and whether that is all of the channel.

    Args:
        folder: an empty folder for the beginnings, which must outlive the channel.

    Raises:
        OSError: a file cannot be read.
    """
    files = layout.files
    if layout.format.beginning == "some":
        chosen = _of_each_folder(files, MOST_TEXTS)
        return replace(channel, files=chosen), Claim(chosen), len(chosen) == len(files)
    if not is_cut(layout):
        return channel, layout.claim, True
    chosen = files if len(files) <= MOST_TABLES else tuple(files[:: -(-len(files) // MOST_TABLES)])
    whole = len(chosen) == len(files)
    for file in chosen:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        whole = _cut(channel.root / file, folder / file, layout.format.beginning == "rows") and whole
    if whole:
        return channel, layout.claim, True
    return replace(channel, root=folder, files=chosen), Claim(chosen), False


def _of_each_folder(files: tuple[str, ...], most: int) -> tuple[str, ...]:
    """At most about `most` files, evenly from all folders, so that no class is missed."""
    if len(files) <= most:
        return files
    folders: dict[str, list[str]] = defaultdict(list)
    for file in files:
        folders[file.rpartition("/")[0]].append(file)
    each = max(1, most // len(folders))
    return tuple(sorted(file for members in folders.values() for file in members[:each]))


def _cut(source: Path, target: Path, rows: bool) -> bool:
    """Write a file's first lines or rows; return whether it is the whole file."""
    if rows:
        return _cut_parquet(source, target)
    with source.open("rb") as opened:
        data = opened.read(BEGINNING + 1)
    whole = len(data) <= BEGINNING
    packed = data.startswith(b"\x1f\x8b")
    if packed:
        if whole:
            target.write_bytes(data)
            return True
        unpacker = zlib.decompressobj(wbits=31)
        data = unpacker.decompress(data, 4 * BEGINNING)
    if not whole:
        data = data[: _last_line(data)]
    target.write_bytes(gzip.compress(data, 1) if packed else data)
    return whole


def _last_line(data: bytes) -> int:
    """The end of the last whole line: its line break is not within quotes. All of the data if there is none."""
    end = len(data)
    quotes = data.count(_QUOTE)
    while (line := data.rfind(_NEWLINE, 0, end)) >= 0:
        quotes -= data.count(_QUOTE, line, end)
        if quotes % 2 == 0:
            return line + 1
        end = line
    return len(data)


def _cut_parquet(source: Path, target: Path) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        opened = pq.ParquetFile(source)
        rows = opened.metadata.num_rows
        batch = next(opened.iter_batches(_ROWS), None) if rows > _ROWS else None
    except (pa.ArrowException, OSError):
        batch, rows = None, 0  # the error is reported when the file is read
    if batch is None:
        target.symlink_to(source.resolve())
        return True
    pq.write_table(pa.Table.from_batches([batch]).cast(opened.schema_arrow), target)
    return False

"""Understands channels as a job would, whole or by the beginnings of their files, without training or torch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from subset_trainer.data import heads
from subset_trainer.data.channels import Channel
from subset_trainer.data.class_names import as_training, check_classes
from subset_trainer.data.formats.format import Found, ManifestOptions, Options, Reading
from subset_trainer.data.formats.reading import laid_out, read_laid_out
from subset_trainer.data.formats.registry import Layout, open_channel
from subset_trainer.data.machine import memory_available
from subset_trainer.data.tables.columns import fit_columns
from subset_trainer.data.tables.interpret import Rules
from subset_trainer.data.tables.table import Column, Table, TrainedColumns
from subset_trainer.data.texts.labelled import Texts
from subset_trainer.data.understanding import Understanding

if TYPE_CHECKING:
    from subset_trainer.config import Hyperparameters
    from subset_trainer.data.kinds.kind import Kind, Source

CHANNELS = ("training", "validation", "test")


def channels_below(folder: Path) -> dict[str, Path]:
    """The channels in a folder: training and perhaps validation and test; else a folder or file itself as training."""
    if (folder / "training").is_dir():
        return {name: folder / name for name in CHANNELS if (folder / name).is_dir()}
    return {"training": folder}


def options_of(hp: Hyperparameters) -> Options:
    """The hyperparameters for reading labels."""
    words = tuple(word.lower() for word in _words(hp.verified_as))
    return Options(
        label_column=hp.label_column,
        csv_header=hp.csv_header,
        label_names=hp.label_names,
        label_folder=hp.label_folder,
        text_encoding=hp.text_encoding,
        manifest=ManifestOptions(
            hp.min_confidence, hp.confidence_weighting, hp.human_annotated_only, words, hp.s3_images
        ),
        columns=Rules(
            ignored=_words(hp.ignore_columns),
            kept=_words(hp.keep_columns),
            texts=_words(hp.text_column),
            numbers=_words(hp.number_columns),
            date_order=hp.date_order,
            decimal_mark=hp.decimal_mark,
            missing=frozenset(word.lower() for word in _words(hp.missing_values)),
        ),
    )


def _words(setting: str | None) -> tuple[str, ...]:
    """The parts of a hyperparameter that are separated by commas."""
    return tuple(word.strip() for word in (setting or "").split(",") if word.strip())


@dataclass(frozen=True)
class _Trained(TrainedColumns):
    """The training table, to which the other channels' tables are matched."""

    held: ClassVar[str] = "tables"
    sources: ClassVar[tuple[type, ...]] = (Table, Texts)

    def of_table(self, channel: Channel, file: str, read: Callable[[str | None, Any], Table]) -> Table:
        return read(None, self)


def understand(
    channels: Mapping[str, Path], options: Options, *, beginnings: bool, sparse: bool = False
) -> tuple[Understanding, ...]:
    """What each channel is taken to be, training first.

    Args:
        beginnings: whether to read no more than the beginnings of files, where the format allows that.
        sparse: whether no file holds more than its beginning, so that files of other formats are not read at all.

    Raises:
        UserError: a channel would be refused. By beginnings, that may be wrong: labels may vary further down.
    """
    found: list[Understanding] = []
    like: _Trained | None = None
    classes: dict[str, int] = {}
    for name in (name for name in CHANNELS if name in channels):
        channel = open_channel(name, channels[name], channels.get(f"{name}_lst"))
        channel, own, layout = laid_out(channel, options)
        if sparse and not _readable(channel, layout):
            found.append(Understanding(name, layout.format.name, decisions=layout.decisions, complete=False))
            continue
        with tempfile.TemporaryDirectory(prefix="subset-trainer-") as folder:
            one, read = _read(channel, layout, own, like, Path(folder) if beginnings else None)
        found.append(one)
        labels, source = read.source.labels, read.source
        if name == "training":
            classes = dict(one.classes)
            if one.complete:
                check_classes(channel, labels, source.classes, read.decisions, options.label_names)
            like = _trained(channel, read)
        elif one.complete and found[0].complete and found[0].classes:
            _check_known(channel, source, classes)
    return tuple(found)


def _readable(channel: Channel, layout: Layout) -> bool:
    if heads.is_cut(layout) or layout.format.in_folders:
        return True
    return all((channel.root / file).stat().st_size <= heads.BEGINNING for file in layout.files)


def _read(
    channel: Channel, layout: Layout, options: Options, like: _Trained | None, folder: Path | None
) -> tuple[Understanding, Found]:
    claim, whole = layout.claim, True
    if folder is not None:
        with suppress(OSError, ValueError):  # the format itself reports what cannot be read
            channel, claim, whole = heads.beginnings(channel, layout, folder)
    reading = Reading(options, memory_available(), cast("Kind | None", like))
    found = read_laid_out(channel, replace(layout, claim=claim), reading)
    one = found.understanding(channel.name)
    return (one if whole else replace(one, examples=None, complete=False)), found


def _trained(channel: Channel, found: Found) -> _Trained | None:
    """The fitted columns of a training table. Raises UserError if they cannot be fitted."""
    source = found.source
    if isinstance(source, Texts) and source.column is not None:
        columns: tuple[Column, ...] = (Column(source.column, "free text"),)
    elif isinstance(source, Table):
        texts = {name: Column(name, "free text") for name in source.text_columns}
        rest = [at for at, name in enumerate(source.names) if name not in texts]
        others: dict[str, Column] = {}
        if rest:
            part = replace(
                source,
                names=tuple(source.names[at] for at in rest),
                columns=tuple(source.columns[at] for at in rest),
                text_columns=(),
            )
            fitted = fit_columns(channel, part, np.arange(len(source)))
            others = {column.name: column for column in fitted}
        columns = tuple({**texts, **others}[name] for name in source.names)
    else:
        return None
    return _Trained(
        source.classes, columns, source.header, source.label_column, source.label_index, source.left_out
    )


def _check_known(channel: Channel, source: Source, known: Mapping[str, int]) -> None:
    labels, classes, _ = as_training(source.labels, source.classes, tuple(known))
    unknown = [name for name in (classes[label] for label in np.unique(labels)) if name not in known]
    if unknown:
        raise channel.error(
            f"the labels {', '.join(map(repr, unknown[:5]))} do not occur in training; expected some of "
            f"{', '.join(map(repr, list(known)[:10]))}."
        )

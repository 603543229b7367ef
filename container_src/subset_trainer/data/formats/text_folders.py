"""Labelled texts: class folders of `.txt` files, a column of a table, or a manifest that holds them."""

import numpy as np

from subset_trainer.data.channels import Channel
from subset_trainer.data.formats.csv_tables import Table
from subset_trainer.data.formats.manifest import Labels, ManifestOptions, labelled_lines, weights_of
from subset_trainer.data.ids import Ids
from subset_trainer.data.images.labelled import coded
from subset_trainer.data.texts.ngrams import Texts
from subset_trainer.errors import UserError, shown

LARGEST_FILE = 1 << 24
"""Bytes: a longer file is no example of a class."""
_EXPECTED = "UTF-8 text, one example a file"
_LOOKED_AT = 1_000


def read_text_folders(channel: Channel, files: tuple[str, ...], folder: str, memory: int) -> Texts:
    """One text a file, its class the folder below `folder`. UserError on files that are no UTF-8 text, and on more than
    `memory` bytes."""
    texts = np.empty(len(files), object)
    left = memory
    for position, file in enumerate(files):
        try:
            with (channel.root / file).open("rb") as opened:
                raw = opened.read(LARGEST_FILE + 1)
            if len(raw) > LARGEST_FILE:
                raise ValueError(f"it has more than {LARGEST_FILE >> 20} MiB")
            texts[position] = raw.decode("utf-8-sig")
        except (OSError, ValueError) as error:
            reason = error.reason if isinstance(error, UnicodeDecodeError) else error
            raise channel.error(f"text '{file}' cannot be read ({reason}); expected {_EXPECTED}.") from error
        left -= len(raw)
        if left < 0:
            raise channel.error(
                f"the texts up to '{file}' take more than the {memory / 1e9:.1f} GB of memory that are left; expected "
                "less data, or an instance with more memory."
            )
    labels, classes = coded([file[len(folder) :].split("/", 1)[0] for file in files])
    note = f"{channel.name} channel: {len(files):,} texts in {len(classes)} class folders."
    ids = Ids.of_paths(np.array([file.encode("utf-8", "surrogateescape") for file in files]))
    return Texts(texts, labels, classes, ids, (note,))


def text_column(table: Table) -> str | None:
    """The column to classify by, where a table's only feature is one of texts: of several words, mostly different."""
    if len(table.columns) != 1 or table.columns[0].dtype != object:
        return None
    sample = table.columns[0][:_LOOKED_AT].tolist()
    with_spaces = sum(" " in text.strip() for text in sample)
    return table.names[0] if 2 * min(with_spaces, len(set(sample))) > len(sample) else None


def texts_of(channel: Channel, table: Table, column: str) -> Texts:
    """One column of a table. UserError where it is not there, or holds something else."""
    position = table.names.index(column) if column in table.names else None
    if position is None or table.columns[position].dtype != object:
        known = [
            name for name, values in zip(table.names, table.columns, strict=True) if values.dtype == object
        ]
        raise UserError(
            f"text_column is {shown(column)}, which the {channel.name} channel lacks as a column of texts; expected "
            f"one of {', '.join(map(repr, known)) or 'those that it has none of'}."
        )
    others = len(table.columns) - 1
    note = (
        f"{channel.name} channel: {len(table):,} texts of column {column!r}, {len(table.classes)} classes"
        + (f"; {others} other columns are not used." if others else ".")
    )
    return Texts(
        table.columns[position],
        table.labels,
        table.classes,
        table.ids,
        (*table.notes, note),
        column=column,
        header=table.header,
        label_column=table.label_column,
        label_index=table.label_index,
    )


def read_text_manifest(
    channel: Channel, files: tuple[str, ...], attribute: str | None, options: ManifestOptions
) -> Texts:
    """The texts that manifests hold as `source`, with the labels that they tell: see
    :func:`subset_trainer.data.formats.manifest.read_manifest`. UserError as there, and on lines without `source`."""
    expected = (
        "lines of JSON objects with source (or with source-ref, and the images or s3_images=true) and a label"
    )
    labels = Labels(attribute, options)
    found = list(labelled_lines(channel, files, "source", labels, expected))
    kept = [label for *_, label in found]
    places = [(file, number) for file, number, *_ in found]
    codes, classes = coded(labels.names(kept))
    note = f"{channel.name} channel: {len(kept):,} texts of {len(classes)} classes in a manifest, {labels.note(kept)}."
    ids = Ids.of_lines(files, len(places), lambda: places)
    return Texts(
        np.array([text for _, _, text, _ in found], object),
        codes,
        classes,
        ids,
        (note,),
        weights_of(kept, options),
    )

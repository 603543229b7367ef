"""Chooses the examples to label again first, from what a training run recorded about them (`examples.parquet`)."""

import csv
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deploy.aws.storage import SCHEME, in_s3, joined
from deploy.results import runs
from subset_trainer.errors import UserError, first_line, shown

EXAMPLES = "examples.parquet"
COLUMNS = {
    "id": "text",
    "label": "text",
    "probable_label": "text",
    "mislabelled": "numbers",
    "running_loss": "numbers",
    "duplicate_group": "whole numbers",
}
"""Columns that are read → their content."""
ROW = re.compile(r"(.+):([0-9]{1,12})", re.DOTALL)
"""Id of a table's row: the file and its line."""
ELEMENT = re.compile(r"(.+)\[([0-9]{1,12})\]", re.DOTALL)
"""Id of an array's element, which a labelling job cannot show."""


@dataclass(frozen=True)
class Example:
    """A training example."""

    id: str
    """Training's id of the example: a file of the channel, `file:line` of a table, or a manifest's `source-ref`."""
    label: str
    probable_label: str
    mislabelled: float | None
    """Probability that the label is wrong, 0..1; NaN or None if it was not estimated."""
    running_loss: float | None
    """NaN or None if training never saw the example."""
    duplicate_group: int | None
    """-1 or None if the example has no near-duplicates."""


def read(run: str, region: str | None = None) -> pa.Table:
    """Read a finished run's records of its training examples: columns COLUMNS, one row for each example.

    Args:
        run: the run's folder or output.tar.gz, local or in S3, or the name of its training job.
        region: AWS region.

    Raises:
        UserError: there is no such run, it did not complete, or it has no readable examples.parquet.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _parsed(runs.file_of(run, EXAMPLES, Path(folder), region), run)


def _parsed(path: Path, run: str) -> pa.Table:
    name = f"{EXAMPLES} of {run!r}"
    try:
        with path.open("rb") as file:
            opened = pq.ParquetFile(file)
            for column, content in COLUMNS.items():
                kind = opened.schema_arrow.field(column).type if column in opened.schema_arrow.names else None
                if kind is None or not _holds(kind, content):
                    raise UserError(f"{name}: expected a column {column} of {content}, got {kind or 'none'}")
            removed = [name for name in ("removed",) if name in opened.schema_arrow.names]
            table = opened.read(columns=[*COLUMNS, *removed])
            if removed:
                # Nobody can label an image that cannot be read.
                table = table.filter(pc.fill_null(pc.not_equal(table.column("removed"), "unreadable"), True))
        table.validate(full=True)  # above all, that texts are valid UTF-8
        for column in ("id", "label"):
            if table.column(column).null_count:
                raise UserError(f"{name}: expected a value of {column} in every row, got none in some")
    except UserError:
        raise
    except Exception as error:  # pyarrow raises many types of errors for damaged files
        raise UserError(f"{name} cannot be read: {first_line(error)}") from error
    return table


def _holds(kind: pa.DataType, content: str) -> bool:
    if content == "text":
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
    if content == "numbers":
        return bool(pa.types.is_floating(kind))
    return bool(pa.types.is_integer(kind))


def first(examples: pa.Table, budget: int) -> list[Example]:
    """Return up to `budget` examples to label first, most probably mislabelled first.

    One example of each group of near-duplicates comes before the second of any group. Ties are ordered by running loss,
    highest first. Examples without a probability come last.

    Args:
        examples: as returned by `read`.
        budget: largest number of examples.
    """
    mislabelled, loss = (
        # NaN has no order: it is replaced by a value below every number.
        np.nan_to_num(_numbers(examples, name, np.nan), nan=-np.inf)
        for name in ("mislabelled", "running_loss")
    )
    order = np.lexsort((-loss, -mislabelled))
    group = _numbers(examples, "duplicate_group", -1)[order]
    leading = group < 0
    leading[np.unique(group, return_index=True)[1]] = True
    chosen = np.concatenate([order[leading], order[~leading]])[:budget]
    return [Example(**row) for row in examples.take(chosen).select(list(COLUMNS)).to_pylist()]


def _numbers(examples: pa.Table, name: str, missing: float) -> np.ndarray:
    return np.asarray(examples.column(name).fill_null(missing).to_numpy(), np.float64)


def lines(
    examples: Sequence[Example], prefix: str | None = None, text: Callable[[str], str] | None = None
) -> list[dict[str, Any]]:
    """Return the lines of an input manifest for a labelling job.

    Args:
        examples: the examples to label, in this order.
        prefix: s3:// URI of the training channel, for examples whose id is a path in the channel.
        text: returns the text to label for a table row's id, and the line keeps the id as `id`, so that the answer can
            be matched to the row. By default the id itself is shown.

    Raises UserError for an example that is neither in S3 nor a table's row, or a prefix that is not in S3.
    """
    if prefix is not None and not in_s3(prefix):
        raise UserError(f"--prefix: expected an s3:// URI, where the training channel lies, got {prefix!r}")
    found: list[dict[str, Any]] = []
    for one in examples:
        if one.id.startswith(SCHEME):
            found.append({"source-ref": one.id})
        elif ELEMENT.fullmatch(one.id):
            raise UserError(
                f"{shown(one.id)} is an element of an array: a labelling job only shows files in S3 or a table's rows"
            )
        elif ROW.fullmatch(one.id):
            found.append({"source": text(one.id), "id": one.id} if text else {"source": one.id})
        elif prefix is None:
            raise UserError(
                f"{shown(one.id)} is a file of the training channel: give the channel's s3:// URI with --prefix"
            )
        else:
            found.append({"source-ref": joined(prefix, one.id)})
    return found


def row_reader(folder: Path, column: str) -> Callable[[str], str]:
    """Return a function that reads one cell of a table's row, given the id of the row's example.

    Args:
        folder: folder of the training channel.
        column: name of the column in the file's first line, or its position from 0.

    The function raises UserError if the file, the line or the column does not exist.
    """

    @cache
    def table(file: str) -> tuple[list[str], dict[int, list[str]]]:
        path = folder / file
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{file!r} is not in {str(folder)!r}")
        try:
            with path.open(encoding="utf-8-sig", newline="") as opened:
                separator = "\t" if path.suffix == ".tsv" else ","
                reader = csv.reader(opened, delimiter=separator)
                rows, start = {}, 1
                for row in reader:
                    rows[start] = row
                    start = reader.line_num + 1
        except (OSError, ValueError, csv.Error) as error:
            reason = (isinstance(error, OSError) and error.strerror) or first_line(error)
            raise UserError(f"{str(path)!r} cannot be read: {reason}") from error
        return rows.get(1, []), rows

    def cell(name: str) -> str:
        match = ROW.fullmatch(name)
        assert match
        header, rows = table(match[1])
        row = rows.get(int(match[2]))
        if row is None:
            raise UserError(f"{str(folder / match[1])!r} has no row that begins at line {match[2]}")
        number = int(column) if re.fullmatch("[0-9]{1,6}", column) else -1
        position = header.index(column) if column in header else number
        if not 0 <= position < len(row):
            raise UserError(
                f"--column: {str(folder / match[1])!r} has no column {column!r}, in its first line or by position"
            )
        return row[position]

    return cell

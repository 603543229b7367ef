"""What to have labelled anew first, by what a training has learned of its examples (`examples.parquet`)."""

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
"""Those that are read, and what they hold."""
ROW = re.compile(r"(.+):([0-9]{1,12})", re.DOTALL)
"""A row of a table: the file and its line."""
ELEMENT = re.compile(r"(.+)\[([0-9]{1,12})\]", re.DOTALL)
"""An element of an array, which nobody can be shown."""


@dataclass(frozen=True)
class Example:
    """A training example."""

    id: str
    """As training names it: a file of the channel, `file:line` of a table, a manifest's `source-ref`."""
    label: str
    probable_label: str
    mislabelled: float | None
    """0..1: how probably its label is wrong; NaN or None where that was not judged."""
    running_loss: float | None
    """NaN or None where training never saw it."""
    duplicate_group: int | None
    """-1 or None: of none."""


def read(run: str, region: str | None = None) -> pa.Table:
    """What a finished run says of its training examples: COLUMNS, a row an example.

    Args:
        run: its folder or its output.tar.gz, here or in S3, or the name of the training job that it was.
        region: where AWS is asked.

    Raises:
        UserError: there is no such run, it has not ended well, or has left no readable examples.parquet.
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
            table = opened.read(columns=list(COLUMNS))
        table.validate(full=True)  # texts that are none, above all
        for column in ("id", "label"):
            if table.column(column).null_count:
                raise UserError(f"{name}: expected a value of {column} in every row, got none in some")
    except UserError:
        raise
    except Exception as error:  # of what is damaged pyarrow says so in many ways
        raise UserError(f"{name} cannot be read: {first_line(error)}") from error
    return table


def _holds(kind: pa.DataType, content: str) -> bool:
    if content == "text":
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
    if content == "numbers":
        return bool(pa.types.is_floating(kind))
    return bool(pa.types.is_integer(kind))


def first(examples: pa.Table, budget: int) -> list[Example]:
    """Those to label first: the most probably mislabelled, of near-duplicates one before any other.

    Of those that are equally probable the one of higher running loss comes first; one that was never judged comes last.
    """
    mislabelled, loss = (
        # NaN compares with nothing: below every number.
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
    """The lines of an input manifest for a labelling job.

    Args:
        examples: in this order.
        prefix: where in S3 the channel lies, for examples that are named by their path in it.
        text: gives a table's row, by its example's name, as the text to label; by default the name stands for it. The
            line keeps the name, as `id`, so that the answer finds back.

    Raises UserError for an example that is no object in S3 and no row of a table, and a prefix that is not in S3.
    """
    if prefix is not None and not in_s3(prefix):
        raise UserError(f"--prefix: expected an s3:// URI, where the training channel lies, got {prefix!r}")
    found: list[dict[str, Any]] = []
    for one in examples:
        if one.id.startswith(SCHEME):
            found.append({"source-ref": one.id})
        elif ELEMENT.fullmatch(one.id):
            raise UserError(
                f"{shown(one.id)} is an element of an array: a labelling job is given files in S3, or a table's rows"
            )
        elif ROW.fullmatch(one.id):
            found.append({"source": text(one.id), "id": one.id} if text else {"source": one.id})
        elif prefix is None:
            raise UserError(
                f"{shown(one.id)} is a file of the training channel: --prefix says where in S3 that lies"
            )
        else:
            found.append({"source-ref": joined(prefix, one.id)})
    return found


def row_reader(folder: Path, column: str) -> Callable[[str], str]:
    """Gives a cell of a row, by its example's name.

    Args:
        folder: the training channel's.
        column: by the name in the file's first line, or by its position from 0.

    Raises UserError, when called, for a file or line that is not there, and for a table without the column.
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
            raise UserError(f"{str(path)!r} cannot be read: {first_line(error)}") from error
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

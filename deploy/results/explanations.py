"""Formats a finished run's explanations of its errors (`explanations.json`) for a terminal."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deploy.results import runs
from deploy.text import printable
from subset_trainer.errors import UserError, first_line

FILE = "explanations.json"
MOST_PARTS = 8
"""Number of parts that are shown for each example, strongest contribution first."""


def lines(run: str, region: str | None = None) -> list[str]:
    """Return the lines of a run's explained errors, each with the parts that contribute most to the predicted class.

    Args:
        run: as in :func:`deploy.results.runs.file_of`.
        region: AWS region.

    Raises:
        UserError: there is no such run, or it has no readable explanations.json.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            content = runs.file_of(run, FILE, Path(folder), region).read_bytes()
        except runs.MissingError as error:
            raise UserError(f"{error} with explain=N, the number of errors to explain") from error
    try:
        return [printable(line) for line in _told(json.loads(content))]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{FILE} of {run!r} is damaged ({first_line(error)}); expected what a training has written"
        ) from error


def _told(found: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"{len(found['examples']):,} of {found['validation_errors']:,} errors in {found['validation_examples']:,} "
        f"validation examples; contributions to the {found['explains']}, by {found['method']}"
    )
    for one in found["examples"]:
        probabilities = ", ".join(f"{name} {share:.1%}" for name, share in one["probabilities"].items())
        yield ""
        yield f"{one['id']}: {one['label']}, taken for {one['predicted']} ({probabilities})"
        for part in sorted(one["parts"], key=lambda part: -abs(part["contribution"]))[:MOST_PARTS]:
            yield f"  {part['contribution']:+8.2f}  {_name(part)}"


def _name(part: Mapping[str, Any]) -> str:
    if "columns" in part:
        name = " … ".join(dict.fromkeys((part["columns"][0], part["columns"][-1])))
        return name if part["value"] is None else f"{name} = {part['value']}"
    return str(part["token"]) if "token" in part else f"{part['place']} ({part['pixels']:,} pixels)"

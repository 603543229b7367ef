"""`inspect`: shows what a folder of data is taken to be, without training."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.commands import options
from subset_trainer.errors import UserError

if TYPE_CHECKING:
    from subset_trainer.data.formats.format import Options
    from subset_trainer.data.understanding import Understanding


def add(commands: options.Commands) -> None:
    """Add the command."""
    inspecting = commands.add(
        "inspect",
        run,
        "Say what a job would take your data to be: format, label, classes, columns, and what is left out. First by "
        "the beginnings of files, then with exact counts; s3:// by the beginnings of files alone.",
    )
    inspecting.add_argument(
        "data",
        metavar="DIR",
        help="a folder or an s3:// URI: a training channel, or one with training/, validation/ and test/ below it",
    )
    inspecting.add_argument("--json", action="store_true", help="print understanding.json, and nothing else")
    options.add_region(inspecting)
    options.add_settings(inspecting)


def run(given: argparse.Namespace) -> None:
    """Print the first answer, then the exact one, and the command line with the settings that make it certain."""
    from deploy import understood
    from deploy.aws import storage
    from subset_trainer.config import hyperparameters
    from subset_trainer.data import inspecting, overview

    reading = inspecting.options_of(hyperparameters.parse(given.set))
    try:
        if storage.in_s3(given.data):
            channels: Mapping[str, Path | str] = _in_s3(given.data, given.region)
            found: Sequence[Understanding] = understood.of_s3(
                {n: str(u) for n, u in channels.items()}, reading, given.region
            )
        else:
            folder = Path(given.data)
            if not folder.is_dir():
                raise UserError(f"there is no folder {given.data!r}")
            channels = inspecting.channels_below(folder)
            found = _local(channels, reading, quiet=given.json)
    except UserError as error:
        _refused(given, error)
        raise
    if given.json:
        _print_json(found)
        return
    understood.show(found)
    settings = overview.settings([decision for one in found[:1] for decision in one.decisions])
    unsaid = [f"{name}={value}" for name, value in given.set.items()]
    settings = [*unsaid, *(one for one in settings if one.partition("=")[0] not in given.set)]
    print(f"\nto train on it: {understood.command_line(channels, settings)}")


def _local(channels: Mapping[str, Path | str], reading: Options, quiet: bool) -> Sequence[Understanding]:
    """Show the first answer where it is not exact, and return the exact one."""
    from deploy import understood
    from subset_trainer.data import inspecting

    local = {name: Path(path) for name, path in channels.items()}
    try:
        first, seconds = understood.timed(lambda: inspecting.understand(local, reading, beginnings=True))
        if all(one.complete for one in first):
            return first
        if not quiet:
            print(f"by the beginnings of files, in {seconds:.1f} s:")
            understood.show(first)
    except UserError as error:
        # Further down the file another reading may hold, so that only the whole decides.
        print(f"by the beginnings of files: {error}", file=sys.stderr, flush=True)
    total = sum(file.stat().st_size for path in local.values() for file in path.rglob("*") if file.is_file())
    with understood.progress("reading", total):
        exact, seconds = understood.timed(lambda: inspecting.understand(local, reading, beginnings=False))
    if not quiet:
        print(f"\nexactly, in {seconds:.1f} s:")
    return exact


def _in_s3(uri: str, region: str | None) -> dict[str, str]:
    from deploy.aws import storage

    kept = storage.Storage(region)
    if kept.is_folder(f"{uri.rstrip('/')}/training"):
        return {
            name: place for name in options.CHANNELS if kept.is_folder(place := f"{uri.rstrip('/')}/{name}")
        }
    return {"training": uri}


def _print_json(found: Sequence[Understanding]) -> None:
    from subset_trainer.data import overview

    print(json.dumps(overview.to_json(found), indent=2))


def _refused(given: argparse.Namespace, error: UserError) -> None:
    """Print the decisions of a refusal, and the settings that would settle them."""
    from deploy import understood
    from subset_trainer.data import overview

    decisions = understood.refusal_of(error)
    settings = overview.settings(decisions)
    if given.json:
        content = {
            "version": 1,
            "refused": str(error),
            "decisions": [decision.to_json() for decision in decisions],
            "settings": settings,
        }
        print(json.dumps(content, indent=2))
    elif settings:
        given_too = [f"{name}={value}" for name, value in given.set.items()]
        line = understood.command_line({"training": given.data}, [*given_too, *settings])
        print(f"what would settle it: {line}", flush=True)

"""`inspect`: shows what a folder of data is taken to be, without training."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from deploy.commands import options
from deploy.commands.declared import AnsweredError, Answering, Command, Option
from subset_trainer.errors import UserError

if TYPE_CHECKING:
    from subset_trainer.data.formats.format import Options
    from subset_trainer.data.understanding import Understanding


@dataclass(frozen=True, kw_only=True)
class Given(options.Settings, options.Region, Answering):
    """What `inspect` takes."""

    data: Annotated[
        str,
        Option(
            "a folder, a file or an s3:// URI: a training channel, or a folder with training/, validation/ and test/ "
            "below it",
            "DATA",
            argument=True,
        ),
    ]
    validation: Annotated[str | None, Option("validation data, as DATA", "DATA")] = None
    test: Annotated[str | None, Option("test data, as DATA", "DATA")] = None


def run(given: Given) -> Any:
    """Print the first answer, then the exact one, and the command line with the settings that make it certain."""
    from deploy import understood
    from deploy.aws import storage
    from subset_trainer.config import hyperparameters
    from subset_trainer.data import inspecting, overview

    reading = inspecting.options_of(hyperparameters.parse(given.set))
    try:
        channels = _channels(given)
        found: Sequence[Understanding]
        if any(storage.in_s3(str(place)) for place in channels.values()):
            found = understood.of_s3({n: str(u) for n, u in channels.items()}, reading, given.region)
        else:
            found = _local(channels, reading, quiet=given.json)
    except UserError as error:
        raise _refused(given, error) from error
    answer = overview.to_json(found)
    if given.json:
        return answer
    understood.show(found)
    settings = overview.settings([decision for one in found[:1] for decision in one.decisions])
    unsaid = [f"{name}={value}" for name, value in given.set.items()]
    settings = [*unsaid, *(one for one in settings if one.partition("=")[0] not in given.set)]
    print(f"\nto train on it: {understood.command_line(channels, settings)}")
    return answer


def _channels(given: Given) -> dict[str, Path | str]:
    """Return channel → folder or URI: those that lie below the data, and those that were given."""
    from deploy.aws import storage
    from subset_trainer.data import inspecting

    named = {name: place for name in ("validation", "test") if (place := getattr(given, name)) is not None}
    for place in (given.data, *named.values()):
        if not storage.in_s3(place) and not Path(place).exists():
            raise UserError(f"there is no file or folder {place!r}")
    if storage.in_s3(given.data):
        return {**_in_s3(given.data, given.region), **named}
    return {**inspecting.channels_below(Path(given.data)), **named}


def _local(channels: Mapping[str, Path | str], reading: Options, quiet: bool) -> Sequence[Understanding]:
    """Show the first answer where it is not exact, and return the exact one."""
    from deploy import understood

    with understood.as_folders(channels) as local:
        return _exactly(local, reading, quiet)


def _exactly(local: Mapping[str, Path], reading: Options, quiet: bool) -> Sequence[Understanding]:
    from deploy import understood
    from subset_trainer.data import inspecting

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
        return {name: place for name in options.DATA if kept.is_folder(place := f"{uri.rstrip('/')}/{name}")}
    return {"training": uri}


def _refused(given: Given, error: UserError) -> UserError:
    """Return a refusal with its decisions and the settings that would settle them, which are printed."""
    from deploy import understood
    from subset_trainer.data import overview

    decisions = understood.refusal_of(error)
    settings = overview.settings(decisions)
    if settings and not given.json:
        given_too = [f"{name}={value}" for name, value in given.set.items()]
        line = understood.command_line({"training": given.data}, [*given_too, *settings])
        print(f"what would settle it: {line}", flush=True)
    content = {
        "version": 1,
        "refused": str(error),
        "decisions": [decision.to_json() for decision in decisions],
        "settings": settings,
    }
    return AnsweredError(str(error), content)


COMMANDS = (
    Command(
        "inspect",
        run,
        Given,
        "Say what a job would take your data to be: format, label, classes, columns, and what is left out. First by "
        "the beginnings of files, then with exact counts; s3:// by the beginnings of files alone.",
        ("inspect photos", "inspect s3://bucket/tables --set label_column=species", "inspect photos --json"),
    ),
)

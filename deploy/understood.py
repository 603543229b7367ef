"""Shows what channels are taken to be, before anything is trained or paid for. Without torch."""

import os
import shlex
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, TypeVar

from deploy.aws import storage
from deploy.text import printable
from subset_trainer.config import hyperparameters
from subset_trainer.data import overview
from subset_trainer.data.channels import IMAGE_SUFFIXES
from subset_trainer.data.formats.format import Options
from subset_trainer.data.inspecting import options_of, understand
from subset_trainer.data.understanding import Decision, OpenDecisionsError, Understanding
from subset_trainer.errors import UserError

T = TypeVar("T")
WHOLE_BYTES, WHOLE_FILES = 64 << 20, 20_000
"""A channel of at most this size is read whole, within seconds, before a command continues."""
_TICK = 0.5


def show(understandings: Sequence[Understanding], to: TextIO | None = None) -> None:
    """Print the overview, on stdout unless `to` is given."""
    for line in overview.overview(understandings):
        print(printable(line), file=to, flush=True)


def before(
    channels: Mapping[str, Path | str],
    values: Mapping[str, Any],
    region: str | None = None,
    to: TextIO | None = None,
) -> None:
    """Show what channels are taken to be before a command trains or pays.

    Small local channels are read whole, others by the beginnings of their files, and so are channels in S3.

    Args:
        values: hyperparameters.
        region: the AWS region; by default that of the user's configuration.
        to: by default stdout.

    Raises:
        UserError: a channel that was read whole would be refused.
    """
    options = options_of(hyperparameters.parse(values))
    if any(storage.in_s3(str(value)) for value in channels.values()):
        _before_s3({name: str(value) for name, value in channels.items()}, options, region, to)
        return
    with as_folders(channels) as local:
        if _is_small(local.values()):
            show(understand(local, options, beginnings=False), to)
            return
        try:
            show(understand(local, options, beginnings=True), to)
        except UserError as error:
            print(_doubt(error), file=to, flush=True)


def _before_s3(channels: Mapping[str, str], options: Options, region: str | None, to: TextIO | None) -> None:
    """If AWS refuses access, the command continues: the job may have rights that the user lacks."""
    try:
        show(of_s3(channels, options, region), to)
    except Exception as error:
        from deploy.aws import calls

        known = calls.as_training_error(error)
        if isinstance(error, UserError):
            print(_doubt(error), file=to, flush=True)
        elif known is not None:
            print(f"what the data is was not looked at: {known}", file=to, flush=True)
        else:
            raise


def _doubt(error: UserError) -> str:
    return printable(f"by the beginnings of its files, a job would refuse this data: {error}")


@contextmanager
def as_folders(channels: Mapping[str, Path | str]) -> Iterator[dict[str, Path]]:
    """Yield the channels as folders; a single file lies alone in one of its own."""
    with tempfile.TemporaryDirectory(prefix="subset-trainer-") as folder:
        yield {name: _as_folder(Path(value), Path(folder) / name) for name, value in channels.items()}


def _as_folder(path: Path, folder: Path) -> Path:
    """A folder as it is; of a single file, a folder that holds it alone."""
    if not path.is_file():
        return path
    folder.mkdir()
    try:
        (folder / path.name).hardlink_to(path.resolve())
    except OSError:  # another file system
        shutil.copyfile(path, folder / path.name)
    return folder


def _is_small(folders: Iterable[Path]) -> bool:
    """Whether there is so little that reading all of it takes seconds. Images are not decoded, and count by number."""
    files = total = 0
    for folder in folders:
        for parent, _, names in os.walk(folder):
            files += len(names)
            if files > WHOLE_FILES:
                return False
            others = [name for name in names if not name.lower().endswith(IMAGE_SUFFIXES)]
            total += sum(Path(parent, name).lstat().st_size for name in others)
    return total <= WHOLE_BYTES


def of_s3(channels: Mapping[str, str], options: Options, region: str | None) -> tuple[Understanding, ...]:
    """What channels in S3, or some on this machine, are taken to be by the beginnings of their files.

    Raises:
        UserError: a channel would be refused by what was read, or there is nothing at a URI.
    """
    from deploy.aws import beginnings

    with tempfile.TemporaryDirectory(prefix="subset-trainer-") as folder:
        local: dict[str, Path] = {}
        for name, value in channels.items():
            if not storage.in_s3(value):
                local[name] = Path(value)
                continue
            local[name] = Path(folder) / name
            got = beginnings.fetch(storage.Storage(region).s3, value, local[name])
            listed = f"{got.objects:,} objects" if got.all_listed else f"the first {got.objects:,} objects"
            print(
                f"{name}: {listed}, of which {got.bytes / 1e6:,.1f} MB were read (the beginnings of files)",
                file=sys.stderr,
                flush=True,
            )
        return understand(local, options, beginnings=True, sparse=True)


# Proposals


def command_line(channels: Mapping[str, Path | str], settings: Sequence[str]) -> str:
    """The command that trains on these channels, with these settings and those that were given."""
    s3 = any("://" in str(path) for path in channels.values())
    words = ["subset-trainer", *(["launch", "--image-uri", "…", "--role", "…"] if s3 else ["compare"])]
    for name, path in channels.items():
        words += [str(path)] if name == "training" and not s3 else [f"--{name}", str(path)]
    words += ["--set", *settings] if settings else []
    return " ".join(word if word == "…" else shlex.quote(word) for word in words)


# Progress


@contextmanager
def progress(what: str, total: int) -> Iterator[None]:
    """Show on stderr, while reading lasts, how much was read of about `total` bytes."""
    start, done = time.monotonic(), threading.Event()
    begun, terminal = _bytes_read(), sys.stderr.isatty()

    def tell() -> None:
        told = 0.0
        while not done.wait(_TICK):
            seconds = time.monotonic() - start
            if not terminal and seconds - told < 5:
                continue
            told = seconds
            read = min(_bytes_read() - begun, total)
            line = f"{what}: {read / 1e6:,.0f} of {total / 1e6:,.0f} MB, {seconds:.0f} s"
            print(
                f"\r\x1b[K{line}" if terminal else line,
                end="" if terminal else "\n",
                file=sys.stderr,
                flush=True,
            )

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
        if terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _bytes_read() -> int:
    """Bytes that this process has read from files; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/io").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def refusal_of(error: UserError) -> Sequence[Decision]:
    """The decisions that a refusal carries."""
    return error.decisions if isinstance(error, OpenDecisionsError) else ()


def timed(act: Callable[[], T]) -> tuple[T, float]:
    """What an action returns, and its seconds."""
    start = time.monotonic()
    return act(), time.monotonic() - start

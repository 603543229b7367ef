"""A channel's files: which there are, and that none leads out of it. What they hold is for the formats to say."""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from subset_trainer.errors import UserError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")

# Written by Spark, macOS, Windows and S3 tools beside the data.
_CLUTTER = re.compile(
    r"_SUCCESS|_committed_.*|_started_.*|_(common_)?metadata|Thumbs\.db|desktop\.ini|.*_\$folder\$"
)


@dataclass(frozen=True)
class Channel:
    """`files`: paths relative to `root`, with forward slashes, sorted; clutter left out. Never empty. `listing`: a
    channel of its own that says which image is of which class. `pipe`: whether the only file is a named pipe."""

    name: str
    root: Path
    files: tuple[str, ...]
    listing: "Channel | None" = None
    pipe: bool = False

    def error(self, sentence: str) -> UserError:
        """A UserError that names this channel."""
        return UserError(f"{self.name} channel: {sentence}")

    def ending(self, *suffixes: str) -> tuple[str, ...]:
        """The files whose names end so, in any case."""
        return tuple(file for file in self.files if file.lower().endswith(suffixes))

    @property
    def images(self) -> tuple[str, ...]:
        return self.ending(*IMAGE_SUFFIXES)


def open_channel(name: str, root: Path, listing: Path | None = None, *, expected: str) -> Channel:
    """List a channel's files.

    Args:
        listing: the directory of its companion, with one `.lst`.
        expected: what may be in it, for messages.

    Raises:
        UserError: the directory is absent, holds no data, or something that is no plain file of its own.
    """
    root = Path(root)
    if root.is_fifo():
        return Channel(name, root.parent, (root.name,), pipe=True)
    if listing is not None:
        return replace(
            open_channel(name, root, expected=expected),
            listing=open_channel(f"{name}_lst", listing, expected=expected),
        )
    if not root.exists():
        raise UserError(f"{name} channel: directory {root} does not exist; expected {expected} in it.")
    if not root.is_dir():
        raise UserError(f"{name} channel: {root} is a file; expected a directory with {expected}.")
    files: list[str] = []
    ignored: list[str] = []
    try:
        for relative, entry in _entries(name, root):
            if entry.name.startswith(".") or _CLUTTER.fullmatch(entry.name) or _is_marker(entry):
                ignored.append(relative)
            else:
                files.append(relative)
    except OSError as error:
        raise UserError(
            f"{name} channel: '{error.filename}' cannot be looked at ({error.strerror}); expected folders and files "
            "that can be read."
        ) from error
    if not files:
        only = f" but {some(sorted(ignored))}, which hold no data" if ignored else ""
        raise UserError(f"{name} channel: no files in {root}{only}; expected {expected}.")
    return Channel(name, root, tuple(sorted(files)))


def _entries(name: str, root: Path) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """(relative path, entry) of every file below the root.

    Raises:
        UserError: something is no plain file (reading a pipe or a device may never end), or a link leads out of the
            channel or to a folder.
    """
    real_root = os.path.realpath(root)
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        # Entries and pieces of text rather than paths: a channel may hold a million files, and none is asked twice.
        with os.scandir(f"{root}/{folder}") as entries:
            for entry in entries:
                relative = folder + entry.name
                hidden = entry.name.startswith(".") or entry.name == "__MACOSX"
                if entry.is_dir(follow_symlinks=False):
                    if not hidden:
                        waiting.append(relative + "/")
                    continue
                if not hidden and entry.is_symlink():
                    _check_link(name, relative, os.path.realpath(entry.path), real_root)
                elif not hidden and not entry.is_file(follow_symlinks=False):
                    raise UserError(
                        f"{name} channel: '{relative}' is a pipe, a socket or a device; expected plain files."
                    )
                yield relative, entry


def _check_link(name: str, relative: str, target: str, real_root: str) -> None:
    """A link within the channel is read; nothing outside it is, whatever the channel's files say."""
    if os.path.commonpath([target, real_root]) != real_root:
        problem = f"leads out of the channel, to '{target}'"
    elif not os.path.exists(target):  # noqa: PTH110  pathlib's is slower
        problem = "leads to nothing"
    elif not os.path.isfile(target):  # noqa: PTH113
        problem = "leads to a folder"
    else:
        return
    raise UserError(
        f"{name} channel: the symbolic link '{relative}' {problem}; expected files, or links to files of the channel."
    )


def _is_marker(entry: "os.DirEntry[str]") -> bool:
    # An empty file with an image's name is not a marker: it is a damaged image, and said to be one later.
    return not entry.name.lower().endswith(IMAGE_SUFFIXES) and entry.stat().st_size == 0


def base_name(path: str) -> str:
    """The last part of a path."""
    return path.rsplit("/", 1)[-1]


def some(names: Iterable[str], limit: int = 3) -> str:
    """The first few, for messages."""
    names = list(names)
    shown = ", ".join(f"'{name}'" for name in names[:limit])
    return f"{shown} and {len(names) - limit:,} more" if len(names) > limit else shown

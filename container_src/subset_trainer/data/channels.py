"""Lists the files of a channel and checks that none is outside it. The formats interpret their content."""

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
    """The files of one channel.

    `files`: paths relative to `root`, with forward slashes, sorted, without clutter; never empty. `listing`: the
    companion channel with the list of images and classes. `pipe`: whether the only file is a named pipe.
    """

    name: str
    root: Path
    files: tuple[str, ...]
    listing: "Channel | None" = None
    pipe: bool = False

    def error(self, sentence: str) -> UserError:
        """A UserError that names this channel."""
        return UserError(f"{self.name} channel: {sentence}")

    def ending(self, *suffixes: str) -> tuple[str, ...]:
        """The files whose names end with one of the suffixes, ignoring case."""
        return tuple(file for file in self.files if file.lower().endswith(suffixes))

    @property
    def images(self) -> tuple[str, ...]:
        return self.ending(*IMAGE_SUFFIXES)


def open_channel(name: str, root: Path, listing: Path | None = None, *, expected: str) -> Channel:
    """List a channel's files.

    Args:
        listing: the directory of the companion channel, which holds one `.lst`.
        expected: what the channel may hold, for error messages.

    Raises:
        UserError: the directory does not exist, holds no data, or holds something other than regular files of its own.
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
            f"{name} channel: '{error.filename}' cannot be read ({error.strerror}); expected readable "
            "folders and files."
        ) from error
    if not files:
        only = f" but {some(sorted(ignored))}, which hold no data" if ignored else ""
        raise UserError(f"{name} channel: no files in {root}{only}; expected {expected}.")
    return Channel(name, root, tuple(sorted(files)))


def _entries(name: str, root: Path) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """(relative path, entry) of every file below the root.

    Raises:
        UserError: an entry is not a regular file (reading a pipe or a device may never end), or a symbolic link points
            outside the channel or to a folder.
    """
    real_root = os.path.realpath(root)
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        # DirEntry and str instead of Path, and no second stat: a channel may hold a million files.
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
    """Allow links within the channel only, so that no file outside it can be read."""
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
    # An empty file with an image suffix is not a marker: it is reported later as a damaged image.
    return not entry.name.lower().endswith(IMAGE_SUFFIXES) and entry.stat().st_size == 0


def base_name(path: str) -> str:
    """The last part of a path."""
    return path.rsplit("/", 1)[-1]


def some(names: Iterable[str], limit: int = 3) -> str:
    """The first few names, for messages."""
    names = list(names)
    shown = ", ".join(f"'{name}'" for name in names[:limit])
    return f"{shown} and {len(names) - limit:,} more" if len(names) > limit else shown

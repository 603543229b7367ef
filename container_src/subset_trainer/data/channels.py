"""Lists the files of a channel and checks that none is outside it. The formats interpret their content."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Literal

from subset_trainer.data.content import IMAGES, content_of
from subset_trainer.errors import UserError

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".pjpeg", ".pjp", ".webp", ".bmp", ".dib"),
    *(".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".apng", ".avif", ".avifs"),
    *(".heic", ".heif", ".hif"),
)

# Written by Spark, macOS, Windows, office programs and S3 tools beside the data.
_CLUTTER = re.compile(
    r"_SUCCESS|_committed_.*|_started_.*|_(common_)?metadata|(eh)?thumbs(_vista)?\.db(:.*)?|desktop\.ini|"
    r".*_\$folder\$|Icon\r|~\$.*|.*:Zone\.Identifier|.*\.(crdownload|partial|swp)",
    re.IGNORECASE,
)
# Folders of operating systems, disk stations and tools, which are neither classes nor data.
_SYSTEM = re.compile(
    r"#recycle|#snapshot|~snapshot|@eaDir|@tmp|@Recycle|@Recently-Snapshot|@appstore|@database|@sharebin|"
    r"\$RECYCLE\.BIN|\$Trash|RECYCLER|RECYCLED|lost\+found|found\.\d{3}|System Volume Information|__MACOSX|"
    r"__pycache__|Network Trash Folder|Temporary Items|TheVolumeSettingsFolder|resource\.frk|node_modules",
    re.IGNORECASE,
)
# Never images, so that they need not be opened to find out.
_OTHER_SUFFIXES = (
    *(
        ".csv",
        ".tsv",
        ".gz",
        ".json",
        ".jsonl",
        ".ndjson",
        ".txt",
        ".xml",
        ".md",
        ".rst",
        ".html",
        ".htm",
        ".yaml",
    ),
    *(
        ".yml",
        ".toml",
        ".cfg",
        ".ini",
        ".log",
        ".py",
        ".ipynb",
        ".sh",
        ".pdf",
        ".parquet",
        ".pq",
        ".parq",
        ".npz",
    ),
    *(".npy", ".tar", ".tgz", ".zip", ".lst", ".rec", ".idx", ".recordio", ".manifest", ".libsvm", ".svm"),
    *(
        ".svmlight",
        ".pbr",
        ".pb",
        ".protobuf",
        ".mat",
        ".pkl",
        ".pickle",
        ".pt",
        ".pth",
        ".h5",
        ".wav",
        ".mp3",
    ),
)
_SAMPLED = 3

LabelFolder = Literal["outer", "inner"]
"""Which of nested folders name the classes: the outermost of several beside each other, or those of the files."""


@dataclass(frozen=True)
class Channel:
    """The files of one channel.

    `files`: paths relative to `root`, with forward slashes, sorted, without clutter; never empty. `listing`: the
    companion channel with the list of images and classes. `pipe`: whether the only file is a named pipe. `system`:
    folders that were not entered, because they belong to an operating system or a tool. `label`: the column or
    attribute that the user names as the label; None: detected. `label_folder`: which folders the user takes for
    classes; None: detected. `empty`: folders without any file. `encoding`: that of text files, as the user names it.
    """

    name: str
    root: Path
    files: tuple[str, ...]
    listing: "Channel | None" = None
    pipe: bool = False
    system: tuple[str, ...] = ()
    label: str | None = None
    label_folder: LabelFolder | None = None
    empty: tuple[str, ...] = ()
    encoding: str | None = None

    def error(self, sentence: str) -> UserError:
        """A UserError that names this channel."""
        return UserError(f"{self.name} channel: {sentence}")

    def ending(self, *suffixes: str) -> tuple[str, ...]:
        """The files whose names end with one of the suffixes, ignoring case."""
        found = self.of_suffixes(*{suffix[suffix.rfind(".") :] for suffix in suffixes})
        several = any(suffix.count(".") > 1 for suffix in suffixes)
        return tuple(file for file in found if file.lower().endswith(suffixes)) if several else found

    def of_suffixes(self, *suffixes: str) -> tuple[str, ...]:
        """The files whose last suffix is one of these, in lower case; '' for none."""
        groups = [self._by_suffix[suffix] for suffix in suffixes if suffix in self._by_suffix]
        return tuple(groups[0] if len(groups) == 1 else sorted(chain.from_iterable(groups)))

    @cached_property
    def _by_suffix(self) -> dict[str, list[str]]:
        # A channel may hold a million files, and each format asks for its own.
        groups: dict[str, list[str]] = {}
        for file in self.files:
            groups.setdefault(suffix_of(file), []).append(file)
        return groups

    @cached_property
    def images(self) -> tuple[str, ...]:
        """The files that are images: by suffix or, where this says nothing, by their first bytes.

        Of the files in one folder with one unknown suffix a few are opened, and all if one of these is an image.
        """
        unknown: dict[tuple[str, str], list[str]] = defaultdict(list)
        found = list(self.of_suffixes(*IMAGE_SUFFIXES))
        for suffix in self._by_suffix.keys() - {*IMAGE_SUFFIXES, *_OTHER_SUFFIXES}:
            for file in self._by_suffix[suffix]:
                unknown[file.rpartition("/")[0], suffix].append(file)
        for files in unknown.values():
            sampled = files[:: max(1, len(files) // _SAMPLED)][:_SAMPLED]
            if any(self.content(file) in IMAGES for file in sampled):
                found += [file for file in files if self.content(file) in IMAGES]
        return tuple(sorted(found))

    def content(self, file: str) -> str | None:
        """What a file holds by its first bytes: see :func:`subset_trainer.data.content.content_of`."""
        return content_of(self.root / file)


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
    system: list[str] = []
    empty: list[str] = []
    try:
        for relative, entry in _entries(name, root, system, empty):
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
    return Channel(name, root, tuple(sorted(files)), system=tuple(sorted(system)), empty=tuple(sorted(empty)))


def _entries(
    name: str, root: Path, system: list[str], empty: list[str]
) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """(relative path, entry) of every file below the root. Hidden folders and those of a system are not entered, and
    are added to `system`; those without any entry are added to `empty`.

    Raises:
        UserError: an entry is not a regular file (reading a pipe or a device may never end), or a symbolic link points
            outside the channel or to a folder.
    """
    real_root = os.path.realpath(root)
    waiting = [""]
    while waiting:
        folder, bare = waiting.pop(), True
        # DirEntry and str instead of Path, and no second stat: a channel may hold a million files.
        with os.scandir(f"{root}/{folder}") as entries:
            for entry in entries:
                bare = False
                relative = folder + entry.name
                hidden = entry.name.startswith(".")
                if entry.is_dir(follow_symlinks=False):
                    if is_system(entry.name):
                        system.append(relative + "/")
                    else:
                        waiting.append(relative + "/")
                    continue
                if not hidden and entry.is_symlink():
                    _check_link(name, relative, os.path.realpath(entry.path), real_root)
                elif not hidden and not entry.is_file(follow_symlinks=False):
                    raise UserError(
                        f"{name} channel: '{relative}' is a pipe, a socket or a device; expected plain files."
                    )
                yield relative, entry
        if bare and folder:
            empty.append(folder)


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


def is_system(folder: str) -> bool:
    """Whether a folder is hidden, or of an operating system or a tool."""
    return (folder.startswith(".") and folder != ".") or _SYSTEM.fullmatch(folder) is not None


def base_name(path: str) -> str:
    """The last part of a path."""
    return path.rsplit("/", 1)[-1]


def suffix_of(path: str) -> str:
    """The suffix of a file's name in lower case, as in '.jpg'; '' if it has none."""
    base = base_name(path)
    return base[base.rfind(".") :].lower() if "." in base else ""


def some(names: Iterable[str], limit: int = 3) -> str:
    """The first few names, for messages."""
    names = list(names)
    shown = ", ".join(f"'{name}'" for name in names[:limit])
    return f"{shown} and {len(names) - limit:,} more" if len(names) > limit else shown

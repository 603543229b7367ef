"""A channel's files and which of the known formats they are in."""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from subset_trainer.data.formats.protobuf_messages import holds_messages
from subset_trainer.errors import UserError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
TABLE_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
PARQUET_SUFFIXES = (".parquet", ".pq", ".parq")
LIBSVM_SUFFIXES = (".libsvm", ".svm", ".svmlight")
PROTOBUF_SUFFIXES = (".pbr", ".pb", ".protobuf")
RECORDIO_SUFFIXES = (".rec", ".recordio")
"""Of images, or of tables in recordio-protobuf."""
ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar")
MANIFEST_SUFFIXES, JSON_LINES_SUFFIXES = (".manifest",), (".jsonl", ".ndjson")
"""Lines of JSON may be anybody's notes: they are a manifest if they begin like one."""
EXPECTED = (
    "class folders of images, images with a labels.csv, a .lst or a manifest, tar shards, RecordIO, CIFAR batches, "
    "CSV, Parquet, libsvm, recordio-protobuf or .npz files, or class folders of .txt files"
)

_CIFAR_BATCH = re.compile(r"(data_batch_\d+|test_batch)(\.bin)?|(train|test)(\.bin)?")
_CIFAR_EXTRA = re.compile(
    r"batches\.meta(\.txt)?|meta|(fine|coarse)_label_names\.txt|readme\.html|file\.txt~"
)
# Written by Spark, macOS, Windows and S3 tools beside the data.
_CLUTTER = re.compile(
    r"_SUCCESS|_committed_.*|_started_.*|_(common_)?metadata|Thumbs\.db|desktop\.ini|.*_\$folder\$"
)
_SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "test", "testing"}

_LISTINGS = {"labels.csv", "labels.tsv", "metadata.csv"}
"""Tables that say what beside them is of which class, rather than being the examples."""

TableFormat = Literal["csv", "parquet", "libsvm", "protobuf"]
Format = (
    Literal["folders", "listing", "lst", "manifest", "pipe", "cifar", "archives", "records", "npz", "texts"]
    | TableFormat
)
TABLE_FORMATS = get_args(TableFormat)
"""Parquet's files may hold images, too."""


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


@dataclass(frozen=True)
class Layout:
    """`files` in `format`; `unused` fit no format and are left alone. `folder` ('' or 'a/b/') is where class
    folders begin. `images`: what a listing or a manifest may name."""

    format: Format
    files: tuple[str, ...]
    unused: tuple[str, ...]
    folder: str = ""
    images: tuple[str, ...] = ()


def open_channel(name: str, root: Path, listing: Path | None = None) -> Channel:
    """List a channel's files. listing: the directory of its companion, with one `.lst`. UserError when the directory is
    absent or holds no data."""
    root = Path(root)
    if root.is_fifo():
        return Channel(name, root.parent, (root.name,), pipe=True)
    if listing is not None:
        return replace(open_channel(name, root), listing=open_channel(f"{name}_lst", listing))
    if not root.exists():
        raise UserError(f"{name} channel: directory {root} does not exist; expected {EXPECTED} in it.")
    if not root.is_dir():
        raise UserError(f"{name} channel: {root} is a file; expected a directory with {EXPECTED}.")
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
        only = f" but {_some(sorted(ignored))}, which hold no data" if ignored else ""
        raise UserError(f"{name} channel: no files in {root}{only}; expected {EXPECTED}.")
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


def detect(channel: Channel) -> Layout:
    """Tell a channel's format by its files' names. UserError when none or more than one fits."""
    if channel.pipe:
        return Layout("pipe", channel.files, ())
    images = _ending(channel, IMAGE_SUFFIXES)
    if channel.listing is not None:
        lists = _ending(channel.listing, (".lst",))
        if len(lists) != 1 or not images:
            lacking = f"{len(lists)} .lst files" if images else f"no images in the channel {channel.name}"
            raise channel.listing.error(f"{lacking}; expected one .lst, and the images that it names.")
        unused = tuple(sorted(set(channel.files).difference(images)))
        return Layout("lst", tuple(lists), unused, images=tuple(images))
    tables = _ending(channel, TABLE_SUFFIXES)
    beside = {
        "listing": [f for f in tables if images and _base(f).lower() in _LISTINGS],
        "lst": _ending(channel, (".lst",)) if images else [],
        "manifest": [
            *_ending(channel, MANIFEST_SUFFIXES),
            *(f for f in _ending(channel, JSON_LINES_SUFFIXES) if _names_a_source(channel.root / f)),
        ],
    }
    found: dict[Format, list[str]] = {
        "folders": [] if any(beside.values()) else [f for f in images if "/" in f],
        "listing": beside["listing"],
        "lst": beside["lst"],
        "manifest": beside["manifest"],
        "cifar": [f for f in channel.files if is_cifar_batch(f)],
        "archives": _ending(channel, ARCHIVE_SUFFIXES),
        "records": [f for f in _ending(channel, RECORDIO_SUFFIXES) if not _is_protobuf(channel, f)],
        "parquet": _ending(channel, PARQUET_SUFFIXES),
        "csv": [f for f in tables if f not in beside["listing"]],
        "npz": _ending(channel, (".npz",)),
        "libsvm": _ending(channel, LIBSVM_SUFFIXES),
        "protobuf": [f for f in channel.files if _is_protobuf(channel, f)],
    }
    if found["cifar"]:  # unpacked beside what they came in
        found["cifar"] = sorted([*found["cifar"], *found.pop("archives")])
    if not any(found.values()):
        # Anything may have a readme.txt beside it.
        found["texts"] = [f for f in _ending(channel, (".txt",)) if "/" in f]
    fitting: list[Format] = [name for name, files in found.items() if files]
    if len(fitting) > 1:
        examples = " and ".join(f"'{found[name][0]}'" for name in fitting)
        raise channel.error(f"files of several formats ({examples}); expected one of: {EXPECTED}.")
    if not fitting:
        if images:
            raise channel.error(
                f"image '{images[0]}' lies directly in the channel; expected one folder a class, as in "
                f"cat/{images[0]}."
            )
        raise channel.error(f"found {_some(channel.files)}; expected {EXPECTED}.")
    kind = fitting[0]
    files = tuple(found[kind])
    unused = tuple(sorted(set(channel.files).difference(files)))
    if kind in beside:
        if kind != "manifest" and len(files) > 1:
            raise channel.error(
                f"'{files[0]}' and '{files[1]}' both say what the images are; expected one of them."
            )
        if not images and kind != "manifest":  # which may hold texts
            raise channel.error(
                f"'{files[0]}' is there, and no images; expected those that it names beside it."
            )
        return Layout(kind, files, tuple(f for f in unused if f not in images), images=tuple(images))
    if kind == "records":
        unused = tuple(f for f in unused if not f.lower().endswith((".idx", ".lst")))
    if kind in ("folders", "texts"):
        files, folder = _class_folders(channel, files)
        return Layout(kind, files, unused, folder)
    if kind in ("cifar", "archives"):
        unused = tuple(f for f in unused if not _CIFAR_EXTRA.fullmatch(_base(f)))
    return Layout(kind, files, unused)


def has_telling_name(name: str, table: Format) -> bool:
    """Whether a file's name tells its format, to somebody who expects a table in that one.

    CIFAR's names without a suffix do not: `train` and `test` are what a table may be called, too.
    """
    told: tuple[str, ...] = (
        *IMAGE_SUFFIXES,
        *TABLE_SUFFIXES,
        *PARQUET_SUFFIXES,
        *LIBSVM_SUFFIXES,
        *PROTOBUF_SUFFIXES,
    )
    if table != "protobuf":
        told = (*told, *RECORDIO_SUFFIXES)
    return name.lower().endswith((*told, *ARCHIVE_SUFFIXES, ".npz", ".bin"))


def _is_protobuf(channel: Channel, name: str) -> bool:
    if name.lower().endswith(PROTOBUF_SUFFIXES):
        return True
    return name.lower().endswith(RECORDIO_SUFFIXES) and holds_messages(channel.root / name)


def is_cifar_batch(name: str) -> bool:
    """Whether a file's name is that of a batch of images in CIFAR's published forms."""
    return _CIFAR_BATCH.fullmatch(_base(name)) is not None


def _names_a_source(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b'"source' in file.read(1 << 12)
    except OSError:
        return False


def _ending(channel: Channel, suffixes: tuple[str, ...]) -> list[str]:
    return [file for file in channel.files if file.lower().endswith(suffixes)]


def _class_folders(channel: Channel, files: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """Go down through single folders (as in train/<class>/…) to where the class folders stand."""
    folder = ""
    while True:
        loose = [f for f in files if "/" not in f[len(folder) :]]
        tops = sorted({f[len(folder) :].split("/", 1)[0] for f in files} - {_base(f) for f in loose})
        below = {f[len(folder) :].count("/") for f in files}
        if len(tops) != 1 or loose or 1 in below:
            break
        folder += tops[0] + "/"
    suffixes = IMAGE_SUFFIXES if files[0].lower().endswith(IMAGE_SUFFIXES) else (".txt",)
    outside = [f for f in channel.files if f.lower().endswith(suffixes) and "/" not in f[len(folder) :]]
    if loose or (outside and tops):
        kind = "image" if suffixes is IMAGE_SUFFIXES else "text"
        raise channel.error(f"{kind} '{(loose or outside)[0]}' lies outside the class folders {_some(tops)}.")
    if len(tops) > 1 and all(top.lower() in _SPLIT_NAMES for top in tops):
        raise channel.error(
            f"the folders {_some(tops)} look like splits, not classes; expected the class folders of one split, "
            "and each other split as a channel of its own."
        )
    return files, folder


def _base(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _some(names: Iterable[str], limit: int = 3) -> str:
    names = list(names)
    shown = ", ".join(f"'{name}'" for name in names[:limit])
    return f"{shown} and {len(names) - limit:,} more" if len(names) > limit else shown

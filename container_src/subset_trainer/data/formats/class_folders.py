"""Finds the folders that name classes, for the formats of images and of texts in class folders."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from subset_trainer.data.channels import Channel, base_name, some, suffix_of
from subset_trainer.data.content import TEXT
from subset_trainer.data.understanding import Decision
from subset_trainer.errors import UserError

NO_CLASSES = frozenset(
    (
        *(
            "annotation",
            "annotations",
            "bbox",
            "boxes",
            "code",
            "config",
            "configs",
            "doc",
            "docs",
            "label",
            "labels",
        ),
        *(
            "license",
            "licenses",
            "log",
            "logs",
            "meta",
            "metadata",
            "notebook",
            "notebooks",
            "script",
            "scripts",
        ),
        *("src", "utils"),
    )
)
"""Folders that hold no class if none of their files could be an example."""
_OPENED = 20


def class_folders(channel: Channel, files: Sequence[str], everything: Sequence[str], what: str) -> str:
    """The folder that contains the class folders ('' or 'a/b/'); perhaps below single folders, as in train/<class>/….

    Args:
        everything: all files that should lie in a class folder.
        what: how messages name such a file.

    Raises:
        UserError: a file lies outside the class folders.
    """
    folder = ""
    while True:
        loose = [f for f in files if "/" not in f[len(folder) :]]
        tops = sorted({f[len(folder) :].split("/", 1)[0] for f in files} - {base_name(f) for f in loose})
        below = {f[len(folder) :].count("/") for f in files}
        if len(tops) != 1 or loose or 1 in below:
            break
        folder += tops[0] + "/"
    outside = [f for f in everything if "/" not in f[len(folder) :]]
    if loose or (outside and tops):
        raise channel.error(f"{what} '{(loose or outside)[0]}' lies outside the class folders {some(tops)}.")
    return folder


def classes_of_folders(files: Sequence[str], folder: str) -> list[str]:
    """The name of each file's class folder, below `folder`."""
    return [file[len(folder) :].split("/", 1)[0] for file in files]


def label_of_folders(folder: str) -> Decision:
    """The decision that the folders below `folder` are the label."""
    return Decision("label", "the folders", f"one for each class{f', in {folder!r}' if folder else ''}")


def vanishing(channel: Channel, files: Sequence[str], folder: str, expected: str) -> list[Decision]:
    """The open decisions on class folders with files of which none is among `files`, the examples.

    Args:
        expected: what a class folder holds, for messages.
    """
    used = set(files)
    classes = set(classes_of_folders(files, folder))
    lost: dict[str, list[str]] = defaultdict(list)
    for file in channel.files:
        if file.startswith(folder) and file not in used and "/" in file[len(folder) :]:
            name = file[len(folder) :].split("/", 1)[0]
            if name not in classes:
                lost[name].append(file)
    decisions = []
    for name, found in lost.items():
        suffixes = [suffix or "no suffix" for suffix, _ in Counter(map(suffix_of, found)).most_common(3)]
        contents = {channel.content(file) for file in found[:_OPENED]}
        if name.lower() in NO_CLASSES and contents <= {TEXT, "HTML", "PDF", "pickle", "NumPy array (.npy)"}:
            continue
        known = sorted(content for content in contents if content not in (None, TEXT))
        held = f", {' and '.join(known)} by content" if known else ""
        count = (
            f"none of its {len(found):,} files is"
            if len(found) > 1
            else f"'{found[0]}', its only file, is not"
        )
        decisions.append(
            Decision(
                "classes",
                "a class without examples",
                f"{count} read ({', '.join(suffixes)}{held}); expected {expected} in each class folder, and other "
                "folders out of the channel",
                "open",
                name=folder + name + "/",
            )
        )
    return decisions


def checked_folder(
    channel: Channel, files: Sequence[str], everything: Sequence[str], what: str
) -> str | None:
    """As `class_folders`, but None instead of an error, which is raised when the examples are read."""
    try:
        return class_folders(channel, files, everything, what)
    except UserError:
        return None

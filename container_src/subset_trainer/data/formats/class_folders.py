"""Finds the folders that name classes: for images and texts in class folders, and for archives of such folders."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from subset_trainer.data.channels import Channel, LabelFolder, base_name, some, suffix_of
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


_PICTURES = re.compile(
    r"(jpeg|png|raw|rgb|input|source|train)?[ _-]*(images?|imgs?|pictures?|photos?|frames?|pngs?|jpe?gs?)|"
    r"rgb|originals?|inputs?|raw",
    re.IGNORECASE,
)
_OF_PICTURES = re.compile(
    r"((image|seg|instance|ground[ _-]?truth|gt|label|object|lung|binary)[ _-]*)?(masks?|labels?|maps?)|"
    r"(semantic|instance)?[ _-]*segmentations?|segmentation[ _-]?(class|object|masks?)(aug|raw)?|"
    r"ground[ _-]?truths?|gt|annotations?|annotated|trimaps?|depths?|edges?|contours?|heat[ _-]?maps?|overlays?|"
    r"thumb(nail)?s?|previews?|(pre)?processed|resized|augment(ed|ation|ations)?|crop(ped)?s?|outputs?|targets?",
    re.IGNORECASE,
)
_MASK = re.compile(r"[ _.-]*(mask|segmentation|seg|gt|ground[ _-]?truth)([ _-]?\d+)?$", re.IGNORECASE)
_MASK_WORDS = ("mask", "Mask", "MASK", "seg", "Seg", "SEG", "gt", "GT", "truth", "Truth")
_MASKS = 3


def root_of(files: Iterable[str]) -> str:
    """The folder that contains the class folders ('' or 'a/b/'), below single folders, as in train/<class>/…."""
    files, folder = list(files), ""
    while True:
        inside = [file[len(folder) :] for file in files]
        tops = {file.split("/", 1)[0] for file in inside}
        if len(tops) != 1 or any(file.count("/") < 2 for file in inside):
            return folder
        folder += tops.pop() + "/"


def class_folders(channel: Channel, files: Sequence[str], everything: Sequence[str], what: str) -> str:
    """The folder that contains the class folders: see `root_of`.

    Args:
        everything: all files that should lie in a class folder.
        what: how messages name such a file.

    Raises:
        UserError: a file lies outside the class folders.
    """
    folder = root_of(files)
    loose = [f for f in files if "/" not in f[len(folder) :]]
    tops = sorted({f[len(folder) :].split("/", 1)[0] for f in files} - {base_name(f) for f in loose})
    outside = [f for f in everything if "/" not in f[len(folder) :]]
    if loose or (outside and tops):
        raise channel.error(f"{what} '{(loose or outside)[0]}' lies outside the class folders {some(tops)}.")
    return folder


def classes_of_folders(files: Sequence[str], folder: str, level: LabelFolder | None = None) -> list[str]:
    """The name of each file's class folder: the first one below `folder`, or its own folder if the level is inner."""
    if level == "inner":
        return [file.rsplit("/", 2)[-2] for file in files]
    return [file[len(folder) :].split("/", 1)[0] for file in files]


def label_of_folders(folder: str, level: LabelFolder | None = None) -> Decision:
    """The decision that the folders below `folder` are the label."""
    reason = f"one for each class{f', in {folder!r}' if folder else ''}"
    if level is not None:
        return Decision("label", "the folders", f"{reason}: label_folder={level}", "given")
    return Decision("label", "the folders", reason)


def doubts_of_folders(files: Sequence[str], folder: str, level: LabelFolder | None) -> list[Decision]:
    """The open decisions on whether the folders of examples, below `folder`, are classes.

    They are not if they hold kinds of files, such as images and masks. They may not be if each has folders of its own
    with the same names, or with words for names.
    """
    masks = _masks(files)
    if level is not None:
        return [masks] if masks is not None else []
    children: dict[str, set[str]] = defaultdict(set)
    for path in {file.rpartition("/")[0] for file in files}:
        parts = path[len(folder) :].split("/") if path.startswith(folder) else []
        for at, part in enumerate(parts):
            children[folder + "".join(f"{above}/" for above in parts[:at])].add(part)
    kinds = next(filter(None, (_kinds_of_files(parent, names) for parent, names in children.items())), None)
    if kinds is not None:
        return [kinds]
    deep = all(file.count("/", len(folder)) > 1 for file in files)
    nested = _nested(children, folder) if deep else None
    return [decision for decision in (masks, nested) if decision is not None]


def _kinds_of_files(parent: str, names: Iterable[str]) -> Decision | None:
    """The open decision on folders beside each other that hold pictures and what belongs to them."""
    pictures = [name for name in sorted(names) if _PICTURES.fullmatch(name)]
    others = [name for name in sorted(names) if name not in pictures]
    if not pictures or not others or not all(map(_OF_PICTURES.fullmatch, others)):
        return None
    return Decision(
        "classes",
        "kinds of files",
        "the names of the folders are those of kinds of files rather than of classes; expected only the pictures, in "
        "a folder for each class",
        "open",
        examples=tuple(parent + name + "/" for name in (pictures[0], *others[:3])),
        setting="label_folder=outer if they are classes",
    )


def _masks(files: Sequence[str]) -> Decision | None:
    """The open decision on files that are named as masks of others beside them, as `a_mask.png` is of `a.png`."""
    # A regular expression on each of a million names would take seconds.
    named = [file for file in files if any(word in file for word in _MASK_WORDS)]
    masks = {file: _MASK.sub("", stem) for file in named if _MASK.search(stem := file.rpartition(".")[0])}
    if len(masks) < _MASKS:
        return None
    stems = {file.rpartition(".")[0] for file in files}
    found = [file for file, stem in masks.items() if stem in stems]
    if len(found) < _MASKS:
        return None
    reason = f"{len(found):,} of {len(files):,} files are named as masks of others; expected only the images"
    return Decision("classes", "masks", reason, "open", examples=tuple(found[:2]))


def _nested(children: Mapping[str, set[str]], folder: str) -> Decision | None:
    """The open decision on class folders of which each has several folders that may be the classes."""
    tops = sorted(children[folder])
    inside = [children[f"{folder}{top}/"] for top in tops]
    if len(tops) < 2 or any(len(names) < 2 for names in inside):
        return None
    times = Counter(name for names in inside for name in names)
    again = sorted(name for name, count in times.items() if 2 * count >= len(tops) and count > 1)
    if len(again) < 2 and any(character.isdigit() for name in times for character in name):
        return None  # as patients, dates and parts have
    each = f"the same folders, such as {some(again, 2)}," if again else "folders of its own"
    return Decision(
        "label",
        "the folders",
        f"each of {some(tops, 2)} has {each} so the outer or the inner ones may be the classes; splits belong into "
        "channels of their own",
        "open",
        examples=tuple(f"{folder}{tops[0]}/{name}/" for name in (again or sorted(inside[0]))[:2]),
        setting="label_folder=outer or label_folder=inner",
    )


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

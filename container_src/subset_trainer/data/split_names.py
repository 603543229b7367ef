"""Names that say which split of a data set a folder, a file or a member of an archive holds: one rule for all formats.

A channel is one split. Where its names show several, test data would be trained on, or splits would become classes.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from subset_trainer.data.understanding import Decision

_WORDS = {
    "training": ("train", "training", "trn", "trainval"),
    "validation": (
        "val",
        "valid",
        "validation",
        "validate",
        "dev",
        "devel",
        "development",
        "eval",
        "evaluation",
    ),
    "test": ("test", "testing", "tst", "holdout", "heldout", "submission"),
}
_SPLITS = {word: split for split, words in _WORDS.items() for word in words}
SPLIT_NAMES = frozenset(("split", "set", "subset", "fold", "partition", "usage", "phase", "dataset"))
"""Names, in lower case, of columns that may say the split of each row."""
_FLAG = re.compile(
    r"(is|in|for)[\s_-]*(train|training|test|testing|val|valid|validation|eval|dev|holdout|train[\s_-]*set)"
    r"([\s_-]*(set|split|data|image|img|row))*",
    re.IGNORECASE,
)
"""Names of columns whose true and false values say the split of each row."""
_TRUE = frozenset(("1", "1.0", "true", "t", "yes", "y"))
_FALSE = frozenset(("0", "0.0", "false", "f", "no", "n"))
_FILLERS = frozenset(
    (
        *(
            "set",
            "sets",
            "split",
            "splits",
            "data",
            "dataset",
            "subset",
            "images",
            "image",
            "imgs",
            "img",
            "files",
        ),
        *(
            "file",
            "labels",
            "label",
            "texts",
            "of",
            "part",
            "shard",
            "public",
            "private",
            "sample",
            "full",
            "all",
        ),
        *("the", "x", "y", "features", "values"),
    )
)
"""Words beside that of the split that do not say what the data is."""
_STUCK = re.compile(
    rf"(?:x|y)?({'|'.join(sorted(_SPLITS, key=len, reverse=True))})(?:sets?|data|images|imgs|files|x|y)?"
)
_HELD_OUT = re.compile(r"\b(hold|held)[\s_-]+out\b")
_EDGES = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
_FOLDS = re.compile(r"(?:folds?|cv|splits?|parts?|batch|chunk|shard)[\s_-]*\d+", re.IGNORECASE)
_LIBSVM = {"t": "test", "tr": "training"}
"""Endings by which LIBSVM's collection of data sets marks the splits, as in `a9a.t`."""
_LOOKED_AT = 100_000
_SUFFIXES = re.compile(
    r"(\.(csv|tsv|txt|jsonl?|ndjson|manifest|lst|parquet|pq|parq|snappy|npz|npy|libsvm|svm|svmlight|pbr|pb|protobuf|rec|"
    r"recordio|tar|tgz|gz|bz2|xz|zst|zip|bin|arrow|feather|xlsx?|dat|data))+$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _Named:
    """A name's split, None if it names none, and its other words."""

    split: str | None
    others: tuple[str, ...]


def split_of(name: str) -> str | None:
    """The split that a folder's or a file's name contains: training, validation or test; None for none or two.

    `training_set`, `x_train.npy`, `val-000000.tar`, `test-00000-of-00001` and `Eval` say one; `bus` and `part-0001` do
    not.
    """
    return _named(name).split


def _named(name: str) -> _Named:
    stem = _SUFFIXES.sub("", name)
    ending = name[len(stem) :] or name[name.rfind(".") :] if "." in name else ""
    if (split := _LIBSVM.get(ending[1:].lower())) is not None:
        return _Named(split, _named(name[: -len(ending)]).others)
    splits: set[str] = set()
    others: list[str] = []
    for word in _words(stem):
        stuck = _STUCK.fullmatch(word)
        if stuck:
            splits.add(_SPLITS[stuck[1]])
        elif word not in _FILLERS and not word.isdigit():
            others.append(word)
    if splits == {"training", "validation"}:  # train_val: what a model is trained on before its test
        splits = {"training"}
    return _Named(splits.pop() if len(splits) == 1 else None, tuple(others))


def _words(stem: str) -> list[str]:
    apart = _HELD_OUT.sub("heldout", _EDGES.sub(" ", stem).lower())
    return [word for word in re.split(r"[\W_]+", apart) if word]


def splits_of_files(files: Sequence[str]) -> Decision | None:
    """The open decision on files that each hold examples, such as tables, archives and manifests; None if all are of
    one split.

    A file's split is that of its own name, or of the innermost folder whose name says one. Files of two splits do not
    belong together; nor does `test.csv` beside `data.csv`, or `iris_test.csv` beside `iris.csv`.
    """
    if len(files) < 2:
        return None
    found: dict[str, list[str]] = defaultdict(list)
    marked: set[tuple[str, ...]] = set()
    plain: dict[tuple[str, ...], str] = {}
    for file in files:
        *folders, base = file.split("/")
        own = _named(base)
        split = own.split or next(filter(None, map(split_of, reversed(folders))), None)
        if split is not None:
            found[split].append(file)
            if split != "training" and own.split is not None:
                marked.add(own.others)
        else:
            plain.setdefault(own.others, file)
    if len(found) > 1:
        return _open("files", found)
    beside = next((file for others, file in plain.items() if others in marked or () in marked), None)
    return _open("files", {**found, "no split": [beside]}) if beside is not None and found else None


def splits_of_folders(files: Iterable[str]) -> Decision | None:
    """The open decision on folders, at any depth, that are named like splits rather than classes; None if there are
    none.

    Folders beside each other are splits if all are named so, or if two splits are named and one of these has folders of
    its own. One folder called `train` beside `bus` and `car` is a class. Folders that differ in a number only, as
    `fold1` and `fold2`, are parts of a data set if all contain the same folders.
    """
    for parent, children in _tree(file.rpartition("/")[0] for file in files).items():
        if len(children) < 2:
            continue
        found: dict[str, list[str]] = defaultdict(list)
        plain = 0
        for child in sorted(children):
            split = split_of(child)
            plain += split is None
            if split is not None:
                found[split].append(parent + child)
        named = [child for group in found.values() for child in group]
        whole = all(child.rsplit("/", 1)[-1].lower() in _SPLITS for child in named)
        nested = any(children[child.rsplit("/", 1)[-1]] for child in named)
        if (len(found) > 1 and (not plain or nested)) or (len(found) == 1 and not plain and whole):
            return _open("folders", found)
        inside = list(children.values())
        if len(inside[0]) > 1 and all(other == inside[0] for other in inside) and _numbered(children):
            return _open("folders", {"parts of a data set": [parent + child for child in sorted(children)]})
    return None


def splits_of_names(names: Iterable[str]) -> Decision | None:
    """The open decision on examples, one a file, whose own names all say a split, as `val_0001.jpg`; None if one does
    not, or all say the same."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in islice(names, _LOOKED_AT):
        split = split_of(name.rsplit("/", 1)[-1].split(".", 1)[0])
        if split is None:
            return None
        if len(found[split]) < 3:
            found[split].append(name)
    return _open("files", found) if len(found) > 1 else None


def says_splits(column: str) -> bool:
    """Whether the values of a column of this name may say the split of each row."""
    return column.strip().lower() in SPLIT_NAMES or _FLAG.fullmatch(column.strip()) is not None


def splits_of_values(column: str, values: Iterable[str]) -> Decision | None:
    """The open decision on a column or an attribute whose values all say splits, such as Training and PublicTest, or
    true and false for `is_train`; None if one does not, or all say the same."""
    found: dict[str, list[str]] = defaultdict(list)
    values = list(values)
    if _FLAG.fullmatch(column.strip()):
        words = {value.strip().lower() for value in values}
        both = words & _TRUE and words & _FALSE and words <= _TRUE | _FALSE
        return (
            _open(f"values of {column!r}", {"one split": values[:1], "another": values[1:2]})
            if both
            else None
        )
    for value in values:
        split = split_of(value)
        if split is None or len(found) > len(_WORDS):
            return None
        if value not in found[split]:
            found[split].append(value)
    return _open(f"values of {column!r}", found) if len(found) > 1 else None


def _tree(folders: Iterable[str]) -> dict[str, dict[str, set[str]]]:
    """The folders in each folder ('' or 'a/b/'), with the names of those in them."""
    tree: dict[str, dict[str, set[str]]] = {}
    for folder in sorted(set(folders)):
        parent, above = "", None
        for part in folder.split("/") if folder else ():
            if above is not None:
                above.add(part)
            above = tree.setdefault(parent, {}).setdefault(part, set())
            parent += part + "/"
    return tree


def _numbered(names: Iterable[str]) -> bool:
    """Whether names differ in a number only, and say nothing but that they are parts."""
    return all(_FOLDS.fullmatch(name) for name in names)


def _open(what: str, found: Mapping[str, Sequence[str]]) -> Decision:
    shown = [name for names in found.values() for name in names[:2]]
    said = (
        f"the {what} name {' and '.join(found)}" if len(found) > 1 else f"the {what} are {next(iter(found))}"
    )
    return Decision(
        "split",
        "several splits",
        f"{said}; expected one split in a channel, and each other split as a channel of its own",
        "open",
        examples=tuple(sorted(shown)[:6]),
    )

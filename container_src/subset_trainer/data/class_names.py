"""Doubts about the names of classes, one rule for all formats: names that may mean one class, no class or several.

They are checked once all labels of the training channel are known, those of other hosts included.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from subset_trainer.data.channels import Channel
from subset_trainer.data.classes import coded
from subset_trainer.data.understanding import Decision, refuse_open

LabelNames = Literal["as-given", "merged"]
AS_GIVEN = "label_names=as-given if these are classes of their own"
_MERGED = "label_names=merged if they are one class, label_names=as-given if they are different ones"
_UNLABELLED = re.compile(
    r"(nan|null|<na>|#n/a|n/a|(un|not )(label+ed|annotated|classified|sorted)( data| images)?|unsup|no label|to label|"
    r"todo)"
)
_LIST = re.compile(r"\[.*\]|\{.*\}|\(.*,.*\)", re.DOTALL)
_MANY = 20
"""Examples from which on labels that are all different are doubted."""
_COMBINED = 10
"""Classes from which on texts with blanks may be combinations of a few words."""


def folded(name: str) -> str:
    """The name without what people spell differently: case, and blanks, hyphens and underscores between words.

    Single characters, as in sets of letters, and numbers stay as they are, but for the zero of `1.0`.
    """
    text = " ".join(unicodedata.normalize("NFC", name).split())
    if len(text) < 2 or _is_number(text):
        return re.sub(r"^(-?(?:0|[1-9]\d*))\.0*$", r"\1", text)
    return re.sub(r"(?<=[^\W_])[\s_-]+(?=[^\W_])", " ", text).casefold()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def merged(labels: np.ndarray, classes: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels [N] int64 and classes in which names that `folded` makes equal are one, under the folded name.

    The name follows from the spelling alone, so that all channels and all hosts agree on it.
    """
    codes, names = coded([folded(name) for name in classes])
    return codes[labels], names


def as_training(
    labels: np.ndarray, classes: tuple[str, ...], trained: Sequence[str]
) -> tuple[np.ndarray, tuple[str, ...], dict[str, str]]:
    """Labels [N] int64 and classes of another channel, in the spelling of training's classes where that leaves one; and
    the names that were spelt otherwise, with training's."""
    known: dict[str, list[str]] = defaultdict(list)
    for name in trained:
        known[folded(name)].append(name)
    same = {
        name: known[folded(name)][0]
        for name in classes
        if name not in trained and len(known.get(folded(name), ())) == 1
    }
    if not same:
        return labels, classes, {}
    codes, names = coded([same.get(name, name) for name in classes])
    return codes[labels], names, same


def without_effect(setting: LabelNames | None, classes: Sequence[str], examples: int) -> Decision | None:
    """The decision that says that `label_names` changes nothing; None if it is not given, or decides something.

    Args:
        classes: the names before they are merged.
        examples: the number of examples.
    """
    if setting is None or next(_doubts(classes, examples), None) is not None:
        return None
    if setting == "merged" and any(folded(name) != name for name in classes):
        return None
    reason = f"label_names={setting} has no effect: no name of a class leaves a doubt"
    return Decision("classes", "as they are", reason, "given")


def check_classes(
    channel: Channel,
    labels: np.ndarray,
    classes: tuple[str, ...],
    decisions: Sequence[Decision] = (),
    label_names: LabelNames | None = None,
) -> None:
    """Check the training labels [N] int64 of all hosts, positions in `classes`.

    Args:
        decisions: those behind the labels, for the refusal.

    Raises:
        UserError: all examples are of one class, or the names leave a doubt that `label_names` does not settle.
    """
    counts = np.bincount(labels, minlength=len(classes))
    names = [name for name, count in zip(classes, counts.tolist(), strict=True) if count]
    if len(names) < 2:
        raise channel.error(
            f"all {len(labels):,} examples are of one class, {names[0]!r}; expected at least two."
        )
    if label_names != "as-given":
        refuse_open(channel.name, [*decisions, *_doubts(names, len(labels))])


def _doubts(names: Sequence[str], examples: int) -> Iterator[Decision]:
    if examples >= _MANY and len(names) == examples:
        reason = (
            f"all {examples:,} examples have different labels, as captions and identifiers are; expected classes, or "
            "label_column to name what holds them"
        )
        yield _open(reason, names[:3])
        return
    for found in (_same_but_for_spelling, _no_labels, _several_in_one):
        if (decision := found(names)) is not None:
            yield decision


def _same_but_for_spelling(names: Sequence[str]) -> Decision | None:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[folded(name)].append(name)
    alike = [group for group in groups.values() if len(group) > 1]
    if not alike:
        return None
    reason = "names of classes differ only in case, blanks, hyphens or underscores, or are one number"
    return _open(reason, [name for group in alike[:3] for name in group[:2]], _MERGED)


def _no_labels(names: Sequence[str]) -> Decision | None:
    found = [name for name in names if _UNLABELLED.fullmatch(folded(name).casefold())]
    if not found:
        return None
    reason = "a name says that examples have no label; expected them out of the channel"
    return _open(reason, found, AS_GIVEN)


def _several_in_one(names: Sequence[str]) -> Decision | None:
    """Whether labels hold several classes each, as in `cat|dog` or ['cat', 'dog']."""
    lists = [name for name in names if _LIST.fullmatch(name)]
    if len(lists) > len(names) / 2:
        return _several(lists)
    known = {name.strip() for name in names}
    for mark in "|;,":
        joined = {
            name: [part.strip() for part in name.split(mark)] for name in names if mark in name.strip(mark)
        }
        if not joined:
            continue
        parts = {part for inside in joined.values() for part in inside if part}
        alone = parts & known
        # A place and its state are joined by a comma as well, but do not stand alone.
        if 2 * len(alone) >= len(parts) or (mark != "," and alone):
            return _several(list(joined))
    words = [name.split() for name in names]
    lengths = {len(inside) for inside in words}
    vocabulary = {word for inside in words for word in inside}
    if len(names) >= _COMBINED and len(lengths) > 2 and 2 * len(vocabulary) < len(names):
        return _several([name for name in names if " " in name])
    return None


def _several(found: Sequence[str]) -> Decision:
    reason = "labels hold several classes in one text, and one class for each example is expected"
    return _open(reason, found[:3], "label_names=as-given if each such text is a class")


def _open(reason: str, examples: Sequence[str], setting: str | None = None) -> Decision:
    shown = tuple(name if len(name) <= 60 else f"{name[:59]}…" for name in examples[:6])
    return Decision("label", "the classes", reason, "open", examples=shown, setting=setting)

"""Turns label values into classes, in a defined order."""

import math
import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from subset_trainer.data.channels import Channel

LABEL_COLUMN_HINT = " (label_column names another column as the label)"


def coded(names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Encode class names as labels [N] int64, with the classes in their order."""
    # A name may be stored in two Unicode forms, as file systems do with 'é'; both are one class.
    spelt = {name: unicodedata.normalize("NFC", name) for name in set(names)}
    classes = natural_order(set(spelt.values()))
    position = {name: index for index, name in enumerate(classes)}
    codes = {name: position[normal] for name, normal in spelt.items()}
    return np.fromiter((codes[name] for name in names), np.int64, len(names)), classes


def natural_order(names: set[str]) -> tuple[str, ...]:
    """Sort numerically if all names are numbers, otherwise by code point."""
    try:
        return tuple(sorted(names, key=lambda name: (float(name), name)))
    except ValueError:
        return tuple(sorted(names))


def label_names(values: np.ndarray) -> list[str]:
    """Class names of numeric labels: '1' for 1 and 1.0, '0.5' for 0.5."""
    return [str(int(value)) if value == int(value) else repr(float(value)) for value in values.tolist()]


def looks_continuous(values: np.ndarray) -> bool:
    """Whether numeric labels look like measurements: many distinct values relative to the number of rows."""
    distinct = len(np.unique(values))
    if np.array_equal(values, np.round(values)):
        return distinct > 1_000 and distinct > len(values) / 5
    return distinct > 20 or distinct > max(2, len(values) / 3)


def classes_of(
    channel: Channel, title: str, values: np.ndarray, like: object | None, hint: str = ""
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Encode labels [N] (numbers, or object of str) as int64 [N] positions in the classes; returns both.

    Args:
        title: how messages name the label.
        hint: text to append to the error message.

    Raises:
        UserError: the training labels are measurements rather than classes.
    """
    if values.dtype == object:
        return coded(values.tolist())
    distinct, labels = np.unique(values, return_inverse=True)
    if like is None and looks_continuous(values):
        raise channel.error(
            f"the label, {title}, has {len(distinct):,} different values such as {distinct[len(distinct) // 2]:g}; "
            f"expected classes, because regression is not supported{hint}."
        )
    return labels.astype(np.int64), tuple(label_names(distinct))


_WHOLE = re.compile(r"[+-]?\d+")
_ZERO_LEADS = re.compile(r"[+-]?0\d+")


def spelt_classes(texts: Sequence[str]) -> dict[str, str] | None:
    """The class of each label text if all are numbers: '1' for 1, +1 and 1.0; None if one is not a number.

    Whole numbers keep all their digits. If any has a leading zero, as codes have, all keep their spelling.
    """
    try:
        values = [math.nan if "_" in text else float(text) for text in texts]
    except ValueError:
        return None
    if not all(map(math.isfinite, values)):
        return None
    if any(map(_ZERO_LEADS.fullmatch, texts)):
        return {text: text for text in texts}
    return {
        text: str(int(text))
        if _WHOLE.fullmatch(text)
        else str(int(value))
        if value.is_integer()
        else repr(value)
        for text, value in zip(texts, values, strict=True)
    }

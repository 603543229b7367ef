"""What the channels were taken to be, in at most fifteen lines: for a job's log, a terminal and the report.

This module is free of torch.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from subset_trainer.data.understanding import Decision, Understanding

MOST_LINES = 15
FILE = "understanding.json"
"""In a job's output: the understandings of all channels, with every decision."""
VERSION = 1
"""Of the file's schema."""
_MOST_NAMED, _MOST_CLASSES = 6, 8
_WIDEST = 200
"""Characters in a line. The file holds what is cut off."""


def overview(understandings: Sequence[Understanding], most: int = MOST_LINES) -> list[str]:
    """At most `most` lines, the training channel's first. What does not fit is counted in the last line."""
    lines: list[tuple[str, int]] = []
    for place, one in enumerate(understandings):
        lines += _whole(one) if place == 0 else _brief(one)
    if len(lines) > most:
        # The other channels' lines stay, because there are few of them.
        others = sum(len(_brief(one)) for one in understandings[1:])
        keep = max(1, most - 1 - others)
        cut = lines[keep : len(lines) - others]
        further = f"  and {sum(count for _, count in cut):,} further decisions"
        lines = [*lines[:keep], (further, 0), *lines[len(lines) - others :]][:most]
    return [line if len(line) <= _WIDEST else f"{line[: _WIDEST - 1]}…" for line, _ in lines]


def to_json(understandings: Iterable[Understanding]) -> dict[str, Any]:
    """The content of understanding.json."""
    return {"version": VERSION, "channels": [one.to_json() for one in understandings]}


def settings(decisions: Iterable[Decision]) -> list[str]:
    """The hyperparameters that make each decision given, as in "label_column=target".

    Of an open decision, which several values may settle, it is the first of these.
    """
    found: dict[str, str] = {}
    for decision in decisions:
        if decision.certainty == "given" or decision.about not in _SETTLED:
            continue
        setting = _first_of(decision.setting) if decision.setting else None
        if setting is None and decision.about == "label":
            setting = _label_setting(decision)
        if setting is not None and (decision.certainty == "open" or decision.about == "label"):
            name, _, value = setting.partition("=")
            found.setdefault(name, value)
    return [f"{name}={value}" for name, value in found.items()]


_SETTLED = ("format", "split", "header", "label", "classes", "column", "size", "left out")


def _first_of(setting: str) -> str:
    return setting.split(" or ")[0].split(" if ")[0].split(", ")[0].strip(" ,")


def _label_setting(decision: Decision) -> str | None:
    """The label's column is named in quotes, or as "column 0"."""
    taken = decision.taken
    if taken.startswith("column ") and taken.removeprefix("column ").isdecimal():
        return f"label_column={taken.removeprefix('column ')}"
    if len(taken) > 2 and taken[0] in "'\"" and taken[-1] == taken[0]:
        return f"label_column={taken[1:-1]}"
    return None


def _whole(one: Understanding) -> list[tuple[str, int]]:
    """(line, number of decisions in it)."""
    by: dict[str, list[Decision]] = {}
    for decision in one.decisions:
        by.setdefault(decision.about, []).append(decision)
    lines = [(_title(one, by.pop("format", [])), 1)]
    for about in ("label", "header", "split"):
        lines += [(f"  {_named(decision)}", 1) for decision in by.pop(about, [])]
    if one.classes:
        lines.append((f"  classes: {_classes(one)}", 1))
    columns: dict[str, list[Decision]] = {}
    for decision in by.pop("column", []):
        columns.setdefault(decision.taken, []).append(decision)
    lines += [(f"  {_group(taken, group)}", len(group)) for taken, group in columns.items()]
    out: dict[str, list[Decision]] = {}
    for decision in by.pop("left out", []):
        out.setdefault(decision.reason, []).append(decision)
    lines += [(f"  left out: {_names(group)} ({reason})", len(group)) for reason, group in out.items()]
    lines += [(f"  {_named(decision)}", 1) for rest in by.values() for decision in rest]
    return lines


def _brief(one: Understanding) -> list[tuple[str, int]]:
    by = [decision for decision in one.decisions if decision.about == "format"]
    lines = [(_title(one, by), len(one.decisions))]
    out = [
        decision for decision in one.decisions if decision.about == "left out" and "/" not in decision.taken
    ]
    if files := [decision for decision in out if decision.taken == "left out"]:
        lines.append((f"  left out: {_names(files)} ({files[0].reason})", len(files)))
    return lines


def _title(one: Understanding, formats: Sequence[Decision]) -> str:
    why = f" ({formats[0].reason})" if formats else ""
    classes = f" in {len(one.classes):,} classes" if one.classes else ""
    if one.examples is None:
        return f"{one.channel}: {one.format}{why}, by the beginnings of files{classes.replace(' in', ',')}"
    return f"{one.channel}: {one.format}{why}, {one.examples:,} examples{classes}"


def _classes(one: Understanding) -> str:
    names = list(one.classes)
    shown = ", ".join(f"{name!r} {one.classes[name]:,}" for name in names[:_MOST_CLASSES])
    if len(names) <= _MOST_CLASSES:
        return shown
    rest = [one.classes[name] for name in names[_MOST_CLASSES:]]
    return f"{shown} and {len(rest):,} more of {min(rest):,} to {max(rest):,}"


def _group(taken: str, group: Sequence[Decision]) -> str:
    if len(group) == 1 and group[0].name is not None:
        return f"{taken}: {group[0].name!r} ({group[0].reason})"
    return f"{len(group):,} × {taken}: {_names(group)}"


def _names(group: Sequence[Decision]) -> str:
    names = [decision.name for decision in group if decision.name is not None]
    if not names:
        return group[0].taken
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(map(repr, names[:_MOST_NAMED])) + more


def _named(decision: Decision) -> str:
    named = f" {decision.name!r}" if decision.name is not None else ""
    return f"{decision.about}{named}: {decision.taken} ({decision.reason})"

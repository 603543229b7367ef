"""Formats tables and values for a terminal."""

import os
import sys
import textwrap
from collections.abc import Sequence


def table(
    head: Sequence[Sequence[str]],
    body: Sequence[Sequence[str]],
    left: Sequence[int] = (0,),
    spare: Sequence[int] = (),
    width: int | None = None,
) -> str:
    """Return a table with aligned columns, with as many of them as fit. No row is wrapped.

    Args:
        head: the lines above the rule; all lines have the same number of cells.
        body: the lines below the rule.
        left: numbers of the left-aligned columns; the others are right-aligned.
        spare: numbers of the columns that may be left out, the first of them first.
        width: characters of a line; by default the terminal's.
    """
    every = [[printable(cell) for cell in line] for line in (*head, *body)]
    widths = [max(len(line[column]) for line in every) for column in range(len(every[0]))]
    most = terminal_width() if width is None else width
    shown = list(range(len(widths)))
    out: list[int] = []
    while most is not None and _width(widths, shown) > most and len(out) < len(spare):
        out.append(spare[len(out)])
        shown.remove(out[-1])
    if most is not None and (over := _width(widths, shown) - most) > 0:
        # Names are shortened in their middle, because their ends tell them apart.
        longest = max((column for column in left if column in shown), key=lambda column: widths[column])
        widths[longest] = max(3, widths[longest] - over)
        for line in every:
            line[longest] = shortened(line[longest], widths[longest])
    lines = [
        "  ".join(
            line[column].ljust(widths[column]) if column in left else line[column].rjust(widths[column])
            for column in shown
        ).rstrip()
        for line in every
    ]
    rule = "─" * _width(widths, shown)
    text = "\n".join([*lines[: len(head)], rule, *lines[len(head) :]])
    if out:
        names = (" ".join(filter(None, (line[column] for line in head))) for column in sorted(out))
        left_out = f"left out, for lack of width: {', '.join(names)}"
        text += f"\n\n{textwrap.fill(left_out, most) if most else left_out}"
    return text


def wrapped(paragraph: str) -> str:
    """Return a paragraph with lines that break between words where a terminal shows it, as it is elsewhere."""
    width = terminal_width()
    if width is None:
        return paragraph
    return textwrap.fill(paragraph, max(width, 20), break_long_words=False, break_on_hyphens=False)


def _width(widths: Sequence[int], shown: Sequence[int]) -> int:
    return sum(widths[column] for column in shown) + 2 * (len(shown) - 1)


def runs(count: int) -> str:
    """Say a number of runs."""
    return f"{count} run{'' if count == 1 else 's'}"


def shortened(text: str, most: int) -> str:
    """Return a text of at most `most` characters, without its middle if it is longer."""
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def terminal_width() -> int | None:
    """Return the characters of a line: COLUMNS, or what the terminal says; None for a pipe or a file."""
    if (given := os.environ.get("COLUMNS", "")).isdecimal() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError, AttributeError):
        return None


def printable(value: str) -> str:
    """Return the value with unprintable characters, such as line breaks and terminal control codes, escaped."""
    return "".join(
        letter if letter.isprintable() or letter == "\u00a0" else letter.encode("unicode_escape").decode()
        for letter in value
    )

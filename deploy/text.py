"""Formats tables and values for a terminal."""

from collections.abc import Sequence


def table(head: Sequence[Sequence[str]], body: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Return a table with aligned columns.

    Args:
        head: the lines above the rule; all lines have the same number of cells.
        body: the lines below the rule.
        left: numbers of the left-aligned columns; the others are right-aligned.
    """
    every = [[printable(cell) for cell in line] for line in (*head, *body)]
    widths = [max(len(line[column]) for line in every) for column in range(len(every[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in every
    ]
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([*lines[: len(head)], rule, *lines[len(head) :]])


def printable(value: str) -> str:
    """Return the value with unprintable characters, such as line breaks and terminal control codes, escaped."""
    return "".join(
        letter if letter.isprintable() or letter == "\u00a0" else letter.encode("unicode_escape").decode()
        for letter in value
    )

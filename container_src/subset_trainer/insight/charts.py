"""Line and bar charts as places in an SVG picture, which the template `charts.html` draws."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 360, 210, 46, 10, 26, 34
"""The picture and its margins, in units of the picture. A phone shows it at about this size."""
MOST_BARS = 40


@dataclass(frozen=True)
class Line:
    """One curve. points: (x, y), without values that are not finite."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Bar:
    """One bar, from its upper left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Chart:
    """One chart. Every place is in units of the picture."""

    title: str
    description: str
    """Stands for the picture where it cannot be seen."""
    across: str
    """What the horizontal axis counts."""
    upright: Sequence[tuple[float, str]]
    """(y, number) on the vertical axis; the first is the axis itself."""
    level: Sequence[tuple[float, str]]
    """(x, number) on the horizontal axis, from left to right."""
    lines: Sequence[Line] = ()
    bars: Sequence[Bar] = ()
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


def curves(title: str, xs: Sequence[int], series: Mapping[str, Sequence[float]], form: str) -> Chart:
    """One line for each name, over epochs.

    Args:
        xs: [E] epochs, ascending.
        series: name → [E] values. What is not finite is left out.
        form: format specification of a value; with a percent sign the axis ends at 1.
    """
    values = [value for line in series.values() for value in line if math.isfinite(value)]
    low, high = min([0.0, *values]), max([*values, 1e-9])
    if form.endswith("%"):
        high = 1.0
    span = max(1, xs[-1] - xs[0]) if xs else 1
    lines = [
        Line(
            name,
            [
                (LEFT + (x - xs[0]) / span * (WIDTH - LEFT - RIGHT), _up((y - low) / (high - low)))
                for x, y in zip(xs, line, strict=True)
                if math.isfinite(y)
            ],
        )
        for name, line in series.items()
    ]
    last = ", ".join(f"{name.lower()} {line[-1]:{form}}" for name, line in series.items() if line)
    return Chart(
        title,
        f"{title} per epoch; at the end: {last}",
        "epoch",
        _upright(low, high, form),
        [(LEFT, str(xs[0])), (WIDTH - RIGHT, str(xs[-1]))][: len(xs)],
        lines=lines,
    )


def bins(values: np.ndarray) -> dict[str, int]:
    """What a bar counts ('3', or '4–6' where there would be more than MOST_BARS) → how many of the values.

    values: [N] integers from 0.
    """
    most = int(values.max(initial=0))
    width = max(1, math.ceil((most + 1) / MOST_BARS))
    starts = range(0, most + 1, width)
    names = [str(start) if width == 1 else f"{start}–{min(start + width - 1, most)}" for start in starts]
    return dict(zip(names, np.bincount(values // width, minlength=len(starts)).tolist(), strict=True))


def bars(title: str, across: str, counts: Mapping[str, int]) -> Chart:
    """One bar for each name, in this order."""
    most, each = max(counts.values()), (WIDTH - LEFT - RIGHT) / len(counts)
    drawn = [
        Bar(LEFT + at * each + 1, _up(count / most), max(1, each - 2), HEIGHT - BOTTOM - _up(count / most))
        for at, count in enumerate(counts.values())
    ]
    names = list(counts)
    named = sorted({0, len(names) // 2, len(names) - 1})
    return Chart(
        title,
        "A bar chart; the numbers follow",
        across,
        _upright(0, most, ",.0f"),
        [(LEFT + (at + 0.5) * each, names[at]) for at in named],
        bars=drawn,
    )


def _up(share: float) -> float:
    """y of a share of the vertical axis."""
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def _upright(low: float, high: float, form: str) -> list[tuple[float, str]]:
    return [(_up(share), format(low + share * (high - low), form)) for share in (0.0, 0.5, 1.0)]

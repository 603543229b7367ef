"""Line and bar charts as coordinates in an SVG image, which the template `charts.html` draws."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 360, 210, 46, 10, 26, 34
"""The size and margins of the image, in SVG units. A phone shows it at about this size."""
MOST_BARS = 40


@dataclass(frozen=True)
class Line:
    """One curve. points: (x, y), finite values only."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Bar:
    """One bar. x and y are those of its upper left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Chart:
    """One chart. All coordinates are in SVG units."""

    title: str
    description: str
    """Alternative text for readers who cannot see the image."""
    across: str
    """The label of the horizontal axis."""
    upright: Sequence[tuple[float, str]]
    """(y, label) of the ticks on the vertical axis. The first lies on the horizontal axis."""
    level: Sequence[tuple[float, str]]
    """(x, label) of the ticks on the horizontal axis, from left to right."""
    lines: Sequence[Line] = ()
    bars: Sequence[Bar] = ()
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


def curves(title: str, xs: Sequence[int], series: Mapping[str, Sequence[float]], form: str) -> Chart:
    """A line chart over epochs with one line per name.

    Args:
        xs: [E] epochs, ascending.
        series: name → [E] values. Values that are not finite are omitted.
        form: format specification of a value. If it ends with a percent sign, the axis ends at 1.
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
    """Histogram: bin → number of values in it.

    A bin is one integer ('3'), or a range ('4–6') if there would otherwise be more than MOST_BARS bins.

    Args:
        values: [N] integers, at least 0.
    """
    most = int(values.max(initial=0))
    width = max(1, math.ceil((most + 1) / MOST_BARS))
    starts = range(0, most + 1, width)
    names = [str(start) if width == 1 else f"{start}–{min(start + width - 1, most)}" for start in starts]
    return dict(zip(names, np.bincount(values // width, minlength=len(starts)).tolist(), strict=True))


def bars(title: str, across: str, counts: Mapping[str, int]) -> Chart:
    """A bar chart with one bar per name, in the order of `counts`."""
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
    """The y coordinate of a fraction of the vertical axis."""
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def _upright(low: float, high: float, form: str) -> list[tuple[float, str]]:
    return [(_up(share), format(low + share * (high - low), form)) for share in (0.0, 0.5, 1.0)]

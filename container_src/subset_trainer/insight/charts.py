"""Line and bar charts as coordinates in an SVG image, which the template `charts.html` draws.

The coordinates are final: a page shows its charts without a script, and in the same way at any width.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from subset_trainer.readable import number

WIDTH, HEIGHT = 360, 220
"""The size of the image, in SVG units. A phone shows it at about this size."""
RIGHT, TOP, BOTTOM = 16, 10, 40
"""Margins. The left one depends on the labels."""
MOST_BARS = 40

COLOURS = (
    *("#0072b2", "#b34a00", "#007a5a", "#282850", "#0008b0", "#50a0a8", "#603000", "#4808f8"),
    *("#c88818", "#9880f8", "#504870", "#600080", "#c818a0", "#a88870", "#8060f0", "#004840"),
    *("#5830c8", "#804008", "#006048", "#606088", "#7088c8", "#581018", "#b87028", "#f858a0"),
)
"""The first are of Okabe and Ito's palette, darkened to a contrast of 3 with white. Each further one is as far as
possible from all before it, also for readers who do not see red, green or blue (Machado et al., 2009; in OKLab)."""
DASHES = ("", "7 3", "2 3", "9 3 2 3", "14 4", "9 3 2 3 2 3", "1 5", "14 3 5 3")
MARKERS: Mapping[str, str] = {
    "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "square": "M-3.5 -3.5h7v7h-7z",
    "triangle": "M0 -4.5L4.5 3.5H-4.5z",
    "diamond": "M0 -5L5 0L0 5L-5 0z",
    "down": "M0 4.5L4.5 -3.5H-4.5z",
    "hexagon": "M-4.5 0L-2.2 -4H2.2L4.5 0L2.2 4H-2.2z",
    "plus": "M-1.5 -4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
    "star": "M0 -5.5L1.5 -1.6L5.3 -1.6L2.3 0.9L3.3 4.8L0 2.5L-3.3 4.8L-2.3 0.9L-5.3 -1.6L-1.5 -1.6z",
}
"""Name → path, around 0."""

Values = TypeVar("Values", bound=tuple[float, ...])
Unit = Literal["", "%", "s", "$"]
"""Of an axis's values: a number; a share, shown in percent; seconds; dollars."""


@dataclass(frozen=True)
class Axis:
    """An axis, which reaches over all values of the chart."""

    label: str = ""
    unit: Unit = ""
    low: float | None = None
    """Its lower end; None: at the smallest value, with some room."""
    high: float | None = None
    """Its upper end; None: at the largest value, with some room."""
    whole: bool = False
    """Whether the values are integers."""
    marks: Sequence[tuple[float, str]] | None = None
    """Value and label of its ticks; None: round numbers."""


@dataclass(frozen=True)
class Series:
    """One line: x ascending. Values that are not finite are omitted."""

    name: str
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = ()
    """(x, lowest, highest)."""
    colour: str = COLOURS[0]
    dash: str = ""
    marker: str = ""
    """Of each point, from MARKERS; empty: at most the last point has one."""
    hollow: bool = False
    """Whether the markers are."""
    ends: bool = True
    """Whether the last point has a marker where the others have none: where there is but one, a line does not show."""
    notes: Sequence[str] = ()
    """A text for each point, which a browser shows where the pointer rests on it."""
    shaded: bool = True
    """Whether the band is an area, and not only a bar at each marker."""
    joined: bool = True
    """Whether a line connects the points; else the band is a bar at each of them."""

    @property
    def path(self) -> str:
        """Of its markers."""
        return MARKERS[self.marker or "circle"]


@dataclass(frozen=True)
class Line:
    """A series in SVG units."""

    series: Series
    points: Sequence[tuple[float, float]]
    dots: Sequence[tuple[float, float, str]]
    """(x, y, note)."""
    area: Sequence[tuple[float, float]]
    """The outline of the band."""
    bars: Sequence[tuple[float, float, float]]
    """(x, y, y) of the band at each point."""


@dataclass(frozen=True)
class Bar:
    """One bar. x and y are those of its upper left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Label:
    """A tick's label at its place. anchor: SVG's text-anchor."""

    at: float
    text: str
    anchor: str = "middle"


@dataclass(frozen=True)
class Chart:
    """One chart. All coordinates are in SVG units."""

    title: str
    description: str
    """Alternative text for readers who cannot see the image."""
    across: str
    """The label of the horizontal axis."""
    upward: str
    """The label of the vertical axis, which stands above it; may be empty."""
    upright: Sequence[Label]
    level: Sequence[Label]
    lines: Sequence[Line] = ()
    bars: Sequence[Bar] = ()
    width: int = WIDTH
    height: int = HEIGHT
    left: float = 0
    top: float = TOP
    legend: bool = True
    """Whether the names of the lines stand below it."""

    @property
    def right(self) -> float:
        return self.width - RIGHT

    @property
    def bottom(self) -> float:
        return self.height - BOTTOM


def draw(
    title: str,
    series: Sequence[Series],
    across: Axis,
    upward: Axis,
    *,
    description: str = "",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    legend: bool = True,
) -> Chart:
    """A chart of lines with their bands.

    Args:
        across, upward: the axes.
        description: alternative text.
        size: width and height, in SVG units.
        legend: whether the names of the lines stand below it.
    """
    width, height = size
    points = [point for one in series for point in _finite(one.points)]
    bands = [part for one in series for part in _finite(one.band)]
    low, high = _ends(upward, [y for _, y in points] + [y for _, *ends in bands for y in ends])
    start, end = _ends(across, [x for x, *_ in (*points, *bands)])
    top = TOP + (16 if upward.label else 0)
    marks, _ = _marks(upward, low, high, max(3, (height - top - BOTTOM) // 32))
    left = 8 + max(extent(text) for _, text in marks)
    right, bottom = width - RIGHT, height - BOTTOM
    most = max(2, int((right - left) / 70))
    steps, unit = _marks(across, start, end, most)

    def x_of(x: float) -> float:
        return left + (x - start) / (end - start) * (right - left)

    def y_of(y: float) -> float:
        return bottom - (y - low) / (high - low) * (bottom - top)

    return Chart(
        title,
        description,
        f"{across.label} ({unit})" if unit else across.label,
        upward.label,
        [Label(y_of(y), text) for y, text in marks],
        [_placed(x_of(x), text, width) for x, text in steps],
        [
            Line(
                one,
                [(x_of(x), y_of(y)) for x, y in _finite(one.points)] if one.joined else [],
                [
                    (x_of(x), y_of(y), note)
                    for (x, y), note in zip(one.points, one.notes or [""] * len(one.points), strict=True)
                    if math.isfinite(x + y)
                ],
                _outline([(x_of(x), y_of(lowest), y_of(highest)) for x, lowest, highest in _finite(one.band)])
                if one.joined and one.shaded
                else [],
                []
                if one.joined and not one.marker
                else [(x_of(x), y_of(lowest), y_of(highest)) for x, lowest, highest in _finite(one.band)],
            )
            for one in series
        ],
        width=width,
        height=height,
        left=left,
        top=top,
        legend=legend,
    )


def curves(title: str, xs: Sequence[int], series: Mapping[str, Sequence[float]], percent: bool) -> Chart:
    """A line chart over epochs with one line per name.

    Args:
        xs: [E] epochs, ascending.
        series: name → [E] values. Values that are not finite are omitted.
        percent: whether the values are shares of 1.
    """
    form = ".1%" if percent else ".3g"
    last = ", ".join(f"{name.lower()} {number(line[-1], form)}" for name, line in series.items() if line)
    return draw(
        title,
        [
            # The second is dashed, for readers who cannot tell the colours apart.
            Series(name, list(zip(xs, line, strict=True)), colour=COLOURS[place], dash=DASHES[place])
            for place, (name, line) in enumerate(series.items())
        ],
        Axis(
            "epoch",
            low=xs[0] if xs else 0,
            high=xs[-1] if xs else 1,
            whole=True,
            marks=[(xs[0], str(xs[0]))] if len(xs) == 1 else None,
        ),
        Axis(unit="%") if percent else Axis(low=0),
        description=f"{title} per epoch; at the end: {last}",
    )


def ticks(low: float, high: float, most: int = 5, whole: bool = False) -> list[float]:
    """Round numbers from `low` to `high` at equal distances, which are 1, 2, 2.5 or 5 times a power of ten.

    Args:
        low, high: finite, low < high.
        most: number of ticks at most, at least 2.
        whole: integers only.
    """
    exponent = math.floor(math.log10((high - low) / most)) - 1
    while True:
        for factor in (1, 2, 2.5, 5):
            step = factor * 10.0**exponent
            if whole and (step < 1 or step % 1):
                continue
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            if last - first < most:
                # Rounded, because a product such as 3 * 0.1 is none of the numbers that people write.
                return [
                    round(at * step, 12 - exponent if exponent < 0 else 0) for at in range(first, last + 1)
                ]
        exponent += 1


def labels(at: Sequence[float], unit: Unit) -> tuple[list[tuple[float, str]], str]:
    """Texts of ticks, each with as many decimals as tell them apart, and the unit that they leave to the axis's label.

    Zero is `0`.
    """
    factor, sign, name = 1.0, "{}", ""
    top = max((abs(value) for value in at), default=0.0)
    if unit == "%":
        factor, sign = 100.0, "{}%"
    elif unit == "$":
        sign = "${}"
    elif unit == "s":
        factor, name = next(
            (1 / size, name)
            for size, name in ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
            if top >= 3 * size or size == 1
        )
    values = [value * factor for value in at]
    step = min((after - before for before, after in itertools.pairwise(values)), default=1.0)
    decimals = next((d for d in range(12) if abs(step - round(step, d)) < 1e-6 * step), 0)
    texts = ["0" if value == 0 else sign.format(number(value, f",.{decimals}f")) for value in values]
    return list(zip(at, texts, strict=True)), name


def extent(text: str) -> float:
    """The width of a label at most, in SVG units: in DejaVu Sans, which is wider than most, at 13 units."""
    return sum(12.5 if letter in "%mwMW@" else 8.5 for letter in text)


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
    most = max(1, *counts.values())
    marks, _ = labels(ticks(0, most, 4, whole=True), "")
    left = 8 + max(extent(text) for _, text in marks)
    bottom = HEIGHT - BOTTOM
    each = (WIDTH - RIGHT - left) / len(counts)

    def up(count: float) -> float:
        return bottom - count / most * (bottom - TOP)

    names = list(counts)
    room = max(2, int((WIDTH - RIGHT - left) / (max(map(extent, names)) + 8)))
    named = [int(at) for at in ticks(0, len(names) - 1, min(room, 6), whole=True)] if len(names) > 1 else [0]
    return Chart(
        title,
        "A bar chart; the numbers follow",
        across,
        "",
        [Label(up(count), text) for count, text in marks],
        [_placed(left + (at + 0.5) * each, names[at], WIDTH) for at in named],
        bars=[
            Bar(left + at * each + 1, up(count), max(1, each - 2), bottom - up(count))
            for at, count in enumerate(counts.values())
        ],
        left=left,
    )


def _finite(values: Sequence[Values]) -> list[Values]:
    return [one for one in values if all(map(math.isfinite, one))]


def _ends(axis: Axis, values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis, which differ."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    # Lines do not run on the frame; where all values are equal, there are ticks all the same.
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    floor, ceiling = (0.0 if axis.unit else -math.inf), (1.0 if axis.unit == "%" else math.inf)
    # There is no share, time or cost below 0, nor a share above 1.
    low = max(low - room, min(low, floor)) if axis.low is None else axis.low
    high = min(high + room, max(high, ceiling)) if axis.high is None else axis.high
    return (low, high) if high > low else (low, low + 1.0)


def _marks(axis: Axis, low: float, high: float, most: int) -> tuple[Sequence[tuple[float, str]], str]:
    if axis.marks is not None:
        return axis.marks, ""
    return labels(ticks(low, high, most, axis.whole), axis.unit)


def _outline(band: Sequence[tuple[float, float, float]]) -> list[tuple[float, float]]:
    return [(x, lowest) for x, lowest, _ in band] + [(x, highest) for x, _, highest in reversed(band)]


def _placed(x: float, text: str, width: int) -> Label:
    """A label below a tick, moved where it would be cut."""
    half = extent(text) / 2
    if x + half > width:
        return Label(width, text, "end")
    return Label(0, text, "start") if x < half else Label(x, text)

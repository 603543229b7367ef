"""Charts: their ticks, labels, coordinates and colours."""

import itertools
import math
from itertools import pairwise

import pytest

from subset_trainer.insight import charts
from subset_trainer.insight.charts import Axis, Series


def contrast_with_white(colour: str) -> float:
    """As WCAG defines it."""
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)


@pytest.mark.parametrize("low", [0.0, 0.78, -3.0])
@pytest.mark.parametrize("span", [1e-4, 0.02, 0.7, 3.0, 40.0, 12345.0])
@pytest.mark.parametrize("most", [3, 5, 8])
def test_ticks_are_round_evenly_spaced_and_inside(low: float, span: float, most: int) -> None:
    found = charts.ticks(low, low + span, most)
    assert 2 <= len(found) <= most or (most == 3 and len(found) == 1)
    assert low - 1e-9 <= found[0] and found[-1] <= low + span + 1e-9
    for before, after in pairwise(found):
        step = after - before
        assert step == pytest.approx(found[1] - found[0])
        assert round(step / 10 ** math.floor(math.log10(step) + 1e-9), 3) in (1, 2, 2.5, 5)


def test_ticks_of_whole_numbers_are_whole() -> None:
    assert charts.ticks(1, 3, 5, whole=True) == [1, 2, 3]
    assert charts.ticks(0, 1, 5, whole=True) == [0, 1]
    assert charts.ticks(1, 200, 5, whole=True) == [50, 100, 150, 200]


@pytest.mark.parametrize("unit", ["", "%", "$", "s"])
@pytest.mark.parametrize("span", [3e-4, 0.012, 0.05, 0.7, 90, 5000, 1e6])
def test_no_two_ticks_have_the_same_label(unit: charts.Unit, span: float) -> None:
    """79%, 79%, 78%, 78% once stood beside an axis."""
    found, _ = charts.labels(charts.ticks(0.78, 0.78 + span), unit)
    texts = [text for _, text in found]
    assert len(set(texts)) == len(texts)


def test_labels_have_no_more_decimals_than_tell_them_apart_and_zero_is_0() -> None:
    assert charts.labels([0.0, 0.2, 0.4], "%") == ([(0.0, "0"), (0.2, "20%"), (0.4, "40%")], "")
    assert [text for _, text in charts.labels([0.985, 0.99, 0.995], "%")[0]] == ["98.5%", "99.0%", "99.5%"]
    assert [text for _, text in charts.labels([0.0, 2500.0], "")[0]] == ["0", "2,500"]
    assert [text for _, text in charts.labels([0.0, 0.5], "$")[0]] == ["0", "$0.5"]


@pytest.mark.parametrize(
    ("seconds", "texts", "unit"),
    [
        ([0, 50, 100], ["0", "50", "100"], "seconds"),
        ([0, 300, 600], ["0", "5", "10"], "minutes"),
        ([0, 9000, 18000], ["0.0", "2.5", "5.0"], "hours"),
    ],
)
def test_times_are_in_one_unit(seconds: list[float], texts: list[str], unit: str) -> None:
    found, name = charts.labels(seconds, "s")
    assert [text.replace("0.0", "0") for _, text in found] == [text.replace("0.0", "0") for text in texts]
    assert name == unit


def inside(chart: charts.Chart) -> bool:
    """Whether no label and no point is outside the picture."""
    texts = [(charts.extent(tick.text), tick) for tick in chart.level]
    starts = [tick.at - width * {"start": 0, "middle": 0.5, "end": 1}[tick.anchor] for width, tick in texts]
    places = [
        place
        for line in chart.lines
        for place in (*line.points, *line.area, *((x, y) for x, y, _ in line.dots))
    ]
    return (
        all(-1e-6 <= at <= chart.width - width + 1e-6 for at, (width, _) in zip(starts, texts, strict=True))
        and all(charts.extent(tick.text) <= chart.left for tick in chart.upright)
        and all(chart.left - 1e-6 <= x <= chart.right + 1e-6 for x, _ in places)
        and all(chart.top - 1e-6 <= y <= chart.bottom + 1e-6 for _, y in places)
    )


@pytest.mark.parametrize(
    "points",
    [
        [(0.5, 0.9)],
        [(1.0, 0.0), (2.0, 0.0)],
        [(1.0, 1.0), (2.0, 1.0)],
        [(0.001, 0.5), (40_000.0, 0.5001)],
        [],
        [(1.0, math.nan)],
    ],
)
@pytest.mark.parametrize("unit", ["", "%"])
def test_everything_is_inside_the_picture_whatever_the_values(
    points: list[tuple[float, float]], unit: charts.Unit
) -> None:
    one = Series("a", points, [(x, y, y) for x, y in points])
    chart = charts.draw("t", [one], Axis("time", "s", low=0), Axis("accuracy", unit))
    assert inside(chart)
    assert len(chart.upright) >= 2
    assert len(chart.lines[0].points) == sum(math.isfinite(y) for _, y in points)


def test_an_axis_of_shares_ends_where_shares_end() -> None:
    chart = charts.draw("t", [Series("a", [(0, 0.001), (1, 0.9999)])], Axis(), Axis(unit="%"))
    assert chart.upright[0].text == "0" and chart.upright[-1].text == "100%"
    assert chart.upright[0].at == chart.bottom and chart.upright[-1].at == chart.top


def test_values_that_are_not_finite_are_gaps_of_lines_and_bands() -> None:
    one = Series(
        "a", [(1, 0.1), (2, math.nan), (3, 0.3)], [(1, 0.0, 0.2), (2, math.nan, math.nan), (3, 0.2, 0.4)]
    )
    (line,) = charts.draw("t", [one], Axis(), Axis()).lines
    assert len(line.points) == len(line.dots) == 2
    assert len(line.area) == 4


def test_colours_are_distinct_and_visible_on_white() -> None:
    assert len(set(charts.COLOURS)) == len(charts.COLOURS) >= 21
    for colour in charts.COLOURS:
        # From 2.95 on, 3 is what WCAG asks of graphics, rounded.
        assert contrast_with_white(colour) >= 2.95, colour


SEEN = {
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.01182, 0.04294, 0.968881),
    ),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "all colours": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
}
"""What becomes of linear red, green and blue, by Machado et al. (2009), severity 1."""


def oklab(colour: str, matrix: tuple[tuple[float, ...], ...]) -> list[float]:
    """A colour as seen, in a space where distances are about what an eye notices."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    seen = [min(1.0, max(0.0, sum(a * b for a, b in zip(row, linear, strict=True)))) for row in matrix]
    cones = (
        (0.4122214708, 0.5363325363, 0.0514459929),
        (0.2119034982, 0.6806995451, 0.1073969566),
        (0.0883024619, 0.2817188376, 0.6299787005),
    )
    roots = [math.cbrt(sum(a * b for a, b in zip(row, seen, strict=True))) for row in cones]
    to = (
        (0.2104542553, 0.793617785, -0.0040720468),
        (1.9779984951, -2.428592205, 0.4505937099),
        (0.0259040371, 0.7827717662, -0.808675766),
    )
    return [sum(a * b for a, b in zip(row, roots, strict=True)) for row in to]


@pytest.mark.parametrize("eye", SEEN)
def test_colours_are_told_apart_by_the_colour_blind(eye: str) -> None:
    """By at least 0.06 in OKLab, black included; a difference that is just noticed is 0.02."""
    colours = [oklab(colour, SEEN[eye]) for colour in ("#000000", *charts.COLOURS)]
    nearest = min(math.dist(a, b) for place, a in enumerate(colours) for b in colours[:place])
    assert nearest >= 0.06


@pytest.mark.parametrize("count", [1, 2, 9, 40])
@pytest.mark.parametrize("name", ["{}", "{}00–{}99"])
def test_bars_are_named_at_equal_distances_and_no_name_meets_another(count: int, name: str) -> None:
    chart = charts.bars("t", "epochs", {name.format(at, at): at + 1 for at in range(count)})
    before = {"start": 0.0, "middle": 0.5, "end": 1.0}
    ends = []
    for tick in chart.level:
        left = tick.at - before[tick.anchor] * charts.extent(tick.text)
        ends.append((left, left + charts.extent(tick.text)))
    assert len(ends) >= min(count, 2) and chart.level[0].text == name.format(0, 0)
    assert all(right < left for (_, right), (left, _) in itertools.pairwise(ends))
    if name == "{}" and count > 1:
        numbers = [int(tick.text) for tick in chart.level]
        assert len({after - before for before, after in itertools.pairwise(numbers)}) == 1

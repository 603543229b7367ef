"""The part of report.html on a search for the fraction. Its HTML is in templates/searched.html."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from subset_trainer.insight import charts
from subset_trainer.insight.charts import COLOURS, DASHES, Axis, Series
from subset_trainer.readable import number
from subset_trainer.tracking import metrics

MARGIN = 0.15
"""Of a doubling, at both ends of the axis."""


@dataclass(frozen=True)
class Searched:
    """What templates/searched.html takes."""

    sentence: str
    settled: bool
    chart: charts.Chart | None
    """None: the search was stopped before there was a curve."""
    runs: Sequence[tuple[str, str]]
    """Fraction and score of each training."""
    metric: str


def shown(answer: Mapping[str, Any]) -> Searched:
    """A search's answer, as in summary.json, as the page shows it."""
    sentence, metric = answer["sentence"], metrics.SPOKEN[answer["metric"]]
    runs = [(run["fraction"], run[answer["metric"]]) for run in answer["runs"]]
    return Searched(
        f"{sentence[0].upper()}{sentence[1:]}.",
        answer.get("enough", False),
        _chart(answer, runs, metric) if answer["curve"] else None,
        [(percent(fraction), number(score, ".1%")) for fraction, score in runs],
        metric,
    )


def percent(fraction: float) -> str:
    return f"{number(100 * fraction, '.3g')}%"


def on(run: tuple[float, float]) -> tuple[float, float]:
    """A fraction and a score as a point of the chart, in which each doubling is as wide as any other."""
    return math.log2(run[0]), run[1]


def _chart(answer: Mapping[str, Any], runs: Sequence[tuple[float, float]], metric: str) -> charts.Chart:
    curve = [(on((at["fraction"], at["mean"])), at) for at in answer["curve"]]
    largest = max(on(run)[0] for run in runs)
    middle = [point for point, _ in curve]
    forecast = [point for point in middle if point[0] > largest]
    if forecast:
        # Where the measured part ends, the forecast begins.
        forecast = [middle[-len(forecast) - 1], *forecast]
    verdict = "settled on" if answer["enough"] else "the model that is kept"
    kept = next(run for run in runs if run[0] == answer["kept"])
    series = [
        Series(
            "learning curve, with its 90% interval",
            middle[: len(middle) - len(forecast) + 1],
            [(x, max(0.0, at["low"]), at["high"]) for (x, _), at in curve],
        ),
        Series("forecast", forecast, dash=DASHES[1]),
        Series(
            "trainings",
            [on(run) for run in runs if run is not kept],
            colour=COLOURS[1],
            marker="circle",
            joined=False,
        ),
        Series(
            f"{verdict}: {percent(answer['kept'])}",
            [on(kept)],
            colour=COLOURS[2],
            marker="star",
            joined=False,
        ),
    ]
    marked = sorted({1.0, 2.0, *(fraction for fraction, _ in runs)})
    return charts.draw(
        f"Validation {metric} by fraction",
        series,
        Axis(
            "fraction of the examples",
            low=middle[0][0] - MARGIN,
            high=middle[-1][0] + MARGIN,
            marks=[(math.log2(fraction), percent(fraction)) for fraction in marked],
        ),
        Axis(unit="%"),
        description="The learning curve through the trainings' scores, whose numbers follow, and its forecast",
    )

"""The part of report.html on a search for the fraction. Its HTML is in templates/searched.html."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from subset_trainer.insight import charts
from subset_trainer.insight.charts import COLOURS, Series
from subset_trainer.readable import number
from subset_trainer.tracking import metrics


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
        _chart(answer, runs, metric) if "curve" in answer else None,
        [(percent(fraction), number(score, ".1%")) for fraction, score in runs],
        metric,
    )


def percent(fraction: float) -> str:
    return f"{number(100 * fraction, '.3g')}%"


def _chart(answer: Mapping[str, Any], runs: Sequence[tuple[float, float]], metric: str) -> charts.Chart:
    curve = [(math.log2(at["fraction"]), at) for at in answer["curve"]]
    middle = [(x, at["mean"]) for x, at in curve]
    band = [(x, at["high"]) for x, at in curve] + [(x, max(0.0, at["low"])) for x, at in reversed(curve)]
    largest, kept = math.log2(max(fraction for fraction, _ in runs)), math.log2(answer["kept"])
    heights = [y for _, y in (*band, *((0, score) for _, score in runs))]
    measured = [point for point in middle if point[0] <= largest + 1e-9]
    forecast = [point for point in middle if point[0] >= largest - 1e-9]
    series = [
        Series("learning curve", COLOURS[0], measured),
        *([Series("forecast", COLOURS[0], forecast, dashed=True)] if len(forecast) > 1 else []),
        Series("90% interval", COLOURS[0], band=band),
        Series("trainings", COLOURS[1], dots=[(math.log2(fraction), score) for fraction, score in runs]),
        Series(
            f"{'settled on' if answer['enough'] else 'model kept'}: {percent(answer['kept'])}",
            COLOURS[2],
            [(kept, min(heights)), (kept, max(heights))],
        ),
    ]
    end = answer["curve"][-1]
    return charts.lines(
        f"Validation {metric} by fraction",
        f"A learning curve; with all examples {number(end['mean'], '.1%')} is expected, "
        f"{number(end['low'], '.1%')} to {number(end['high'], '.1%')}; the trainings' numbers follow",
        "fraction of the examples",
        series,
        [(math.log2(fraction), percent(fraction)) for fraction in sorted({1.0, *(one for one, _ in runs)})],
        percent=True,
    )

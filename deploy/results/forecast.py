"""Says what further examples would bring, by the learning curve of runs on random subsets."""

from collections import defaultdict
from dataclasses import dataclass

from deploy.results.answers import Answer, Row
from subset_trainer.insight.learning_curve import Curve, Interval, Point, forecast_gain
from subset_trainer.tracking.metrics import SPOKEN

LEAST_SIZES = 3
"""Numbers of examples that a curve needs, all of them included."""
TIMES = 2
"""How many times the examples there are is forecast."""


@dataclass(frozen=True)
class Forecast:
    """What `TIMES` as many examples would bring."""

    row: str
    """Name of the strategy whose subsets make the curve."""
    sizes: int
    """Numbers of examples of the curve."""
    examples: int
    """Number of examples that there are."""
    metric: str
    """Measure that the curve is of."""
    gain: Interval
    """A share: 0.01 is a point. 90% of public learning curves were within such an interval."""

    def __str__(self) -> str:
        low, mean, high = (100 * value for value in (self.gain.low, self.gain.mean, self.gain.high))
        return (
            f"Collect more: twice as many examples ({TIMES * self.examples:,}) would bring about {mean:.1f} points of "
            f"{SPOKEN[self.metric]}, between {low:.1f} and {high:.1f} (90%), by the learning curve of `{self.row}` at "
            f"{self.sizes} sizes."
        )


def forecast(found: Answer) -> Forecast | None:
    """Return the forecast of an answer; None without runs on fixed subsets of enough sizes, or with a single seed."""
    chains: dict[str, list[Row]] = defaultdict(list)
    for row, _ in found.of("label"):
        chains[row.chain].append(row)
    rows = max(chains.values(), key=len, default=[])
    examples = next(iter(found.full.values())).summary.get("examples", {}).get("training")
    points = {round(row.share * (examples or 0)): tuple(found.values(row.runs).values()) for row in rows} | {
        examples or 0: tuple(found.values(found.full).values())
    }
    if not examples or len(points) < LEAST_SIZES or all(len(scores) < 2 for scores in points.values()):
        return None
    curve = Curve([Point(size, points[size]) for size in sorted(points)])
    return Forecast(
        rows[0].name, len(points), examples, found.metric, forecast_gain(curve, examples, TIMES * examples)
    )

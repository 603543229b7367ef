"""Whether a share of the training examples is enough, decided while the shares grow: the plan of ``fraction=auto``.

A step trains on further shares, or repeats cheap ones. After each step the curve so far says how probable it is that
the largest share loses more than the tolerance. The search ends when that is improbable enough, or when the cost is
spent. Where half of the examples are enough, it then judges a quarter by the same curve, which now reaches to half, and
answers with the quarter if that is enough, too. It never decides about a share that it has not trained on, and it may
end without an answer.

Nothing here imports torch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subset_trainer.insight import learning_curve
from subset_trainer.insight.learning_curve import Curve, Interval, Point
from subset_trainer.readable import number

Trial = tuple[float, int]
"""A share of the training examples, and which of its runs it is, from 0."""
STEPS: tuple[tuple[Trial, ...], ...] = (
    ((1 / 32, 0), (1 / 32, 1), (1 / 32, 2), (1 / 16, 0), (1 / 16, 1), (1 / 8, 0), (1 / 4, 0)),
    ((1 / 2, 0),),
    ((1 / 4, 1), (1 / 8, 1)),
)
"""The runs of each step. They cost 0.59, 0.5 and 0.375 trainings on all examples."""
ACCEPTED, REFUSED = (0.06, 0.12, 0.16), 0.9
"""The largest risk of each step at which the share counts as enough, and the least at which, after the last step, it
is probably not enough. So chosen on public learning curves that at a tolerance of a point at most 5% of the first and
7% of the second answers are wrong."""
SMALLER = ACCEPTED[0]
"""The largest risk at which a quarter of the examples counts as enough, too, once half of them do. It is that of the
first step, which judges the same share. No share below a quarter is judged."""
CANDIDATES: tuple[Trial, ...] = tuple((max(share for share, _ in step), 0) for step in STEPS[:2])
"""The trainings whose models an answer may keep."""
QUESTIONS = {"label": "these labels", "train": "the samples seen"}
BAND = 25
"""Points of the curve that is drawn."""
LEAST_EXAMPLES = 512
"""Below this the smallest share has fewer than 16 examples, and no public curve has so few."""


@dataclass(frozen=True)
class Answer:
    """What is known after a step."""

    share: float
    """The smallest share that is enough, or else the largest that was trained on."""
    enough: bool
    """Whether it is settled that this share is within the tolerance of all examples."""
    lacking: bool
    """Whether it probably is not. If neither, it is not known."""
    risk: float
    """The estimated probability that it is not."""
    score: float
    """The mean score of the runs on this share."""
    judged: int
    """Number of examples that the scores are of."""
    all: Interval
    """The forecast for all examples."""
    twice: Interval
    """The forecast of what twice as many examples as all would add."""

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "all": vars(self.all), "twice": vars(self.twice)}


def answer(
    scores: Mapping[Trial, float], examples: int, tolerance: float, step: int, judged: int, last: bool = False
) -> Answer:
    """Judge the largest share so far, and if it is enough, the one before it, too.

    Args:
        scores: of each run so far, 0 to 1.
        examples: number of all training examples.
        tolerance: what a share may lose and still be enough, as a fraction of 1.
        step: the step that has ended, from 0.
        judged: number of examples that the scores are of.
        last: whether there is no further step.
    """
    found = points(scores, examples)
    curve = Curve(found)
    risk, point = learning_curve.risk(curve, examples, tolerance, step, judged), -1
    settled = risk <= ACCEPTED[step]
    if settled and step:  # a first step has no smaller share that one could settle on
        before = learning_curve.risk_before(curve, examples, tolerance, step, judged)
        risk, point = (before, -2) if before <= SMALLER else (risk, point)
    return Answer(
        share=sorted({share for share, _ in scores})[point],
        enough=settled,
        lacking=last and risk >= REFUSED,
        risk=risk,
        score=float(curve.means[point]),
        judged=judged,
        all=learning_curve.forecast(curve, examples),
        twice=learning_curve.forecast_gain(curve, examples, 2 * examples),
    )


def points(scores: Mapping[Trial, float], examples: int) -> list[Point]:
    """The points of the curve, ascending."""
    shares = sorted({share for share, _ in scores})
    return [
        Point(
            count(share, examples), tuple(score for (own, _), score in sorted(scores.items()) if own == share)
        )
        for share in shares
    ]


def count(share: float, examples: int) -> int:
    return round(share * examples)


def cost(trials: Iterable[Trial]) -> float:
    """In trainings on all examples."""
    return sum(share for share, _ in trials)


def affordable(max_cost: float) -> Sequence[tuple[Trial, ...]]:
    """The steps that the cost allows, from the first."""
    return [step for done, step in enumerate(STEPS, 1) if cost(sum(STEPS[:done], ())) <= max_cost + 1e-9]


def announcement(max_cost: float, tolerance: float, metric: str, question: str) -> str:
    """What a search is about to do, in words. `metric`: its spoken name."""
    near = "a point" if tolerance == 1 else f"{tolerance:g} points"
    judges = "the validation set" + (
        " and the training examples that no fraction sees" if question == "label" else ""
    )
    trials = [trial for step in affordable(max_cost) for trial in step]
    shares = [share for share, _ in trials]
    return (
        f"fraction=auto: at most {len(trials)} trainings on {100 * min(shares):.3g} to {100 * max(shares):.3g}% of the "
        f"examples, which cost {cost(trials):.2f} trainings on all of them, until a fraction is within {near} of "
        f"all by the {metric} on {judges}"
    )


def band(scores: Mapping[Trial, float], examples: int) -> list[dict[str, float]]:
    """The learning curve with its band, from the smallest share to twice all examples, for a chart.

    Returns:
        `fraction` of the training examples, and `mean`, `low` and `high` of the score; empty where too little is known.
    """
    found = points(scores, examples)
    try:
        curve = Curve(found)
    except ValueError:
        return []
    shares = np.geomspace(min(share for share, _ in scores), 2, BAND)
    forecasts = [learning_curve.forecast(curve, share * examples) for share in shares]
    return [{"fraction": float(share), **vars(each)} for share, each in zip(shares, forecasts, strict=True)]


def sentence(answer: Answer, question: str, tolerance: float) -> str:
    """The answer in words."""
    share = f"{100 * answer.share:.3g}% of {QUESTIONS[question]}"
    near = "a point" if tolerance == 1 else f"{tolerance:g} points"
    full = f"all are expected to give {answer.all.mean:.1%} ({answer.all.low:.1%} to {answer.all.high:.1%})"
    if answer.lacking:
        not_near = f"{share} is probably not within {near} of all of them ({answer.risk:.0%})"
        return f"{not_near}: {answer.score:.1%}, and {full}"
    if not answer.enough:
        return (
            f"whether {share} is within {near} of all of them is not known: {answer.score:.1%}, and {full}; with a "
            f"probability of {answer.risk:.0%} it is not"
        )
    more = f"{_points(answer.twice.low)} to {_points(answer.twice.high)} points"
    return (
        f"{share} is within {near} of all of them (95%): {answer.score:.1%}, and {full}; twice as many examples as all "
        f"would bring {more}"
    )


def _points(fraction: float) -> str:
    return number(100 * fraction, ".1f")

"""The forecast of a learning curve, and the decision that a share of the examples is enough."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from subset_trainer.insight import enough, learning_curve
from subset_trainer.insight.enough import STEPS, Answer, Trial
from subset_trainer.insight.learning_curve import Curve, Point

EXAMPLES = 32_000


def power_law(share: float) -> float:
    return 0.92 - 0.3 * (32 * share) ** -0.7


def flat(share: float) -> float:
    return 0.9


def steep(share: float) -> float:
    """As many points for each doubling, to the end."""
    return 0.5 + 0.06 * math.log2(32 * share)


def drawn(law: Callable[[float], float], deviation: float = 0.004, seed: int = 0) -> dict[Trial, float]:
    generator = np.random.default_rng(seed)
    return {
        (share, number): law(share) + deviation * float(generator.standard_normal())
        for step in STEPS
        for share, number in step
    }


def judged(scores: dict[Trial, float], tolerance: float = 0.01, examples: int = 3200) -> Answer:
    """The answer of the first step that settles the question, or of the last. `examples`: that the scores are of."""
    for number in range(len(STEPS)):
        so_far = {trial: scores[trial] for step in STEPS[: number + 1] for trial in step}
        last = number == len(STEPS) - 1
        answer = enough.answer(so_far, EXAMPLES, tolerance, number, examples, last)
        if answer.enough:
            break
    return answer


def test_the_curve_goes_through_exact_points_and_finds_the_law_beyond() -> None:
    points = [
        Point(round(share * EXAMPLES), (power_law(share),) * 5) for share in (1 / 32, 1 / 16, 1 / 8, 1 / 4)
    ]
    mean, covariance = Curve(points).at([*(point.examples for point in points), EXAMPLES])
    assert np.allclose(mean[:4], [power_law(point.examples / EXAMPLES) for point in points], atol=0.004)
    assert mean[4] == pytest.approx(power_law(1), abs=0.01)
    assert covariance[4, 4] > covariance[3, 3]


def test_an_interval_holds_the_truth_and_is_wider_for_noise() -> None:
    exact, noisy = (judged(drawn(power_law, deviation)).all for deviation in (0.001, 0.03))
    assert exact.low <= power_law(1) <= exact.high
    assert noisy.high - noisy.low > exact.high - exact.low


def test_more_examples_never_forecast_less() -> None:
    curve = Curve([Point(1000 * 2**n, (0.9 - 0.01 * n,) * 3) for n in range(4)])
    mean, _ = curve.at([8000, 16_000, 64_000])
    assert list(mean) == sorted(mean)


def test_a_flat_curve_is_settled_and_a_steep_one_never() -> None:
    settled, never = judged(drawn(flat, 0.001)), judged(drawn(steep))
    assert settled.enough and settled.share <= 1 / 2
    assert not never.enough and never.lacking and never.share == 1 / 2
    assert not settled.lacking


def test_few_examples_to_judge_by_leave_it_open() -> None:
    scores = drawn(power_law, 0.001)
    risks = [judged(scores, 0.02, examples).risk for examples in (20_000, 2000, 200)]
    assert risks == sorted(risks)
    few = judged(scores, 0.02, 100)
    assert not few.enough and not few.lacking and few.judged == 100


def test_a_larger_tolerance_is_met_sooner() -> None:
    scores = drawn(power_law)
    risks = [judged(scores, tolerance).risk for tolerance in (0.002, 0.01, 0.05)]
    assert risks == sorted(risks, reverse=True)


def test_wrong_answers_are_rare_on_curves_that_were_not_fitted() -> None:
    """Power laws of all kinds: what counts is how many of those declared enough lose more than the tolerance."""
    generator = np.random.default_rng(0)
    declared, wrong = 0, 0
    for seed in range(300):
        exponent, drop, ceiling = (
            generator.uniform(0.1, 1.2),
            generator.uniform(0.02, 0.4),
            generator.uniform(0.6, 0.99),
        )

        def law(share: float, parameters: tuple[float, ...] = (exponent, drop, ceiling)) -> float:
            exponent, drop, ceiling = parameters
            return ceiling - drop * (32 * share) ** -exponent

        answer = judged(drawn(law, generator.uniform(0.001, 0.01), seed))
        declared += answer.enough
        wrong += answer.enough and law(1) - law(answer.share) > 0.01
    assert declared > 40
    assert wrong / declared <= 0.05


RISES_EARLY: dict[Trial, float] = {
    **{(1 / 32, number): score for number, score in enumerate((0.715, 0.711, 0.692))},
    **{(1 / 16, number): score for number, score in enumerate((0.759, 0.725))},
    **{(share, number): 0.759 for share in (1 / 8, 1 / 4) for number in range(2)},
    (1 / 2, 0): 0.7593,
}
"""A quarter is not settled by itself: only half shows that the curve has become flat."""


def test_a_quarter_is_answered_where_half_shows_that_it_is_enough() -> None:
    first = enough.answer({trial: RISES_EARLY[trial] for trial in STEPS[0]}, EXAMPLES, 0.02, 0, 3200)
    assert not first.enough
    quarter, half = judged(RISES_EARLY, 0.02), judged(RISES_EARLY, 0.012)
    assert quarter.enough and quarter.share == 1 / 4 and quarter.risk <= enough.SMALLER
    assert quarter.score == pytest.approx(0.759)
    assert enough.sentence(quarter, "label", 2).startswith(
        "25% of these labels is within 2 points of all of them"
    )
    assert half.enough and half.share == 1 / 2 and half.score == pytest.approx(0.7593)
    # However flat: what is smaller than a quarter is not judged.
    assert judged(dict.fromkeys(RISES_EARLY, 0.9), 0.05).share == 1 / 4


def test_a_quarter_is_not_answered_where_it_loses() -> None:
    """Half is enough, and a quarter is not: to step down costs little of the error rate."""
    generator = np.random.default_rng(0)
    declared, wrong, halves = 0, 0, 0
    for seed in range(300):
        loses = generator.uniform(0.014, 0.03)

        def law(share: float, loses: float = loses) -> float:
            return 0.85 - loses * (4 * share) ** -1

        answer = judged(drawn(law, 0.004, seed), 0.01, 100_000)
        assert law(1) - law(1 / 4) > 0.01 > law(1) - law(1 / 2)
        declared += answer.enough
        halves += answer.enough and answer.share == 1 / 2
        wrong += answer.enough and answer.share == 1 / 4
    assert halves > 200
    assert wrong / declared <= 0.05


def test_the_cost_is_that_of_the_steps_it_allows() -> None:
    assert [enough.cost(step) for step in STEPS] == [0.59375, 0.5, 0.375]
    assert [len(enough.affordable(cost)) for cost in (0.6, 1.0, 1.1, 1.5, 10)] == [1, 1, 2, 3, 3]


def test_the_sentence_names_the_question_and_the_tolerance() -> None:
    answer = judged(drawn(flat, 0.001))
    said = enough.sentence(answer, "label", 1)
    assert said.startswith("25% of these labels is within a point of all of them (95%): 90")
    assert "twice as many examples as all would bring 0 to " in said
    lacking = enough.sentence(judged(drawn(steep)), "label", 1)
    assert lacking.startswith("50% of these labels is probably not within a point of all of them (")
    unknown = enough.sentence(judged(drawn(steep), 0.025, 50), "train", 2.5)
    assert unknown.startswith(
        "whether 50% of the samples seen is within 2.5 points of all of them is not known"
    )


def test_too_few_points_are_refused() -> None:
    with pytest.raises(ValueError, match="three numbers of examples"):
        Curve([Point(10, (0.5, 0.6)), Point(20, (0.6,))])
    with pytest.raises(ValueError, match="one with repeats"):
        Curve([Point(n, (0.5,)) for n in (10, 20, 40)])
    with pytest.raises(ValueError, match="ascending"):
        Curve([Point(20, (0.5, 0.6)), Point(10, (0.5,)), Point(40, (0.5,))])


def test_the_features_are_of_finite_size_at_the_ends() -> None:
    for score in (0.0, 1.0):
        curve = Curve([Point(100 * 2**n, (score, score)) for n in range(4)])
        assert np.isfinite(learning_curve.features(curve, 3200, 0.01, 480)).all()

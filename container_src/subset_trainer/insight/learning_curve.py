"""Learning curves: what a model would score with more data, and whether a share of the data is enough.

**The curve** is an average of parametric ones, ``ceiling - drop · φ(n)``, over three families of φ, each at several
shapes: power laws with three and with four parameters, and the Morgan-Mercer-Flodin curve (Viering and Loog, "The Shape
of Learning Curves: a Review", IEEE TPAMI 2023, table 1; Mohr et al., "LCDB 1.0", ECML PKDD 2022, section 5, on which of
them extrapolate best). For a given shape the other two parameters have a closed form, so that nothing is searched; each
shape counts by its posterior probability, each family equally before.

**The intervals** are conformal: the residuals on public learning curves, in units of the curve's own deviation, say how
many deviations an interval needs (Lei et al., "Distribution-Free Predictive Inference for Regression", JASA 2018,
section 5.2). **The risk** that a share is not enough is a logistic function of nine features of the curve, fitted on
the same public curves. Both are tables of constants in :mod:`subset_trainer.insight.learning_curve_constants`, made and
judged by ``python -m benchmarks.learning_curves``.

Nothing here imports torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from subset_trainer.insight import learning_curve_constants as constants

Array = NDArray[np.float64]
POWER_3 = [(exponent, 0.0) for exponent in (0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)]
POWER_4 = [(exponent, shift) for exponent in (0.25, 0.5, 1.0, 1.5, 2.5) for shift in (0.3, 1.0, 3.0)]
MMF = [(exponent, scale) for exponent in (0.5, 1.0, 1.5, 2.5) for scale in (1.0, 4.0, 16.0)]
FAMILY = np.repeat([len(POWER_3), len(POWER_4), len(MMF)], [len(POWER_3), len(POWER_4), len(MMF)])
"""The number of shapes in the family of each shape."""
CEILING_DEVIATION, DROP_MEAN, DROP_DEVIATION = 1.0, 0.1, 0.5
"""The prior of the ceiling, around the last score, and of the drop at the smallest number of examples."""
ABOVE_ONE = 0.02
"""How far a ceiling above 1, which no measure reaches, is believed."""
RUN_DEVIATION, RUN_WEIGHT = 0.006, 2
"""The prior of the deviation between runs on equally many examples, and how many runs it counts for."""
FLOOR, MEAN_FLOOR = 0.003, 0.001
"""The least deviation of a forecast, and of a mean over runs."""


DIFFERING, LEAST_ERROR = 0.3, 0.002
"""The variance, for one example, of the difference of two runs' scores, as a share of the errors; and the least share
of errors."""


@dataclass(frozen=True)
class Point:
    """The scores of runs that trained on equally many examples."""

    examples: int
    scores: tuple[float, ...]
    """A fraction from 0 to 1 of each run."""


@dataclass(frozen=True)
class Interval:
    """A forecast with bounds that hold it in 90% of the public curves."""

    mean: float
    low: float
    high: float


class Curve:
    """The learning curve through some points.

    Args:
        points: ascending in examples; at least three, and more than one run for one of them.

    Raises:
        ValueError: there are fewer, or they do not ascend.
    """

    def __init__(self, points: Sequence[Point]) -> None:
        if len(points) < 3 or all(len(point.scores) < 2 for point in points):
            raise ValueError(f"a curve needs three numbers of examples, one with repeats; got {points}")
        self.examples = np.array([point.examples for point in points], dtype=np.float64)
        if (np.diff(self.examples) <= 0).any():
            raise ValueError(f"expected ascending numbers of examples; got {self.examples.tolist()}")
        self.means = np.array([np.mean(point.scores) for point in points])
        self.run_variance = _run_variance(points)
        counts = np.array([len(point.scores) for point in points])
        self._variances = self.run_variance / counts + MEAN_FLOOR**2

    def at(self, examples: Sequence[float]) -> tuple[Array, Array]:
        """The mean [T] and the covariance [T, T] of the curve's scores at T numbers of examples."""
        phi_KS, phi_KT = (_shapes(np.asarray(n) / self.examples[0]) for n in (self.examples, examples))
        design_KS2, there_KT2 = (np.stack([np.ones_like(phi), -phi], axis=-1) for phi in (phi_KS, phi_KT))
        precisions = 1 / self._variances
        prior = np.array([CEILING_DEVIATION**-2.0, DROP_DEVIATION**-2.0])
        expected = np.array([self.means[-1], DROP_MEAN])
        weighted_K2S = (design_KS2 * precisions[:, None]).swapaxes(1, 2)
        covariance_K22 = np.linalg.inv(weighted_K2S @ design_KS2 + np.diag(prior))
        fitted_K2 = (covariance_K22 @ (weighted_K2S @ self.means + prior * expected)[..., None])[..., 0]
        # No curve falls with more examples: the best of a shape that would is flat.
        falls_K1 = fitted_K2[:, 1:] < 0
        fitted_K2 = np.where(falls_K1, [np.average(self.means, weights=precisions), 0.0], fitted_K2)
        residuals_KS = self.means - (design_KS2 @ fitted_K2[..., None])[..., 0]
        fit_K = (precisions * residuals_KS**2).sum(1) + (prior * (fitted_K2 - expected) ** 2).sum(1)
        fit_K += (np.maximum(0.0, fitted_K2[:, 0] - 1) / ABOVE_ONE) ** 2
        evidence_K = -0.5 * fit_K + 0.5 * np.log(np.linalg.det(covariance_K22)) - np.log(FAMILY)
        weights_K = np.exp(evidence_K - evidence_K.max())
        weights_K /= weights_K.sum()
        means_KT = (there_KT2 @ fitted_K2[..., None])[..., 0]
        mean_T = weights_K @ means_KT
        within = np.einsum("k,ktu->tu", weights_K, there_KT2 @ covariance_K22 @ there_KT2.swapaxes(1, 2))
        around_KT = means_KT - mean_T
        return mean_T, within + np.einsum("k,kt,ku->tu", weights_K, around_KT, around_KT)

    def score(self, examples: float) -> tuple[float, float]:
        """The mean and the deviation of the score with this many examples."""
        mean, covariance = self.at([examples])
        return float(mean[0]), float(np.sqrt(covariance[0, 0] + FLOOR**2))

    def gain(self, smaller: float, larger: float) -> tuple[float, float]:
        """The mean and the deviation of what more examples would bring."""
        (less, more), covariance = self.at([smaller, larger])
        return float(more - less), _deviation(covariance)


def forecast(curve: Curve, examples: float) -> Interval:
    """The score with this many examples."""
    mean, deviation = curve.score(examples)
    reach = constants.SCORE_DEVIATIONS * deviation
    return Interval(mean, mean - reach, min(1.0, mean + reach))


def forecast_gain(curve: Curve, smaller: int, larger: int) -> Interval:
    """What the larger of two numbers of examples would bring, both beyond those of the curve or its last."""
    mean, deviation = curve.gain(smaller, larger)
    reach = constants.GAIN_DEVIATIONS * deviation
    return Interval(mean, max(0.0, mean - reach), max(0.0, mean + reach))


def features(curve: Curve, examples: int, tolerance: float, judged: int, point: int = -1) -> Array:
    """The features [9] of the question whether a point of the curve is within the tolerance of all examples.

    Args:
        examples: number of all examples.
        tolerance: a fraction of 1.
        judged: number of examples that the scores are of.
        point: the position of the point in the curve.
    """
    (own, full), covariance = curve.at([curve.examples[point], examples])
    rises = np.diff(curve.means)
    # All runs are scored on the same examples, so only those on which two runs differ make the choice of examples
    # matter. They are about as many for all models, in shares of the errors.
    chance = np.sqrt(DIFFERING * max(LEAST_ERROR, 1 - full) / judged)
    gain, deviation = float(full - own), np.hypot(_deviation(covariance), chance)
    return np.array(
        [
            (tolerance - gain) / deviation,
            np.log(deviation / tolerance),
            np.log((abs(rises[-1]) + tolerance / 5) / tolerance),
            np.log(np.sqrt(curve.run_variance) / tolerance),
            rises[-1] / deviation,
            rises[-2] / deviation,
            np.log((1 - min(full, 1.0) + tolerance) / tolerance),
            np.log(examples),
            np.log(chance / tolerance),
        ]
    )


def risk(curve: Curve, examples: int, tolerance: float, step: int, judged: int) -> float:
    """The probability that all examples would score better than the curve's last point by more than the tolerance.

    Args:
        step: how far the shares have grown, as the position in :data:`constants.RISK`.
        judged: number of examples that the scores are of.
    """
    return probability(constants.RISK[step], features(curve, examples, tolerance, judged))


def risk_before(curve: Curve, examples: int, tolerance: float, step: int, judged: int) -> float:
    """The same of the point before the last. `step`: from 1."""
    return probability(constants.RISK_BEFORE[step - 1], features(curve, examples, tolerance, judged, -2))


def probability(weights: Sequence[float], features: Array) -> float:
    """The logistic function of an offset and a weight for each feature."""
    offset, *others = weights
    return float(1 / (1 + np.exp(-(offset + np.array(others) @ features))))


def _deviation(covariance: Array) -> float:
    """Of the difference of two scores."""
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    return float(np.sqrt(max(0.0, variance) + FLOOR**2))


def _run_variance(points: Sequence[Point]) -> float:
    squares = sum(float(np.var(point.scores)) * len(point.scores) for point in points)
    free = sum(len(point.scores) - 1 for point in points)
    return (squares + RUN_WEIGHT * RUN_DEVIATION**2) / (free + RUN_WEIGHT)


def _shapes(n: Array) -> Array:
    """φ [K, n] of each shape, 1 where n is 1."""
    powers = [((n + shift) / (1 + shift)) ** -exponent for exponent, shift in (*POWER_3, *POWER_4)]
    others = [(1 + 1 / scale) / (1 + n**exponent / scale) for exponent, scale in MMF]
    return np.stack([*powers, *others])

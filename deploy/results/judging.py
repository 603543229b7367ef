"""Judges which shares of the data are enough, with one error rate for all of them together.

Every candidate is a strategy at a share. The null hypothesis says that it truly loses more than the tolerance: on
average over seeds, and over further examples like those of the test set. The chance that any true null hypothesis is
rejected, over all candidates, is at most `LEVEL`, also where further seeds are added because an answer was open.

- **Step down.** Each strategy is a chain of candidates from the largest share to the smallest. A candidate is judged
  only after the one above it was enough.
- **One level for all chains.** The first true null hypotheses of m chains are at most m hypotheses. So Dunnett's
  critical value for m comparisons with a shared reference holds for all chains. A chain in which everything is enough
  holds none of them, and leaves the level to the other chains.
- **Pooled deviation between seeds.** The deviation comes from the additive model value = candidate + seed, over all
  candidates whose share is within a factor of `NEAR`, and the full runs. Three seeds alone say little about it, and
  the deviation may grow where a share is small.
- **Paired test examples.** All runs are tested on the same examples, so their choice is an error that more seeds do not
  reduce. It is estimated from the differences example by example.

Sources: Maurer, Hothorn & Lehmacher, 1995 (fixed sequences); Dunnett, 1955; Satterthwaite, 1946 (degrees of freedom).
"""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache

import numpy as np

LEVEL = 0.05
"""What the chance of a wrong answer is at most, over all candidates, and over a first and all later judgements."""
FIRST_LEVEL, LATER_LEVEL = 0.045, 0.01
"""How it is divided. Who adds seeds until a share is enough judges it several times: at 5% each, at 3, 4 and 5 seeds,
8% of the answers are wrong. `benchmarks/verdict.py` simulates what these levels add up to."""
LEAST_SEEDS = 3
"""Seeds that a candidate needs to be judged."""
NEAR = 2.0
"""Largest ratio of two shares whose runs have a common deviation."""
CORRELATION = 0.25
"""Of two candidates' mean differences. Both contain the full runs' error, which alone makes it 0.5 where all errors are
alike. Less is on the safe side, for heavier tails and larger deviations of small shares."""


class State(StrEnum):
    """What is known of a candidate."""

    ENOUGH = "enough"
    """It loses no more than the tolerance."""
    LESS = "not enough"
    """It loses more than the tolerance."""
    OPEN = "not known"
    """The runs allow neither."""


@dataclass(frozen=True)
class Candidate:
    """The measured values of a strategy at a share."""

    chain: str
    share: float
    values: Mapping[int, float]
    """Seed → value, for the seeds that the full runs have, too."""
    test_variance: float = 0.0
    """Variance of the mean difference from the full runs that the choice of the test examples causes and that more
    seeds do not reduce."""
    least_between_seeds: float = 0.0
    """Smallest credible variance of the mean difference that more seeds reduce."""
    floor: float = 0.0
    """Smallest credible variance of the mean difference, however many seeds there are."""

    def of(self, seeds: Collection[int], full: Collection[int]) -> "Candidate | None":
        """Return the candidate with the values of some seeds of the full runs; None if it has none of them."""
        values = {seed: value for seed, value in self.values.items() if seed in seeds and seed in full}
        if not values:
            return None
        count = sum(seed in full for seed in self.values)
        return replace(
            self, values=values, least_between_seeds=self.least_between_seeds * count / len(values)
        )


@dataclass(frozen=True)
class Judged:
    """A candidate's estimate. Differences are the candidate's value minus that of the full runs."""

    candidate: Candidate
    mean: float
    seeds: int
    error: float
    """Standard error of `mean`."""
    between_seeds: float
    """The part of the variance of `mean` that more seeds reduce."""
    freedom: float
    """Degrees of freedom of `error`."""
    comparisons: int
    """Number of chains by which it was judged last."""
    level: float
    """The chance of an error by which it was judged."""
    critical: float
    """The critical value by which it was judged last."""
    state: State

    def with_seeds(self, seeds: int) -> "Judged":
        """Return what is to be expected of a later judgement with another number of seeds, at the same mean."""
        between = self.between_seeds * self.seeds / seeds
        total = max(between + self.candidate.test_variance, self.candidate.floor)
        freedom = self.freedom * (seeds - 1) / max(1, self.seeds - 1)
        critical = critical_value(self.comparisons, freedom, LATER_LEVEL)
        return replace(
            self,
            seeds=seeds,
            error=math.sqrt(total),
            between_seeds=between,
            freedom=freedom,
            critical=critical,
        )

    @property
    def loses_at_most(self) -> float:
        """Upper bound of the loss; negative for a gain that is certain."""
        return self.critical * self.error - self.mean

    @property
    def loses_at_least(self) -> float:
        """Lower bound of the loss."""
        return -self.critical * self.error - self.mean


def judge(
    full: Mapping[int, float],
    candidates: Sequence[Candidate],
    tolerance: float,
    first_seeds: Collection[int] | None = None,
) -> list[Judged]:
    """Judge all candidates together; return one result for each, in their order.

    Args:
        full: seed → value of the full runs.
        candidates: each with at least one seed of the full runs.
        tolerance: tolerated loss, in the unit of the values.
        first_seeds: the seeds that were judged first, where others were added because something was open. What these
            seeds have shown stays; the rest is judged by all seeds, at the level that is left. None: all seeds.
    """
    seeds = {seed for one in candidates for seed in one.values if seed in full}
    if first_seeds is None or seeds <= set(first_seeds):
        return _look(full, candidates, tolerance, FIRST_LEVEL, {})
    parts = {
        place: part for place, one in enumerate(candidates) if (part := one.of(first_seeds, full)) is not None
    }
    before = {seed: value for seed, value in full.items() if seed in first_seeds}
    found = _look(before, list(parts.values()), tolerance, FIRST_LEVEL, {}) if parts else []
    shown = {
        place: judged for place, judged in zip(parts, found, strict=True) if judged.state == State.ENOUGH
    }
    return _look(full, candidates, tolerance, LATER_LEVEL, shown)


def _look(
    full: Mapping[int, float],
    candidates: Sequence[Candidate],
    tolerance: float,
    level: float,
    shown: Mapping[int, Judged],
) -> list[Judged]:
    """Judge all candidates at a level. `shown`: candidates that are known to be enough → how they were judged."""
    deviations = {share: _near(full, share, candidates) for share in {one.share for one in candidates}}
    estimates = [_estimate(full, candidate, *deviations[candidate.share]) for candidate in candidates]
    chains: dict[str, list[int]] = defaultdict(list)
    for place in sorted(range(len(candidates)), key=lambda place: -candidates[place].share):
        chains[candidates[place].chain].append(place)
    enough: set[int] = set()
    open_chains = list(chains.values())
    used = len(open_chains)
    moved = True
    while moved and open_chains:
        used, moved = len(open_chains), False
        for chain in open_chains:
            while chain and (chain[0] in shown or _is_enough(estimates[chain[0]], tolerance, used, level)):
                enough.add(chain.pop(0))
                moved = True
        open_chains = [chain for chain in open_chains if chain]
    return [
        shown.get(place) or _judged(estimate, place in enough, used, level, tolerance)
        for place, estimate in enumerate(estimates)
    ]


def critical_value(comparisons: int, freedom: float, level: float) -> float:
    """Return Dunnett's one-sided critical value for `comparisons` with one reference.

    Args:
        comparisons: at least 1.
        freedom: degrees of freedom of the variance, at least 1; may be infinite.
        level: chance of any error.
    """
    # Rounded down, which is on the safe side, so that few values are computed.
    rounded = math.inf if freedom >= 500 else float(int(freedom) if freedom < 40 else int(freedom / 20) * 20)
    return _critical(comparisons, max(1.0, rounded), level)


@cache
def _critical(comparisons: int, freedom: float, level: float) -> float:
    # Imported here because it takes half a second, and only comparisons of several seeds need it.
    from scipy.optimize import brentq
    from scipy.special import ndtr
    from scipy.stats import chi2

    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    weights = weights / weights.sum()
    middle = (np.arange(400) + 0.5) / 400
    scale = np.ones(1) if math.isinf(freedom) else np.sqrt(chi2.ppf(middle, freedom) / freedom)

    def missed(value: float) -> float:
        at = value * scale[:, None] + math.sqrt(CORRELATION) * nodes
        inside = ndtr(at / math.sqrt(1 - CORRELATION)) ** comparisons
        return float(1 - (inside @ weights).mean()) - level

    return float(brentq(missed, 0.0, 400.0))


def _near(full: Mapping[int, float], share: float, candidates: Sequence[Candidate]) -> tuple[float, float]:
    """Return the variance between seeds of runs near a share, and its degrees of freedom."""
    near = [one for one in candidates if max(one.share, share) <= NEAR * min(one.share, share) * (1 + 1e-9)]
    return _deviation([full, *(one.values for one in near)])


def _estimate(full: Mapping[int, float], candidate: Candidate, variance: float, freedom: float) -> Judged:
    shared = [seed for seed in candidate.values if seed in full]
    mean = float(np.mean([candidate.values[seed] - full[seed] for seed in shared]))
    between = 2 * variance / len(shared)
    total = max(between, candidate.least_between_seeds) + candidate.test_variance
    if freedom and max(total, candidate.floor) > between:
        # The part that the test examples determine is known well, as there are many. Satterthwaite squares the ratio,
        # which is too many where the deviation between seeds happens to be small.
        freedom = freedom * max(total, candidate.floor) / between if between else math.inf
    between, total = max(between, candidate.least_between_seeds), max(total, candidate.floor)
    return Judged(
        candidate, mean, len(shared), math.sqrt(total), between, freedom, 1, math.nan, math.nan, State.OPEN
    )


def _deviation(groups: Sequence[Mapping[int, float]]) -> tuple[float, float]:
    """Return the variance between runs that differ in the seed, without what a seed changes in all groups alike, and
    its degrees of freedom; 0 degrees if the runs leave none."""
    seeds = sorted(set(groups[0]) & set().union(*groups[1:]))
    values = np.array([[group.get(seed, np.nan) for seed in seeds] for group in groups])
    known = ~np.isnan(values)
    if known.all():
        residual = values - values.mean(0) - values.mean(1)[:, None] + values.mean()
        freedom = (len(groups) - 1) * (len(seeds) - 1)
        return (float((residual**2).sum()) / freedom if freedom else 0.0), freedom
    group, seed = np.nonzero(known)
    design = np.concatenate([np.eye(len(groups))[group], np.eye(len(seeds))[seed]], 1)
    effects, _, rank, _ = np.linalg.lstsq(design, values[known], rcond=None)
    freedom = len(group) - int(rank)
    left = float(((values[known] - design @ effects) ** 2).sum())
    return (left / freedom if freedom else 0.0), freedom


def _is_enough(estimate: Judged, tolerance: float, comparisons: int, level: float) -> bool:
    if estimate.seeds < LEAST_SEEDS or estimate.freedom < 1:
        return False
    critical = critical_value(comparisons, estimate.freedom, level)
    return estimate.mean - critical * estimate.error >= -tolerance


def _judged(estimate: Judged, enough: bool, comparisons: int, level: float, tolerance: float) -> Judged:
    known = estimate.seeds >= 2 and estimate.freedom >= 1
    critical = critical_value(comparisons, estimate.freedom, level) if known else math.inf
    state = State.ENOUGH if enough else State.OPEN
    if (
        not enough
        and estimate.seeds >= LEAST_SEEDS
        and -estimate.mean - critical * estimate.error > tolerance
    ):
        state = State.LESS
    return replace(estimate, comparisons=comparisons, level=level, critical=critical, state=state)

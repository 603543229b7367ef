import math

import numpy as np
import pytest
from scipy import stats

from deploy.results import judging
from deploy.results.judging import Candidate, State, critical_value, judge

FULL = {0: 90.0, 1: 91.0, 2: 92.0}


def candidate(
    share: float, losses: tuple[float, ...], chain: str = "a", test_variance: float = 0.0, floor: float = 0.0
) -> Candidate:
    values = {seed: FULL[seed] - lost for seed, lost in enumerate(losses)}
    return Candidate(chain, share, values, test_variance, floor=floor)


def states(*candidates: Candidate, tolerance: float = 1.0) -> list[State]:
    return [one.state for one in judge(FULL, candidates, tolerance)]


@pytest.mark.parametrize("freedom", [2, 6, math.inf])
def test_one_comparison_is_students(freedom: float) -> None:
    expected = stats.norm.ppf(0.95) if math.isinf(freedom) else stats.t.ppf(0.95, freedom)
    assert critical_value(1, freedom, 0.05) == pytest.approx(expected, rel=2e-3)


def test_several_comparisons_are_dunnetts(monkeypatch: pytest.MonkeyPatch) -> None:
    # Dunnett, 1955, table 1a: one-sided, joint 95%.
    monkeypatch.setattr(judging, "CORRELATION", 0.5)
    found = [judging._critical.__wrapped__(*case, 0.05) for case in ((3, 10.0), (9, 20.0), (2, math.inf))]
    assert found == pytest.approx([2.34, 2.60, 1.92], abs=0.005)


def test_a_smaller_correlation_and_a_smaller_level_ask_for_more() -> None:
    assert critical_value(3, 10, 0.05) > 2.34
    assert critical_value(3, 10, 0.01) > critical_value(3, 10, 0.05)


def test_the_deviation_is_pooled_over_near_shares() -> None:
    own, other, far = (
        candidate(0.3, (0.4, 0.5, 0.6)),
        candidate(0.5, (0.1, 0.2, 0.3)),
        candidate(0.05, (0.0, 9.0, 1.0)),
    )
    alone, _ = judge(FULL, [own, far], 1.0)
    assert alone.between_seeds == pytest.approx(np.var([0.4, 0.5, 0.6], ddof=1) / 3)
    assert alone.freedom == 2
    pooled, _, _ = judge(FULL, [own, other, far], 1.0)
    assert pooled.freedom == 4
    assert pooled.mean == pytest.approx(-0.5)


def test_a_chain_stops_at_its_first_failure() -> None:
    falling = [
        candidate(0.7, (0.1, 0.1, 0.1)),
        candidate(0.3, (0.9, 0.9, 3.0)),
        candidate(0.1, (0.0, 0.0, 0.0)),
    ]
    assert states(*falling) == [State.ENOUGH, State.OPEN, State.OPEN]
    assert states(falling[2]) == [State.ENOUGH]


def test_a_chain_that_is_all_enough_leaves_its_level() -> None:
    # Between the critical values for one and for two chains, without deviation over seeds: 1.70 and 1.99.
    held = candidate(0.5, (-1.0, -1.0, -1.0), test_variance=0.01)
    near = candidate(0.5, (0.1, 0.1, 0.1), chain="b", test_variance=0.25)
    assert states(held, near) == [State.ENOUGH, State.ENOUGH]
    lost = candidate(0.5, (5.0, 5.0, 5.0), test_variance=0.01)
    assert states(lost, near) == [State.LESS, State.OPEN]


def test_two_seeds_are_never_enough() -> None:
    assert states(candidate(0.5, (0.0, 0.0))) == [State.OPEN]


def test_a_tie_has_the_floor_as_its_error() -> None:
    tied = candidate(0.5, (0.0, 0.0, 0.0), floor=1.0)
    assert states(tied) == [State.OPEN]
    assert states(tied, tolerance=1.71) == [State.ENOUGH]
    (judged,) = judge(FULL, [tied], 1.0)
    assert judged.loses_at_most == pytest.approx(1.695, abs=1e-3)


FIVE = dict.fromkeys(range(5), 90.0)


def five(share: float, *losses: float, floor: float = 0.0) -> Candidate:
    values = {seed: 90.0 - lost for seed, lost in enumerate(losses)}
    return Candidate("a", share, values, floor=floor)


def test_a_later_judgement_has_less_left() -> None:
    near = [five(0.5, 0.0, 0.0, 0.0, 0.0, 0.0, floor=0.25)]
    assert judge(FIVE, near, 1.0)[0].state == State.ENOUGH
    open_at_first = [five(0.5, 3.0, 0.0, 0.0, 0.0, 0.0, floor=0.25)]
    assert judge(FIVE, open_at_first, 1.2)[0].level == judging.FIRST_LEVEL
    later = judge(FIVE, open_at_first, 1.2, first_seeds=range(3))[0]
    assert later.level == judging.LATER_LEVEL
    assert later.critical > critical_value(1, 4, 0.05)


def test_what_the_first_seeds_have_shown_stays() -> None:
    above = five(0.7, 0.1, 0.1, 0.1, 9.0, 9.0)
    below = five(0.2, 0.3, 0.2, 0.3, 0.2, 0.3)
    assert [one.state for one in judge(FIVE, [above, below], 1.0)] != [State.ENOUGH] * 2
    kept, next_one = judge(FIVE, [above, below], 1.0, first_seeds=range(3))
    assert (kept.state, kept.seeds) == (State.ENOUGH, 3)
    assert kept.loses_at_most == pytest.approx(0.1)
    assert next_one.state == State.ENOUGH


def test_seeds_that_all_were_first_are_one_judgement() -> None:
    near = [five(0.5, 0.0, 0.0, 0.0, floor=0.25)]
    assert judge(FIVE, near, 1.0, first_seeds=range(3)) == judge(FIVE, near, 1.0)


def test_seeds_that_only_some_rows_have() -> None:
    some = Candidate("a", 0.5, {0: 89.9, 1: 90.8, 2: 91.9})
    more = Candidate("b", 0.5, {1: 90.5, 2: 91.4, 7: 3.0})
    judged = judge(FULL, [some, more], 1.0)
    assert [one.seeds for one in judged] == [3, 2]
    assert [one.mean for one in judged] == pytest.approx([-0.4 / 3, -0.55])
    assert judged[1].state == State.OPEN

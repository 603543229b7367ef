"""Saturated coverage against brute force, against the best subset that there is, and against apricot."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from subset_selection import Pool, Settings, create, submodular
from tests.unit.reference import generator, pool


def similarities(features: Tensor) -> Tensor:
    unit = torch.nn.functional.normalize(features, dim=1)
    return (1 + unit @ unit.T) / 2


def coverage(similar: Tensor, chosen: list[int], picks: int) -> float:
    most = similar.sum(dim=1) * picks / len(similar)
    return float(similar[chosen].sum(dim=0).minimum(most).sum())


def brute_force(similar: Tensor, picks: int) -> list[int]:
    """Greedy by the value of every set; equal up to rounding to the lower position."""
    chosen: list[int] = []
    for _ in range(picks):
        values = torch.tensor(
            [
                -1.0 if row in chosen else coverage(similar, [*chosen, row], picks)
                for row in range(len(similar))
            ],
            dtype=torch.float64,
        )
        gains = values - coverage(similar, chosen, picks)
        chosen.append(int(((gains >= gains.max() * (1 - 1e-9)) & (values >= 0)).nonzero()[0]))
    return chosen


def one_class(count: int, seed: int, depth: int = 4) -> Pool:
    return pool(count, 1, depth, seed, torch.float64)


def chosen(examples: Pool, picks: int, own: Settings = Settings(), seed: int = 0) -> list[int]:  # noqa: B008
    subset = create("saturated-coverage", own).select(examples, examples, picks, generator(seed))
    return list(subset.indices.tolist())


@given(count=st.integers(2, 40), share=st.floats(0.05, 0.6), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_it_is_greedy(count: int, share: float, seed: int) -> None:
    examples, picks = one_class(count, seed), max(1, round(share * count))
    assert examples.features is not None
    assert chosen(examples, picks) == brute_force(similarities(examples.features), picks)


@pytest.mark.parametrize("seed", range(5))
def test_it_comes_within_the_bound_of_the_best_subset(seed: int) -> None:
    examples = one_class(12, seed)
    assert examples.features is not None
    similar = similarities(examples.features)
    best = max(coverage(similar, list(some), 4) for some in itertools.combinations(range(12), 4))
    assert coverage(similar, chosen(examples, 4), 4) >= (1 - 1 / math.e) * best


def test_it_ranks_as_apricot_ranks() -> None:
    """CORDS's loader of this strategy uses apricot, with a fixed α."""
    apricot = pytest.importorskip("apricot")
    examples, picks = one_class(80, 3), 12
    assert examples.features is not None
    peer = apricot.SaturatedCoverageSelection(
        picks, metric="precomputed", alpha=picks / 80, optimizer="lazy", random_state=0
    )
    peer.fit(similarities(examples.features).numpy())
    assert chosen(examples, picks) == peer.ranking.tolist()


def test_a_covered_group_leaves_the_picks_to_the_others() -> None:
    """Of two opposite groups, each has its share of the picks, however much denser one is."""
    dense, sparse = torch.tensor([[1.0, 0.0]]).repeat(30, 1), torch.tensor([[-1.0, 0.0]]).repeat(10, 1)
    features = torch.cat([dense, sparse]) + 1e-3 * torch.randn(40, 2, generator=generator())
    examples = Pool(torch.zeros(40, dtype=torch.int64), torch.zeros(40, 1), features)
    assert sum(row >= 30 for row in chosen(examples, 8)) == 2


def test_each_class_is_covered_by_its_own() -> None:
    examples = pool(60, 3, 4, dtype=torch.float64)
    assert examples.features is not None
    picks = chosen(examples, 12, Settings(balance="class"))
    for label in range(3):
        of_class = (examples.labels == label).nonzero().flatten()
        mine = [row for row in picks if int(examples.labels[row]) == label]
        similar = similarities(examples.features[of_class])
        assert mine == of_class[brute_force(similar, 4)].tolist()


def test_beyond_the_dense_limit_the_search_is_stochastic(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = one_class(200, 1)
    assert examples.features is not None
    similar = similarities(examples.features)
    exact = coverage(similar, chosen(examples, 40), 40)
    monkeypatch.setattr(submodular, "DENSE_LIMIT", 20)
    first, again, other = (chosen(examples, 40, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert coverage(similar, first, 40) >= 0.97 * exact

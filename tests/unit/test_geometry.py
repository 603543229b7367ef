"""Strategies by features against brute force: set functions and distances between all pairs."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from subset_selection import Pool, Settings
from subset_selection.classes import quotas
from subset_selection.geometry import GraphCut, Herding, KCentre, _OfFeatures
from subset_selection.settings import Balance
from tests.unit.reference import generator, pool

STRATEGIES = [GraphCut, KCentre, Herding]
Strategy = type[_OfFeatures]


def one_class(features_nD: Tensor) -> Pool:
    size = len(features_nD)
    return Pool(
        torch.zeros(size, dtype=torch.int64), torch.zeros(size, 1, dtype=features_nD.dtype), features_nD
    )


def points(count: int, depth: int = 5, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """As after a ReLU: away from the origin, of different lengths."""
    draw = generator(seed)
    return (torch.randn(count, depth, generator=draw, dtype=dtype) + 0.5).relu() * torch.rand(
        count, 1, generator=draw, dtype=dtype
    )


def chosen(strategy: _OfFeatures, examples: Pool, budget: int) -> list[int]:
    indices: list[int] = strategy.select(examples, examples, budget, generator()).indices.tolist()
    return indices


def similarities(features_nD: Tensor) -> Tensor:
    lengths_n = features_nD.norm(dim=1)
    safe_n = torch.where(lengths_n > 0, lengths_n, 1)
    return (1 + features_nD @ features_nD.T / (safe_n[:, None] * safe_n)) / 2


def graph_cut(features_nD: Tensor, subset: list[int], factor: float = 2) -> float:
    similar_nn = similarities(features_nD)
    return float(factor * similar_nn[:, subset].sum() - similar_nn[subset][:, subset].sum())


def radius(features_nD: Tensor, subset: list[int]) -> float:
    """How far the worst example is from the nearest of the subset."""
    apart_nK = (features_nD[:, None] - features_nD[subset]).norm(dim=2)
    return float(apart_nK.amin(dim=1).max())


def off_the_mean(features_nD: Tensor, subset: list[int]) -> float:
    return float((features_nD[subset].mean(dim=0) - features_nD.mean(dim=0)).norm())


def greedily(value: Callable[[list[int]], float], count: int, picks: int) -> list[int]:
    """Every step evaluates every candidate; values equal up to rounding go to the lower position."""
    picked: list[int] = []
    for _ in range(picks):
        free = [position for position in range(count) if position not in picked]
        values = torch.tensor([value([*picked, position]) for position in free], dtype=torch.float64)
        picked.append(free[int((values >= values.max() - 1e-10 * (1 + values.max().abs())).nonzero()[0])])
    return picked


def farthest_first(features_nD: Tensor, picks: int) -> list[int]:
    from_mean_n = (features_nD - features_nD.mean(dim=0)).norm(dim=1)
    picked = [int(from_mean_n.argmin())]
    while len(picked) < picks:
        nearest_n = (features_nD[:, None] - features_nD[picked]).norm(dim=2).amin(dim=1)
        nearest_n[picked] = -1
        picked.append(int(nearest_n.argmax()))
    return picked


sizes = st.integers(3, 25)
shares = st.floats(0.01, 1)
seeds = st.integers(0, 10_000)


@given(count=sizes, share=shares, seed=seeds)
@settings(max_examples=40, deadline=None)
def test_graph_cut_is_greedy_on_its_set_function(count: int, share: float, seed: int) -> None:
    features, picks = points(count, seed=seed), max(1, round(share * count))
    found = chosen(GraphCut(), one_class(features), picks)
    reached = [graph_cut(features, found[: place + 1]) for place in range(picks)]
    best = greedily(lambda subset: graph_cut(features, subset), count, picks)
    # By value: rows of zeros (a class may have several) are equal, and rounding decides among those.
    assert reached == pytest.approx(
        [graph_cut(features, best[: place + 1]) for place in range(picks)], rel=1e-9
    )


def test_graph_cut_grows_with_every_pick_and_would_not_with_a_smaller_factor() -> None:
    features = points(60)
    order = chosen(GraphCut(), one_class(features), 60)
    assert sorted(order) == list(range(60))
    for factor, falls in ((2, False), (1.9, True)):
        values = [graph_cut(features, order[:size], factor) for size in range(61)]
        assert any(after < before - 1e-9 for before, after in pairwise(values)) == falls


@given(count=sizes, share=shares, seed=seeds)
@settings(max_examples=40, deadline=None)
def test_k_centre_is_farthest_first(count: int, share: float, seed: int) -> None:
    features, picks = torch.randn(count, 5, generator=generator(seed)).double(), max(1, round(share * count))
    assert chosen(KCentre(), one_class(features), picks) == farthest_first(features, picks)


@given(picks=st.integers(1, 4), seed=seeds)
@settings(max_examples=20, deadline=None)
def test_the_radius_of_k_centre_is_within_twice_the_smallest(picks: int, seed: int) -> None:
    features = points(9, depth=2, seed=seed)
    smallest = min(radius(features, subset.tolist()) for subset in torch.combinations(torch.arange(9), picks))
    assert radius(features, chosen(KCentre(), one_class(features), picks)) <= 2 * smallest + 1e-9


@given(count=sizes, share=shares, seed=seeds)
@settings(max_examples=40, deadline=None)
def test_herding_keeps_each_prefix_as_near_the_mean_as_one_more_pick_can(
    count: int, share: float, seed: int
) -> None:
    features, picks = points(count, seed=seed), max(1, round(share * count))
    found = chosen(Herding(), one_class(features), picks)
    best = greedily(lambda subset: -off_the_mean(features, subset), count, picks)
    for size in range(1, picks + 1):
        assert off_the_mean(features, found[:size]) == pytest.approx(
            off_the_mean(features, best[:size]), abs=1e-9
        )


def test_herding_is_the_sources_rule_where_all_have_one_length() -> None:
    features = torch.nn.functional.normalize(torch.randn(40, 6, generator=generator()).double(), dim=1)
    mean, sums = features.mean(dim=0), torch.zeros(6, dtype=torch.float64)
    picked: list[int] = []
    for size in range(1, 16):
        along = features @ (size * mean - sums)
        along[picked] = -torch.inf
        picked.append(int(along.argmax()))
        sums = sums + features[picked[-1]]
    assert chosen(Herding(), one_class(features), 15) == picked


@pytest.mark.parametrize("picks", [10, 100])
def test_each_is_better_than_chance_at_what_it_is_for(picks: int) -> None:
    features = points(400, depth=8, dtype=torch.float32)
    examples = one_class(features)
    at_random = [torch.randperm(400, generator=generator(seed))[:picks].tolist() for seed in range(20)]
    wide = features.double()
    assert off_the_mean(wide, chosen(Herding(), examples, picks)) < 0.3 * min(
        off_the_mean(wide, subset) for subset in at_random
    )
    assert radius(wide, chosen(KCentre(), examples, picks)) < min(
        radius(wide, subset) for subset in at_random
    )
    assert graph_cut(wide, chosen(GraphCut(), examples, picks)) > max(
        graph_cut(wide, subset) for subset in at_random
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(count=st.integers(1, 40), kinds=st.integers(1, 40), share=shares, seed=seeds, wide=st.booleans())
@settings(max_examples=25, deadline=None)
def test_duplicates_cost_neither_the_budget_nor_a_repeat(
    strategy: Strategy, count: int, kinds: int, share: float, seed: int, wide: bool
) -> None:
    draw = generator(seed)
    features = torch.randn(kinds, 4, generator=draw, dtype=torch.float64 if wide else torch.float32)
    picks = max(1, round(share * count))
    found = chosen(strategy(), one_class(features[torch.randint(kinds, (count,), generator=draw)]), picks)
    assert len(found) == len(set(found)) == picks
    assert set(found) <= set(range(count))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("value", [0.0, 1.0, 3.0])
def test_equal_examples_are_taken_in_order(strategy: Strategy, value: float) -> None:
    assert chosen(strategy(), one_class(torch.full((16, 4), value)), 7) == list(range(7))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_k_centre_covers_every_place_before_a_copy(dtype: torch.dtype) -> None:
    corners = torch.tensor([[8, 0, 0], [0, 8, 0], [0, 0, 8], [0, 0, 0]], dtype=dtype)
    found = chosen(KCentre(), one_class(corners.repeat(5, 1)), 4)
    assert sorted(place % 4 for place in found) == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_narrow_features_are_widened_before_anything_is_computed(
    strategy: Strategy, dtype: torch.dtype
) -> None:
    narrow = points(60, dtype=torch.float32).to(dtype)
    assert chosen(strategy(), one_class(narrow), 20) == chosen(strategy(), one_class(narrow.float()), 20)


@pytest.mark.parametrize("balance", ["none", "class"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@given(count=st.integers(4, 60), share=shares, seed=seeds)
@settings(max_examples=15, deadline=None)
def test_the_order_of_the_data_does_not_matter(
    strategy: Strategy, balance: Balance, count: int, share: float, seed: int
) -> None:
    examples = pool(count, classes=2, features=6, seed=seed, dtype=torch.float64)
    budget = max(1, round(share * count))
    sizes = torch.bincount(examples.labels, minlength=2)
    # Position decides between equals: the examples of a class of two are equally near its mean, and leaving out either
    # of the last two gives the same graph cut.
    left = sizes - quotas(sizes, budget, balance)
    assume(int(sizes.min()) > 2 and not (left == 1).any())
    moved = torch.randperm(count, generator=generator(seed + 1))
    here = chosen(strategy(Settings(balance=balance)), examples, budget)
    there = chosen(strategy(Settings(balance=balance)), examples.at(moved), budget)
    assert sorted(moved[there].tolist()) == sorted(here)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_class_is_chosen_from_as_if_alone(strategy: Strategy) -> None:
    examples = pool(200, classes=3)
    found = set(chosen(strategy(), examples, 60))
    for label in range(3):
        mine = (examples.labels == label).nonzero().flatten()
        picks = len(found & set(mine.tolist()))
        assert examples.features is not None
        alone = chosen(strategy(), one_class(examples.features[mine]), picks)
        assert set(mine[alone].tolist()) == found & set(mine.tolist())


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("budget", [1, 3, 5])
def test_one_example_a_class(strategy: Strategy, budget: int) -> None:
    examples = Pool(torch.arange(5), torch.randn(5, 5), torch.randn(5, 3))
    assert chosen(strategy(), examples, budget) == list(range(budget))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_all_weigh_one_and_the_generator_is_not_drawn_from(strategy: Strategy) -> None:
    examples, draw = pool(30), generator()
    before = draw.get_state()
    subset = strategy().select(examples, examples, 10, draw)
    assert subset.weights.tolist() == [1.0] * 10
    assert torch.equal(before, draw.get_state())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_pool_of_labels_alone_is_refused(strategy: Strategy) -> None:
    labels = Pool(torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ValueError, match="no features"):
        strategy().select(labels, labels, 2, generator())


@pytest.mark.parametrize("strategy", [KCentre, Herding])
def test_features_far_from_the_origin_are_told_apart_in_float32(strategy: Strategy) -> None:
    near = torch.randn(200, 8, generator=generator(), dtype=torch.float64)
    # Steps of 1/64 stay exact beside an offset of 2¹⁰ in float32; products of the offset would not.
    near = (near * 64).round() / 64
    far = (near + 1024).float()
    assert chosen(strategy(), one_class(far), 20) == chosen(strategy(), one_class(near), 20)

"""Facility location and CRAIG against brute force, and against apricot, which CORDS uses."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from subset_selection import Settings, create, submodular
from subset_selection.facility_location import FacilityLocation, cluster_sizes
from subset_selection.submodular import greedy, lazy_greedy, stochastic_greedy
from tests.unit.reference import generator, gradients, pool


def points(count: int, depth: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(count, depth, generator=generator(seed), dtype=torch.float64)


def brute_force(distances: Tensor, picks: int) -> list[int]:
    """Greedy by the gain of every point, equal gains to the lower position. Equal means up to rounding: two
    points that are each other's nearest have the same gain, as a sum of different numbers."""
    nearest = distances.max().repeat(len(distances))
    chosen: list[int] = []
    for _ in range(picks):
        gains = torch.stack([(nearest - row).clamp(min=0).sum() for row in distances])
        gains[chosen] = -1
        chosen.append(int((gains >= gains.max() - 1e-9 * gains.max().abs()).nonzero()[0]))
        nearest = nearest.minimum(distances[chosen[-1]])
    return chosen


def exact_distances(rows: Tensor) -> Tensor:
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")


@given(count=st.integers(1, 150), share=st.floats(0.01, 1), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_lazy_and_plain_greedy_equal_brute_force(count: int, share: float, seed: int) -> None:
    distances = exact_distances(points(count, seed=seed))
    picks = max(1, round(share * min(count, 40)))
    expected = brute_force(distances, picks)
    assert lazy_greedy(FacilityLocation(), distances, picks).tolist() == expected
    assert greedy(FacilityLocation(), distances, picks).tolist() == expected


def test_greedy_ranks_as_apricot_ranks() -> None:
    apricot = pytest.importorskip("apricot")
    distances = exact_distances(points(80)).square()
    peer = apricot.FacilityLocationSelection(15, metric="precomputed", optimizer="lazy", random_state=0)
    peer.fit((distances.max() - distances).numpy())
    assert lazy_greedy(FacilityLocation(), distances, 15).tolist() == peer.ranking.tolist()


@pytest.mark.parametrize("picks", [1, 30, 150, 300])
def test_the_stochastic_search_comes_close_to_the_exact_one(
    picks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submodular, "BLOCK_ELEMENTS", 300 * 20)  # several blocks
    distances = exact_distances(points(300))
    chosen = stochastic_greedy(
        FacilityLocation(), lambda at: distances[at], 300, picks, generator(), torch.device("cpu")
    )
    assert len(chosen.unique()) == picks

    def cost(at: Tensor) -> float:
        return float(distances[at].amin(dim=0).sum())

    random_cost = np.mean(
        [cost(torch.randperm(300, generator=generator(seed))[:picks]) for seed in range(20)]
    )
    exact = cost(lazy_greedy(FacilityLocation(), distances, picks))
    assert cost(chosen) <= exact + 0.35 * (random_cost - exact) + 1e-9


def test_cluster_sizes_count_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    distances = exact_distances(points(2500))
    picks = torch.randperm(2500, generator=generator())[:1500]  # more than one block of picks
    sizes = cluster_sizes(lambda at: distances[at], picks)
    nearest = distances[picks].argmin(dim=0)
    assert sizes.tolist() == torch.bincount(nearest, minlength=1500).tolist()
    assert sizes.sum() == 2500 and sizes.min() >= 1


def test_where_all_are_duplicates_the_first_are_picked() -> None:
    distances = exact_distances(points(3)).repeat_interleave(4, 0).repeat_interleave(4, 1)
    first = lazy_greedy(FacilityLocation(), distances, 3).tolist()
    assert sorted(first) == [0, 4, 8]
    assert (
        lazy_greedy(FacilityLocation(), distances, 9).tolist()
        == greedy(FacilityLocation(), distances, 9).tolist()
        == [*first, 1, 2, 3, 5, 6, 7]
    )


def test_duplicates_each_count_for_themselves() -> None:
    distances = torch.zeros(6, 6)
    picks = torch.tensor([4, 2, 0])
    assert cluster_sizes(lambda at: distances[at], picks).tolist() == [4, 1, 1]


def test_craig_per_class_is_greedy_over_gradients_with_the_papers_weights() -> None:
    train = pool(120, 3, 5, dtype=torch.float64)
    subset = create("craig", Settings()).select(train, train, 24, generator())
    rows = gradients(train)
    for label in range(3):
        of_class = (train.labels == label).nonzero().flatten()
        mine = train.labels[subset.indices] == label
        distances = exact_distances(rows[of_class])
        chosen = brute_force(distances, int(mine.sum()))
        assert of_class[chosen].tolist() == subset.indices[mine].tolist()
        nearest = distances[chosen].argmin(dim=0)
        expected = torch.bincount(nearest, minlength=len(chosen))
        assert subset.weights[mine].tolist() == expected.tolist()


def test_craig_supervised_is_greedy_over_everything() -> None:
    train = pool(80, 4, 5, dtype=torch.float64)
    subset = create("craig", Settings(scope="supervised")).select(train, train, 12, generator())
    rows = gradients(train)
    assert subset.indices.tolist() == brute_force(exact_distances(rows), 12)
    assert subset.weights.sum() == 80


def test_craig_per_batch_is_greedy_over_mean_gradients() -> None:
    train = pool(160, 4, 5, dtype=torch.float64)
    subset = create("craig-pb", Settings(batch_size=8)).select(train, train, 32, generator(3))
    batches = torch.randperm(160, generator=generator(3)).split(8)
    means = torch.stack([gradients(train)[batch].mean(0) for batch in batches])
    distances = exact_distances(means)
    chosen = brute_force(distances, 4)
    assert subset.indices.tolist() == torch.cat([batches[at] for at in chosen]).tolist()
    sizes = torch.bincount(distances[chosen].argmin(dim=0), minlength=4)
    assert subset.weights.tolist() == sizes.repeat_interleave(8).tolist()


def test_facility_location_on_features() -> None:
    train = pool(90, 3, 5, dtype=torch.float64)
    assert train.features is not None
    subset = create("facility-location", Settings()).select(train, train, 15, generator())
    for label in range(3):
        of_class = (train.labels == label).nonzero().flatten()
        mine = train.labels[subset.indices] == label
        distances = exact_distances(train.features[of_class])
        assert subset.indices[mine].tolist() == of_class[brute_force(distances, int(mine.sum()))].tolist()
    assert (subset.weights == 1).all()


@pytest.mark.parametrize("name", ["craig", "facility-location"])
def test_beyond_the_dense_limit_the_search_is_stochastic(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submodular, "DENSE_LIMIT", 20)
    train = pool(200, 2, 5)
    first, again, other = (
        create(name, Settings()).select(train, train, 40, generator(seed)).indices.tolist()
        for seed in (0, 0, 1)
    )
    assert first == again != other
    naive = create(name, Settings(greedy="naive")).select(train, train, 40, generator()).indices.tolist()
    assert (
        naive
        == create(name, Settings(greedy="naive")).select(train, train, 40, generator(1)).indices.tolist()
    )

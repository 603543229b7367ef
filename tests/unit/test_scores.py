"""Strategies by scores against their definitions, written out example by example."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from subset_selection import Pool, Settings, Strategy, scores
from subset_selection.geometry import Moderate
from subset_selection.scores import BINS, EL2N, CoverageCentric, Forgetting
from tests.unit.reference import generator, pool


def ccs(hardest_dropped: float) -> CoverageCentric:
    return CoverageCentric(Settings(hardest_dropped=hardest_dropped))


EVERY: list[Callable[[], Strategy]] = [
    EL2N,
    Forgetting,
    Moderate,
    lambda: ccs(0.1),
]
NAMES = ["el2n", "forgetting", "moderate", "ccs"]
DETERMINISTIC: list[Callable[[], Strategy]] = [EL2N, Forgetting, Moderate]

counts = st.integers(1, 80)
shares = st.floats(0.01, 1)
seeds = st.integers(0, 10_000)


def chosen(strategy: Strategy, examples: Pool, budget: int, seed: int = 0) -> list[int]:
    indices: list[int] = strategy.select(examples, examples, budget, generator(seed)).indices.tolist()
    return indices


def rounds(count: int, number: int, seed: int = 0, classes: int = 3) -> list[Pool]:
    """The same labels and features, other logits each round."""
    first = pool(count, classes, 4, seed, torch.float64)
    return [
        Pool(first.labels, pool(count, classes, 1, seed + 1 + turn, torch.float64).logits, first.features)
        for turn in range(number)
    ]


def errors(examples: Pool) -> list[float]:
    """‖softmax − onehot‖ by hand."""
    assert examples.logits is not None
    found = []
    for logits, label in zip(examples.logits.tolist(), examples.labels.tolist(), strict=True):
        powers = torch.tensor(logits, dtype=torch.float64).exp()
        shares_C = (powers / powers.sum()).tolist()
        found.append(sum((share - (place == label)) ** 2 for place, share in enumerate(shares_C)) ** 0.5)
    return found


def losses(examples: Pool) -> list[float]:
    assert examples.logits is not None
    logs = examples.logits.log_softmax(dim=1)
    return [-float(logs[row, label]) for row, label in enumerate(examples.labels.tolist())]


def with_errors(wanted: Tensor) -> Pool:
    """Two classes, all of class 0, and EL2N scores as wanted: with p the share of the other class, √2·p."""
    other = wanted.double() / 2**0.5
    return Pool(
        torch.zeros(len(wanted), dtype=torch.int64),
        torch.stack([(1 - other).log(), other.log()], dim=1),
        torch.zeros(len(wanted), 1),
    )


@given(count=counts, share=shares, number=st.integers(1, 4), seed=seeds)
@settings(max_examples=30, deadline=None)
def test_el2n_keeps_the_highest_mean_over_the_rounds(
    count: int, share: float, number: int, seed: int
) -> None:
    budget, strategy = max(1, round(share * count)), EL2N()
    seen = rounds(count, number, seed)
    for turn in range(number):
        found = chosen(strategy, seen[turn], budget)
        means = [
            sum(of) / (turn + 1) for of in zip(*(errors(each) for each in seen[: turn + 1]), strict=True)
        ]
        assert found == sorted(range(count), key=lambda row: -means[row])[:budget]


@given(count=counts, share=shares, number=st.integers(1, 6), seed=seeds)
@settings(max_examples=30, deadline=None)
def test_forgetting_counts_falls_from_right_to_wrong(
    count: int, share: float, number: int, seed: int
) -> None:
    budget, strategy = max(1, round(share * count)), Forgetting()
    history: list[list[bool]] = [[] for _ in range(count)]
    for examples in rounds(count, number, seed):
        found = chosen(strategy, examples, budget)
        assert examples.logits is not None
        guesses = examples.logits.argmax(dim=1).tolist()
        for row, label in enumerate(examples.labels.tolist()):
            history[row].append(guesses[row] == label)
        loss = losses(examples)

        def rank(row: int, loss: list[float] = loss) -> tuple[float, float, int]:
            falls = sum(a and not b for a, b in pairwise(history[row]))
            return (-falls if any(history[row]) else -float("inf"), -loss[row], row)

        assert found == sorted(range(count), key=rank)[:budget]


def test_forgetting_written_out() -> None:
    labels = torch.zeros(4, dtype=torch.int64)
    strategy, budget = Forgetting(), 4
    for margins in ([1, 1, 1, -1], [2, -1, 1, -1], [2, 1, -1, -1], [2, -1, 1, -1.0]):
        logits = torch.stack([torch.tensor(margins), torch.zeros(4)], dim=1)
        found = chosen(strategy, Pool(labels, logits, logits), budget)
    # Never right: 3. Falls: 1 twice, 2 once, 0 never.
    assert found == [3, 1, 2, 0]


@given(count=counts, share=shares, seed=seeds, wide=st.booleans())
@settings(max_examples=30, deadline=None)
def test_moderate_keeps_those_nearest_the_median_distance(
    count: int, share: float, seed: int, wide: bool
) -> None:
    dtype = torch.float64 if wide else torch.float32
    draw = generator(seed)
    features = torch.randn(count, 3, generator=draw, dtype=torch.float64).to(dtype)
    examples = Pool(torch.zeros(count, dtype=torch.int64), torch.zeros(count, 1, dtype=dtype), features)
    budget = max(1, round(share * count))
    distances = (features.double() - features.double().mean(dim=0)).norm(dim=1)
    away = (distances - distances.quantile(0.5)).abs()
    found = chosen(Moderate(), examples, budget)
    assert len(set(found)) == budget
    # By value: of an even number the two in the middle are equally far from the median, up to rounding.
    slack = 1e-12 if wide else 1e-5
    assert away[found].tolist() == pytest.approx(away.sort().values[:budget].tolist(), abs=slack)


def test_moderate_keeps_neither_the_typical_nor_the_odd() -> None:
    # Distances from the mean, which is 0: 0, 1, 1, 2, 2, 9, 9.
    features = torch.tensor([0.0, 1, -1, 2, -2, 9, -9])[:, None]
    examples = Pool(torch.zeros(7, dtype=torch.int64), torch.zeros(7, 1), features)
    assert chosen(Moderate(), examples, 2) == [3, 4]
    assert chosen(Moderate(), examples, 4) == [3, 4, 1, 2]


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_moderate_chooses_class_by_class(share: float) -> None:
    examples = pool(90, classes=3, features=4, dtype=torch.float64)
    found = set(chosen(Moderate(Settings(balance="class")), examples, round(90 * share)))
    for label in range(3):
        mine = (examples.labels == label).nonzero().flatten()
        here = found & set(mine.tolist())
        alone = examples.at(mine)
        alone_found = chosen(Moderate(), Pool(alone.labels, alone.logits, alone.features), len(here))
        assert set(mine[alone_found].tolist()) == here


@given(
    count=st.integers(1, 200), share=shares, dropped=st.floats(0, 1), kinds=st.integers(1, 200), seed=seeds
)
@settings(max_examples=60, deadline=None)
def test_ccs_drops_the_hardest_and_fills_the_bins_evenly(
    count: int, share: float, dropped: float, kinds: int, seed: int
) -> None:
    wanted = 0.05 + torch.rand(kinds, generator=generator(seed), dtype=torch.float64)
    examples = with_errors(wanted[torch.randint(kinds, (count,), generator=generator(seed + 1))])
    budget = max(1, round(share * count))
    found = chosen(ccs(dropped), examples, budget, seed)
    assert len(found) == len(set(found)) == budget

    hardness = EL2N()._averages(examples)
    by_hardness = sorted(range(count), key=lambda row: (-float(hardness[row]), row))
    kept = by_hardness[min(round(dropped * count), count - budget) :]
    assert set(found) <= set(kept)
    low, high = float(hardness[kept].min()), float(hardness[kept].max())
    bins: dict[int, list[int]] = {}
    for row in kept:
        place = int((float(hardness[row]) - low) / (high - low) * BINS) if high > low else 0
        bins.setdefault(min(place, BINS - 1), []).append(row)
    # Filling evenly: as many from each as the water level allows; one more where the level is not whole.
    taken = {place: len(set(found) & set(rows)) for place, rows in bins.items()}
    unfilled = [taken[place] for place, rows in bins.items() if taken[place] < len(rows)]
    if unfilled:
        assert max(unfilled) - min(unfilled) <= 1
        assert max(taken.values()) <= min(unfilled) + 1


def test_ccs_divides_as_written_out() -> None:
    # The hardest tenth are rows 18 and 19. The other 18, from 0.1 to 1.1, fall into bins of 0.02: 1 + 1 + 4 + 12.
    # Of a budget of 10: 1, 1, then 8 // 2 = 4 of 4, then 4 of 12.
    hardness = torch.tensor([0.1, *[0.505] * 4, 1.1, *[0.805] * 12, 1.2, 1.3], dtype=torch.float64)
    found = chosen(ccs(0.1), with_errors(hardness), 10)
    assert {0, 5, 1, 2, 3, 4} <= set(found)
    assert len(set(found) & set(range(6, 18))) == 4


def test_ccs_takes_each_of_a_bin_equally_often() -> None:
    hardness = torch.tensor([0.1] * 5 + [1.0] * 15, dtype=torch.float64)
    strategy, times, trials = ccs(0.0), torch.zeros(20), 400
    draw, examples = generator(), with_errors(hardness)
    for _ in range(trials):
        times[strategy.select(examples, examples, 8, draw).indices] += 1
    # 4 of 5 and 4 of 15; five standard deviations
    for part, probability in ((times[:5], 4 / 5), (times[5:], 4 / 15)):
        spread = (trials * probability * (1 - probability)) ** 0.5
        assert (part - trials * probability).abs().max() < 5 * spread


def test_ccs_never_drops_what_the_budget_needs() -> None:
    examples = pool(20)
    assert sorted(chosen(ccs(1.0), examples, 20)) == list(range(20))
    easiest = sorted(range(20), key=errors(examples).__getitem__)[:5]
    assert sorted(chosen(ccs(0.9), examples, 5)) == sorted(easiest)


def test_ccs_follows_its_seed() -> None:
    examples = pool(200)
    assert chosen(ccs(0.1), examples, 40, 1) == chosen(ccs(0.1), examples, 40, 1)
    assert chosen(ccs(0.1), examples, 40, 1) != chosen(ccs(0.1), examples, 40, 2)


def test_ccs_averages_hardness_over_the_rounds() -> None:
    hard_then_easy = torch.tensor([1.3, 0.3, 0.2, 0.1])
    easy_then_hard = torch.tensor([0.1, 0.5, 0.6, 0.7])
    strategy = ccs(0.25)
    assert 0 not in chosen(strategy, with_errors(hard_then_easy), 3)
    # Row 3 is the hardest of this round; on average it is still row 0: 0.7 against 0.4.
    assert 0 not in chosen(strategy, with_errors(easy_then_hard), 3)


@pytest.mark.parametrize("create", EVERY, ids=NAMES)
@given(count=counts, kinds=counts, share=shares, seed=seeds, wide=st.booleans())
@settings(max_examples=25, deadline=None)
def test_duplicates_cost_neither_the_budget_nor_a_repeat(
    create: Callable[[], Strategy], count: int, kinds: int, share: float, seed: int, wide: bool
) -> None:
    examples = pool(kinds, seed=seed, dtype=torch.float64 if wide else torch.float32)
    copies = examples.at(torch.randint(kinds, (count,), generator=generator(seed)))
    repeated = Pool(copies.labels, copies.logits, copies.features)
    budget, strategy = max(1, round(share * count)), create()
    for _ in range(2):
        found = chosen(strategy, repeated, budget)
        assert len(found) == len(set(found)) == budget and set(found) <= set(range(count))


@pytest.mark.parametrize("create", DETERMINISTIC, ids=NAMES[:3])
def test_equal_examples_are_taken_in_order(create: Callable[[], Strategy]) -> None:
    same = Pool(torch.zeros(16, dtype=torch.int64), torch.ones(16, 3), torch.ones(16, 2))
    assert chosen(create(), same, 7) == list(range(7))


@pytest.mark.parametrize("create", DETERMINISTIC, ids=NAMES[:3])
@given(count=counts, share=shares, seed=seeds)
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_data_does_not_matter(
    create: Callable[[], Strategy], count: int, share: float, seed: int
) -> None:
    budget, moved = max(1, round(share * count)), torch.randperm(count, generator=generator(seed))
    here, there = create(), create()
    for examples in rounds(count, 3, seed, classes=1 if create is Moderate else 3):
        assert examples.logits is not None and examples.features is not None
        elsewhere = Pool(examples.labels[moved], examples.logits[moved], examples.features[moved])
        one, other = chosen(here, examples, budget), moved[chosen(there, elsewhere, budget)].tolist()
        if create is Moderate:  # by value, since the two in the middle are equally far from the median
            distances = (examples.features - examples.features.mean(dim=0)).norm(dim=1)
            away = (distances - distances.quantile(0.5)).abs()
            assert away[one].tolist() == pytest.approx(away[other].tolist(), abs=1e-12)
        else:
            assert one == other


@pytest.mark.parametrize("create", EVERY, ids=NAMES)
@pytest.mark.parametrize("budget", [1, 5])
def test_one_example_a_class(create: Callable[[], Strategy], budget: int) -> None:
    examples = Pool(torch.arange(5), torch.randn(5, 5), torch.randn(5, 3))
    assert len(set(chosen(create(), examples, budget))) == budget


@pytest.mark.parametrize("create", [EL2N, Forgetting], ids=NAMES[:2])
def test_memory_goes_by_the_example_not_by_its_place(create: Callable[[], Strategy]) -> None:
    """Parts of the data, in any order and of any size, are remembered under their own numbers."""
    first, second = rounds(30, 2)
    whole, parted = create(), create()
    chosen(whole, first, 5)
    chosen(parted, first.at(torch.arange(10)), 5)
    chosen(parted, first.at(torch.arange(10, 30).flip(0)), 5)
    assert chosen(parted, second, 12) == chosen(whole, second, 12)


@pytest.mark.parametrize("create", [EL2N, lambda: ccs(0.2)], ids=["el2n", "ccs"])
def test_scores_in_parts_are_scores(create: Callable[[], Strategy], monkeypatch: pytest.MonkeyPatch) -> None:
    examples = pool(100)
    expected = chosen(create(), examples, 30)
    monkeypatch.setattr(scores, "ROWS_AT_ONCE", 7)
    assert chosen(create(), examples, 30) == expected


@pytest.mark.parametrize("create", EVERY, ids=NAMES)
def test_a_pool_of_labels_alone_is_refused(create: Callable[[], Strategy]) -> None:
    labels = Pool(torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ValueError, match="pool has no"):
        create().select(labels, labels, 2, generator())


@pytest.mark.parametrize("create", EVERY, ids=NAMES)
def test_all_weigh_one(create: Callable[[], Strategy]) -> None:
    assert create().select(pool(30), pool(30), 10, generator()).weights.tolist() == [1.0] * 10

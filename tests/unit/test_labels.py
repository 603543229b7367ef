"""Which labels are suspect, and how many."""

import math
import warnings

import numpy as np
import pytest
import torch
from cleanlab.filter import find_label_issues

from subset_trainer.insight import labels


def drawn(
    seed: int, sureness: float, examples: int = 60, classes: int = 3
) -> tuple[torch.Tensor, torch.Tensor]:
    draw = np.random.default_rng(seed)
    given = draw.integers(classes, size=examples)
    logits = draw.normal(size=(examples, classes)) + sureness * np.eye(classes)[given]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return torch.from_numpy(given), torch.from_numpy(probabilities.astype(np.float32))


@pytest.mark.parametrize("sureness", [0.0, 2.0, 7.0])
def test_the_share_is_cleanlab_s(sureness: float) -> None:
    found = []
    for seed in range(15):
        given, probabilities = drawn(seed, sureness)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = find_label_issues(
                given.numpy(), probabilities.numpy().astype(np.float64), filter_by=labels.METHOD
            ).mean()
        found.append(labels.wrong_share(given, probabilities))
        assert found[-1] == expected
    assert (max(found) > 0) is (sureness < 7)


def test_wrong_labels_are_counted() -> None:
    given, probabilities = drawn(0, 6.0, examples=1_000, classes=5)
    wrong = torch.arange(1_000) < 100
    shifted = torch.where(wrong, (given + 1) % 5, given)
    assert labels.wrong_share(shifted, probabilities) == pytest.approx(0.1, abs=0.01)


def test_a_set_that_lacks_classes() -> None:
    _, probabilities = drawn(0, 1.0, examples=4)
    assert labels.wrong_share(torch.tensor([2, 2, 2, 2]), probabilities) == 0
    assert 0 <= labels.wrong_share(torch.tensor([0, 2, 2, 0]), probabilities) <= 1


def test_the_largest_excess_is_suspect_whether_trained_on_or_not() -> None:
    visited = torch.tensor([0.1, 2.0, torch.nan, torch.nan, -2.1])
    excess = labels.excess(visited, torch.tensor([9.0, 9.0, 3.0, 0.0, 9.0]))
    assert excess.tolist() == pytest.approx([0.1, 2.0, 1.5, -1.5, -2.1])
    assert labels.suspects(excess, 0.4).tolist() == [False, True, True, False, False]
    assert not labels.suspects(excess, 0.0).any()
    assert labels.suspects(torch.zeros(4), 0.5).tolist() == [True, True, False, False]


def test_folds_have_their_part_of_each_class() -> None:
    given = torch.tensor([0] * 30 + [1] * 7 + [2])
    parts = labels.folds(given, seed=3)
    assert torch.cat(parts).sort().values.tolist() == list(range(38))
    assert all(abs(len(part) - 38 / 3) < 1 for part in parts)
    assert [int((given[part] == 0).sum()) for part in parts] == [10, 10, 10]
    assert not all(torch.equal(*pair) for pair in zip(parts, labels.folds(given, seed=4), strict=True))


def judged(
    wrong: int,
    examples: int = 1_000,
    missed: int | None = None,
    sureness: float = 6.0,
    surest_missed: tuple[float, float] = (math.nan, math.nan),
) -> tuple[labels.Verdict, torch.Tensor]:
    """The verdict on examples of which the first are wrong, are missed early and are memorised in the end."""
    given, probabilities = drawn(0, sureness, examples=500, classes=5)
    flipped = torch.arange(500) < wrong * 500 // examples
    rates = torch.ones(examples)
    rates[: wrong if missed is None else missed] = 0.2
    excess = torch.linspace(3, -1, examples)
    found = labels.judge(
        excess,
        rates,
        surest_missed,
        torch.ones(examples, dtype=torch.bool),
        torch.where(flipped, (given + 1) % 5, given),
        probabilities,
    )
    return found, excess


@pytest.mark.parametrize("wrong", [0, 50, 200])
def test_as_many_are_suspect_as_are_wrong_although_the_model_has_memorised_them(wrong: int) -> None:
    found, excess = judged(wrong)
    assert found.known and int(found.suspect.sum()) == pytest.approx(wrong, abs=10)
    assert excess[found.suspect].min() > excess[~found.suspect].max() if wrong else not found.suspect.any()


@pytest.mark.parametrize(
    ("surest_missed", "expected"),
    [
        ((math.nan, math.nan), 10),
        ((0.08, 1.0), 80),
        ((0.08, 0.985), 80),  # the accuracy's standard error is 0.004, and at the end it is 0.99
        ((0.08, 0.96), 54),
        ((0.5, 1.0), 200),
        ((0.08, 0.5), 5),
    ],
)
def test_the_number_follows_the_surest_early_choices(
    surest_missed: tuple[float, float], expected: int
) -> None:
    """Less so where the model was still worse than in the end, and never above the examples that were missed."""
    given, probabilities = drawn(0, 6.0, examples=500, classes=5)
    flipped = torch.where(torch.arange(500) < 5, (given + 1) % 5, given)  # 1% of validation
    rates = torch.where(torch.arange(1_000) < 200, 0.2, 1.0)
    every = torch.ones(1_000, dtype=torch.bool)
    found = labels.judge(torch.linspace(3, -1, 1_000), rates, surest_missed, every, flipped, probabilities)
    assert found.known and int(found.suspect.sum()) == pytest.approx(expected, abs=4)


def test_what_the_model_chose_early_is_never_suspect() -> None:
    given, probabilities = drawn(0, 6.0, examples=500, classes=5)
    rates = torch.tensor([1.0] * 900 + [0.0] * 100)
    # Their losses are large, and yet the model chose the label in every early epoch.
    excess = torch.linspace(3, -1, 1_000)
    found = labels.judge(
        excess,
        rates,
        (0.2, 1.0),
        torch.ones(1_000, dtype=torch.bool),
        (given + 1) % 5 * (given < 1) + given * (given >= 1),
        probabilities,
    )
    assert not found.suspect[:900].any()


def test_a_weak_model_gives_no_number() -> None:
    for found in (judged(50, missed=500)[0], judged(50, sureness=0.5)[0]):
        assert not found.known and not found.suspect.any()
    assert found.accuracy < 0.6


def test_examples_that_no_early_epoch_used_go_by_the_final_model() -> None:
    given, probabilities = drawn(0, 6.0, examples=500, classes=5)
    rates = torch.full((100,), torch.nan)
    shifted = torch.where(torch.arange(500) < 50, (given + 1) % 5, given)
    found = labels.judge(
        torch.arange(100.0), rates, (math.nan, math.nan), torch.arange(100) >= 10, shifted, probabilities
    )
    assert found.known and found.suspect[:10].sum() >= 5 and not found.suspect[10:].any()

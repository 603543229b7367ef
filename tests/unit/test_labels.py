"""Which labels are suspect, and how many."""

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

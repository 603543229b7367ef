"""Leaving out what looks mislabelled."""

import torch

from subset_selection import Pool, Settings, create
from subset_selection.mislabelled import DropMislabelled, count_mislabelled
from subset_selection.uniform import RepeatedSampling
from tests.unit.reference import generator


def noisy(examples: int, wrong: int, seed: int) -> tuple[Pool, torch.Tensor]:
    """A good model's view of examples of which the first ``wrong`` carry another class's label."""
    draw = generator(seed)
    truth = torch.randint(5, (examples,), generator=draw)
    labels = truth.clone()
    labels[:wrong] = (truth[:wrong] + 1) % 5
    logits = torch.randn(examples, 5, generator=draw) + 6 * torch.nn.functional.one_hot(truth, 5)
    return Pool(labels, logits, torch.randn(examples, 4, generator=draw)), torch.arange(examples) < wrong


def test_about_as_many_as_there_are_and_the_right_ones() -> None:
    train, wrong = noisy(2000, 600, 0)
    validation, _ = noisy(500, 0, 1)
    count = count_mislabelled(train.losses(), validation.losses())
    assert 600 <= count <= 800
    dropped = train.losses().sort().indices[len(train) - count :]
    assert wrong[dropped].sum() >= 595


def test_clean_data_loses_next_to_nothing() -> None:
    train, _ = noisy(2000, 0, 0)
    for seed in range(1, 9):
        validation, _ = noisy(500, 0, seed)
        assert count_mislabelled(train.losses(), validation.losses()) == 0


def test_the_strategy_chooses_among_the_rest_and_the_note_says_so() -> None:
    train, wrong = noisy(1000, 300, 0)
    validation, _ = noisy(300, 0, 1)
    for name in ("rs2", "glister", "el2n", "adaptive-random", "craig"):
        strategy = create(name, Settings(), drop_mislabelled=True)
        subset = strategy.select(train, validation, 100, generator())
        assert len(subset.indices.unique()) == 100
        assert wrong[subset.indices].float().mean() < 0.12, (
            name
        )  # of 0.3; two standard errors stay undetected
        assert "look mislabelled" in subset.note


def test_the_budget_holds_where_too_few_look_right() -> None:
    train, wrong = noisy(100, 60, 0)
    validation, _ = noisy(300, 0, 1)
    subset = DropMislabelled(RepeatedSampling()).select(train, validation, 80, generator())
    assert len(subset.indices.unique()) == 80
    assert int(wrong[subset.indices].sum()) == 40  # all that look right, and the least suspect of the others


def test_rs2_goes_on_in_its_order_between_looks() -> None:
    train, wrong = noisy(1000, 300, 0)
    validation, _ = noisy(300, 0, 1)
    strategy = create("rs2", Settings(), drop_mislabelled=True)
    draw = generator()
    seen = [strategy.select(train, validation, 200, draw).indices]
    labels_only = (Pool(train.labels), Pool(validation.labels))
    seen += [strategy.select(*labels_only, 200, draw).indices for _ in range(2)]
    together = torch.cat(seen)
    assert len(together.unique()) == 600 and wrong[together].float().mean() < 0.05


def test_losses_are_averaged_over_the_looks() -> None:
    """An example that looks wrong once and right before is judged by both."""
    train, _ = noisy(500, 0, 0)
    validation, _ = noisy(200, 0, 1)
    assert train.logits is not None
    odd = Pool(train.labels, train.logits.roll(1, 1), train.features)
    strategy = DropMislabelled(RepeatedSampling())
    for look in (train, train, odd):
        strategy.select(look, validation, 100, generator())
    assert strategy._train_losses_N is not None
    torch.testing.assert_close(strategy._train_losses_N, (train.losses() + odd.losses()) / 2)

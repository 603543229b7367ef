from collections.abc import Mapping
from typing import Any

import pytest
import torch

from subset_selection import Pool, Refresh, Subset, selectors
from subset_trainer import models
from subset_trainer.data import MemoryDataset
from subset_trainer.training import plan
from subset_trainer.training.devices import Machine
from subset_trainer.training.place import Place
from subset_trainer.training.rounds import Data, FilterSelector, NativeSelector

CPU = Place(Machine(torch.device("cpu"), torch.float32))
EXAMPLES = 40


class First:
    """Takes the first examples, and notes what it was shown."""

    refresh: Refresh = "periodically"

    def __init__(self, needs_last_layer: bool = True, needs_validation: bool = False) -> None:
        self.needs_last_layer = needs_last_layer
        self.needs_validation = needs_validation
        self.seen: list[tuple[Pool, Pool]] = []

    def select(self, train: Pool, validation: Pool, budget: int, generator: torch.Generator) -> Subset:
        self.seen.append((train, validation))
        return Subset.of(torch.arange(budget))


def dataset(examples: int) -> MemoryDataset:
    """Each example's first number is its position."""
    inputs = torch.stack([torch.arange(examples).float(), torch.ones(examples)], dim=1)
    return MemoryDataset(inputs, torch.arange(examples) % 4)


def selector(strategy: First, budget: int, candidates_per_pick: float | None = None) -> NativeSelector:
    classifier = models.build("mlp", (2,), 4)
    data = Data(dataset(EXAMPLES), dataset(8))
    return NativeSelector(strategy, classifier, data, budget, CPU, candidates_per_pick)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_candidates_are_drawn_anew_and_picks_count_in_the_whole() -> None:
    strategy = First()
    chooses, draws = selector(strategy, 4, 2.5), generator()
    first, second = (chooses.select(draws).indices.tolist() for _ in range(2))
    assert first != second and len(first) == 4
    pool = strategy.seen[0][0]
    assert len(pool) == 10 and pool.logits is not None
    # The labels of those that were picked are the pool's first, and all are in the data's order.
    assert [index % 4 for index in first] == pool.labels[:4].tolist()
    assert first == sorted(first)


def test_there_are_no_more_candidates_than_examples() -> None:
    strategy = First()
    assert len(selector(strategy, 30, 3).select(generator()).indices) == 30
    assert len(strategy.seen[0][0]) == EXAMPLES


def test_few_candidates_are_steered_by_as_few_validation_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selectors, "LEAST_VALIDATION", 3)
    for candidates, expected in ((2.5, 3), (5.0, 4), (10.0, 8), (None, 8)):
        strategy = First(needs_validation=True)
        selector(strategy, 4, candidates).select(generator())
        assert len(strategy.seen[0][1]) == expected


def test_validation_is_looked_at_only_where_it_is_needed() -> None:
    for needed in (False, True):
        strategy = First(needs_validation=needed)
        selector(strategy, 5).select(generator())
        train, validation = strategy.seen[0]
        assert train.logits is not None and (validation.logits is not None) == needed
    blind = First(needs_last_layer=False)
    selector(blind, 5).select(generator())
    assert blind.seen[0][0].logits is None


def test_a_selector_is_asked_when_its_strategy_is_due(caplog: pytest.LogCaptureFixture) -> None:
    epochs = plan.epochs(4, 0.1, select_every=2, warm_fraction=0.0)
    for refresh, asked in (("once", [1]), ("periodically", [1, 3]), ("every epoch", [1, 2, 3, 4])):
        strategy = First()
        strategy.refresh = refresh  # type: ignore[assignment]
        chooses = selector(strategy, 5)
        with caplog.at_level("INFO"):
            choices = [chooses.choose(epoch, generator()) for epoch in epochs]
        found = [epoch.number for epoch, choice in zip(epochs, choices, strict=True) if choice]
        assert found == asked
        assert all(choice.size == 5 and choice.filter is None for choice in choices if choice)
        # One that is asked before every epoch is shown the model only when it is time.
        shown = [pool.logits is not None for pool, _ in strategy.seen]
        assert shown == ([True] * len(asked) if refresh != "every epoch" else [True, False, True, False])
    assert caplog.text.count("choosing 5 examples") == 3
    assert "epoch 3 of 4: choosing 5 examples" in caplog.text


def test_a_filter_reads_more_than_it_keeps_and_goes_on_with_what_it_has_learned() -> None:
    class Halves:
        candidates_per_pick = 2.0

        def keep(self, losses_B: torch.Tensor, indices_B: torch.Tensor, count: int) -> torch.Tensor:
            return torch.arange(count)

    made: list[Mapping[str, Any]] = []

    def make(state: Mapping[str, Any]) -> Halves:
        made.append(state)
        return Halves()

    first, again = (FilterSelector(make, EXAMPLES, 10) for _ in range(2))
    draws, (epoch, *_) = generator(), plan.epochs(2, 0.25, 1, 0.0)
    choice = first.choose(epoch, draws)
    assert choice is not None and choice.filter is not None
    assert (len(choice.subset.indices), choice.size) == (20, 10)
    again.load_state_dict(first.state_dict())
    resumed = again.choice_of(choice.subset)
    assert resumed.filter is not None and resumed.size == 10 and len(made) == 2
    state = draws.get_state()
    expected = first.select(draws).indices
    assert torch.equal(again.select(torch.Generator().set_state(state)).indices, expected)

"""Strategies against brute force, CORDS's own code, and the rules that hold for all of them."""

import logging
import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from subset_trainer.selection import STRATEGIES, Pool, create
from subset_trainer.selection.glister import Glister, ValidationState, _candidate_positions, _Remaining


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pool(examples: int, classes: int = 4, features: int = 6, seed: int = 0) -> Pool:
    draw = generator(seed)
    return Pool(
        torch.randint(classes, (examples,), generator=draw),
        torch.randn(examples, classes, generator=draw),
        torch.randn(examples, features, generator=draw),
    )


@given(
    name=st.sampled_from(sorted(STRATEGIES)),
    examples=st.integers(2, 60),
    share=st.floats(0.01, 1),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_the_budget_holds_without_duplicates_and_the_same_seed_repeats(
    name: str, examples: int, share: float, seed: int
) -> None:
    budget = examples if name == "full" else max(1, round(share * examples))
    train, validation = pool(examples, seed=seed), pool(9, seed=seed + 1)
    first = create(name, eta=0.1).select(train, validation, budget, generator(seed))
    again = create(name, eta=0.1).select(train, validation, budget, generator(seed))
    assert len(first.indices) == len(first.indices.unique()) == budget
    assert first.indices.dtype == torch.int64 and first.weights.dtype == torch.float32
    assert int(first.indices.min()) >= 0 and int(first.indices.max()) < examples
    assert torch.equal(first.indices, again.indices)


@pytest.mark.parametrize("name", ["random", "adaptive-random", "rs2", "glister"])
def test_another_seed_gives_another_subset(name: str) -> None:
    train, validation = pool(200), pool(20, seed=1)
    subsets = [
        set(create(name, eta=0.1).select(train, validation, 20, generator(seed)).indices.tolist())
        for seed in (0, 1)
    ]
    assert subsets[0] != subsets[1]


def test_rs2_visits_all_equally_often() -> None:
    strategy, draw = create("rs2", eta=0.1), generator()
    train = Pool(torch.zeros(10, dtype=torch.int64))
    visits = torch.zeros(10, dtype=torch.int64)
    for _ in range(10):  # 10 rounds of 7: each of 10 examples 7 times
        indices = strategy.select(train, train, 7, draw).indices
        assert len(indices.unique()) == 7
        visits[indices] += 1
    assert visits.tolist() == [7] * 10


def test_residuals_are_the_gradient_of_the_loss() -> None:
    examples = pool(12)
    assert examples.logits is not None
    logits = examples.logits.clone().requires_grad_()
    nn.functional.cross_entropy(logits, examples.labels, reduction="sum").backward()
    assert logits.grad is not None
    torch.testing.assert_close(examples.residuals, logits.grad)


def test_pools_without_logits_say_what_is_missing() -> None:
    with pytest.raises(ValueError, match="needs the last layer"):
        _ = Pool(torch.zeros(3, dtype=torch.int64)).residuals


def gradients(examples: Pool, logits: Tensor | None = None) -> Tensor:
    """The N × (C + C·D) matrix that the closed form avoids, by autograd through a real linear layer."""
    assert examples.logits is not None and examples.features is not None
    rows = []
    for row in range(len(examples)):
        output = (examples.logits if logits is None else logits)[row].clone().requires_grad_()
        loss = nn.functional.cross_entropy(output[None], examples.labels[row : row + 1])
        (residual,) = torch.autograd.grad(loss, output)
        rows.append(torch.cat([residual, torch.outer(residual, examples.features[row]).flatten()]))
    return torch.stack(rows)


def brute_force(train: Pool, validation: Pool, budget: int, eta: float, draw: torch.Generator) -> list[int]:
    assert validation.logits is not None and validation.features is not None
    classes = validation.logits.shape[1]
    per_example = gradients(train)
    logits = validation.logits.clone()
    remaining = _Remaining(len(train))
    picks = []
    for candidates in _candidate_positions(len(train), budget, draw):
        indices = remaining.at(candidates)
        gains = per_example[indices] @ gradients(validation, logits).mean(dim=0)
        best = int(gains.argmax())
        picks.append(int(indices[best]))
        remaining.remove(int(candidates[best]))
        step = per_example[picks[-1]]
        weights = step[classes:].view(classes, -1)
        logits = logits - eta * (step[:classes] + validation.features @ weights.T)
    return picks


@pytest.mark.parametrize("eta", [0.01, 0.5])
def test_glister_equals_brute_force_index_for_index(eta: float) -> None:
    train, validation = pool(60), pool(15, seed=1)
    subset = Glister(eta).select(train, validation, 20, generator(3))
    assert subset.indices.tolist() == brute_force(train, validation, 20, eta, generator(3))


class CordsModel(nn.Module):
    """Features in, logits out, behind CORDS's protocol."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, classes)

    def get_embedding_dim(self) -> int:
        return self.linear.in_features

    def forward(self, inputs: Tensor, last: bool = False, freeze: bool = False) -> Any:
        logits = self.linear(inputs)
        return (logits, inputs) if last else logits


@pytest.mark.parametrize(("examples", "classes", "budget", "eta"), [(300, 4, 40, 0.05), (200, 10, 60, 0.5)])
def test_glister_picks_what_cords_picks(
    examples: int, classes: int, budget: int, eta: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CORDS's own strategy, given the candidates that ours draws, chooses the same examples in the same order."""
    from cords.selectionstrategies.SL import GLISTERStrategy

    torch.manual_seed(0)
    model = CordsModel(7, classes).eval()
    sets = {}
    for name, size in (("train", examples), ("validation", 50)):
        inputs = torch.randn(size, 7)
        sets[name] = torch.utils.data.TensorDataset(inputs, torch.randint(classes, (size,)))

    remaining = _Remaining(examples)
    positions = iter(_candidate_positions(examples, budget, generator(5)))
    previous: list[tuple[Tensor, Tensor]] = []

    def sample(population: list[int], k: int) -> list[int]:
        if previous:  # what CORDS picked from the last candidates is what its population now lacks
            drawn, indices = previous[-1]
            still_there = set(population)
            picked = next(
                position for position, index in enumerate(indices.tolist()) if index not in still_there
            )
            remaining.remove(int(drawn[picked]))
        drawn = next(positions)
        previous.append((drawn, remaining.at(drawn).clone()))
        return list(dict.fromkeys(previous[-1][1].tolist()))

    monkeypatch.setattr(random, "sample", sample)
    cords = GLISTERStrategy(
        torch.utils.data.DataLoader(sets["train"], batch_size=64),
        torch.utils.data.DataLoader(sets["validation"], batch_size=64),
        model,
        nn.CrossEntropyLoss(reduction="none"),
        eta,
        "cpu",
        classes,
        True,
        "Supervised",
        "Stochastic",
        logging.getLogger("cords"),
    )
    expected, _ = cords.select(budget, model.state_dict())

    with torch.no_grad():
        pools = {
            name: Pool(data.tensors[1], model(data.tensors[0]), data.tensors[0])
            for name, data in sets.items()
        }
    ours = Glister(eta).select(pools["train"], pools["validation"], budget, generator(5))
    assert ours.indices.tolist() == expected


def test_a_glister_step_lowers_the_validation_loss() -> None:
    train, validation = pool(100), pool(30, seed=1)
    state = ValidationState(validation, eta=1e-3)
    gains = state.gains(train, torch.arange(100))
    assert validation.logits is not None

    def loss() -> float:
        return float(nn.functional.cross_entropy(state._logits_MC, validation.labels))

    before = loss()
    state.step(train, int(gains.argmax()))
    assert loss() < before
    # The gain is the drop per unit of step, to first order.
    assert before - loss() == pytest.approx(1e-3 * float(gains.max()), rel=0.05)


def test_candidates_are_always_among_those_that_remain() -> None:
    drawn = _candidate_positions(50, 50, generator())
    assert len(drawn) == 50
    assert all(int(positions.max()) < 50 - taken for taken, positions in enumerate(drawn))

"""GLISTER against brute force with autograd, and against CORDS's own code."""

import random
from collections.abc import Iterator
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from subset_selection import Pool, Settings
from subset_selection import glister as module
from subset_selection.glister import (
    Form,
    Glister,
    ValidationState,
    candidate_positions,
    cheapest_form,
)
from subset_selection.units import Units
from tests.unit.reference import Problem, generator, gradients, pool


def brute_force(
    train: Pool, validation: Pool, budget: int, eta: float, kind: str, draw: torch.Generator, rounds: int = 4
) -> list[int]:
    """Greedy on the explicit gradients of every example."""
    assert validation.logits is not None and validation.features is not None
    classes = validation.logits.shape[1]
    per_example = gradients(train)
    logits = validation.logits.clone()
    remaining = list(range(len(train)))
    positions = candidate_positions(len(train), budget, draw).tolist() if kind == "stochastic" else []
    size = max(1, budget // rounds) if kind == "rgreedy" else 1
    picks: list[int] = []
    while len(picks) < budget:
        mean = gradients(validation, logits).mean(dim=0)
        looked_at = positions[len(picks)] if kind == "stochastic" else range(len(remaining))
        order = sorted(looked_at, key=lambda at: -float(per_example[remaining[at]] @ mean))
        best = [remaining[at] for at in order[: min(size, budget - len(picks))]]
        if kind == "stochastic":  # the last takes the place of the picked one
            last = remaining.pop()
            if order[0] < len(remaining):
                remaining[order[0]] = last
        else:
            remaining = [index for index in remaining if index not in best]
        picks += best
        step = per_example[best].sum(dim=0)
        logits = logits - eta * (step[:classes] + validation.features @ step[classes:].view(classes, -1).T)
    return picks


@pytest.mark.parametrize("eta", [0.01, 0.5])
@pytest.mark.parametrize("kind", ["stochastic", "naive", "rgreedy"])
@pytest.mark.parametrize("form", get_args(Form))
def test_glister_equals_brute_force_index_for_index(
    kind: str, eta: float, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "cheapest_form", lambda *sizes: form)
    train, validation = pool(60, dtype=torch.float64), pool(15, seed=1, dtype=torch.float64)
    settings = Settings(eta=eta, scope="supervised", greedy=kind, greedy_rounds=4)  # type: ignore[arg-type]
    subset = Glister(settings).select(train, validation, 20, generator(3))
    assert subset.indices.tolist() == brute_force(train, validation, 20, eta, kind, generator(3))


def test_all_forms_of_the_gain_agree() -> None:
    train, validation = pool(50, 12, 9, dtype=torch.float64), pool(20, 12, 9, seed=1, dtype=torch.float64)
    states = {form: ValidationState(validation, 0.1, form) for form in get_args(Form)}
    residuals, features = train.all_rows()
    gains = {}
    for form, state in states.items():
        seen = state.kernel(features) if form == "known kernel" else features
        state.step(residuals[7:9], seen[7:9])
        gains[form] = state.gains(residuals, seen)
    torch.testing.assert_close(gains["kernel"], gains["gradient"])
    torch.testing.assert_close(gains["known kernel"], gains["gradient"])


def test_the_form_follows_the_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = pool(1000, 4, 64), pool(1000, 400, 64)
    guide = pool(50, 4, 64)
    units = Units.of_all(few)
    assert cheapest_form(few, guide, units, 100, 46) == "known kernel"
    monkeypatch.setattr(module, "KERNEL_KEPT", 0)
    assert cheapest_form(few, guide, units, 100, 46) == "gradient"
    assert cheapest_form(many, guide, units, 100, 46) == "kernel"


class OurCandidates:
    """Stands in for ``random.sample`` within CORDS, and hands it the candidates that ours draws.

    Args:
        searches: (units, picks) of each greedy search, in order.
    """

    def __init__(self, searches: list[tuple[int, int]], draw: torch.Generator) -> None:
        self._script = self._run(searches, draw)
        self._population: list[int] = []

    def _run(self, searches: list[tuple[int, int]], draw: torch.Generator) -> Iterator[list[int]]:
        for units, picks in searches:
            remaining = list(range(units))
            for drawn in candidate_positions(units, picks, draw).tolist():
                yield list(dict.fromkeys(remaining[at] for at in drawn))
                # CORDS has removed its pick from the population by the time of its next call.
                gone = [at for at in drawn if remaining[at] not in self._population]
                last = remaining.pop()
                if gone and gone[0] < len(remaining):
                    remaining[gone[0]] = last

    def __call__(self, population: list[int], k: int) -> list[int]:
        self._population = population
        return next(self._script)


SCOPES = {"supervised": "Supervised", "per-class": "PerClass"}
KINDS = {"stochastic": "Stochastic", "naive": "Naive", "rgreedy": "RGreedy"}


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("classes", "eta"), [(4, 0.05), (10, 0.5)])
def test_glister_picks_what_cords_picks(
    scope: str, kind: str, classes: int, eta: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CORDS's own strategy, given the candidates that ours draws, chooses the same examples in the same order."""
    problem = Problem(examples=240, validation=80, classes=classes)
    budget = 40
    searches = [(240, budget)] if scope == "supervised" else [(240 // classes, budget // classes)] * classes
    if kind == "stochastic":
        monkeypatch.setattr(random, "sample", OurCandidates(searches, generator(5)))
    rounds = 4 if scope == "supervised" else 2  # those that divide the budget: CORDS exceeds it otherwise
    expected = problem.glister(budget, eta, SCOPES[scope], KINDS[kind], rounds)
    settings = Settings(eta=eta, scope=scope, greedy=kind, greedy_rounds=rounds)  # type: ignore[arg-type]
    ours = Glister(settings).select(*problem.pools(), budget, generator(5))
    assert ours.indices.tolist() == expected


@pytest.mark.parametrize("kind", KINDS)
def test_glister_per_batch_picks_the_batches_that_cords_picks(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CORDS's batches are those of the data's order; a partition of ours in that order gives its answer."""
    problem = Problem(examples=320, validation=64, classes=5)
    picks = 6
    if kind == "stochastic":
        monkeypatch.setattr(random, "sample", OurCandidates([(20, picks)], generator(5)))
    expected = problem.glister(picks * 16, 0.1, "PerBatch", KINDS[kind], 3)

    def in_data_order(examples: int, size: int, draw: torch.Generator, device: torch.device) -> Units:
        return Units.batches(torch.arange(examples), size)

    monkeypatch.setattr(Units, "random_batches", in_data_order)
    settings = Settings(eta=0.1, scope="per-batch", greedy=kind, greedy_rounds=3, batch_size=16)  # type: ignore[arg-type]
    ours = Glister(settings).select(*problem.pools(), picks * 16, generator(5))
    assert ours.indices.tolist() == expected


def test_a_step_lowers_the_validation_loss_by_the_gain() -> None:
    train, validation = pool(100, dtype=torch.float64), pool(30, seed=1, dtype=torch.float64)
    state = ValidationState(validation, eta=1e-3)
    residuals, features = train.rows(torch.arange(100))
    gains = state.gains(residuals, features)
    best = gains.argmax().view(1)

    def loss() -> float:
        return float(nn.functional.cross_entropy(state._logits_MC, validation.labels))

    before = loss()
    state.step(residuals[best], features[best])
    assert before - loss() == pytest.approx(1e-3 * float(gains.max()), rel=0.05)


def test_candidates_are_always_among_those_that_remain() -> None:
    drawn = candidate_positions(50, 50, generator())
    assert len(drawn) == 50
    assert all(int(positions.max()) < 50 - taken for taken, positions in enumerate(drawn))


def test_a_class_that_validation_lacks_is_chosen_by_all_of_validation() -> None:
    train, validation = pool(80), pool(30, seed=1)
    without = validation.at((validation.labels != 2).nonzero().flatten())
    settings = Settings(scope="per-class", greedy="naive", eta=0.1)
    indices = Glister(settings).select(train, without, 40, generator()).indices
    of_class = (train.labels == 2).nonzero().flatten()
    expected = Glister(Settings(scope="supervised", greedy="naive", eta=0.1)).select(
        train.at(of_class), without, int((train.labels[indices] == 2).sum()), generator()
    )
    assert set(indices[train.labels[indices] == 2].tolist()) == set(of_class[expected.indices].tolist())


def test_a_large_validation_set_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VALIDATION_LIMIT", 10)
    seen: list[int] = []
    original = ValidationState.__init__

    def noted(self: ValidationState, validation: Pool, *rest: object) -> None:
        seen.append(len(validation))
        original(self, validation, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(ValidationState, "__init__", noted)
    Glister(Settings(scope="supervised")).select(pool(50), pool(30, seed=1), 5, generator())
    assert seen == [10]


def test_short_batches_give_their_mean_gradient() -> None:
    train = pool(10, dtype=torch.float64)
    units = Units.batches(torch.arange(10), 4)
    residuals, features = units.rows(train, torch.tensor([2]))
    product: Tensor = residuals.T @ features
    mean = gradients(train)[8:].mean(dim=0)[4:].view(4, 6)
    torch.testing.assert_close(product, mean)
    assert units.members(torch.tensor([2, 0])).tolist() == [8, 9, 0, 1, 2, 3]
    assert units.needed(4) == 2 and units.needed(10) == 3

"""KernelSHAP against games whose Shapley values are known."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from subset_trainer.insight.shapley import NoNumberError, is_exact, shapley_values

Game = Callable[[Tensor], Tensor]
MOST = 600


def values(game: Game, parts: int, seed: int = 0) -> Tensor:
    return shapley_values(game, parts, MOST, torch.Generator().manual_seed(seed))


def linear(weights: Tensor) -> Game:
    return lambda present: 3 + present.double() @ weights


def network(parts: int, seed: int = 0) -> Game:
    """Something without a closed form."""
    draw = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(*size, generator=draw) for size in ((parts, 16), (16,)))
    return lambda present: (present.float() @ first).relu() @ second


def by_definition(game: Game, parts: int) -> Tensor:
    """The mean over all orders of what each part adds to those before it, by the sizes of these."""
    coalitions = list(itertools.product((False, True), repeat=parts))
    worth = dict(zip(coalitions, game(torch.tensor(coalitions)).tolist(), strict=True))
    found = torch.zeros(parts, dtype=torch.float64)
    for before in coalitions:
        for part in (at for at in range(parts) if not before[at]):
            after = (*before[:part], True, *before[part + 1 :])
            orders = math.factorial(sum(before)) * math.factorial(parts - sum(before) - 1)
            found[part] += orders / math.factorial(parts) * (worth[after] - worth[before])
    return found


@pytest.mark.parametrize("parts", [1, 2, 5, 9, 40, 250])
def test_of_a_linear_game_they_are_the_weights(parts: int) -> None:
    """Whether all coalitions are looked at or a few of very many."""
    weights = torch.randn(parts, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(values(linear(weights), parts), weights, atol=1e-5, rtol=0)


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_where_coalitions_are_few_they_are_exact(parts: int) -> None:
    assert is_exact(parts, MOST)
    game = network(parts)
    torch.testing.assert_close(values(game, parts), by_definition(game, parts), atol=1e-5, rtol=0)


def test_where_they_are_many_they_come_near() -> None:
    """Three of twelve parts are of use only together: a third each, and none of the others'."""
    assert not is_exact(12, MOST)
    found = values(lambda present: present[:, [1, 4, 9]].all(1).double(), 12)
    expected = torch.zeros(12, dtype=torch.float64)
    expected[[1, 4, 9]] = 1 / 3
    torch.testing.assert_close(found, expected, atol=0.06, rtol=0)


def test_drawing_complements_too_makes_the_error_smaller() -> None:
    """Against captum's own KernelSHAP with as many evaluations."""
    from captum.attr import KernelShap

    game, expected = network(11), by_definition(network(11), 11)
    torch.manual_seed(0)
    alone = [
        KernelShap(game).attribute(
            torch.ones(1, 11), n_samples=MOST, perturbations_per_eval=64, return_input_shape=False
        )[0]
        for _ in range(3)
    ]
    paired = [values(game, 11, seed) for seed in range(3)]
    errors = [sum(float((one - expected).square().mean()) for one in some) for some in (alone, paired)]
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize("parts", [6, 30])
def test_they_add_up(parts: int) -> None:
    game = network(parts)
    whole, nothing = game(torch.tensor([[True] * parts, [False] * parts])).tolist()
    assert float(values(game, parts).sum()) == pytest.approx(whole - nothing, abs=1e-5)


def test_the_seed_alone_decides() -> None:
    game = network(20)
    first = values(game, 20)
    torch.manual_seed(99)
    assert torch.equal(values(game, 20), first)
    assert not torch.equal(values(game, 20, seed=1), first)


def test_nothing_has_no_parts() -> None:
    assert values(linear(torch.zeros(0, dtype=torch.float64)), 0).shape == (0,)


@pytest.mark.parametrize("parts", [1, 4, 30])
def test_what_is_no_number_is_not_explained(parts: int) -> None:
    with pytest.raises(NoNumberError):
        values(lambda present: torch.where(present.all(1), 1.0, torch.nan), parts)

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from subset_trainer.config import parse
from subset_trainer.errors import UserError
from subset_trainer.training import plan


def test_the_budget_is_rounded() -> None:
    assert [plan.budget(1000, 0.3), plan.budget(999, 0.1), plan.budget(7, 1.0)] == [300, 100, 7]


@pytest.mark.parametrize(("examples", "fraction", "rounded"), [(100, 0.001, 0), (100, 0.01, 1)])
def test_a_budget_too_small_names_the_fraction_that_would_do(
    examples: int, fraction: float, rounded: int
) -> None:
    with pytest.raises(UserError) as caught:
        plan.budget(examples, fraction)
    assert str(caught.value) == (
        f"hyperparameter fraction={fraction} of 100 training examples rounds to {rounded}; "
        "expected at least 2 examples, so a fraction of at least 0.02"
    )


@pytest.mark.parametrize(
    ("strategy", "examples", "epochs", "budget"),
    # Of 1,000 training examples, 300 an epoch; of 200 validation examples, 150 in twice as many epochs.
    [
        ("training-and-validation", 1200, 10, 300),
        ("validation-only", 400, 10, 300),
        ("validation-only", 200, 20, 150),
        ("validation-only", 100, 30, 100),
    ],
)
def test_the_baselines_of_validation_labels_see_as_many_samples(
    strategy: str, examples: int, epochs: int, budget: int
) -> None:
    hp = parse({"strategy": strategy, "fraction": 0.3, "epochs": 10})
    made = plan.Plan.of(hp, examples, given=1000)
    assert (len(made.epochs), made.budget) == (epochs, budget)
    assert len(made.epochs) * made.budget == 10 * 300


def test_selection_is_due_at_the_first_epoch_and_every_so_many_from_there() -> None:
    epochs = plan.epochs(7, 0.1, select_every=3, warm_fraction=0)
    assert [epoch.number for epoch in epochs if epoch.selection_due] == [1, 4, 7]
    assert [epoch.number for epoch in epochs if epoch.first_on_subset] == [1]
    assert not any(epoch.everything for epoch in epochs)


def test_a_warm_start_replaces_subset_epochs_and_selection_follows_it() -> None:
    epochs = plan.epochs(20, 0.1, select_every=4, warm_fraction=0.5)
    assert [epoch.number for epoch in epochs if epoch.everything] == [1]
    assert [epoch.number for epoch in epochs if epoch.selection_due] == [2, 6, 10]
    visits = sum(1.0 if epoch.everything else 0.1 for epoch in epochs)
    assert visits == pytest.approx(2.0)


@given(visits=st.integers(2, 5000), batch_size=st.integers(2, 600))
def test_batches_cover_everything_once_and_none_is_single(visits: int, batch_size: int) -> None:
    split = torch.arange(visits).tensor_split(plan.batch_count(visits, batch_size))
    sizes = [len(batch) for batch in split]
    assert torch.equal(torch.cat(split), torch.arange(visits))
    assert min(sizes) >= 2 and max(sizes) - min(sizes) <= 1
    assert max(sizes) <= max(batch_size, 3)


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nearly_zero() -> None:
    factors = [plan.learning_rate_factor(step, 100, 0.15) for step in range(100)]
    assert factors[0] == pytest.approx(1 / 16)
    assert max(factors) == 1.0 and factors.index(1.0) == 15
    assert factors[15:] == sorted(factors[15:], reverse=True)
    assert 0 < factors[-1] < 0.001


def test_a_single_update_is_made_at_the_full_rate() -> None:
    assert plan.learning_rate_factor(0, 1, 0.15) == 1.0


def test_the_last_epochs_visit_everything_where_a_strategy_asks_for_it() -> None:
    epochs = plan.epochs(16, 1.0, select_every=4, warm_fraction=0, final_share=0.125)
    assert [epoch.number for epoch in epochs if epoch.everything] == [15, 16]
    assert not any(epoch.selection_due for epoch in epochs[-2:])


@pytest.mark.parametrize(("rule", "expected"), [("linear", 0.2), ("sqrt", 0.1), ("none", 0.05)])
def test_the_learning_rate_follows_the_number_of_processes(rule: str, expected: float) -> None:
    assert plan.scaled_learning_rate(0.05, 4, rule) == pytest.approx(expected)

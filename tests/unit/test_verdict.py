import pytest

from deploy.results.compare import Run
from deploy.results.verdict import losses, sentence


def run(
    strategy: str, fraction: float, seed: int, accuracy: float, epochs: int = 10, test: bool = True
) -> Run:
    scores = {"loss": 1.0, "accuracy": accuracy}
    summary = {
        "status": "completed",
        "strategy": strategy,
        "fraction": fraction,
        "epochs": epochs,
        "seed": seed,
        "samples_visited": round(1000 * fraction * epochs),
        "validation": scores,
        "test": scores if test else None,
        "seconds": {"training": 10 * fraction * epochs, "selection": 0.0, "evaluation": 0.0},
    }
    return Run(f"{strategy}-{fraction}-{seed}", summary, [])


def runs(accuracies: dict[tuple[str, float], list[float]]) -> list[Run]:
    return [
        run(strategy, fraction, seed, accuracy)
        for (strategy, fraction), row in accuracies.items()
        for seed, accuracy in enumerate(row)
    ]


FULL = {("full", 1.0): [0.90, 0.91, 0.92]}


def test_the_bound_is_students() -> None:
    (loss,) = losses(runs({**FULL, ("rs2", 0.3): [0.88, 0.90, 0.91]}))
    # Differences −2, −1, −1 points: mean −4/3, deviation 1/√3, error 1/3; t for two degrees of freedom is 2.920.
    assert loss.at_most == pytest.approx(0.01 * (4 / 3 + 2.91999 / 3), abs=1e-6)
    assert (loss.strategy, loss.fraction) == ("rs2", 0.3)
    assert loss.time == pytest.approx(0.3)


def test_the_verdict_goes_by_the_metric() -> None:
    made = runs({**FULL, ("rs2", 0.3): [0.90, 0.91, 0.92]})
    for one in made:
        worse = 0.2 if one.summary["strategy"] == "rs2" else 0.0
        one.summary["metric"] = "macro_f1"
        one.summary["test"] = {**one.summary["test"], "macro_f1": one.summary["test"]["accuracy"] - worse}
    assert sentence(made, 0.01).startswith("None of these keeps within 1 point of macro-F1")
    made[0].summary["metric"] = "accuracy"
    assert sentence(made, 0.01).endswith("the runs do not share a measure (metric: accuracy, macro_f1).")


def test_the_smallest_fraction_that_keeps_to_the_tolerance() -> None:
    made = runs(
        {
            **FULL,
            ("rs2", 0.5): [0.899, 0.91, 0.919],
            ("rs2", 0.3): [0.895, 0.905, 0.914],
            ("glister", 0.1): [0.80, 0.85, 0.86],
        }
    )
    assert sentence(made, 0.01).startswith("30% is enough: `rs2` at 30% loses 0.5 points on average")
    assert "over 3 seeds (tolerated: 1), in 30% of the time of the full data." in sentence(made, 0.01)
    assert sentence(made, 0.002).startswith("50% is enough: `rs2` at 50%")
    assert sentence(made, 0.15).startswith("10% is enough: `glister` at 10%")
    assert sentence(made, 0.0001).startswith("None of these keeps within 0.01 points of accuracy")
    assert "the nearest is `rs2` at 50%" in sentence(made, 0.0001)


def test_a_mean_within_the_tolerance_is_not_enough_where_seeds_differ() -> None:
    made = runs({**FULL, ("rs2", 0.3): [0.86, 0.91, 0.96]})
    assert "None of these" in sentence(made, 0.01)


def test_full_data_for_fewer_epochs_is_an_answer_too() -> None:
    made = runs(FULL) + [run("full", 1.0, seed, 0.9 + seed / 100, epochs=3) for seed in range(3)]
    assert sentence(made, 0.01).startswith("30% is enough: `full` for 30% of the epochs")


def test_one_seed_cannot_know() -> None:
    made = runs({("full", 1.0): [0.9], ("rs2", 0.3): [0.9]})
    assert "cannot be known from one seed" in sentence(made, 0.01)


def test_without_a_full_run_there_is_no_answer() -> None:
    assert "no finished run on all of the data" in sentence(runs({("rs2", 0.3): [0.9, 0.9]}), 0.01)
    assert "no other run has the seed of one on all of the data" in sentence(
        runs({("full", 1.0): [0.9]}), 0.01
    )


def test_seeds_are_compared_with_the_full_run_of_the_same_seed() -> None:
    made = [
        run("full", 1.0, 0, 0.9),
        run("full", 1.0, 7, 0.8),
        run("rs2", 0.5, 7, 0.79),
        run("rs2", 0.5, 9, 0.1),
    ]
    (loss,) = losses(made)
    assert list(loss.differences) == pytest.approx([-0.01])


def test_validation_counts_where_a_run_was_not_tested() -> None:
    made = [run("full", 1.0, 0, 0.9, test=False), run("rs2", 0.5, 0, 0.8)]
    assert list(losses(made)[0].differences) == pytest.approx([-0.1])


def test_runs_of_other_hyperparameters_are_other_rows() -> None:
    made = runs({**FULL, ("rs2", 0.3): [0.9, 0.9, 0.9]})
    for run_of_full in made:
        run_of_full.summary["hyperparameters"] = {"fraction": run_of_full.summary["fraction"], "model": "cnn"}
    other = run("rs2", 0.3, 0, 0.5)
    other.summary["hyperparameters"] = {"fraction": 0.3, "model": "mlp"}
    assert sorted(len(loss.differences) for loss in losses([*made, other])) == [1, 3]

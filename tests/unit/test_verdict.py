from dataclasses import replace

import numpy as np
import pytest

from deploy.results.answers import Answer, answer
from deploy.results.compare import Run, cells_of, rows
from deploy.results.predictions import Predictions
from deploy.results.verdict import sentence


def run(
    strategy: str, fraction: float, seed: int, accuracy: float, epochs: int = 10, test: bool = True
) -> Run:
    scores = {"loss": 1.0, "accuracy": accuracy}
    summary = {
        "status": "completed",
        "examples": {"training": 1000, "validation": 10**6, "test": 10**6 if test else None},
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


def judged(made: list[Run], tolerance: float = 0.01) -> Answer:
    found = answer(made, tolerance)
    assert isinstance(found, Answer)
    return found


def test_the_smallest_share_that_keeps_to_the_tolerance() -> None:
    made = runs(
        {
            **FULL,
            ("rs2", 0.5): [0.899, 0.91, 0.919],
            ("rs2", 0.3): [0.895, 0.905, 0.914],
            ("glister", 0.1): [0.80, 0.81, 0.82],
        }
    )
    assert sentence(made, 0.01).startswith(
        "Train less: 30% of the samples seen is enough for a loss of at most 1 point of accuracy. `rs2` at 30% loses "
        "0.5 points on average and at most 0.6, in 30% of the full runs' total time."
    )
    assert "Whether" not in sentence(made, 0.01)
    assert sentence(made, 0.01).endswith(
        "is at most 5%, over all 3 candidates together (3 seeds, 1,000,000 test examples)."
    )
    assert sentence(made, 0.003).startswith("Train less: 50% of the samples seen is enough")
    assert sentence(made, 0.15).startswith("Train less: 10% of the samples seen is enough")
    assert "is not yet known. `rs2` at 50% loses" in sentence(made, 0.0008)


def test_what_loses_more_for_certain() -> None:
    made = runs({**FULL, ("rs2", 0.5): [0.85, 0.86, 0.87], ("rs2", 0.3): [0.7, 0.71, 0.72]})
    assert sentence(made, 0.01).startswith(
        "Train less: no share of the samples seen that was tried keeps within 1 point of accuracy. The nearest is "
        "`rs2` at 50%, which loses 5.0 points on average and at least 4.9."
    )


def test_a_gain_is_called_a_gain() -> None:
    made = runs({**FULL, ("rs2", 0.3): [0.94, 0.95, 0.961]})
    assert "`rs2` at 30% gains 4.0 points on average and at least 3.9, in" in sentence(made, 0.01)
    made = runs({**FULL, ("rs2", 0.3): [0.9, 0.916, 0.921]})
    assert "gains 0.2 points on average and loses at most 0.3, in" in sentence(made, 0.01)


def test_examples_and_samples_are_two_questions() -> None:
    made = runs({**FULL, ("rs2", 0.3): [0.90, 0.91, 0.921], ("random", 0.5): [0.90, 0.91, 0.919]})
    said = sentence(made, 0.01)
    assert "Train less: 30% of the samples seen is enough" in said
    assert "Label or keep less: 50% of the examples is enough" in said
    assert said.count("over both candidates together") == 1
    assert "Label" not in sentence([one for one in made if one.summary["strategy"] != "random"], 0.01)


def test_the_verdict_goes_by_the_metric() -> None:
    made = runs({**FULL, ("rs2", 0.3): [0.90, 0.91, 0.92]})
    for one in made:
        worse = 0.2 if one.summary["strategy"] == "rs2" else 0.0
        one.summary["metric"] = "macro_f1"
        one.summary["test"] = {**one.summary["test"], "macro_f1": one.summary["test"]["accuracy"] - worse}
    assert "keeps within 1 point of macro-F1" in sentence(made, 0.01)
    assert "loses 20.0 points" in sentence(made, 0.01)
    made[0].summary["metric"] = "accuracy"
    assert sentence(made, 0.01).endswith("the runs do not share a measure (metric: accuracy, macro_f1).")


def test_a_mean_within_the_tolerance_is_not_enough_where_seeds_differ() -> None:
    made = runs({**FULL, ("rs2", 0.3): [0.86, 0.91, 0.96]})
    assert "not yet known" in sentence(made, 0.01)


def test_a_tie_is_not_enough_on_a_small_test_set() -> None:
    made = runs({**FULL, ("rs2", 0.3): FULL["full", 1.0]})
    assert "is enough" in sentence(made, 0.01)
    for one in made:
        one.summary["examples"]["test"] = 100
    assert "not yet known" in sentence(made, 0.01)
    assert "3 seeds, 100 test examples" in sentence(made, 0.01)


def test_paired_predictions_know_more_than_a_small_test_set_alone() -> None:
    labels = np.arange(2000) % 2
    made = []
    for seed in range(3):
        for strategy, wrong in (("full", 100), ("rs2", 104)):
            predicted = np.where(np.arange(2000) < wrong + seed, 1 - labels, labels)
            one = run(strategy, 1.0 if strategy == "full" else 0.3, seed, float((labels == predicted).mean()))
            one.summary["examples"]["test"] = 2000
            made.append(replace(one, predictions=Predictions(labels, predicted, np.empty(0))))
    assert "30% of the samples seen is enough" in sentence(made, 0.01)
    assert "not yet known" in sentence([replace(one, predictions=None) for one in made], 0.01)


def test_full_data_for_fewer_epochs_is_an_answer_too() -> None:
    made = runs(FULL) + [run("full", 1.0, seed, 0.9 + seed / 100, epochs=3) for seed in range(3)]
    assert "`full` for 30% of the epochs" in sentence(made, 0.01)


def test_one_seed_cannot_know() -> None:
    made = runs({("full", 1.0): [0.9], ("rs2", 0.3): [0.9]})
    assert "cannot be known from one seed: an answer takes at least 3" in sentence(made, 0.01)


def test_without_a_full_run_there_is_no_answer() -> None:
    assert "no finished run on all of the data" in sentence(runs({("rs2", 0.3): [0.9, 0.9]}), 0.01)
    apart = [run("full", 1.0, 0, 0.9), run("rs2", 0.3, 1, 0.9)]
    assert "no other run shares its seed with a run on all of the data" in sentence(apart, 0.01)


def test_seeds_are_compared_with_the_full_run_of_the_same_seed() -> None:
    made = [
        run("full", 1.0, 0, 0.9),
        run("full", 1.0, 7, 0.8),
        run("rs2", 0.5, 7, 0.79),
        run("rs2", 0.5, 9, 0.1),
    ]
    (one,) = judged(made).judged
    assert one.seeds == 1
    assert one.mean == pytest.approx(-0.01)


def test_validation_counts_where_a_run_was_not_tested() -> None:
    made = [run("full", 1.0, 0, 0.9, test=False), run("rs2", 0.5, 0, 0.8)]
    assert judged(made).judged[0].mean == pytest.approx(-0.1)
    assert "1,000,000 validation examples" in sentence(made, 0.01)


def test_runs_of_other_hyperparameters_are_other_rows() -> None:
    made = runs({**FULL, ("rs2", 0.3): [0.9, 0.9, 0.9]})
    for one in made:
        one.summary["hyperparameters"] = {"fraction": one.summary["fraction"], "model": "cnn"}
    other = run("rs2", 0.3, 0, 0.5)
    other.summary["hyperparameters"] = {"fraction": 0.3, "model": "mlp"}
    found = judged([*made, other])
    assert sorted(one.seeds for one in found.judged) == [1, 3]
    assert sorted(row.name for row in found.rows) == ["rs2:model=cnn", "rs2:model=mlp"]


def test_soft_pruning_is_one_row_whatever_its_share() -> None:
    made = runs(FULL) + [run("infobatch", 0.7 + seed / 100, seed, 0.9 + seed / 100) for seed in range(3)]
    for one in made:
        one.summary["hyperparameters"] = {"fraction": 0.3}
    (row,) = judged(made).rows
    assert str(row) == "`infobatch`"
    assert row.share == pytest.approx(0.71)


def searched(name: str) -> Run:
    """A run with `fraction=auto` that kept half after six trainings of 40 s and 9,000 samples together."""
    one = run("rs2", 0.5, 0, 0.88)
    asked = {"sentence": "50% of the samples seen is within a point of all of them (95%): 88.0%"}
    answer = {**asked, "samples_visited": 9000}
    seconds = {**one.summary["seconds"], "training": 40.0}
    return replace(one, name=name, summary={**one.summary, "answer": answer, "seconds": seconds})


def test_a_search_is_quoted_and_is_no_candidate() -> None:
    made = runs({**FULL, ("rs2", 0.3): [0.90, 0.91, 0.921]})
    one = searched("job-7")
    said = sentence([*made, one], 0.01)
    assert said.startswith("Train less: 30% of the samples seen is enough")
    assert said.endswith(
        "One job, `job-7` with `fraction=auto`, says: 50% of the samples seen is within a point of all of them (95%): "
        "88.0%."
    )
    assert len(judged([*made, one]).rows) == 1
    # By itself it needs no run on all of the data.
    assert sentence([one], 0.01).startswith("One job, `job-7`") and "cannot be said" not in sentence(
        [one], 0.01
    )
    assert sentence([one, made[-1]], 0.01).endswith(
        "there is no finished run on all of the data to compare with."
    )


def test_a_search_costs_all_of_its_trainings() -> None:
    made = [*runs(FULL), searched("job-7")]
    row = rows(made)[-1]
    assert (row.samples_visited, row.seconds_total) == (9000, 40)
    assert row.speedup == pytest.approx(100 / 40)
    assert cells_of(row)[1] == "0.5 (auto)" and cells_of(rows(made)[0])[1] == "1"


def test_what_is_equal_neither_loses_nor_gains_zero_points() -> None:
    said = sentence(runs({**FULL, ("rs2", 0.3): FULL["full", 1.0]}), 0.01)
    assert "`rs2` at 30% equals the full runs on average and loses at most 0.1 points, in 30%" in said
    assert "0.0" not in said


def test_the_level_is_not_said_of_an_answer_that_was_not_given() -> None:
    lost = runs({**FULL, ("rs2", 0.5): [0.85, 0.86, 0.87], ("glister", 0.3): [0.89, 0.905, 0.917]})
    for made in (lost, runs({("full", 1.0): [0.9], ("rs2", 0.3): [0.9]})):
        said = sentence(made, 0.01)
        assert "A share is called enough only if the chance that it truly loses more is at most 5%" in said
        assert "The chance" not in said


def test_too_few_seeds_are_said_once_for_both_questions() -> None:
    said = sentence(runs({("full", 1.0): [0.9], ("rs2", 0.3): [0.9], ("random", 0.3): [0.8]}), 0.01)
    assert said.startswith(
        "Train less; label or keep less: whether less of the samples seen, or of the examples, costs more than 1 point "
        "of accuracy cannot be known from one seed"
    )
    assert said.count("cannot be known") == 1


def test_full_runs_alone_are_called_that() -> None:
    assert sentence(runs(FULL), 0.01).endswith("all finished runs are on all of the data.")


def test_small_shares_are_percentages_too() -> None:
    said = sentence(runs({**FULL, ("rs2", 0.0004): FULL["full", 1.0]}), 0.01)
    assert said.startswith("Train less: 0.04% of the samples seen is enough")
    assert "in 0.04% of the full runs' total time" in said

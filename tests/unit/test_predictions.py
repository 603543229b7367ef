from pathlib import Path

import numpy as np
import pytest

from deploy.results.predictions import Predictions, of_test, read
from subset_trainer.errors import UserError
from subset_trainer.training.measures import area_under_curve

RANDOM = np.random.default_rng(0)


def drawn(count: int = 300, classes: int = 2, random: np.random.Generator = RANDOM) -> Predictions:
    labels = random.choice(classes, count, p=np.arange(1, classes + 1) / sum(range(1, classes + 1)))
    scores = labels + random.normal(size=count)
    predicted = (
        (scores > 0.5).astype(int) if classes == 2 else np.where(random.random(count) < 0.7, labels, 0)
    )
    return Predictions(labels, predicted, scores if classes == 2 else np.empty(0))


def measured(metric: str, made: Predictions) -> float:
    import torch
    from sklearn import metrics

    if metric == "auc":
        value = area_under_curve(torch.tensor(made.labels), torch.tensor(made.scores))
        assert value is not None
        return value
    if metric == "macro_f1":
        return float(metrics.f1_score(made.labels, made.predicted, average="macro"))
    of = metrics.accuracy_score if metric == "accuracy" else metrics.balanced_accuracy_score
    return float(of(made.labels, made.predicted))


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "balanced_accuracy", "auc"])
def test_contributions_have_the_measure_and_its_error(metric: str) -> None:
    made = drawn()
    assert made.contributions(metric).mean() == pytest.approx(measured(metric, made))
    # The deviation over many test sets is the error that the contributions of one foretell.
    random = np.random.default_rng(1)
    sets = [drawn(random=random) for _ in range(600)]
    foretold = np.mean([one.contributions(metric).std() for one in sets]) / np.sqrt(300)
    assert np.std([measured(metric, one) for one in sets]) == pytest.approx(foretold, rel=0.12)


def test_of_several_classes() -> None:
    made = drawn(classes=4)
    for metric in ("accuracy", "macro_f1", "balanced_accuracy"):
        assert made.contributions(metric).mean() == pytest.approx(measured(metric, made))


def test_pairing_tells_what_seeds_cannot_reduce() -> None:
    random = np.random.default_rng(2)
    count, seeds = 400, 3
    labels = np.zeros(count, int)

    def runs(chances: np.ndarray) -> list[Predictions]:
        return [
            Predictions(labels, (random.random(count) > chances).astype(int), np.empty(0))
            for _ in range(seeds)
        ]

    # The same chance in both rows: nothing but the runs' own luck differs.
    chances = random.choice([0.6, 1.0], count, p=[0.2, 0.8])
    shared, alone = np.mean(
        [
            (found.shared, found.alone)
            for _ in range(50)
            if (found := of_test("accuracy", runs(chances), runs(chances)))
        ],
        0,
    )
    assert alone == pytest.approx(2 * 0.2 * 0.6 * 0.4 / count / seeds, rel=0.1)
    assert shared < 0.3 * alone
    # One row never gets a tenth of the examples.
    hard = np.where(np.arange(count) < 40, 0.0, chances)
    found = of_test("accuracy", runs(hard), runs(chances))
    assert found is not None and found.shared > 0.05 / count


def test_a_tie_keeps_an_error() -> None:
    same = drawn()
    found = of_test("accuracy", [same] * 3, [same] * 3)
    assert found is not None
    assert found.shared == pytest.approx(2 / 300**2)
    assert found.alone == 0


def test_other_test_sets_are_not_paired() -> None:
    assert of_test("accuracy", [drawn()], [drawn(200)]) is None


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    assert read(tmp_path / "none.npz") is None
    (tmp_path / "bad.npz").write_bytes(b"PK nothing")
    with pytest.raises(UserError, match="does not hold predictions"):
        read(tmp_path / "bad.npz")

"""The measures beside accuracy."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from subset_trainer.training.measures import Score, Tally, area_under_curve
from subset_trainer.training.parallel.ranks import Ranks
from subset_trainer.training.plan import Epoch
from subset_trainer.training.reports import EpochReport, totals

CPU = torch.device("cpu")


@pytest.mark.parametrize(("classes", "labelled"), [(2, 2), (5, 5), (5, 3), (2, 1)])
def test_they_are_those_of_scikit_learn(classes: int, labelled: int) -> None:
    draw = np.random.default_rng(classes)
    labels = draw.integers(labelled, size=90)
    # Rounded, so that there are ties.
    logits = np.round(draw.normal(size=(90, classes)) + np.eye(classes)[labels], 1).astype(np.float32)
    tally = Tally(classes)
    for part in np.array_split(np.arange(90), 4):
        tally.add(torch.from_numpy(logits[part]), torch.from_numpy(labels[part]))
    score = tally.score(0.5, 0.25, Ranks(), CPU)
    predicted = logits.argmax(1)
    assert (score.loss, score.accuracy) == (0.5, 0.25)
    assert score.macro_f1 == pytest.approx(f1_score(labels, predicted, average="macro", zero_division=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of predicted classes that nothing is labelled with
        assert score.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, predicted))
    if (classes, labelled) == (2, 2):
        assert score.auc == pytest.approx(roc_auc_score(labels, logits[:, 1] - logits[:, 0]))
    else:
        assert score.auc is None and "auc" not in score.measures()


def test_ties_count_half() -> None:
    assert area_under_curve(torch.tensor([0, 1, 0, 1]), torch.tensor([0.0, 0.0, 1.0, 1.0])) == 0.5


def report(number: int, accuracy: float, macro_f1: float | None) -> EpochReport:
    validation = Score(1.0, accuracy, macro_f1)
    return EpochReport(
        Epoch(number, 3, True), None, 10, Score(1.0, 0.5), validation, 0.1, 1.0, 0.0, 0.0, 10 * number
    )


def test_the_best_epoch_is_by_the_metric() -> None:
    reports = [report(1, 0.7, 0.6), report(2, 0.9, 0.4), report(3, 0.8, 0.5)]
    assert totals(reports)["best_epoch"] == 2
    by_f1 = totals(reports, "macro_f1")
    assert (by_f1["best_epoch"], by_f1["best_validation_accuracy"]) == (1, 0.9)
    assert by_f1["validation"] == {"loss": 1.0, "accuracy": 0.8, "macro_f1": 0.5}


def test_reports_of_an_earlier_version_are_read() -> None:
    packed = report(1, 0.7, 0.6).packed()
    assert EpochReport.unpacked(packed, [Epoch(1, 3, True)]) == report(1, 0.7, 0.6)
    packed["validation"] = [1.0, 0.7]
    old = EpochReport.unpacked(packed, [Epoch(1, 3, True)])
    assert old.validation == Score(1.0, 0.7)
    assert totals([old, report(2, 0.6, 0.5)], "macro_f1")["best_epoch"] == 2

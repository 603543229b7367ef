"""Labels by crowd-kit, beside labels by hand and a Dawid–Skene of our own."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import crowds
from benchmarks.crowds import crowd
from deploy.labels import consolidation
from deploy.labels.ground_truth import Answer, Item, Label


def items(*votes: str) -> list[Item]:
    """A word an item, a letter a worker's answer: workers are `w0`, `w1`, …; a blank is no answer."""
    return [
        Item(
            {"source": vote},
            tuple(Answer(f"w{n}", letter) for n, letter in enumerate(vote) if letter != " "),
        )
        for vote in votes
    ]


def test_majority_by_hand() -> None:
    labels, ties = consolidation.consolidate(
        items("aab", "bb", "", "ab", " c", "cbba"), ("c", "b", "a"), "majority"
    )
    assert labels == [
        Label(2, "a", 2 / 3),
        Label(1, "b", 1.0),
        None,
        # A tie: the first of the two in the order given.
        Label(1, "b", 0.5),
        # One answer is no evidence, says Ground Truth.
        Label(0, "c", 0.0),
        Label(1, "b", 0.5),
    ]
    assert ties == [3]


def dawid_skene(votes: np.ndarray, classes: int, rounds: int = 100) -> np.ndarray:
    """[N, C] from votes [N, W], all of them given: the textbook's EM from majority's shares."""
    one_hot = np.eye(classes)[votes]  # [N, W, C]
    posterior = one_hot.mean(1)
    for _ in range(rounds):
        prior = posterior.mean(0)
        confusion = np.einsum("nk,nwc->wkc", posterior, one_hot)
        confusion = np.maximum(confusion, 1e-10)
        confusion /= confusion.sum(2, keepdims=True)
        logs = np.log(np.maximum(prior, 1e-10)) + np.einsum("nwc,wkc->nk", one_hot, np.log(confusion))
        posterior = np.exp(logs - logs.max(1, keepdims=True))
        posterior /= posterior.sum(1, keepdims=True)
    return posterior


@pytest.mark.parametrize("seed", [0, 1])
def test_dawid_skene_is_the_textbooks(seed: int) -> None:
    # Few items, where the sums are easily converged; the classes in another order than crowd-kit meets them.
    few = crowd(seed, 0.8, 1, 60)[0]
    classes = ("c", "a", "b")
    votes = np.array([[classes.index(answer.label) for answer in item.answers] for item in few])
    found = consolidation.probabilities(few, classes, "dawid-skene")
    expected = dawid_skene(votes, 3)
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.95
    np.testing.assert_allclose(found.sum(1), 1.0)
    assert np.abs(found - expected).mean() < 0.02


@pytest.mark.parametrize("seed", range(3))
def test_an_adversary_misleads_the_majority_and_not_dawid_and_skene(seed: int) -> None:
    given, truth = crowd(seed)
    by_model = consolidation.consolidate(given, ("a", "b", "c"), "dawid-skene")[0]
    by_majority = consolidation.consolidate(given, ("a", "b", "c"), "majority")[0]
    assert crowds.accuracy(by_model, truth) > 0.97
    assert crowds.accuracy(by_majority, truth) < crowds.accuracy(by_model, truth) - 0.05


def test_one_answer_of_a_known_worker_counts_by_that_workers_record() -> None:
    given, _ = crowd(0)
    # The adversary alone, and somebody who is met nowhere else.
    alone = [Item({"source": "x"}, (Answer("w4", "b"),)), Item({"source": "y"}, (Answer("new", "b"),))]
    labels, _ = consolidation.consolidate([*given, *alone], ("a", "b", "c"), "dawid-skene")
    known, unknown = labels[-2:]
    assert known is not None and known.name == "a" and known.confidence > 0.9
    assert unknown is not None and unknown.confidence == 0.0


def test_two_who_disagree_on_everything_are_ties_by_either_method() -> None:
    for method in consolidation.METHODS:
        labels, ties = consolidation.consolidate(items("ab", "ba"), ("a", "b"), method)
        assert ties == [0, 1] and {label.name for label in labels if label} == {"a"}, method


def test_a_difference_of_rounding_is_a_tie(monkeypatch: pytest.MonkeyPatch) -> None:
    close = np.array([[0.5 - 1e-9, 0.5 + 1e-9], [0.49, 0.51]])
    monkeypatch.setattr(consolidation, "probabilities", lambda *_: close)
    labels, ties = consolidation.consolidate(items("ab", "ab"), ("a", "b"), "dawid-skene")
    assert ties == [0] and [label.name for label in labels if label] == ["a", "b"]


def test_a_class_that_nobody_answered_has_probability_0() -> None:
    found = consolidation.probabilities(items("aa", "", "bb"), ("b", "owl", "a"), "dawid-skene")
    np.testing.assert_allclose(found[[0, 2]], [[0, 0, 1], [1, 0, 0]], atol=1e-6)
    assert np.isnan(found[1]).all()


def test_the_benchmark_of_crowds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.json"
    assert crowds.main(["--items", "40", "--seeds", "2", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())
    assert [row["method"] for row in rows] == ["dawid-skene", "majority"] * 5
    assert all(0.3 < row["accuracy"] <= 1 and 0.3 < row["confidence"] <= 1 for row in rows)
    assert rows[0]["honest"] == pytest.approx(0.9 + 0.1 / 3) and "adversaries of 5" in capsys.readouterr().out
    assert crowds.main(["--seeds", "1"]) == 1
    assert "--seeds of at least 2" in capsys.readouterr().err

"""Agreement by hand."""

import json

import pytest

from deploy.labels import agreement
from tests.unit.test_consolidation import items

# Three workers. Pairs that agree: 1 of 3, 1 of 1, none, 0 of 1, 3 of 3.
VOTES = items("aab", "bb", "a", "ab", "ccc")


def test_by_hand() -> None:
    found = agreement.audit(VOTES, ("a", "b", "c"), "majority", most=10)
    assert (found.items, found.answered, found.answers, found.workers) == (5, 5, 11, 3)
    assert found.agreement == pytest.approx(5 / 8)
    # Answers that can be paired: a 3, b 4, c 3. Observed: (4/2 + 2/1) of 10; expected: 2·(12 + 9 + 12) of 10·9.
    assert found.alpha == pytest.approx(1 - (4 / 10) / (66 / 90))
    by_class = {one.name: one for one in found.by_class}
    assert list(by_class) == ["a", "b", "c"]
    # Of the pairs in which the first says a: 2 in 4 + 1, both ways counted.
    assert by_class["a"].agreement == pytest.approx(2 / 5)
    assert by_class["b"].agreement == pytest.approx(2 / 5)
    assert by_class["c"].agreement == 1.0
    assert {name: (one.answers, one.labels) for name, one in by_class.items()} == {
        "a": (4, 3),
        "b": (4, 1),
        "c": (3, 1),
    }
    by_worker = {one.worker: one for one in found.by_worker}
    assert list(by_worker) == ["w2", "w1", "w0"]
    assert by_worker["w0"].agreement == pytest.approx((1 + 1 + 0 + 2) / (2 + 1 + 1 + 2))
    assert by_worker["w2"].agreement == pytest.approx(2 / 4)
    assert [by_worker[f"w{n}"].consolidated for n in range(3)] == [1.0, 3 / 4, 1 / 2]
    assert [(one.classes, one.pairs, one.share) for one in found.confused] == [(("a", "b"), 3, 1.0)]
    assert [(one.item, one.label, one.confidence, one.answers) for one in found.disputed] == [
        (3, "a", 0.5, {"a": 1, "b": 1}),
        (0, "a", 0.6667, {"a": 2, "b": 1}),
    ]
    assert json.loads(json.dumps(found.to_json()))["by_worker"][0]["worker"] == "w2"


def test_the_most_disputed_are_as_many_as_asked_for() -> None:
    assert len(agreement.audit(VOTES, ("a", "b", "c"), "majority", most=1).disputed) == 1


def test_where_nobody_answers_what_another_did_there_is_no_agreement() -> None:
    found = agreement.audit(items("a", "b"), ("a", "b"), "dawid-skene", most=10)
    assert found.agreement is None and found.alpha is None and not found.confused
    assert {one.agreement for one in found.by_class} == {one.agreement for one in found.by_worker} == {None}


def test_all_agree() -> None:
    found = agreement.audit(items("aa", "aa"), ("a",), "majority", most=10)
    assert found.agreement == found.alpha == 1.0 and not found.disputed

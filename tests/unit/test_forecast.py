import pytest

from deploy.results.forecast import forecast
from deploy.results.verdict import sentence
from tests.unit.test_settling import answered
from tests.unit.test_verdict import runs


def falling(share: float) -> list[float]:
    """A power law: twice the examples of 1,000 bring 1.46 points."""
    return [0.95 - 0.05 * share**-0.5 + noise for noise in (-0.002, 0.0, 0.002)]


CURVE = {("full", 1.0): falling(1.0)} | {("random", share): falling(share) for share in (0.5, 0.25, 0.1)}


def test_a_power_law_is_continued() -> None:
    found = forecast(answered(runs(CURVE)))
    assert found is not None
    assert (found.row, found.sizes, found.examples) == ("random", 4, 1000)
    assert found.gain.mean == pytest.approx(0.0146, abs=0.005)
    assert found.gain.low < 0.0146 < found.gain.high
    said = sentence(runs(CURVE), 0.01)
    assert "Collect more: twice as many examples (2,000) would bring about 1." in said
    assert said.endswith("by the learning curve of `random` at 4 sizes.")


def test_samples_seen_say_nothing_of_further_examples() -> None:
    made = runs({(name.replace("random", "rs2"), share): row for (name, share), row in CURVE.items()})
    assert forecast(answered(made)) is None
    assert "Collect more" not in sentence(made, 0.01)


def test_two_sizes_or_one_seed_are_no_curve() -> None:
    two = {key: CURVE[key] for key in (("full", 1.0), ("random", 0.5))}
    assert forecast(answered(runs(two))) is None
    assert forecast(answered(runs({key: row[:1] for key, row in CURVE.items()}))) is None

import re

import pytest

from subset_trainer.tracking import metrics

VALUES = {
    "samples:visited": 1234,
    "train:loss": 0.51234,
    "train:accuracy": 0.812,
    "validation:loss": 1e-9,
    "validation:accuracy": 1.0,
    "epoch:seconds": 1.5,
    "selection:seconds": 0.41,
    "learning_rate": 0.1,
}


def test_the_line_has_the_metrics_in_a_fixed_order() -> None:
    assert metrics.line(3, VALUES) == (
        "epoch=3 train:loss=0.5123 train:accuracy=0.8120 validation:loss=0.0000 validation:accuracy=1.0000 "
        "epoch:seconds=1.500 selection:seconds=0.410 samples:visited=1234"
    )


def test_every_definition_reads_its_own_metric_and_no_other() -> None:
    values = {name: float(position + 1) for position, name in enumerate(metrics.FORMATS)}
    line = metrics.line(7, {**values, "samples:visited": 9})
    values["samples:visited"] = 9
    for definition in metrics.metric_definitions():
        found = re.findall(definition["Regex"], line)
        assert [float(value) for value in found] == [values[definition["Name"]]], definition


def test_a_loss_that_is_not_a_number_is_no_metric() -> None:
    line = metrics.line(1, {"train:loss": float("nan")})
    assert line == "epoch=1 train:loss=nan"
    assert not re.search(metrics.metric_definitions()[0]["Regex"], line)


@pytest.mark.parametrize(
    "line",
    [
        "2026-01-01 00:00:00,000 INFO classes: 'validation:accuracy=1.0000' 20",
        "2026-01-01 00:00:00,000 INFO classes: 'epoch=1 validation:accuracy=1.0000' 20",
        "validation:accuracy=1.0000",
        " epoch=1 validation:accuracy=1.0000",
        "epoch=1 of validation:accuracy=1.0000",
        "epoch=1 validation:accuracy=1.0000' is a class",
    ],
)
def test_what_only_reads_as_a_metric_is_none(line: str) -> None:
    assert [one for one in metrics.metric_definitions() if re.search(one["Regex"], line)] == []


def test_the_regexes_are_as_long_as_sagemaker_takes_them() -> None:
    assert all(len(one["Regex"]) <= 500 for one in metrics.metric_definitions())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (40, "40 s"),
        (99.7, "2 min"),
        (540, "9 min"),
        (3599, "1 h 00 min"),
        (11_100, "3 h 05 min"),
    ],
)
def test_a_time_in_words(seconds: float, words: str) -> None:
    assert metrics.spoken_time(seconds) == words

"""The page of the evidence, from rows made up here; that its runs are made is tests/functional's."""

import pytest

from benchmarks import evidence
from benchmarks.evidence import PRESETS
from benchmarks.study_report import Row


def row(strategy: str, fraction: float, accuracy: float, seconds: float, epochs: int = 10) -> Row:
    return Row(
        scenario="clean",
        strategy=strategy,
        fraction=fraction,
        epochs=epochs,
        seeds=(0, 1),
        test_accuracies=(accuracy - 0.01, accuracy + 0.01),
        validation_accuracies=(accuracy, accuracy),
        seconds=(seconds - 1, seconds + 1),
        selection_seconds=(0.0, 0.0),
        samples_visited=(1, 1),
    )


ROWS = [
    row("full", 1, 0.95, 100, 100),
    row("full", 0.5, 0.93, 51, 50),
    row("rs2", 0.5, 0.94, 57),
    row("glister", 0.5, 0.92, 58),
    row("rs2", 0.1, 0.9, 11),
    row("glister", 0.1, 0.85, 12),
]


def lines(table: str, start: str) -> list[str]:
    return [line for line in table.splitlines() if line.startswith(start)]


def test_a_run_may_take_its_fraction_and_fifteen_percent() -> None:
    table = evidence.time_table(ROWS)
    assert lines(table, "| rs2 | 0.5") == ["| rs2 | 0.5 | 57.0 | 0.570 | 0.575 | yes |"]
    assert lines(table, "| glister | 0.5") == ["| glister | 0.5 | 58.0 | 0.580 | 0.575 | no |"]
    assert not lines(table, "| full | 1 ")


@pytest.mark.parametrize(
    ("level", "strategy", "fraction"),
    [(0.84, "rs2", 0.1), (0.91, "full", 0.5), (0.935, "rs2", 0.5), (0.949, "full", 1), (0.96, None, None)],
)
def test_the_fastest_row_at_or_above_a_level(
    level: float, strategy: str | None, fraction: float | None
) -> None:
    found = evidence.fastest(ROWS, level)
    assert (strategy, fraction) == (None, None) if found is None else (found.strategy, found.fraction)
    if found is not None:
        assert (found.strategy, found.fraction) == (strategy, fraction)


def test_time_to_accuracy_names_the_fastest_and_the_fastest_on_everything() -> None:
    table = evidence.accuracy_table(ROWS, (0.9, 0.94, 0.99))
    assert lines(table, "| 90%") == ["| 90% | rs2 | 0.1 | 10 | 11.0 | `full` | 50 | 51.0 |"]
    assert lines(table, "| 94%") == ["| 94% | rs2 | 0.5 | 10 | 57.0 | `full` | 100 | 100.0 |"]
    assert lines(table, "| 99%") == ["| 99% | none of these |  |  |  | none of these |  |  |"]


def test_targets_stand_beside_what_was_reached_and_what_was_not_run_is_said() -> None:
    table = evidence.target_table(ROWS, PRESETS["grid"].targets)
    assert lines(table, "| 0.5") == ["| 0.5 | rs2 | 94.00% | 95.0% | 92.00% | 94.0% |"]
    assert lines(table, "| 0.3") == ["| 0.3 | not run | | 94.0% | | |"]
    assert lines(table, "| 1 ") == ["| 1 | full | 95.00% | 95.5% |  |  |"]


def test_cords_is_asked_for_at_the_smallest_fraction_alone() -> None:
    calls = evidence.studies(PRESETS["grid"], "0,1", ["--out", "x"])
    values = [dict(zip(call[::2], call[1::2], strict=False)) for call in calls]
    assert [value["--fractions"] for value in values] == ["0.1", "0.3", "0.5", "1"]
    assert ["backend=cords" in value.get("--strategies", "") for value in values] == [
        True,
        False,
        False,
        False,
    ]
    assert all("100" in call and "model=resnet18" in call for call in calls)

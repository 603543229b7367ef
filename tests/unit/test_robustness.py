"""The robustness study's calls and page, from rows made up here."""

from pathlib import Path

import pytest

from benchmarks import robustness, study
from benchmarks.robustness import STRATEGIES, TROUBLES
from benchmarks.scenarios import Scenario
from benchmarks.study_report import Row
from deploy.grid.plan import parse_strategies


def row(strategy: str, scenario: Scenario, accuracy: float) -> Row:
    return Row(
        scenario=scenario.sentence,
        strategy=strategy,
        fraction=0.1,
        epochs=30,
        seeds=(0, 1),
        test_accuracies=(accuracy - 0.01, accuracy + 0.01),
        validation_accuracies=(accuracy, accuracy),
        seconds=(10.0, 12.0),
        selection_seconds=(1.0, 2.0),
        samples_visited=(54_000, 54_000),
        header="4,000 training examples. seeds 0, 1",
    )


CLEAN, NOISE, WORST = Scenario(), Scenario(noise=0.4), Scenario(noise=0.6)
ROWS = [
    row("full", CLEAN, 0.66),
    row("rs2", CLEAN, 0.65),
    row("full", NOISE, 0.40),
    row("rs2", NOISE, 0.50),
    row("rs2", WORST, 0.30),
]


def test_each_scenario_is_asked_of_the_study_once_a_seed_and_with_every_strategy() -> None:
    calls = [
        study._parser().parse_args(call) for call in robustness.calls("0,1,2", 0.1, ["--per-class", "9"])
    ]
    asked = [(call.noise, call.imbalance, call.duplicates, call.seeds) for call in calls]
    assert len(asked) == len(set(asked)) == 3 * 7
    assert {(noise, imbalance, copies) for noise, imbalance, copies, _ in asked} == {
        *((noise, 1.0, 0.0) for noise in (0.0, 0.2, 0.4, 0.6)),
        *((0.0, imbalance, 0.0) for imbalance in (10.0, 100.0)),
        (0.0, 1.0, 0.5),
    }
    assert [seeds for *_, seeds in asked] == [(0,)] * 7 + [(0, 1)] * 7 + [(0, 1, 2)] * 7
    for call in calls:
        rows = parse_strategies(call.strategies)
        cells = study.planned(rows, call.fractions, (0,), {"epochs": "30"}).cells
        assert {cell.row for cell in cells} == set(STRATEGIES)


def test_the_table_marks_the_best_of_each_level_and_says_what_the_worst_costs() -> None:
    lines = robustness.table(ROWS, "label noise").splitlines()
    assert lines[0] == "| label noise | 0% | 20% | 40% | 60% | lost |"
    assert lines[2] == "| `full` | **66.0 ± 1.4** |  | 40.0 ± 1.4 |  |  |"
    assert lines[3] == "| `rs2` | 65.0 ± 1.4 |  | **50.0 ± 1.4** | **30.0 ± 1.4** | 35.0 |"


@pytest.mark.parametrize("trouble", TROUBLES)
def test_every_trouble_starts_from_the_same_clean_data(trouble: str) -> None:
    assert next(iter(TROUBLES[trouble].values())) == CLEAN
    assert "| `full` | **66.0 ± 1.4** |" in robustness.table(ROWS, trouble)


def test_the_page_has_its_tables_its_costs_and_its_chart(tmp_path: Path) -> None:
    page = robustness.document(ROWS, "Digits", "python -m …", "robustness.png")
    assert all(f"| {trouble} |" in page for trouble in TROUBLES)
    assert "| `rs2` | random subsets, anew each epoch | 11 | 2 | 54,000 |" in page
    assert page.count("![test accuracy](robustness.png)") == 1
    robustness.chart(ROWS, tmp_path / "robustness.png", "Digits")
    assert (tmp_path / "robustness.png").read_bytes().startswith(b"\x89PNG")

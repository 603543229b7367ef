import json
from pathlib import Path

import pytest

from benchmarks import verdict
from benchmarks.verdict import SETTINGS, power_table, rates, wrong_table

BEYOND, FALLING = SETTINGS[0], SETTINGS[1]


@pytest.mark.parametrize("examples", [500, 10_000])
def test_at_the_edge_one_study_in_twenty_is_wrong(examples: int) -> None:
    found = rates(BEYOND, 3, 3, 0.3, examples, 300, 7)
    # Of 300 studies at 5%, fewer than 27 are wrong in 99.9% of simulations.
    assert found["new"]["wrong"] < 0.09
    assert found["all"]["wrong"] < 0.09
    assert found["unpaired"]["wrong"] < 0.09
    assert found["each"]["wrong"] > 0.3


def test_seeds_that_are_added_until_there_is_an_answer_are_wrong_no_more_often() -> None:
    assert rates(BEYOND, 3, 5, 0.3, 10_000, 300, 7)["settled"]["wrong"] < 0.09


def test_what_is_enough_is_found() -> None:
    found = rates(FALLING, 3, 3, 0.3, 10_000, 100, 7)
    assert found["all"]["power"] > 0.85 > 0.6 > found["bonferroni"]["power"]
    # The planner's first judgements rest on fewer runs.
    assert found["all"]["power"] >= found["new"]["power"] > 0.6


def test_the_table_and_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        verdict, "GRID", {"strategies": (3,), "seeds": (3,), "deviation": (0.3,), "examples": (500,)}
    )
    assert (
        verdict.main(
            [
                "--studies",
                "3",
                "--strategies",
                "3",
                "--processes",
                "1",
                "--json",
                str(tmp_path / "rates.json"),
            ]
        )
        == 0
    )
    written = json.loads((tmp_path / "rates.json").read_text(encoding="utf-8"))
    assert [row["setting"] for row in written["rows"]] == [setting.name for setting in SETTINGS]
    printed = capsys.readouterr().out
    wrong, right = wrong_table(written["rows"]), power_table(written["rows"])
    assert f"{wrong}\n\n{right}" in printed
    assert len(wrong.splitlines()) == len(right.splitlines()) == 5
    assert all(setting.name in printed for setting in SETTINGS)


def test_a_wrong_argument_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict.main(["--studies", "many"]) == 1
    assert capsys.readouterr().err.startswith("error: ")

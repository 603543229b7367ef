"""benchmarks/recipe_tables.py, on a table that scikit-learn has."""

from pathlib import Path

import pytest

from benchmarks import recipe_tables as benchmark
from benchmarks.recipe_tables import Case, Result


def test_settings_are_compared_with_the_defaults_and_no_run_is_made_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--sets", "wine", "--fractions", "0.5", "--seeds", "0", "1", "--out", str(tmp_path)]
    options += ["--settings", "learning_rate=0.000001,epochs=1", "dropout=0.5"]
    assert benchmark.main(options) == 0
    first = capsys.readouterr().out
    found = benchmark.read(tmp_path / "runs.json")
    assert len(found) == 6
    # What does not learn is far behind, and a default that is spelled out is the default.
    assert max(benchmark.differences(found, "wine", 0.5, "learning_rate=0.000001,epochs=1")) < -20
    assert benchmark.differences(found, "wine", 0.5, "dropout=0.5") == [0, 0]
    assert benchmark.main(options) == 0
    assert (capsys.readouterr().out, benchmark.read(tmp_path / "runs.json")) == (first, found)


def test_differences_are_paired_by_seed() -> None:
    def at(setting: str, accuracies: list[float], seconds: float) -> dict[Case, Result]:
        return {Case("a", 0.1, setting, seed): Result(each, seconds) for seed, each in enumerate(accuracies)}

    found = at("", [0.5, 0.7], 2.0) | at("batch_size=64", [0.52, 0.73], 3.0)
    assert benchmark.table(found, ["a"], 0.1).splitlines() == [
        "| 10% | a | mean | seconds |",
        "| --- | ---: | ---: | ---: |",
        "| defaults | 60.0 ± 10.0 | 60.0 | 1.00 |",
        "| `batch_size=64` | +2.5 ± 0.5 | +2.5 | 1.50 |",
    ]


def test_what_is_wrong_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["--sets", "nope", "--out", str(tmp_path)]) == 1
    assert "table 'nope': expected one of iris, wine" in capsys.readouterr().err
    assert benchmark.main(["--sets", "wine", "--settings", "epoch=3", "--out", str(tmp_path)]) == 1
    assert "epoch" in capsys.readouterr().err

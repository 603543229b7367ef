"""benchmarks/table_and_text.py, on a few rows."""

import pytest

from benchmarks import table_and_text as benchmark


def test_both_sides_learn_from_each_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["--examples", "300", "--epochs", "4", "--seeds", "0,1"]) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:5]]
    assert [row[0] for row in rows] == [f"| {side}" for side in benchmark.SIDES]
    for row in rows:
        assert all(float(cell.split(" ±")[0]) > 50 for cell in row[1:]), row

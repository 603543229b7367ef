"""What `compare` prints of the data before it trains, and what it refuses before it trains anything."""

from pathlib import Path

import pytest

from deploy.__main__ import main
from tests.functional.conftest import write_table

QUICK = ["--fractions", "1", "--seeds", "0", "--set", "model=mlp", "epochs=1", "batch_size=64"]


def test_compare_prints_what_the_data_is_taken_to_be_before_its_first_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    write_table(tmp_path / "data/t.csv")
    command = ["compare", "--training", str(tmp_path / "data"), "--output", str(tmp_path / "out"), *QUICK]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert next(at for at, line in enumerate(lines) if line.startswith("[1/1]")) > 5
    assert lines[:5] == [
        "training: csv (by 't.csv'), 300 examples in 3 classes",
        "  label: 'label' (the column with a label's name)",
        "  header: line 1 (it holds words above columns of numbers or dates)",
        "  classes: '0' 90, '1' 95, '2' 115",
        "  4 × number: 'a', 'b', 'c', 'd'",
    ]


@pytest.mark.parametrize(
    ("rows", "settings", "sentence"),
    [
        (
            [f"{row % 2},{row % 12 + 1:02}/{row % 11 + 1:02}/2024" for row in range(60)],
            [],
            "set date_order=dmy or mdy",
        ),
        (
            [f"{row % 2},0{row * 7_919 % 10_000:04}" for row in range(60)],
            [],
            "or number_columns=when.",
        ),
        (
            [f"{row % 2},{row / 7}" for row in range(60)],
            ["--set", "label_column=price"],
            "label_column='price': the training channel has no such column",
        ),
    ],
    ids=["two readings", "no feature", "a column that is not there"],
)
def test_compare_refuses_data_before_it_trains_anything(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    rows: list[str],
    settings: list[str],
    sentence: str,
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/t.csv").write_text("\n".join(["label,when", *rows]) + "\n")
    command = ["compare", "--training", str(tmp_path / "data"), "--output", str(tmp_path / "out"), *QUICK]
    assert main([*command, *settings]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert sentence in printed.err
    assert "[1/1]" not in printed.out
    assert not (tmp_path / "out").exists()

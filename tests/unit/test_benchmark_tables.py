"""benchmarks/tables.py, on a table that is made here, and its own tables' loading."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import tables as benchmark


def test_both_sides_read_the_same_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"kind": ["a", "b"] * 60, "x": draw.normal(size=120), "colour": draw.choice(["r", "g"], 120)}
    )
    frame.loc[frame["kind"] == "a", "x"] += 6
    frame.loc[::9, "colour"] = None
    frame.to_csv(tmp_path / "made.csv", index=False)
    options = ["--csv", str(tmp_path / "made.csv"), "--seeds", "2", "--sides", "mlp full", "boosting"]
    options += ["--set", "epochs=10", "batch_size=16", "--json", str(tmp_path / "out.json")]
    assert benchmark.main(options) == 0
    out = capsys.readouterr().out
    assert "| made (gaps) | 120 × 2, 2 | 50.0 | " in out
    result = json.loads((tmp_path / "out.json").read_text())
    assert [row["side"] for row in result["rows"]] == ["mlp full", "boosting"]
    for row in result["rows"]:
        assert (row["missing"], len(row["accuracies"])) == (14, 2)
        # Judged on rows that neither has seen, which are told apart by x.
        assert row["accuracy"] > 0.9


def test_the_label_comes_first_and_rows_without_one_are_left_out() -> None:
    frame = pd.DataFrame({"rownames": [1, 2, 3], "x": [1, 2, 3], "y": ["a", None, "b"]})
    found = benchmark._labelled(frame, "y", ("rownames",))
    assert found.to_dict("list") == {"label": ["a", "b"], "x": [1, 3]}


def test_rows_are_drawn_class_by_class() -> None:
    training, test = benchmark.draw(benchmark.load("iris"), seed=3)
    assert (len(training), len(test)) == (112, 38)
    assert sorted(test["label"].value_counts()) == [12, 13, 13]
    assert set(training.index).isdisjoint(test.index)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tables", "nope"], "table 'nope': expected one of iris, wine, breast_cancer, digits, penguins"),
        (["--csv", "nope.csv"], "--csv nope.csv cannot be read: "),
        (["--seeds", "0"], "--seeds is 0; expected 1 or more"),
        (["--set", "epoch=3"], "epoch"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main(options) == 1
    assert message in capsys.readouterr().err

"""What becomes of numbers, texts, dates and of what is missing."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from subset_trainer.data import Column, Splits, TableKind, load_splits
from subset_trainer.data.kinds.registry import from_json
from subset_trainer.errors import UserError
from tests.kinds import table_kind
from tests.unit.data.test_csv_tables import channel, complaint, everything


def split(root: Path, training: list[str], validation: list[str]) -> Splits:
    return load_splits(
        {
            "training": channel(root, *training),
            "validation": channel(root, *validation, name="validation"),
        }
    )


@pytest.fixture(params=["fast", "careful"])
def reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either way of reading CSV gives the same."""
    if request.param == "careful":

        def refuse(*_: object, **__: object) -> None:
            raise ValueError("pyarrow does not understand it")

        monkeypatch.setattr("pyarrow.csv.read_csv", refuse)


@pytest.mark.parametrize("gap", ["", "NA", "nan", "NULL", "?", " "])
@pytest.mark.usefixtures("reading")
def test_a_missing_number_is_the_mean_and_flagged(tmp_path: Path, gap: str) -> None:
    splits = split(tmp_path, ["y,a,b", "0,1,1", f"1,{gap},2", "0,5,3"], ["y,a,b", f"1,{gap},{gap}", "0,3,4"])
    a, b = table_kind(splits.preprocessing).columns
    assert (a.mean, a.std, a.missing) == (3, 2, True)
    assert (b.mean, b.missing) == (2, False)
    assert everything(splits.train)[:, :2].tolist() == [[-1, 0], [0, 1], [1, 0]]
    assert everything(splits.validation)[0].tolist() == [0, 1, 0]
    assert (
        "training channel: values are missing in column 'a'; a missing number or date is replaced by the column's "
        "mean and flagged by a separate input; a missing text is a category of its own."
    ) in splits.notes
    assert (
        "validation channel: 1 values of column 'b' are missing, but none in training; replaced by its mean."
    ) in splits.notes


@pytest.mark.usefixtures("reading")
def test_a_missing_text_is_a_category(tmp_path: Path) -> None:
    splits = split(tmp_path, ["y,a", "0,red", "1,", "0,none"], ["y,a", "0,", "1,red", "1,none"])
    assert table_kind(splits.preprocessing).columns[0].categories == ("", "none", "red")
    assert everything(splits.validation).tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]


@pytest.mark.usefixtures("reading")
def test_a_column_without_any_value_is_left_out(tmp_path: Path) -> None:
    splits = split(
        tmp_path, ["y,a,b,c", "0,,1,", "1,NA,2,", "0,,3,"], ["y,a,b,c", "0,7,1,x", "1,,2,2024-01-01"]
    )
    assert [column.kind for column in table_kind(splits.preprocessing).columns] == [
        "empty",
        "numeric",
        "empty",
    ]
    assert everything(splits.validation).shape == (2, 1)
    assert any(
        "2 without any value in training, left out (column 'a', column 'c')" in n for n in splits.notes
    )


def test_no_column_has_a_value(tmp_path: Path) -> None:
    assert complaint(tmp_path, "y,a", *(f"{i % 2}," for i in range(10))) == (
        "training channel: no column but the label has any value in 8 training rows; expected at least one feature."
    )


@pytest.mark.parametrize(
    ("texts", "days"),
    [
        (["1970-01-02", "1970-01-11"], [1, 10]),
        (["1970-01-02 12:00", "1970-01-11T06:00:00.5Z"], [1.5, 10.25 + 0.5 / 86_400]),
        (["1970-01-02T00:00:00+02:00", "1970-01-11 00:00:00 UTC"], [22 / 24, 10]),
        (["1969-12-31", "2000-02-29"], [-1, 11_016]),
    ],
)
@pytest.mark.usefixtures("reading")
def test_dates_are_days_and_cycles(tmp_path: Path, texts: list[str], days: list[float]) -> None:
    rows = ["y,when", *(f"{i % 2},{texts[i % 2]}" for i in range(6))]
    splits = split(tmp_path, [*rows, "1,NULL"], rows)
    (column,) = table_kind(splits.preprocessing).columns
    timed = any(":" in text and ("12" in text or "06" in text or "02:00" in text) for text in texts)
    assert column.cycles == (("year", "week", "day") if timed else ("year", "week"))
    assert (column.kind, column.missing) == ("date", True)
    assert column.mean == pytest.approx(np.mean(days))
    inputs = everything(splits.validation)
    expected = [(days[0] - column.mean) / column.std]
    for period in (365.2425, 7, 1)[: len(column.cycles)]:
        angle = 2 * np.pi * days[0] / period
        expected += [np.sin(angle), np.cos(angle)]
    torch.testing.assert_close(inputs[0], torch.tensor([*expected, 0]).float())
    gap = everything(splits.train)[-1]
    assert gap.tolist() == [0] * (len(gap) - 1) + [1]
    assert from_json(json.loads(json.dumps(splits.preprocessing.to_json()))) == splits.preprocessing


@pytest.mark.parametrize(
    "text",
    ["2024-13-01", "2024-01-01T", "20240100", "01/02/2024", "2024-01-01 25:00", "0001-01-01T00:00+14:00"],
)
def test_what_is_no_date_among_dates_is_refused(tmp_path: Path, text: str) -> None:
    rows = [f"{i % 2},{text if i == 3 else '2024-01-01'},x" for i in range(6)]
    with pytest.raises(UserError, match=re.escape(f"'{text}'")) as error:
        split(tmp_path, ["y,when,z", *rows], ["y,when,z", *rows])
    assert "column 'when'" in str(error.value)


def test_a_text_where_training_has_dates(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        split(tmp_path, ["y,when", "0,2024-01-01", "1,2024-01-02"], ["y,when", "0,2024-01-03", "1,soon"])
    assert str(error.value) == (
        "validation channel: file 't.csv', line 3, column 'when': the value is 'soon'; expected a date such as "
        "2024-01-31 or 2024-01-31T09:30:00, as in training."
    )


def test_what_an_older_version_saved_is_read_as_it_was() -> None:
    """`model.json` of before there were dates and missing values."""
    saved = {
        "kind": "table",
        "classes": ["a", "b"],
        "columns": [
            {"name": "size", "kind": "numeric", "mean": 1.0, "std": 2.0},
            {"name": "when", "kind": "categorical", "categories": ["2024-01-01", "2024-01-02"]},
        ],
        "header": True,
        "label_column": "y",
        "label_index": 0,
    }
    found = table_kind(from_json(saved))
    assert found.columns == (
        Column("size", "numeric", 1.0, 2.0),
        Column("when", "categorical", categories=("2024-01-01", "2024-01-02")),
    )
    assert found.input_shape == (3,)


def test_dates_stay_categories_for_a_model_that_learned_them_so(tmp_path: Path) -> None:
    from subset_trainer.data import load_channel

    like = TableKind(
        ("0", "1"),
        columns=(Column("when", "categorical", categories=("2024-01-01",)),),
        header=True,
        label_column="y",
    )
    root = channel(tmp_path, "y,when", "0,2024-01-01", "1,2024-01-02")
    assert everything(load_channel(root, like, name="test")).tolist() == [[1], [0]]

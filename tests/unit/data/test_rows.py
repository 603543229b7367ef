"""A request's rows become what the same values in a training file become."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from subset_trainer.data import TableKind
from subset_trainer.data.formats.csv_tables import read_csv
from subset_trainer.data.formats.registry import open_channel
from subset_trainer.data.kinds.registry import from_json
from subset_trainer.data.tables.columns import encode, fit_columns
from subset_trainer.data.tables.rows import encode_rows, row_of_json, rows_of_csv
from subset_trainer.errors import UserError
from tests.kinds import table_kind

ROWS = [  # width, site, day, size, code
    ("1.5", "north", "2024-01-31", "3", "007"),
    ("-2", "south", "2024-02-28 10:30:00", "", "x"),
    ("1e3", "", "2023-12-01", "n/a", "7"),
    ("NaN", " north ", "null", "0.25", "x"),
    ("4", "süd, west", "2024-05-05T00:00:00Z", "-1", "007"),
    ("5", "south", "2024-05-06", "-", "7"),
]
Learned = tuple[TableKind, np.ndarray]
HEADER = "kind,width,site,day,size,code"


def csv_text(rows: Sequence[tuple[str, ...]]) -> str:
    return "".join(",".join(f'"{value}"' for value in row) + "\n" for row in rows)


def write(folder: Path, header: bool) -> Path:
    labelled = [("ab"[number % 2], *row) for number, row in enumerate(ROWS)]
    text = (f"{HEADER}\n" if header else "") + csv_text(labelled)
    (folder / "t.csv").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Learned:
    """What training learned of the rows below a header, and their inputs [6, D] as training has them."""
    return learn(write(tmp_path_factory.mktemp("named"), header=True))


@pytest.fixture(scope="module", params=[True, False], ids=["header", "no header"])
def learned(
    request: pytest.FixtureRequest, named: Learned, tmp_path_factory: pytest.TempPathFactory
) -> Learned:
    """The same, also without a header."""
    return named if request.param else learn(write(tmp_path_factory.mktemp("bare"), header=False))


def learn(folder: Path) -> Learned:
    channel = open_channel("training", folder)
    table = read_csv(channel, channel.files)
    like = TableKind(
        table.classes,
        columns=fit_columns(channel, table, np.arange(len(table))),
        header=table.header,
        label_column=table.label_column,
        label_index=table.label_index,
    )
    return like, encode(channel, read_csv(channel, channel.files, like=like), like.columns, like.header)[0]


def test_csv_without_a_header(learned: Learned) -> None:
    like, inputs = learned
    np.testing.assert_array_equal(encode_rows(list(rows_of_csv(csv_text(ROWS), like)), like), inputs)


def test_columns_by_name(named: Learned) -> None:
    like, inputs = named
    text = "code,extra,size,day,site,width\n" + csv_text([(r[4], "?", r[3], r[2], r[1], r[0]) for r in ROWS])
    np.testing.assert_array_equal(encode_rows(list(rows_of_csv(text, like)), like), inputs)


def test_json_of_texts_numbers_and_nulls(learned: Learned) -> None:
    like, inputs = learned
    values = [[1.5, "north", "2024-01-31", 3, "007"], [-2, "south", "2024-02-28 10:30:00", None, "x"]]
    values += [[1000, "", "2023-12-01", None, 7], [None, "north", None, 0.25, "x"]]
    values += [[4, "süd, west", "2024-05-05T00:00:00Z", -1, "007"], [5.0, "south", "2024-05-06", None, 7.0]]
    names = [column.name for column in like.columns]
    for form in (
        lambda row: row,
        lambda row: {"features": row, "id": 3},
        lambda row: {**dict(zip(names, row, strict=True)), "other": 1},
    ):
        rows = [row_of_json(form(row), "example", like) for row in values]
        np.testing.assert_array_equal(encode_rows(rows, like), inputs)


def test_a_category_that_training_had_not_is_zeros(learned: Learned) -> None:
    like, _ = learned
    known, unknown = (
        encode_rows(list(rows_of_csv(f"1,{site},2024-01-01,1,x\n", like)), like) for site in ("north", "east")
    )
    assert (known != unknown).sum() == 1
    assert known.sum() - unknown.sum() == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "1,2\n",
            r"^request: line 1: 2 fields; expected 5, training's features in their order, without the label\.$",
        ),
        ("a,1,north,2024-01-01,1,x\n", r"line 1: 6 fields; expected 5"),
        (
            "1,n,2024-01-01,1,x\n\nabc,n,2024-01-01,1,x\n",
            r"line 3, column .*: the value is 'abc'; expected a finite n",
        ),
        ("1,n,2024-01-01,1e999,x\n", r"the value is '1e999'; expected a finite number, as in training"),
        (
            "1,n,yesterday,1,x\n",
            r"the value is 'yesterday'; expected a date such as 2024-01-31 .*, as in training",
        ),
        ("1e300,n,2024-01-01,1,x\n", r"has numbers up to 1e\+300, too far from training's"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(learned: Learned, text: str, sentence: str) -> None:
    like, _ = learned
    with pytest.raises(UserError, match=sentence) as raised:
        encode_rows(list(rows_of_csv(text, like)), like)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ([1, "n"], "line 7: 2 features; expected 5"),
        ({"width": 1}, r"line 7 lacks the column '\w+', which training has"),
        ("abc", "line 7 is 'abc'; expected a list of features"),
        (None, "line 7 is None"),
        ([1, "n", [2], 1, "x"], r"line 7, column .*: the value is \[2\]; expected a number, a text or null"),
        ([1, "n", "2024-01-01", float("inf"), "x"], "the value is 'inf'; expected a finite number"),
        ([1, "n", "2024-01-01", 10**400, "x"], "expected a finite number"),
        ([1, "n", 20241301, 1, "x"], "the value is '20241301'; expected a date"),
    ],
)
def test_json_that_is_no_row_is_one_sentence(learned: Learned, value: object, sentence: str) -> None:
    like, _ = learned
    with pytest.raises(UserError, match=sentence):
        encode_rows([row_of_json(value, "line 7", like)], like)


def test_a_header_that_lacks_a_column_or_names_it_twice(named: Learned) -> None:
    like, _ = named
    with pytest.raises(UserError, match="the header lacks the column 'code', which training has"):
        list(rows_of_csv("width,site,day,size\n1,2,3,4\n", like))
    with pytest.raises(UserError, match="the header names 'site' twice"):
        list(rows_of_csv("width,site,day,size,code,site\n1,2,3,4,5,6\n", like))


def test_a_header_is_taken_for_one_where_it_is_said_to_be_there(learned: Learned) -> None:
    like, _ = learned
    text = "1,n,2024-01-01,1,x\n"
    assert len(list(rows_of_csv(text, like))) == 1
    assert len(list(rows_of_csv(HEADER[5:] + "\n" + text, like, "true"))) == 1
    assert len(list(rows_of_csv(HEADER[5:] + "\n" + text, like, "false"))) == 2


def test_a_table_of_one_column(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("kind,site\na,x;y\nb,z\na,\nb,z\n")
    like, _ = learn(tmp_path)
    inputs = encode_rows(list(rows_of_csv('x;y\nz\n""\n', like)), like)
    assert inputs.sum(axis=1).tolist() == [1, 1, 1]
    assert len(np.unique(inputs, axis=0)) == 3


def test_it_needs_nothing_but_what_model_json_holds(learned: Learned) -> None:
    like, inputs = learned
    again = table_kind(from_json(json.loads(json.dumps(like.to_json()))))
    np.testing.assert_array_equal(encode_rows(list(rows_of_csv(csv_text(ROWS), again)), again), inputs)

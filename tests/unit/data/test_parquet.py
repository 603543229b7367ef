"""Tables in Parquet, from files that pandas and pyarrow wrote."""

import datetime
import decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from subset_trainer.data import load_splits
from subset_trainer.data.formats.format import Options
from subset_trainer.data.formats.parquet import read_parquet
from subset_trainer.data.formats.registry import detect, open_channel
from subset_trainer.data.tables.table import Table
from subset_trainer.errors import UserError
from tests.kinds import table_kind
from tests.unit.data.test_csv_tables import everything

DAY = datetime.date(2024, 2, 29)


def frame(rows: int = 12) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "label": ["yes", "no"] * (rows // 2),
            "size": np.arange(rows) + 0.5,
            "colour": pd.Categorical(["red", "blue", None] * (rows // 3)),
        }
    )


def read(root: Path, label_column: str | None = None, memory: int | None = None) -> Table:
    channel = open_channel("training", root)
    layout = detect(channel)
    assert layout.format.name == "parquet"
    return read_parquet(channel, layout.files, label_column, memory=memory)


def complaint(root: Path, table: pa.Table | None = None, label_column: str | None = None) -> str:
    root.mkdir(exist_ok=True)
    if table is not None:
        pq.write_table(table, root / "t.parquet")
    with pytest.raises(UserError) as error:
        load_splits({"training": root}, Options(label_column))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_pandas_writes(tmp_path: Path) -> None:
    frame().to_parquet(tmp_path / "t.parquet")
    found = read(tmp_path)
    assert (found.names, found.classes) == (("size", "colour"), ("no", "yes"))
    assert (found.header, found.label_column, found.label_index) == (True, "label", 0)
    assert found.labels.tolist() == [1, 0] * 6
    assert found.columns[0].tolist() == (np.arange(12) + 0.5).tolist()
    assert found.columns[1].tolist() == ["red", "blue", ""] * 4
    assert found.ids[11] == "t.parquet[11]"


COLUMNS: dict[str, tuple[pa.Array, list[object]]] = {
    "int8": (pa.array([1, None], pa.int8()), [1.0, None]),
    "uint64": (pa.array([2**63, 0], pa.uint64()), [2.0**63, 0.0]),
    "half": (pa.array(np.array([0.5, 1], np.float16)), [0.5, 1.0]),
    "float": (pa.array([0.25, float("nan")]), [0.25, None]),
    "decimal": (pa.array([decimal.Decimal("1.50"), None]), [1.5, None]),
    "wide decimal": (pa.array([decimal.Decimal("1.50"), None], pa.decimal256(60, 2)), [1.5, None]),
    "truth": (pa.array([True, None]), [1.0, None]),
    "text": (pa.array(["a", None]), ["a", ""]),
    "large text": (pa.array(["a", ""], pa.large_string()), ["a", ""]),
    "text of digits": (pa.array(["007", "7"]), ["007", "7"]),
    "category": (pa.array(["a", None]).dictionary_encode(), ["a", ""]),
    "category of numbers": (pa.array([3, 5]).dictionary_encode(), ["3", "5"]),
    "date": (pa.array([DAY, None]), ["2024-02-29", None]),
    "time": (
        pa.array([datetime.datetime(2024, 2, 29, 12), None], pa.timestamp("ns")),
        ["2024-02-29T12", None],
    ),
    "time of a zone": (
        pa.array(
            [datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)] * 2, pa.timestamp("s", "Asia/Tokyo")
        ),
        ["2024-02-29T12"] * 2,
    ),
    "dates as texts": (pa.array(["2024-02-29", None]), ["2024-02-29", None]),
    "duration": (pa.array([datetime.timedelta(minutes=1), None], pa.duration("ms")), [60.0, None]),
    "nothing": (pa.nulls(2), [None, None]),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_types(tmp_path: Path, kind: str) -> None:
    array, expected = COLUMNS[kind]
    pq.write_table(pa.table({"y": [0, 1], "x": array}), tmp_path / "t.parquet")
    (values,) = read(tmp_path).columns
    if values.dtype == object:
        assert values.tolist() == expected
    elif values.dtype.kind == "M":
        assert values.dtype == np.dtype("datetime64[us]")
        np.testing.assert_array_equal(values, np.array(expected, "datetime64[us]"))
    else:
        assert values.dtype == np.float64
        np.testing.assert_array_equal(values, np.array(expected, float))


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (pa.array([0, 10, 2, 0]), ("0", "2", "10")),
        (pa.array([0.0, 1.0, 1.0, 0.0]), ("0", "1")),
        (pa.array([True, False, True, False]), ("False", "True")),
        (pa.array(["b", "a", "b", "a"]).dictionary_encode(), ("a", "b")),
        (pa.array([decimal.Decimal(1), decimal.Decimal(2)] * 2), ("1", "2")),
    ],
)
def test_labels(tmp_path: Path, labels: pa.Array, classes: tuple[str, ...]) -> None:
    pq.write_table(pa.table({"x": [1, 2, 3, 4], "y": labels}), tmp_path / "t.parquet")
    for label_column in ("y", "1"):
        found = read(tmp_path, label_column)
        assert found.classes == classes
        assert [found.classes[code] for code in found.labels] == [
            {"True": "True", "False": "False"}.get(str(value), str(value).removesuffix(".0"))
            for value in labels.to_pylist()
        ]


def test_a_folder_of_parts_and_partitions(tmp_path: Path) -> None:
    table = frame()
    table["place"] = ["a/b", None] * 6
    table["year"] = [2023, 2024, 2024] * 4
    table.to_parquet(tmp_path, partition_cols=["place", "year"])
    (tmp_path / "_SUCCESS").touch()
    found = read(tmp_path, "label")
    assert found.names == ("size", "colour", "place", "year")
    assert set(found.columns[2]) == {"a/b", ""}
    by_size = dict(zip(*found.columns[::3], strict=False))
    assert (
        by_size == dict(zip(table["size"], table["year"], strict=True))
        or found.columns[3].dtype == np.float64
    )
    rows = sorted(zip(*(column.tolist() for column in found.columns), strict=True))
    assert [(size, place, year) for size, _, place, year in rows] == [
        (size, place or "", year)
        for size, place, year in zip(table["size"], ["a/b", ""] * 6, table["year"], strict=True)
    ]


def test_row_labels_of_pandas_are_left_out(tmp_path: Path) -> None:
    frame().set_index(pd.Index([3, 1, 4, 15, 9, 2, 6, 5, 35, 8, 97, 93])).to_parquet(tmp_path / "t.parquet")
    found = read(tmp_path, "label")
    assert found.names == ("size", "colour")
    assert [d.name for d in found.decisions if d.about == "left out"] == ["__index_level_0__"]


def test_a_part_without_any_value_in_a_column(tmp_path: Path) -> None:
    pq.write_table(pa.table({"y": [0, 1], "x": pa.nulls(2)}), tmp_path / "0.parquet")
    pq.write_table(pa.table({"x": ["a", "b"], "y": [0, 1]}), tmp_path / "1.parquet")
    assert read(tmp_path).columns[0].tolist() == ["", "", "a", "b"]


def test_splits_learn_from_training_and_match_by_name(tmp_path: Path) -> None:
    for name in ("training", "validation"):
        (tmp_path / name).mkdir()
    frame().to_parquet(tmp_path / "training/t.parquet")
    other = frame()[["colour", "label", "size"]].assign(more=1)
    other.to_csv(tmp_path / "validation/t.csv", index=False)
    from_csv = load_splits({name: tmp_path / name for name in ("training", "validation")})
    (tmp_path / "validation/t.csv").unlink()
    other.to_parquet(tmp_path / "validation/t.parquet")
    splits = load_splits({name: tmp_path / name for name in ("training", "validation")})
    assert [column.kind for column in table_kind(splits.preprocessing).columns] == ["numeric", "categorical"]
    assert table_kind(splits.preprocessing).columns[1].categories == ("", "blue", "red")
    for found in (splits, from_csv):
        assert everything(found.validation).tolist() == everything(splits.train).tolist()
        assert found.validation.labels.tolist() == splits.train.labels.tolist()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            pa.array([[1], [2]] * 10),
            "file 't.parquet', column 'x' (list<",
        ),
        (
            pa.array([{"a": 1}] * 20),
            "column 'x' (struct<a: int64>): the values are of other types than numbers, texts",
        ),
        (
            pa.array([b"1"] * 20),
            "column 'x' (binary): the values are of other types than numbers, texts, categories",
        ),
        (
            pa.array([float("inf")] * 20),
            "row 0 (counted from 0), column 'x': the value is 'inf'; expected a finite",
        ),
        (
            pa.array([str(i) for i in range(1500)]),
            "no feature is left beside the label: left out 'x': identifier (1,500 different codes in 1,500 rows)",
        ),
    ],
)
def test_columns_that_are_refused(tmp_path: Path, column: pa.Array, message: str) -> None:
    labels = [0, 1] * (len(column) // 2)
    assert message in complaint(tmp_path, pa.table({"y": labels, "x": column}))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            pa.array([0, None] * 10),
            "row 1 (counted from 0), column 'y': the label is missing (''); expected a",
        ),
        (
            pa.array(["a", ""] * 10),
            "row 1 (counted from 0), column 'y': the label is missing (''); expected a",
        ),
        (
            pa.array([DAY, DAY] * 10),
            "column 'y' cannot be the label: its values are dates such as '2024-02-29'",
        ),
        (
            pa.array(np.linspace(0, 1, 20)),
            "column 'y' cannot be the label: its values are nearly all different, 20 in 20 rows",
        ),
        (pa.array([1] * 20), "all 20 examples are of one class, '1'; expected at least two."),
    ],
)
def test_labels_that_are_refused(tmp_path: Path, labels: pa.Array, message: str) -> None:
    assert message in complaint(tmp_path, pa.table({"x": np.arange(20.0) / 3, "y": labels}), "y")


def test_files_that_do_not_fit_each_other(tmp_path: Path) -> None:
    pq.write_table(pa.table({"y": [0, 1], "x": [1, 2]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"y": [0, 1], "x": ["a", "b"]}), tmp_path / "b.parquet")
    assert complaint(tmp_path) == (
        "training channel: file 'b.parquet', column 'x': the values are of type string; expected int64, as in "
        "'a.parquet'."
    )
    pq.write_table(pa.table({"y": [0, 1], "z": [1, 2]}), tmp_path / "b.parquet")
    assert "file 'a.parquet' has a column 'x' and 'b.parquet' has none; expected the same" in complaint(
        tmp_path
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"label,x\n0,1\n", "'t.parquet': it holds UTF-8 text; expected Parquet."),
        (b"PAR1" + b"\0" * 40 + b"PAR1", "file 't.parquet' cannot be read ("),
    ],
)
def test_what_is_not_parquet(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.parquet").write_bytes(content)
    text = complaint(tmp_path)
    assert message in text
    assert text.endswith("; expected Parquet.")


def test_other_complaints(tmp_path: Path) -> None:
    assert "file 't.parquet' has no rows; expected some" in complaint(tmp_path, pa.table({"y": [], "x": []}))
    assert "has one column; expected a label and at least one feature" in complaint(
        tmp_path, pa.table({"y": [0, 1]})
    )
    twice = pa.Table.from_arrays([pa.array([0, 1])] * 3, ["y", "x", "x"])
    assert "has two columns 'x'; expected different names" in complaint(tmp_path, twice)
    assert (
        "label_column='z': the training channel has no such column; expected one of 'y', 'x' or a position from 0 to 1."
        in complaint(tmp_path, pa.table({"y": [0, 1], "x": [0, 1]}), "z")
    )


def test_a_small_file_of_many_rows_is_not_unpacked(tmp_path: Path) -> None:
    rows = 1 << 20
    pq.write_table(pa.table({"y": np.arange(rows) % 2, "x": np.zeros(rows)}), tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < 1 << 18
    with pytest.raises(UserError, match=r"takes 0\.0 GB or more in memory once it is read, of which 0\.0 GB"):
        read(tmp_path, memory=1 << 20)

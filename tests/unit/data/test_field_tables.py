"""Tables as people really have them: what is read, and what is refused with which sentence."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from subset_trainer.data import load_channel, load_splits, overview
from subset_trainer.data.formats.format import Found, Options
from subset_trainer.data.formats.reading import read
from subset_trainer.data.formats.registry import open_channel
from subset_trainer.data.kinds.registry import from_json
from subset_trainer.data.tables.interpret import Rules
from subset_trainer.data.tables.rows import encode_rows, rows_of_csv
from subset_trainer.data.tables.table import Table
from subset_trainer.data.texts.labelled import Texts
from subset_trainer.data.understanding import OpenDecisionsError
from subset_trainer.errors import UserError
from tests.kinds import table_kind

ROWS = 120
DRAW = np.random.default_rng(5)
X, Y = DRAW.normal(0, 1, ROWS).round(3), DRAW.normal(2, 3, ROWS).round(3)


def write(root: Path, header: str, rows: Sequence[str], file: str = "a.csv", name: str = "training") -> Path:
    folder = root / name
    folder.mkdir(exist_ok=True)
    (folder / file).write_text("\n".join(([header] if header else []) + list(rows)) + "\n", encoding="utf-8")
    return folder


def found(folder: Path, options: Options | None = None) -> Found:
    return read(open_channel("training", folder), options or Options(), 1 << 30)


def table(folder: Path, options: Options | None = None) -> Table:
    source = found(folder, options).source
    assert isinstance(source, Table)
    return source


def complaint(folder: Path, options: Options | None = None) -> str:
    with pytest.raises(UserError) as error:
        found(folder, options)
    return str(error.value)


def left_out(source: Found) -> list[str | None]:
    return [decision.name for decision in source.decisions if decision.about == "left out"]


def label_of(source: Found) -> str:
    return next(decision.taken for decision in source.decisions if decision.about == "label")


# The label


@pytest.mark.parametrize("files", [1, 3])
@pytest.mark.parametrize("name", ["index", "Unnamed: 0", "", "id", "Id", "PassengerId", "row", "#"])
def test_a_row_number_is_no_label_and_no_feature(tmp_path: Path, name: str, files: int) -> None:
    per_file = ROWS // files
    for file in range(files):
        rows = [f"{row},{row % 2},{X[row]},{Y[row]}" for row in range(per_file)]
        folder = write(tmp_path, f"{name},target,x,y", rows, f"part-{file}.csv")
    read_ = found(folder)
    assert label_of(read_) == "'target'"
    assert left_out(read_) == [name]
    assert read_.source.classes == ("0", "1")


def test_a_row_number_is_left_out_of_other_channels_too(tmp_path: Path) -> None:
    rows = [f"{row},{row % 2},{X[row]},{Y[row]}" for row in range(ROWS)]
    channels = {
        "training": write(tmp_path, "Unnamed: 0,target,x,y", rows),
        "validation": write(tmp_path, "Unnamed: 0,target,x,y", rows[:40], name="validation"),
        "test": write(tmp_path, "", rows[40:], name="test"),
    }
    splits = load_splits(channels)
    assert [column.name for column in table_kind(splits.preprocessing).columns] == ["x", "y"]
    assert splits.test is not None
    assert (len(splits.validation), len(splits.test)) == (40, 80)
    again = from_json(json.loads(json.dumps(splits.preprocessing.to_json())))
    assert len(load_channel(channels["test"], again, name="test")) == 80


@pytest.mark.parametrize(
    "name", ["label", "Label", "CLASS", "target", "class_label", "sentiment", "species", "y"]
)
def test_a_label_is_found_by_its_name_wherever_it_stands(tmp_path: Path, name: str) -> None:
    rows = [f"{row % 12 + 1},{X[row]},{Y[row]},{'ab'[row % 2]}" for row in range(ROWS)]
    assert label_of(found(write(tmp_path, f"month,width,height,{name}", rows))) == repr(name)


def test_a_coordinate_is_no_label(tmp_path: Path) -> None:
    rows = [f"{'ab'[row % 2]},{X[row]},{Y[row]}" for row in range(ROWS)]
    assert label_of(found(write(tmp_path, "kind,x,y", rows))) == "'kind'"


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        (
            "when,x,bought",
            "2024-01-{day:02},{x},{two}",
            "'when', the first one, is not taken for it: its values are dates",
        ),
        (
            "price,x,bought",
            "{x},{y},{two}",
            "'price', the first one, is not taken for it: its values are nearly all",
        ),
        (
            "age,x,bought",
            "{twelve},{y},{two}",
            "'age', the first one, is not taken for it: it is named like a feature",
        ),
        (
            "text,tag",
            "word {row} here,{two}",
            "'text', the first one, is not taken for it: its values are nearly all",
        ),
        ("label,target,x", "{two},{twelve},{x}", "several columns are named like a label: 'label', 'target'"),
        ("label,x,bought", "{row},{x},{two}", "column 'label' cannot be the label: it counts the rows"),
        (
            "",
            "{x},{y},{two}",
            "column 0 (counted from 0) cannot be the label: its values are nearly all different",
        ),
        (
            "",
            "2024-01-{day:02},{x},{two}",
            "column 0 (counted from 0) cannot be the label: its values are dates",
        ),
    ],
)
def test_what_cannot_be_the_label_is_refused_with_candidates(
    tmp_path: Path, header: str, row: str, expected: str
) -> None:
    rows = [
        row.format(row=n, day=n % 28 + 1, x=X[n], y=Y[n], two="ab"[n % 2], twelve=n % 12) for n in range(ROWS)
    ]
    sentence = complaint(write(tmp_path, header, rows))
    assert expected in sentence
    assert "; set label_column=" in sentence


def test_a_label_that_the_user_names_is_given(tmp_path: Path) -> None:
    rows = [f"{row % 12 + 1},{X[row]},{'ab'[row % 2]}" for row in range(ROWS)]
    read_ = found(write(tmp_path, "month,x,label", rows), Options(label_column="month"))
    assert len(read_.source.classes) == 12
    assert next(d.certainty for d in read_.decisions if d.about == "label") == "given"


@pytest.mark.parametrize("header", ["", "target,x,y"])
@pytest.mark.parametrize(
    "labels",
    [
        ["1152921504606846976", "1152921504606846977", "5"],
        ["9007199254740992", "9007199254740993"],
        ["01", "02"],
        ["café", "thé"],
        ["1", "-1"],
    ],
)
def test_labels_are_kept_as_they_are_spelt(tmp_path: Path, labels: list[str], header: str) -> None:
    rows = [f"{labels[row % len(labels)]},{X[row]},{Y[row]}" for row in range(ROWS)]
    source = table(write(tmp_path, header, rows))
    assert [source.classes[label] for label in source.labels] == [
        labels[n % len(labels)] for n in range(ROWS)
    ]


def test_two_forms_of_unicode_are_one_class(tmp_path: Path) -> None:
    composed = [f"caf\u00e9,{value}" if n % 2 else f"tea,{value}" for n, value in enumerate(X)]
    apart = [row.replace("caf\u00e9", "cafe\u0301") for row in composed]
    channels = {
        "training": write(tmp_path, "label,x", composed),
        "validation": write(tmp_path, "label,x", apart, name="validation"),
    }
    assert load_splits(channels).preprocessing.classes == ("caf\u00e9", "tea")


def test_whole_numbers_of_parquet_keep_their_digits(tmp_path: Path) -> None:
    labels = [9007199254740992 + n % 2 for n in range(ROWS)]
    pq.write_table(pa.table({"target": labels, "x": X}), tmp_path / "a.parquet")
    assert table(tmp_path).classes == ("9007199254740992", "9007199254740993")


# Columns


@pytest.mark.parametrize(
    "word", ["<NA>", "#N/A", "#DIV/0!", "unknown", "Unknown", "NULL", "not given", "fehlt", "n/a"]
)
def test_a_word_among_numbers_is_a_missing_number(tmp_path: Path, word: str) -> None:
    rows = [f"{row % 2},{word if row % 9 == 0 else X[row]},{Y[row]}" for row in range(ROWS)]
    folder = write(tmp_path, "target,age,y", rows)
    source = table(folder)
    np.testing.assert_array_equal(source.columns[0], [np.nan if n % 9 == 0 else X[n] for n in range(ROWS)])
    splits = load_splits({"training": folder})
    saved = table_kind(from_json(json.loads(json.dumps(splits.preprocessing.to_json()))))
    gap, number = encode_rows(list(rows_of_csv(f"{word},1.5\n0.25,1.5\n", saved)), saved)
    assert gap[1] == 1
    assert number[1] == 0


def test_several_words_among_numbers_are_refused_until_they_are_named(tmp_path: Path) -> None:
    rows = [
        f"{row % 2},{'low' if row % 9 == 0 else 'high' if row % 9 == 1 else X[row]}" for row in range(ROWS)
    ]
    folder = write(tmp_path, "target,age", rows)
    assert "column 'age': 92 numbers and 28 other texts ('low', 'high'); set missing_values=" in complaint(
        folder
    )
    assert (
        np.isnan(table(folder, Options(columns=Rules(missing=frozenset(("low", "high"))))).columns[0]).sum()
        == 28
    )


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_decimal_commas_are_numbers_here_and_in_requests(tmp_path: Path, separator: str) -> None:
    rows = [
        separator.join(
            (("nein", "ja")[row % 2], f"{X[row]:.3f}".replace(".", ","), f"{Y[row]:.3f}".replace(".", ","))
        )
        for row in range(ROWS)
    ]
    folder = write(tmp_path, separator.join(("klasse", "laenge", "breite")), rows)
    source = table(folder)
    np.testing.assert_allclose(source.columns[0], X)
    saved = table_kind(load_splits({"training": folder}).preprocessing)
    commas, points = (
        encode_rows(list(rows_of_csv(text, saved)), saved)
        for text in (f"0,5{separator}1,25\n", f"0.5{separator}1.25\n")
    )
    np.testing.assert_array_equal(commas, points)


def test_points_between_thousands_follow_the_commas_of_other_columns(tmp_path: Path) -> None:
    rows = [
        f"{row % 2};{1 + row % 9}.{100 + row};{X[row]:.3f}".replace(
            f"{X[row]:.3f}", f"{X[row]:.3f}".replace(".", ",")
        )
        for row in range(ROWS)
    ]
    source = table(write(tmp_path, "target;population;x", rows))
    assert source.columns[0][:2].tolist() == [1_100, 2_101]


@pytest.mark.parametrize(
    ("form", "setting"), [("%d/%m/%Y", None), ("%m/%d/%Y", None), ("%d.%m.%y", None), ("%b %d, %Y", None)]
)
def test_dates_of_one_reading_are_dates(tmp_path: Path, form: str, setting: str | None) -> None:
    import datetime

    days = [datetime.date(2019, 1, 1) + datetime.timedelta(int(n)) for n in DRAW.integers(0, 1_500, ROWS)]
    rows = [f'{row % 2},"{day.strftime(form)}",{Y[row]}' for row, day in enumerate(days)]
    source = table(write(tmp_path, "target,when,y", rows))
    assert source.columns[0].astype("datetime64[D]").tolist() == days


@pytest.mark.parametrize("order", ["dmy", "mdy"])
def test_dates_of_two_readings_are_refused_until_their_order_is_given(tmp_path: Path, order: str) -> None:
    rows = [f"{row % 2},{row % 12 + 1:02}/{row % 11 + 1:02}/2024,{Y[row]}" for row in range(ROWS)]
    folder = write(tmp_path, "target,when,y", rows)
    assert "column 'when': '02/02/2024' is" not in complaint(folder)
    assert "set date_order=dmy or mdy" in complaint(folder)
    source = table(folder, Options(columns=Rules(date_order=order)))
    expected = f"2024-{'01' if order == 'dmy' else '12'}-{'12' if order == 'dmy' else '01'}"
    assert str(source.columns[0][11]).startswith(expected)


@pytest.mark.parametrize("kept", [False, True])
def test_an_identifier_is_left_out_unless_it_is_kept(tmp_path: Path, kept: bool) -> None:
    rows = [f"{row % 2},CUST-{row:06},{X[row]}" for row in range(ROWS)]
    folder = write(tmp_path, "target,customer_id,x", rows)
    read_ = found(folder, Options(columns=Rules(kept=("customer_*",))) if kept else None)
    assert left_out(read_) == ([] if kept else ["customer_id"])


def test_a_table_of_identifiers_alone_is_refused_with_the_setting_that_keeps_one(tmp_path: Path) -> None:
    folder = write(tmp_path, "target,customer_id", [f"{row % 2},CUST-{row:06}" for row in range(ROWS)])
    with pytest.raises(
        OpenDecisionsError, match=r"no feature is left beside the label: .*; set keep_columns="
    ) as error:
        found(folder)
    assert overview.settings(error.value.decisions) == ["keep_columns=customer_id"]


def test_columns_are_ignored_by_name(tmp_path: Path) -> None:
    rows = [f"{row % 2},{X[row]},{X[row]},{Y[row]}" for row in range(ROWS)]
    folder = write(tmp_path, "target,meta_a,meta_b,y", rows)
    assert table(folder, Options(columns=Rules(ignored=("meta_*",)))).names == ("y",)
    assert "ignore_columns='mata_*': the training channel has no such column" in complaint(
        folder, Options(columns=Rules(ignored=("mata_*",)))
    )


def test_an_index_that_the_file_declares_is_left_out(tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame(
        {"target": [n % 2 for n in range(ROWS)], "x": X},
        index=pd.Index(list(range(1, ROWS + 1)), name="leak"),
    )
    frame.to_parquet(tmp_path / "a.parquet")
    read_ = found(tmp_path)
    assert left_out(read_) == ["leak"]
    assert label_of(read_) == "'target'"


# Texts beside other columns


def test_an_identifier_beside_texts_is_left_out(tmp_path: Path) -> None:
    rows = [f'{row},"a film of number {row}",{row % 2}' for row in range(ROWS)]
    source = found(write(tmp_path, "id,text,label", rows)).source
    assert isinstance(source, Texts)
    assert source.column == "text"


def test_texts_beside_numbers_are_texts(tmp_path: Path) -> None:
    rows = [f'{("ham", "spam")[row % 2]},"see you now number {row}",{row}' for row in range(ROWS)]
    source = table(write(tmp_path, "label,text,length", rows))
    assert source.text_columns == ("text",)
    assert source.names == ("text", "length")


# The header


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("target,0,1", "{word},{x},{y}"),
        ("v1,v2,,,", '{word},"see you now {row}",,,'),
        ("label,0,1", "{two},{x},{y}"),
        ("kind,when", "{word},2024-01-{day:02}"),
        ("word,amount", "{word},€ {row}"),
    ],
)
def test_a_header_is_a_header(tmp_path: Path, header: str, row: str) -> None:
    rows = [
        row.format(row=n, x=X[n], y=Y[n], word=("ham", "spam")[n % 2], two=n % 2, day=n % 28 + 1)
        for n in range(ROWS)
    ]
    source = found(write(tmp_path, header, rows)).source
    assert len(source) == ROWS
    assert len(source.classes) == 2


def test_years_above_numbers_may_be_names(tmp_path: Path) -> None:
    rows = [f"{('DE', 'FR')[row % 2]},{X[row]},{Y[row]}" for row in range(ROWS)]
    folder = write(tmp_path, "country,2019,2020", rows)
    assert "line 1 may be names or values ('country', '2019', '2020'); set csv_header=true" in complaint(
        folder
    )
    assert table(folder, Options("country", csv_header="true")).classes == ("DE", "FR")


def test_texts_without_spaces_are_texts(tmp_path: Path) -> None:
    rows = [f"{row % 2},这部电影非常好看我很喜欢它{row}" for row in range(ROWS)]
    assert isinstance(found(write(tmp_path, "label,review", rows)).source, Texts)


# Other channels and requests


def test_rows_of_requests_may_hold_the_columns_that_are_left_out(tmp_path: Path) -> None:
    rows = [f"{row},{row % 2},{X[row]},{Y[row]}" for row in range(ROWS)]
    like = table_kind(load_splits({"training": write(tmp_path, "id,target,x,y", rows)}).preprocessing)
    short, long = (encode_rows(list(rows_of_csv(text, like)), like) for text in ("0.5,2.5\n", "77,0.5,2.5\n"))
    np.testing.assert_array_equal(short, long)


def test_settings_of_columns_reach_the_run(tmp_path: Path) -> None:
    rows = [f"{row % 2},{row % 12 + 1:02}/{row % 11 + 1:02}/2024,{Y[row]},{X[row]}" for row in range(ROWS)]
    folder = write(tmp_path, "target,when,y,x", rows)
    splits = load_splits({"training": folder}, Options(columns=Rules(ignored=("x",), date_order="mdy")))
    assert [(c.name, c.kind) for c in table_kind(splits.preprocessing).columns] == [
        ("when", "date"),
        ("y", "numeric"),
    ]
    assert [understanding.channel for understanding in splits.understandings] == ["training"]
    assert sum(splits.understandings[0].classes.values()) == ROWS

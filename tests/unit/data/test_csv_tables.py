"""CSV files and what is wrong with them, and the encoding of columns."""

import csv
import gzip
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from subset_trainer.data import Dataset, Splits, load_channel, load_splits
from subset_trainer.data.formats.csv_tables import read_csv
from subset_trainer.data.formats.format import Options
from subset_trainer.data.formats.registry import detect, open_channel
from subset_trainer.data.tables.cells import cleaned
from subset_trainer.data.tables.table import MISSING, Table
from subset_trainer.errors import UserError
from tests.kinds import table_kind

# Label, a number, a text. Line 1 is a header.
ROWS = ["label,size,colour", *(f"{i % 2},{i}.5,{'red' if i % 3 else 'blue'}" for i in range(30))]


def channel(root: Path, *lines: str, file: str = "t.csv", name: str = "training") -> Path:
    folder = root / name
    folder.mkdir(exist_ok=True)
    text = "".join(line + "\n" for line in lines).encode()
    (folder / file).write_bytes(gzip.compress(text) if file.endswith(".gz") else text)
    return folder


def table(root: Path, label_column: str | None = None, csv_header: str = "auto") -> Table:
    opened = open_channel("training", root)
    return read_csv(opened, detect(opened).files, label_column, csv_header)


def complaint(root: Path, *lines: str, label_column: str | None = None, csv_header: str = "auto") -> str:
    with pytest.raises(UserError) as error:
        load_splits({"training": channel(root, *lines)}, Options(label_column, csv_header))
    return str(error.value)


def everything(dataset: Dataset) -> torch.Tensor:
    (inputs,) = dataset.batches([torch.arange(len(dataset))], torch.device("cpu"))
    return inputs


def changed(row: int, text: str) -> list[str]:
    """ROWS with the line of that 1-based number replaced."""
    return [*ROWS[: row - 1], text, *ROWS[row:]]


def test_columns_and_labels(tmp_path: Path) -> None:
    found = table(channel(tmp_path, *ROWS))
    assert (found.names, found.classes, found.header) == (("size", "colour"), ("0", "1"), True)
    assert (found.label_column, found.label_index) == ("label", 0)
    np.testing.assert_array_equal(found.columns[0], np.arange(30) + 0.5)
    assert found.columns[1].tolist()[:3] == ["blue", "red", "red"]
    np.testing.assert_array_equal(found.labels, np.arange(30) % 2)


@pytest.mark.parametrize("file", ["t.csv", "t.csv.gz", "t.tsv", "semicolons.csv"])
def test_separators_and_compression(tmp_path: Path, file: str) -> None:
    separator = {"t.tsv": "\t", "semicolons.csv": ";"}.get(file, ",")
    found = table(channel(tmp_path, *(row.replace(",", separator) for row in ROWS), file=file))
    assert found.names == ("size", "colour")
    assert len(found) == 30


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["label,size", "1,2", "0,3"], True),
        (["1,2", "0,3"], False),
        (["setosa,5.1", "virginica,6.2", "setosa,4.9"], False),
        (["species,length", "virginica,6.2", "setosa,4.9"], True),
        (["kind,colour", "a,red", "b,blue", "a,red"], True),
        (["a,red", "b,blue", "a,red"], False),
        (["0,1,2", "1,5.5,3", "0,4.5,7"], True),  # pandas's default names
        (["target,0,1", "no,5.5,3", "yes,4.5,7"], True),  # with a name before them
    ],
)
def test_header_is_recognised(tmp_path: Path, lines: list[str], expected: bool) -> None:
    opened = open_channel("training", channel(tmp_path, *lines, *lines[1:] * 3))
    assert read_csv(opened, ("t.csv",)).header is expected


def test_a_first_line_of_names_or_values_is_refused(tmp_path: Path) -> None:
    assert complaint(tmp_path, "cat,1,2", *["0,5.5,3", "1,4.5,7"] * 9) == (
        "training channel: header 't.csv': line 1 may be names or values ('cat', '1', '2'); set csv_header=true or "
        "csv_header=false."
    )


def test_told_header(tmp_path: Path) -> None:
    lines = ["1,2", *["0,3", "1,4"] * 3]
    assert len(table(channel(tmp_path, *lines), csv_header="true")) == 6
    assert len(table(channel(tmp_path, *lines), csv_header="false")) == 7
    assert complaint(tmp_path, *ROWS, csv_header="false") == (
        "training channel: file 't.csv', line 1, column 0 (counted from 0): the label is 'label'; expected a number, "
        "as in other rows (if this line is a header, set csv_header to true)."
    )


@pytest.mark.parametrize(
    ("label_column", "classes"), [("colour", ("blue", "red")), ("2", ("blue", "red")), ("0", ("0", "1"))]
)
def test_label_column(tmp_path: Path, label_column: str, classes: tuple[str, ...]) -> None:
    assert table(channel(tmp_path, *ROWS), label_column).classes == classes


def test_label_column_that_is_not_there(tmp_path: Path) -> None:
    assert complaint(tmp_path, *ROWS, label_column="weight") == (
        "label_column='weight': the training channel has no such column; expected one of 'label', 'size', 'colour' or "
        "a position from 0 to 2."
    )
    assert "the files have no header, so expected a position from 0 to 2" in complaint(
        tmp_path, *ROWS[1:], label_column="3"
    )


def test_several_files_are_one_table(tmp_path: Path) -> None:
    root = channel(tmp_path, *ROWS[:11], file="part-0.csv")
    channel(tmp_path, *ROWS[11:21], file="part-1.csv")  # no header, as after splitting a file
    channel(tmp_path, ROWS[0], *ROWS[21:], file="part-2.csv")
    channel(tmp_path, file="part-3.csv")
    (one, two) = table(root), table(channel(tmp_path / "training", *ROWS, name="whole"))
    np.testing.assert_array_equal(one.columns[0], two.columns[0])
    np.testing.assert_array_equal(one.labels, two.labels)


def test_unnamed_index_column_is_left_out(tmp_path: Path) -> None:
    found = table(channel(tmp_path, *(("," if i == 0 else f"{i},") + row for i, row in enumerate(ROWS))))
    assert found.names == ("size", "colour")
    assert found.label_column == "label"
    assert [d.reason for d in found.decisions if d.about == "left out"] == ["it counts the rows"]


def test_quotes_blank_lines_windows_endings_and_byte_order_mark(tmp_path: Path) -> None:
    root = channel(tmp_path)
    (root / "t.csv").write_bytes(
        '\ufefflabel,text,n\r\n0,"a, b",1\r\n\r\n1,"two\r\nlines",2\r\n0," a, b ",3\r\n'.encode()
    )
    found = table(root)
    assert found.names == ("text", "n")
    assert found.columns[0].tolist() == ["a, b", "two\r\nlines", "a, b"]


@pytest.mark.parametrize(
    ("line", "text", "expected"),
    [
        (
            5,
            "x,3.5,red",
            "file 't.csv', line 5, column 'label': the label is 'x'; expected a number, as in other rows.",
        ),
        (
            7,
            "0,many,red",
            "file 't.csv', line 7, column 'size': the value is 'many'; expected a number, as in other rows.",
        ),
        (
            7,
            "0,inf,red",
            "file 't.csv', line 7, column 'size': the value is 'inf'; expected a finite number.",
        ),
        (
            7,
            "0,1_0,red",
            "file 't.csv', line 7, column 'size': the value is '1_0'; expected a number, as in other rows.",
        ),
        (
            9,
            ",5.5,red",
            "file 't.csv', line 9, column 'label': the label is missing (''); expected a number, as in other rows, "
            "so leave out the rows without a label (1 of 30).",
        ),
        (
            9,
            "nan,5.5,red",
            "file 't.csv', line 9, column 'label': the label is missing ('nan'); expected a number, as in other rows, "
            "so leave out the rows without a label (1 of 30).",
        ),
        (4, "0,5.5", "file 't.csv', line 4: 2 fields; expected 3, as in the first line of 't.csv'."),
        (
            4,
            "0,5.5,red,",
            "file 't.csv', line 4: 4 fields; expected 3, as in the first line of 't.csv' (a field that holds ',' "
            "stands in quotes, and quotes in it are doubled).",
        ),
        (4, "0", "file 't.csv', line 4: 1 field; expected 3, as in the first line of 't.csv'."),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, line: int, text: str, expected: str) -> None:
    assert complaint(tmp_path, *changed(line, text)) == f"training channel: {expected}"


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    lines = [ROWS[0], "", '0,1.5,"two', 'lines"', "", *ROWS[1:10], "0,many,red", *ROWS[11:]]
    assert f"line {lines.index('0,many,red') + 1}," in complaint(tmp_path, *lines)


def test_a_bad_row_in_a_later_file(tmp_path: Path) -> None:
    channel(tmp_path, *ROWS, file="a.csv")
    root = channel(tmp_path, *changed(20, "1,!!,red"), file="b.csv")
    with pytest.raises(UserError, match=r"file 'b\.csv', line 20, column 'size': the value is '!!'"):
        table(root)


def test_numbers_after_texts_keep_their_spelling(tmp_path: Path) -> None:
    codes = ["007", "1.0", "3", "4", "5", "A1", "B2", "C3", "D4", "007"]
    found = table(channel(tmp_path, "label,code", *(f"{i % 2},{code}" for i, code in enumerate(codes))))
    assert found.columns[0].tolist() == codes


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["1.0", "2", "10", "1"], ("1", "2", "10")),
        (["-1", "1"], ("-1", "1")),
        (["b", "a"], ("a", "b")),
        (["True", "False"], ("False", "True")),
        (["0.5", "1.5", "0.5", "1.5", "1.5", "1.5"], ("0.5", "1.5")),
    ],
)
def test_labels(tmp_path: Path, labels: list[str], classes: tuple[str, ...]) -> None:
    found = table(channel(tmp_path, *(f"{label},{i}.25" for i, label in enumerate(labels * 3))))
    assert found.classes == classes
    np.testing.assert_array_equal(
        [found.classes[label] for label in found.labels], [c.removesuffix(".0") for c in labels * 3]
    )


def test_regression_is_told_apart(tmp_path: Path) -> None:
    assert complaint(tmp_path, *ROWS, label_column="size") == (
        "training channel: column 'size' cannot be the label: it counts the rows, 30 different numbers in 30 rows; set "
        "label_column=colour or label_column=label ('colour' has 2 classes, 'label' has 2 classes); regression is not "
        "supported."
    )


def test_one_class_only(tmp_path: Path) -> None:
    assert complaint(tmp_path, *(f"1,{i}.5" for i in range(9))) == (
        "training channel: all 9 examples are of one class, '1'; expected at least two."
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a,b\n", "all 1 examples are of one class"),
        (b"\n\n", "holds only blank lines"),
        (b"1\n2\n", "has one column, beginning with '1'; expected a label and at least one feature"),
        (b"a,b,a\n1,2,3\n4,5,6\n", "the header names 'a' twice"),
        (b"1,2\n\xff\xfe,3\n", "not UTF-8 text"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, content: bytes, expected: str) -> None:
    (channel(tmp_path) / "t.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"^training channel: ") as error:
        load_splits({"training": tmp_path / "training"})
    assert expected in str(error.value)


def test_damaged_gzip(tmp_path: Path) -> None:
    root = channel(tmp_path, *ROWS, file="t.csv.gz")
    (root / "t.csv.gz").write_bytes((root / "t.csv.gz").read_bytes()[:60])
    with pytest.raises(UserError, match=r"file 't\.csv\.gz' cannot be read"):
        table(root)


def test_too_many_categories(tmp_path: Path) -> None:
    rows = [f"{i % 2},name{i % 1_500},{i}.5" for i in range(4_500)]
    assert (
        "column 1 (counted from 0) has 1,498 different texts; expected at most 1,000 categories"
        in complaint(tmp_path, *rows)
    )


def test_encoding_is_learned_from_training_examples_only(tmp_path: Path) -> None:
    splits = load_splits({"training": channel(tmp_path, *ROWS)}, validation_fraction=0.2)
    train, validation = everything(splits.train), everything(splits.validation)
    assert (len(train), len(validation)) == (24, 6)
    assert train.dtype == torch.float32
    assert splits.preprocessing.input_shape == (3,)
    torch.testing.assert_close(train[:, 0].mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(train[:, 0].std(correction=0), torch.tensor(1.0))
    assert validation[:, 0].mean().abs() > 1e-3
    assert torch.equal(train[:, 1:].sum(1), torch.ones(24))
    size, colour = table_kind(splits.preprocessing).columns
    assert (size.name, colour.categories) == ("size", ("blue", "red"))
    assert sorted((train[:, 0].double() * size.std + size.mean).round(decimals=3).tolist()) == pytest.approx(
        sorted(
            set(np.arange(30) + 0.5)
            - set((validation[:, 0].double() * size.std + size.mean).round(decimals=3).tolist())
        )
    )


def test_constant_column_becomes_zeros(tmp_path: Path) -> None:
    splits = load_splits({"training": channel(tmp_path, *(f"{i % 2},0.1,{i}" for i in range(20)))})
    assert everything(splits.train)[:, 0].abs().max() < 1e-6


def with_channels(root: Path, validation: list[str], **options: str) -> Splits:
    channels = {"training": channel(root, *ROWS), "validation": channel(root, *validation, name="validation")}
    return load_splits(channels, Options(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "validation",
    [
        ["label,size,colour", "0,1.5,red", "1,2.5,blue"],
        ["colour,label,size", "red,0,1.5", "blue,1,2.5"],
        ["0,1.5,red", "1,2.5,blue"],
        ["extra,colour,label,size", "9,red,0.0,1.5", "9,blue,1.0,2.5"],
        [",label,size,colour", "0,0,1.5,red", "1,1,2.5,blue"],
    ],
    ids=["same", "other order", "no header", "extra column", "index column"],
)
def test_validation_columns_are_matched(tmp_path: Path, validation: list[str]) -> None:
    splits = with_channels(tmp_path, validation)
    size = table_kind(splits.preprocessing).columns[0]
    expected = [[(1.5 - size.mean) / size.std, 0, 1], [(2.5 - size.mean) / size.std, 1, 0]]
    torch.testing.assert_close(everything(splits.validation), torch.tensor(expected))
    assert splits.validation.labels.tolist() == [0, 1]
    assert len(splits.train) == 30


@pytest.mark.parametrize(
    ("validation", "expected"),
    [
        (["label,colour", "0,red"], "file 't.csv' lacks the column 'size', which training has."),
        (["0,red"], "file 't.csv' has 2 columns; expected 3, as in training."),
        (
            ["0,1.5,red", "7,2.5,red", "8,2.5,red"],
            "the labels '7', '8' do not occur in training; expected some of '0', '1'.",
        ),
        (
            ["0,1.5,red", "1,x,red", "1,x,red"],
            "line 2, column 1 (counted from 0): the value is 'x'; expected a number",
        ),
        (
            ["0,1.5,red", "cat,2.5,red"],
            "line 2, column 0 (counted from 0): the label is 'cat'; expected a number",
        ),
    ],
)
def test_validation_that_does_not_fit(tmp_path: Path, validation: list[str], expected: str) -> None:
    with pytest.raises(UserError, match=r"^validation channel: ") as error:
        with_channels(tmp_path, validation)
    assert expected in str(error.value)


def test_unknown_category_is_noted_and_zero(tmp_path: Path) -> None:
    splits = with_channels(tmp_path, ["0,1.5,green", "1,2.5,7"])
    assert everything(splits.validation)[:, 1:].sum() == 0
    assert any(
        "2 values of column 'colour' are categories that are not in training ('7', 'green')" in n
        for n in splits.notes
    )


def test_a_saved_preprocessing_reads_a_channel_as_training_did(tmp_path: Path) -> None:
    splits = with_channels(tmp_path, ROWS[:9], label_column="colour")
    again = load_channel(tmp_path / "validation", splits.preprocessing, name="test")
    assert torch.equal(everything(again), everything(splits.validation))
    assert torch.equal(again.labels, splits.validation.labels)
    assert splits.preprocessing.classes == ("blue", "red")


def test_a_table_where_images_are_expected(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 8, 8), np.uint8), y=[0, 0, 1, 1])
    root = channel(tmp_path, *ROWS, name="validation")
    (tmp_path / "training").mkdir()
    (tmp_path / "a.npz").rename(tmp_path / "training" / "a.npz")
    with pytest.raises(UserError, match=r"validation channel: holds tables \('t\.csv'\); expected images"):
        load_splits({"training": tmp_path / "training", "validation": root})


def _refuse(*_: object, **__: object) -> None:
    raise ValueError("pyarrow does not understand it")


cells = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(repr),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1).filter(str.strip),
)


@pytest.mark.parametrize("careful", [True, False])
@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 3), cells, cells), min_size=2, max_size=12))
def test_whatever_csv_can_hold_is_read_back_or_refused_in_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, careful: bool, rows: list[tuple[int, str, str]]
) -> None:
    root = tmp_path_factory.mktemp("csv")
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    (root / "t.csv").write_bytes(text.getvalue().encode())
    try:
        with pytest.MonkeyPatch.context() as patch:
            if careful:
                patch.setattr("pyarrow.csv.read_csv", _refuse)
            found = table(root, csv_header="false")
    except UserError as error:
        assert re.match(r"training channel: (file 't\.csv', line |column |no feature is left)", str(error))  # noqa: PT017
        return
    assert [found.classes[label] for label in found.labels] == [str(row[0]) for row in rows]
    for position, column in enumerate(found.columns, 1):
        written = [str(row[position]) for row in rows]
        if column.dtype == object:
            assert column.tolist() == list(map(cleaned, written))
        else:
            numbers = [
                np.nan if cleaned(value).lower() in MISSING else float(cleaned(value)) for value in written
            ]
            np.testing.assert_array_equal(column, numbers)


@pytest.mark.parametrize(
    ("training", "validation", "expected"),
    [
        (
            "1e308",
            "1",
            "training channel: column 'b' has numbers up to 1e+308, whose squares overflow",
        ),
        ("1", "1e308", "validation channel: column 'b' has numbers up to 1e+308, too far from training's"),
    ],
)
def test_numbers_too_large_to_compute_with(
    tmp_path: Path, training: str, validation: str, expected: str
) -> None:
    for name, odd in (("training", training), ("validation", validation)):
        (tmp_path / name).mkdir()
        rows = [f"{row % 2},{odd if row < 2 else row}" for row in range(20)]
        (tmp_path / name / "a.csv").write_text("\n".join(["label,b", *rows]))
    with pytest.raises(UserError, match=re.escape(expected)):
        load_splits({name: tmp_path / name for name in ("training", "validation")})


def test_a_position_without_end_is_no_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\n".join(f"{row % 2},{row}" for row in range(20)))
    with pytest.raises(UserError, match=r"label_column='9999.*…: the training channel has no such column"):
        load_splits({"training": tmp_path}, Options("9" * 5_000))

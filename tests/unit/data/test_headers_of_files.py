"""Files of one table that differ in their headers, and quotes that are no quotes: no header and no row is lost."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from subset_trainer.data import load_splits
from subset_trainer.data.formats.format import Options
from subset_trainer.data.formats.reading import read
from subset_trainer.data.formats.registry import open_channel
from subset_trainer.data.tables.rows import rows_of_csv
from subset_trainer.data.tables.table import Table
from subset_trainer.data.texts.labelled import Texts
from subset_trainer.errors import UserError
from tests.kinds import table_kind

ROWS = 60
DRAW = np.random.default_rng(31)
X = DRAW.normal(0, 1, ROWS).round(3).tolist()
COLOURS = [("red", "green", "blue")[n] for n in DRAW.integers(0, 3, ROWS)]
SIZES = [("s", "m")[n] for n in DRAW.integers(0, 2, ROWS)]
LABELS = [("no", "yes")[n] for n in DRAW.integers(0, 2, ROWS)]
NUMBERS = {"x": list(map(str, X)), "y": [f"{n % 17}" for n in range(ROWS)], "label": LABELS}
WORDS = {"colour": COLOURS, "size": SIZES, "label": LABELS}


def write(
    folder: Path, columns: dict[str, list[str]], header: Sequence[str] | None, file: str = "p0.csv"
) -> None:
    folder.mkdir(exist_ok=True)
    rows = [",".join(row) for row in zip(*columns.values(), strict=True)]
    (folder / file).write_text("\n".join([*([",".join(header)] if header else []), *rows]) + "\n")


def table(folder: Path, csv_header: str = "auto") -> Table:
    source = read(open_channel("training", folder), Options(csv_header=csv_header), 1 << 30).source
    assert isinstance(source, Table)
    return source


def rows_of(source: Table) -> list[tuple[str, ...]]:
    columns = dict(zip(source.names, source.columns, strict=True))
    columns["label"] = np.array(source.classes)[source.labels]
    return [tuple(map(str, row)) for row in zip(*(columns[name] for name in sorted(columns)), strict=True)]


def alone(tmp_path: Path, columns: dict[str, list[str]]) -> list[tuple[str, ...]]:
    write(tmp_path / "alone", columns, list(columns))
    return rows_of(table(tmp_path / "alone"))


both = pytest.mark.parametrize("columns", [NUMBERS, WORDS], ids=["numbers", "words"])


@both
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
@pytest.mark.parametrize("spelt", [str, str.upper, " {} ".format])
def test_a_further_file_is_matched_by_the_names_of_its_header(
    tmp_path: Path, columns: dict[str, list[str]], order: tuple[int, ...], spelt: Callable[[str], str]
) -> None:
    names = [list(columns)[at] for at in order]
    write(tmp_path / "training", columns, list(columns))
    write(
        tmp_path / "training",
        {name: columns[name] for name in names},
        [spelt(name) for name in names],
        "p1.csv",
    )
    expected = alone(tmp_path, columns)
    source = table(tmp_path / "training")
    assert rows_of(source) == 2 * expected
    assert any("another order" in note for note in source.notes) == (order != (0, 1, 2))
    assert source.ids[ROWS] == "p1.csv:2"


@both
def test_a_header_in_a_further_file_alone_names_the_columns_of_all(
    tmp_path: Path, columns: dict[str, list[str]]
) -> None:
    write(tmp_path / "training", columns, None)
    write(tmp_path / "training", columns, list(columns), "p1.csv")
    write(tmp_path / "training", columns, None, "p2.csv")
    source = table(tmp_path / "training")
    assert rows_of(source) == 3 * alone(tmp_path, columns)
    (header,) = [decision for decision in source.decisions if decision.about == "header"]
    assert header.name == "p1.csv"


@both
def test_headers_that_name_other_columns_are_refused(tmp_path: Path, columns: dict[str, list[str]]) -> None:
    write(tmp_path / "training", columns, list(columns))
    write(tmp_path / "training", columns, ["weight", "height", "label"], "p1.csv")
    with pytest.raises(
        UserError, match=r"file 'p1\.csv' has the header 'weight, height, label'; expected that of 'p0"
    ):
        table(tmp_path / "training")


def test_rows_without_a_header_stay_rows(tmp_path: Path) -> None:
    for file in ("p0.csv", "p1.csv", "p2.csv"):
        write(tmp_path / "training", WORDS, list(WORDS) if file == "p0.csv" else None, file)
    assert len(table(tmp_path / "training")) == 3 * ROWS


@both
def test_a_header_that_is_repeated_below_is_no_row(tmp_path: Path, columns: dict[str, list[str]]) -> None:
    write(tmp_path / "training", columns, list(columns))
    path = tmp_path / "training" / "p0.csv"
    path.write_text(2 * path.read_text())
    assert rows_of(table(tmp_path / "training")) == 2 * alone(tmp_path, columns)


@both
@pytest.mark.parametrize("spelt", [str, str.title])
def test_other_channels_and_requests_may_spell_the_header_otherwise(
    tmp_path: Path, columns: dict[str, list[str]], spelt: Callable[[str], str]
) -> None:
    write(tmp_path / "training", columns, list(columns))
    names = list(reversed(columns))
    write(tmp_path / "validation", {name: columns[name] for name in names}, [spelt(name) for name in names])
    splits = load_splits({name: tmp_path / name for name in ("training", "validation")})
    assert len(splits.validation) == ROWS
    kind = table_kind(splits.preprocessing)
    first, second = list(columns)[:2]
    body = f"{spelt(second)},{spelt(first)}\n{columns[second][0]},{columns[first][0]}\n"
    (row,) = rows_of_csv(body, kind)
    assert list(row.values) == [columns[first][0], columns[second][0]]


@both
def test_a_header_in_another_channel_is_no_row_where_training_has_none(
    tmp_path: Path, columns: dict[str, list[str]]
) -> None:
    columns = {name: columns[name] for name in reversed(columns)}  # the label first
    write(tmp_path / "training", columns, None)
    write(tmp_path / "validation", columns, list(columns))
    splits = load_splits({name: tmp_path / name for name in ("training", "validation")})
    assert len(splits.validation) == ROWS
    assert any("training has none, so that columns are matched by position" in note for note in splits.notes)


# Quotes


def texts(tmp_path: Path, content: str, file: str) -> Texts | Table:
    folder = tmp_path / "training"
    folder.mkdir()
    (folder / file).write_text(content)
    source = read(open_channel("training", folder), Options(), 1 << 30).source
    assert isinstance(source, Texts | Table)
    return source


def test_quotes_that_no_line_closes_are_text_between_tabs(tmp_path: Path) -> None:
    said = [f"{chr(34) if n % 7 == 0 else ''}so it goes, for number {n}" for n in range(ROWS)]
    content = "text\tlabel\n" + "".join(f"{text}\t{LABELS[n]}\n" for n, text in enumerate(said))
    source = texts(tmp_path, content, "a.tsv")
    assert isinstance(source, Texts)
    assert source.texts.tolist() == said


def test_quotes_around_texts_of_several_lines_stay_quotes(tmp_path: Path) -> None:
    content = "text\tlabel\n" + "".join(f'"one ""two""\nthree of {n}"\t{LABELS[n]}\n' for n in range(ROWS))
    source = texts(tmp_path, content, "a.tsv")
    assert isinstance(source, Texts)
    assert source.texts[3] == 'one "two"\nthree of 3'


def test_a_stray_quote_that_swallows_rows_is_refused_with_its_line(tmp_path: Path) -> None:
    lines = [f"this is the text of {n},{n % 7},{LABELS[n]}" for n in range(ROWS)]
    lines[20] = '"' + lines[20]
    lines[40] = lines[40].replace(",", '",', 1)
    with pytest.raises(UserError, match=r"line 22: a quote in field 1 is closed 20 lines below"):
        texts(tmp_path, "\n".join(["text,n,label", *lines]) + "\n", "a.csv")


def test_a_text_with_commas_and_lines_is_no_swallowed_row(tmp_path: Path) -> None:
    rows = [f'"one, two\nthree, {n}\nfour\nfive, six",{LABELS[n]}' for n in range(ROWS)]
    assert len(texts(tmp_path, "\n".join(["text,label", *rows]) + "\n", "a.csv")) == ROWS


def test_quotes_behind_a_blank_are_quotes(tmp_path: Path) -> None:
    rows = [f'{X[n]}, "{COLOURS[n]}, or so", "{LABELS[n]}"' for n in range(ROWS)]
    source = texts(tmp_path, "\n".join(["x, colour, label", *rows]) + "\n", "a.csv")
    assert isinstance(source, Table)
    assert source.classes == ("no", "yes")
    assert source.columns[1].tolist() == [f"{colour}, or so" for colour in COLOURS]


# Rows of training in other channels


@pytest.mark.parametrize("name", ["validation", "test"])
@pytest.mark.parametrize(("shared", "said"), [(30, True), (0, False)])
def test_rows_of_training_in_another_channel_are_said(
    tmp_path: Path, name: str, shared: int, said: bool
) -> None:
    write(tmp_path / "training", NUMBERS, list(NUMBERS))
    moved = [str(float(x) + (0 if n < shared else 9)) for n, x in enumerate(NUMBERS["x"])]
    write(tmp_path / name, {**NUMBERS, "x": moved}, list(NUMBERS))
    notes = load_splits({one: tmp_path / one for one in ("training", name)}).notes
    expected = f"{name} channel: {shared} of its {ROWS} examples are in the training channel, too"
    assert any(note.startswith(expected) for note in notes) == said


def test_rows_that_recur_in_training_may_recur_elsewhere(tmp_path: Path) -> None:
    for name in ("training", "test"):
        write(tmp_path / name, WORDS, list(WORDS))
    notes = load_splits({one: tmp_path / one for one in ("training", "test")}).notes
    assert not any("in the training channel, too" in note for note in notes)

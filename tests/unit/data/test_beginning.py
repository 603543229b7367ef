"""What stands above a table, how its text is encoded and how its lines end: understood, or refused in a sentence."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from subset_trainer.data import load_splits
from subset_trainer.data.formats.format import Found, Options
from subset_trainer.data.formats.reading import read
from subset_trainer.data.formats.registry import open_channel
from subset_trainer.data.tables.beginning import header_of, told_separator
from subset_trainer.data.tables.rows import encode_rows, rows_of_csv
from subset_trainer.data.tables.table import Table
from subset_trainer.errors import UserError
from tests.functional.conftest import write_image
from tests.kinds import table_kind

ROWS = 60
X = np.random.default_rng(1).normal(0, 1, ROWS).round(3)
COLOURS = ["red", "blue", "green"]
HEADER = "size,colour,label"
BODY = [f"{x},{COLOURS[row % 3]},{'ab'[row % 2]}" for row, x in enumerate(X)]
PLAIN = [HEADER, *BODY]


def separated(separator: str, lines: list[str] = PLAIN) -> list[str]:
    return [line.replace(",", separator) for line in lines]


def text(lines: list[str], end: str = "\n") -> bytes:
    return (end.join(lines) + end).encode()


def found(folder: Path, content: bytes, csv_header: str = "auto", file: str = "t.csv") -> Found:
    (folder / file).write_bytes(content)
    return read(open_channel("training", folder), Options(csv_header=csv_header), 1 << 30)


def holds_the_table(source: object) -> None:
    assert isinstance(source, Table)
    assert source.names == ("size", "colour")
    np.testing.assert_array_equal(source.columns[0], X)
    assert source.columns[1].tolist() == [COLOURS[row % 3] for row in range(ROWS)]
    assert [source.classes[label] for label in source.labels] == ["ab"[row % 2] for row in range(ROWS)]


UNDERSTOOD = {
    "sep=;": text(["sep=;", *separated(";")]),
    "SEP=; in quotes, with Windows's line ends": text(['"SEP=;"', *separated(";")], "\r\n"),
    "sep= for decimal commas": text(["sep=;", *[line.replace(".", ",") for line in separated(";")]]),
    "sep= with a tab": text(["sep=\t", *separated("\t")]),
    "sep= with a separator that is never guessed": text(["sep=^", *separated("^")]),
    "sep=| after a byte order mark": b"\xef\xbb\xbf" + text(["sep=|", *separated("|")], "\r\n"),
    "sep=; in UTF-16": text(["sep=;", *separated(";")], "\r\n").decode().encode("utf-16"),
    "sep=; packed": gzip.compress(text(["sep=;", *separated(";")])),
    "sep=; and a title": text(["sep=;", "Sales", *separated(";")]),
    "UTF-8 with a byte order mark": b"\xef\xbb\xbf" + text(['"size","colour","label"', *BODY]),
    "UTF-16, little end first": text(PLAIN).decode().encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + text(PLAIN).decode().encode("utf-16-be"),
    "UTF-32": text(PLAIN).decode().encode("utf-32"),
    "Windows's line ends": text(PLAIN, "\r\n"),
    "old Macs' line ends": text(PLAIN, "\r"),
    "several line ends": text(PLAIN[:20], "\r\n") + text(PLAIN[20:40], "\r") + text(PLAIN[40:]),
    "no line end at the end": text(PLAIN)[:-1],
    "blank lines at the end": text([*PLAIN, "", "  ", ""]),
    "rows of empty cells at the end": text([*PLAIN, ",,", ",,"]),
    "blank lines above": text(["", " ", ",,", *PLAIN]),
    "empty columns at the end": text([f"{line},," for line in PLAIN]),
    "a title": text(["Sales of 2024", *PLAIN]),
    "two titles": text(["Sales of 2024", "created on 2024-12-31 by J. Doe", *PLAIN]),
    "two titles and a blank line, old Macs' line ends": text(["Sales", "2024-12-31", "", *PLAIN], "\r"),
    "two titles as a spreadsheet writes them": text(
        ["Sales of 2024,,", "created on 2024-12-31,,", ",,", *PLAIN]
    ),
    "titles in UTF-16": text(["Umsätze", "2024", *separated(";")], "\r\n").decode().encode("utf-16"),
    "comments": text(["# made by a tool, version 2, on a day", "# a,b,c", *PLAIN]),
    "the header again": text([*PLAIN[:31], *PLAIN[:1], *PLAIN[31:], HEADER]),
    "a second file with its byte order mark": text(PLAIN[:31])
    + b"\xef\xbb\xbf"
    + text([HEADER, *PLAIN[31:]]),
}


@pytest.mark.parametrize("content", UNDERSTOOD.values(), ids=UNDERSTOOD)
def test_the_same_table_is_read_however_it_is_written(tmp_path: Path, content: bytes) -> None:
    holds_the_table(found(tmp_path, content).source)


REFUSED = {
    "UTF-16 without a byte order mark": (text(PLAIN).decode().encode("utf-16-le"), "line 1: a NUL character"),
    "Latin-1": (text([*PLAIN, "1,süß,a"]).decode().encode("latin-1"), r"not UTF-8 text .*; expected UTF-8"),
    "a title with separators": (text(["Sales, in all", "2024", *PLAIN]), "line 2: 1 field; expected 2"),
    "more separators below the header": (text([HEADER, *[f"{row}," for row in BODY]]), "line 2: 4 fields; expected 3"),
    "more separators in the header": (text([f"{HEADER},", *BODY]), "line 2: 3 fields; expected 4"),
    "a name twice": (text(["size,size,label", *BODY]), "the header names 'size' twice; expected different names"),
    "a name twice, with spaces": (text(["size, size,label", *BODY]), "the header names 'size' twice"),
    "a line of units": (text([HEADER, "cm,,", *BODY]), "line 2, column 'label': the label is missing"),
    "a line of types": (text([HEADER, "float,text,text", *BODY]), "line 2, column 'size': the value is 'float'"),
    "a sum below": (text([*PLAIN, "Total,,60"]), "line 62, column 'size': the value is 'Total'"),
    "a remark below": (text([*PLAIN, "60 rows"]), "line 62: 1 field; expected 3"),
    "an open quote": (text([*PLAIN[:20], '1.0,"red,a', *PLAIN[20:]]), "line 21: 2 fields; expected 3"),
    "a separator that is not there": (text(["sep=|", *PLAIN]), "has one column"),
    "titles and a bad row": (text(["Sales", "2024", *PLAIN, "x,red,a"]), "line 64, column 'size': the value is 'x'"),
    "old Macs' titles and a ragged row": (text(["Sales", "2024", *PLAIN, "1"], "\r"), "line 64: 1 field; expected 3"),
    "a header again and a bad row": (text([*PLAIN, HEADER, "x,red,a"]), "line 63, column 'size': the value is 'x'"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_one_reading_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    with pytest.raises(UserError, match=rf"^training channel: .*{sentence}.*\.$"):
        found(tmp_path, content)


def decisions(source: Found) -> str:
    return "; ".join(decision.sentence() for decision in source.decisions)


def test_what_stands_above_a_table_is_said(tmp_path: Path) -> None:
    source = found(tmp_path, text(["sep=;", "Sales", "2024", *separated(";")]))
    assert "left out 't.csv': titles (lines 1 to 3 stand above the header) ('Sales', '2024')" in decisions(
        source
    )
    assert "header: line 4 (it holds words above" in decisions(source)
    assert any("separated by ';', as its first line says." in note for note in source.notes)


def test_repeated_headers_are_said(tmp_path: Path) -> None:
    assert "left out: left out (2 lines repeat the header)" in decisions(
        found(tmp_path, UNDERSTOOD["the header again"])
    )


def test_a_header_that_recurs_far_below_is_no_row(tmp_path: Path) -> None:
    lines = [*(BODY[row % ROWS] for row in range(2_000)), HEADER, HEADER, *BODY]
    source = found(tmp_path, text([HEADER, *lines])).source
    assert isinstance(source, Table)
    assert source.columns[0].dtype == np.float64
    assert (len(source), source.classes) == (2_060, ("a", "b"))
    assert source.ids[2_000] == "t.csv:2004"


def test_a_first_row_of_gaps_is_no_title(tmp_path: Path) -> None:
    lines = ["a,,", "b,1,2", *[f"{'ab'[row % 2]},{row / 7},{x}" for row, x in enumerate(X)]]
    assert len(found(tmp_path, text(lines)).source.labels) == len(lines)


def test_a_header_that_lacks_the_row_numbers_name_is_no_title(tmp_path: Path) -> None:
    """As R writes a table of one column with row names."""
    with pytest.raises(UserError, match="has one column"):
        found(tmp_path, text(["x", *[f"{row % 2},{x}" for row, x in enumerate(X)]]))


def test_a_header_of_several_lines_is_no_title(tmp_path: Path) -> None:
    source = found(tmp_path, text(['"size\n(cm)",colour,label', *BODY])).source
    assert isinstance(source, Table)
    assert source.names == ("size\n(cm)", "colour")


def test_fields_of_several_lines_are_one_field(tmp_path: Path) -> None:
    source = found(tmp_path, text([line.replace("red", '"light\r\nred"') for line in PLAIN], "\r\n")).source
    assert isinstance(source, Table)
    assert source.columns[1].tolist()[:2] == ["light\r\nred", "blue"]


def test_without_a_header_nothing_but_the_separator_stands_above(tmp_path: Path) -> None:
    rows = [f"{row % 2};{x};{2 * x}" for row, x in enumerate(X)]
    source = found(tmp_path, text(["sep=;", *rows]), "false").source
    assert len(source.labels) == ROWS
    with pytest.raises(UserError, match="one column"):
        found(tmp_path, text(["Sales", *rows]), "false")


def test_each_file_has_its_own_beginning(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(text(["Sales", *PLAIN[:31]]))
    (tmp_path / "b.csv").write_bytes(text(["sep=;", *separated(";", PLAIN[31:])]))
    holds_the_table(found(tmp_path, text([HEADER]), file="c.csv").source)


def test_another_channel_and_a_request_may_begin_with_the_separator(tmp_path: Path) -> None:
    for name, lines in {"training": PLAIN, "test": ["sep=;", *separated(";")]}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "t.csv").write_bytes(text(lines))
    splits = load_splits({name: tmp_path / name for name in ("training", "test")})
    assert splits.test is not None
    assert len(splits.test) == ROWS
    like = table_kind(splits.preprocessing)
    plain, told = (
        encode_rows(list(rows_of_csv(body, like)), like) for body in ("0.5,red\n", "sep=;\n0.5;red\n")
    )
    np.testing.assert_array_equal(plain, told)
    with pytest.raises(UserError, match="line 3, column 'size': the value is 'x'"):
        encode_rows(list(rows_of_csv("sep=;\n0.5;red\nx;red\n", like)), like)


def test_a_list_of_images_may_begin_with_the_separator(tmp_path: Path) -> None:
    for row in range(6):
        write_image(tmp_path / f"{row}.png", row)
    lines = [f"{row}.png^{'ab'[row % 2]}" for row in range(6)]
    source = found(tmp_path, text(["sep=^", "image^class", *lines]), file="labels.csv").source
    assert source.classes == ("a", "b")


@pytest.mark.parametrize(
    ("line", "separator"),
    [
        ("sep=;", ";"),
        ("SEP=,", ","),
        ('"sep=|"', "|"),
        ("sep=\t", "\t"),
        ("\ufeffsep=:", ":"),
        ("sep=;  ", ";"),
    ],
)
def test_separators_that_a_line_names(line: str, separator: str) -> None:
    assert told_separator(line) == separator


@pytest.mark.parametrize(
    "line", ["sep=", "sep=ab", "sep=a", "sep=1", "sep=.", "sepal=;", "month=sep;", "sep,oct", ""]
)
def test_lines_that_name_no_separator(line: str) -> None:
    assert told_separator(line) is None


def test_a_column_may_be_called_like_one_of_its_values() -> None:
    """More names above numbers than such columns tell a header; a word that stands for missing numbers does not."""
    rows = [[("airbag", "none")[at % 2], f"{at}.5", str(20 + at), "ab"[at % 2]] for at in range(20)]
    assert header_of([["airbag", "weight", "age", "class"], *rows]).taken == "line 1"
    assert header_of([["airbag", "weight", "age", "kind"], *rows]).taken == "line 1"
    assert header_of([["airbag", "unknown", "unknown", "a"], *rows]).taken == "none"
    assert header_of([["airbag", "1.5", "unknown", "a"], *rows]).taken == "none"

"""Codes of digits with leading zeros stay codes: in every format, in other channels and in requests."""

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from subset_trainer.data import Dataset, TableKind, load_channel, load_splits
from subset_trainer.data.formats.format import Found, Options
from subset_trainer.data.formats.reading import read
from subset_trainer.data.formats.registry import open_channel
from subset_trainer.data.kinds.registry import from_json
from subset_trainer.data.tables.interpret import Rules
from subset_trainer.data.tables.rows import encode_rows, row_of_json, rows_of_csv
from subset_trainer.data.tables.table import Table
from subset_trainer.errors import UserError
from tests.kinds import table_kind

ROWS = 120
ZIPS = ["02139", "10001", "00501", "94103"]
X = np.random.default_rng(3).normal(0, 1, ROWS).round(3)


def write(root: Path, codes: Sequence[str], form: str = "csv", name: str = "zip") -> Path:
    """A table of a label, a column of codes and a number."""
    root.mkdir(exist_ok=True)
    labels = ["ab"[row % 2] for row in range(ROWS)]
    if form == "parquet":
        pq.write_table(
            pa.table({"label": labels, name: pa.array(codes, pa.string()), "x": X}), root / "t.parquet"
        )
    elif form == "partitions":
        for code in sorted(set(codes)):
            own = [row for row in range(ROWS) if codes[row] == code]
            (root / f"{name}={code}").mkdir()
            pq.write_table(
                pa.table({"label": [labels[row] for row in own], "x": X[own]}),
                root / f"{name}={code}" / "t.parquet",
            )
    else:
        lines = [f"{label},{code},{x}" for label, code, x in zip(labels, codes, X, strict=True)]
        header = [f"label,{name},x"] if form == "csv" else []
        (root / "t.csv").write_text("\n".join([*header, *lines]) + "\n")
    return root


def found(root: Path, rules: Rules | None = None) -> Found:
    return read(open_channel("training", root), Options(columns=rules or Rules()), 1 << 30)


def taken(root: Path, rules: Rules | None = None, name: str = "zip") -> tuple[str, str]:
    """What the column was taken for, and the sentence that says it."""
    decision = next(
        one for one in found(root, rules).decisions if (one.name or "").split(" ")[0] in (name, "1")
    )
    return decision.taken, decision.sentence()


def column(root: Path, rules: Rules | None = None) -> np.ndarray:
    source = found(root, rules).source
    assert isinstance(source, Table)
    return source.columns[[name in ("zip", "1") for name in source.names].index(True)]


@pytest.mark.parametrize("form", ["csv", "no header", "parquet", "partitions"])
def test_digits_with_leading_zeros_are_categories_in_every_format(tmp_path: Path, form: str) -> None:
    codes = [ZIPS[row % 4] for row in range(ROWS)]
    kind, sentence = taken(write(tmp_path / form, codes, form))
    assert kind == "category"
    assert "codes of digits, some with leading zeros: 4 categories" in sentence
    assert "('0" in sentence
    assert set(column(tmp_path / form)) == set(ZIPS)


@pytest.mark.parametrize(
    "odd",
    ["", "02139-4307", "unknown", "n.n."],
    ids=["a gap", "a longer code", "a word for missing", "another word"],
)
def test_other_cells_among_codes_do_not_make_them_numbers(tmp_path: Path, odd: str) -> None:
    codes = [odd if row % 10 == 0 else ZIPS[row % 4] for row in range(ROWS)]
    assert taken(write(tmp_path, codes))[0] == "category"
    assert set(column(tmp_path)) == {*ZIPS, odd}


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_codes_that_all_differ_are_an_identifier(tmp_path: Path, form: str) -> None:
    codes = [f"{7_919 * row % 100_000:05}" for row in range(ROWS)]
    assert len(set(codes)) == ROWS
    kind, sentence = taken(write(tmp_path, codes, form))
    assert kind == "identifier"
    assert "codes of digits, some with leading zeros" in sentence


def test_codes_that_nearly_all_differ_are_refused_with_what_settles_it(tmp_path: Path) -> None:
    codes = [f"{7_919 * (row // 2 if row < 40 else row) % 100_000:05}" for row in range(ROWS)]
    write(tmp_path, codes)
    with pytest.raises(
        UserError, match=r"column 'zip': codes of digits.*ignore_columns=zip.*number_columns=zip"
    ):
        found(tmp_path)
    assert column(tmp_path, Rules(kept=("zip",))).dtype == object
    assert column(tmp_path, Rules(numbers=("zip",))).dtype == np.float64


@pytest.mark.parametrize(
    "numbers",
    [
        [str(row % 7) for row in range(ROWS)],
        [f"0.{row % 90 + 10}" for row in range(ROWS)],
        [f"{row % 7 - 3:03}" for row in range(ROWS)],
        [f"{row % 5:02}.5" for row in range(ROWS)],
        [str(1990 + row % 30) for row in range(ROWS)],
        ["0" if row % 3 else "100" for row in range(ROWS)],
    ],
    ids=["digits", "fractions", "signed", "padded fractions", "years", "a zero alone"],
)
def test_numbers_are_still_numbers(tmp_path: Path, numbers: list[str]) -> None:
    write(tmp_path, numbers)
    assert taken(tmp_path)[0] == "number"
    np.testing.assert_array_equal(column(tmp_path), np.array(list(map(float, numbers))))


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_number_columns_says_that_codes_are_numbers(tmp_path: Path, form: str) -> None:
    codes = [f"{row % 50:04}" for row in range(ROWS)]
    write(tmp_path, codes, form)
    assert taken(tmp_path)[0] == "category"
    np.testing.assert_array_equal(column(tmp_path, Rules(numbers=("z*",))), np.arange(ROWS) % 50)


def test_number_columns_on_other_texts_names_the_first(tmp_path: Path) -> None:
    write(tmp_path, ["abc" if row == 70 else ZIPS[row % 4] for row in range(ROWS)])
    with pytest.raises(
        UserError, match=r"line 72, column 'zip': the value is 'abc'; expected a number, as number_co"
    ):
        found(tmp_path, Rules(numbers=("zip",)))


def trained(root: Path, codes: Sequence[str], form: str = "csv") -> TableKind:
    """What training learned, as model.json holds it."""
    learned = load_splits({"training": write(root / "training", codes, form)}).preprocessing
    return table_kind(from_json(json.loads(json.dumps(learned.to_json()))))


def of_csv(like: TableKind, code: str) -> list[float]:
    return list(encode_rows(list(rows_of_csv(f"{code},0.5\n", like)), like)[0])


def of_json(like: TableKind, code: str | float | None) -> list[float]:
    return list(encode_rows([row_of_json([code, 0.5], "example 1", like)], like)[0])


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_request_gives_a_code_as_text_or_as_number(tmp_path: Path, form: str) -> None:
    like = trained(tmp_path, [ZIPS[row % 4] for row in range(ROWS)], form)
    expected = of_csv(like, "02139")
    assert expected[[*like.columns[0].categories].index("02139")] == 1
    unknown = of_csv(like, "77777")
    assert sum(unknown[: like.columns[0].width]) == 0
    for written in ("02139", "2139", 2139, 2139.0):
        assert of_json(like, written) == expected
    assert of_csv(like, "2139") == of_csv(like, " 02139 ") == expected
    for other in ("21390", 21390, "2139.5", 2139.5, -2139, "2 139"):
        assert of_json(like, other) == unknown


def test_codes_of_several_lengths_are_told_apart_by_their_spelling(tmp_path: Path) -> None:
    codes = ["007", "7", "012", "0045", "045"]
    like = trained(tmp_path, [codes[row % 5] for row in range(ROWS)])
    assert of_json(like, 7) == of_csv(like, "7") != of_csv(like, "007")
    assert of_json(like, 12) == of_csv(like, "012") != of_csv(like, "12")
    with pytest.raises(
        UserError, match=r"column 'zip': the number 45 may be '0045' or '045'; expected the code as a"
    ):
        of_json(like, 45)


def test_a_channel_whose_codes_lost_their_zeros_is_read_and_the_log_says_so(tmp_path: Path) -> None:
    codes = [ZIPS[row % 4] for row in range(ROWS)]
    write(tmp_path / "training", codes)
    write(tmp_path / "test", [code.lstrip("0") for code in codes])
    splits = load_splits({"training": tmp_path / "training", "test": tmp_path / "test"})
    assert any(
        "60 values of column 'zip' lack the leading zeros of training's codes; '2139' is read as '02139'"
        in note
        for note in splits.notes
    )
    own = load_channel(tmp_path / "training", splits.preprocessing, name="training")
    assert splits.test is not None
    assert torch.equal(everything(splits.test), everything(own))


def everything(dataset: Dataset) -> torch.Tensor:
    (inputs,) = dataset.batches([torch.arange(len(dataset))], torch.device("cpu"))
    return inputs


def test_a_category_of_a_request_is_compared_in_one_form_of_unicode(tmp_path: Path) -> None:
    towns = ["Zürich", unicodedata.normalize("NFD", "Zürich"), "Genève", "Bern"]
    like = trained(tmp_path, [towns[row % 4] for row in range(ROWS)])
    assert like.columns[0].categories == ("Bern", "Genève", "Zürich")
    expected = of_csv(like, "Zürich")
    assert expected[2] == 1
    decomposed = unicodedata.normalize("NFD", "Zürich")
    assert of_csv(like, decomposed) == of_json(like, decomposed) == expected

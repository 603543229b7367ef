"""What the label of a table is, in which spelling, and which columns only repeat it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from subset_trainer.data import load_splits, overview
from subset_trainer.data.formats.format import Found, Options
from subset_trainer.data.formats.reading import read
from subset_trainer.data.formats.registry import open_channel
from subset_trainer.data.tables.interpret import Rules
from subset_trainer.data.tables.table import Table
from subset_trainer.data.understanding import OpenDecisionsError
from subset_trainer.errors import UserError

ROWS = 90
DRAW = np.random.default_rng(11)
X = DRAW.normal(0, 1, ROWS).round(3).tolist()
CODES = DRAW.permutation(np.arange(ROWS) % 2).tolist()


def write(root: Path, header: str, rows: Sequence[str], name: str = "training") -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "a.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder


def found(folder: Path, options: Options | None = None) -> Found:
    return read(open_channel("training", folder), options or Options(), 1 << 30)


def left_out(source: Found) -> list[str | None]:
    return [decision.name for decision in source.decisions if decision.about == "left out"]


# Copies of the label


@pytest.mark.parametrize("name", ["label_text", "Label.1", "label_encoded", "text_label", "label_id2"])
@pytest.mark.parametrize("words", [("neg", "pos"), ("0", "1"), ("-1.5", "2.5"), ("1", "")])
def test_a_column_that_repeats_the_label_is_left_out_by_its_name(
    tmp_path: Path, name: str, words: tuple[str, str]
) -> None:
    rows = [f"{X[n]},{'ab'[code]},{words[code]}" for n, code in enumerate(CODES)]
    assert left_out(found(write(tmp_path, f"x,label,{name}", rows))) == [name]


def test_a_copy_by_another_name_is_kept_and_said(tmp_path: Path) -> None:
    rows = [f"{X[n]},{code},{('no', 'yes')[code]}" for n, code in enumerate(CODES)]
    source = found(write(tmp_path, "x,survived,alive", rows))
    assert left_out(source) == []
    (said,) = [decision.reason for decision in source.decisions if decision.name == "alive"]
    assert "as a copy of 'survived' does (ignore_columns=alive leaves it out)" in said


@pytest.mark.parametrize(("wrong", "kept"), [(1, ()), (0, ("label_text",))])
def test_a_column_that_tells_a_class_mostly_or_is_to_be_kept_is_a_feature(
    tmp_path: Path, wrong: int, kept: tuple[str, ...]
) -> None:
    rows = [
        f"{X[n]},{code},{('neg', 'pos')[1 - code if n < wrong else code]}" for n, code in enumerate(CODES)
    ]
    folder = write(tmp_path, "x,label,label_text", rows)
    assert left_out(found(folder, Options(columns=Rules(kept=kept)))) == []


# Spelling


@pytest.mark.parametrize("mark", ["\u200b", "\ufeff", "\u200e", " \u00ad"])
def test_what_nobody_sees_makes_no_class(tmp_path: Path, mark: str) -> None:
    labels = [
        f"{mark if n % 5 == 0 else ''}{'ab'[code]}{mark if n % 7 == 0 else ''}"
        for n, code in enumerate(CODES)
    ]
    assert found(write(tmp_path, "x,label", [f"{X[n]},{labels[n]}" for n in range(ROWS)])).source.classes == (
        "a",
        "b",
    )


def test_a_spreadsheets_texts_of_numbers_are_numbers(tmp_path: Path) -> None:
    rows = [f'"=""{n * 7 % 60}""",{code}' for n, code in enumerate(CODES)]
    source = found(write(tmp_path, "v,label", rows)).source
    assert isinstance(source, Table)
    assert source.columns[0].tolist() == [n * 7 % 60 for n in range(ROWS)]


@pytest.mark.parametrize(("own", "other"), [("true", "True"), ("Not spam", "not-spam"), ("YES", "yes")])
def test_labels_of_other_channels_in_another_spelling_are_trainings(
    tmp_path: Path, own: str, other: str
) -> None:
    for name, spelt in (("training", own), ("test", other)):
        write(tmp_path, "x,label", [f"{X[n]},{('no', spelt)[code]}" for n, code in enumerate(CODES)], name)
    splits = load_splits({name: tmp_path / name for name in ("training", "test")})
    assert splits.test is not None
    assert splits.preprocessing.classes == tuple(sorted((own, "no")))
    assert np.bincount(splits.test.labels.numpy()).tolist() == [ROWS / 2, ROWS / 2]
    assert any(f"{other!r} is read as training's {own!r}" in note for note in splits.notes)


def test_labels_as_given_stay_apart_in_other_channels(tmp_path: Path) -> None:
    for name, spelt in (("training", "yes"), ("test", "YES")):
        write(tmp_path, "x,label", [f"{X[n]},{('no', spelt)[code]}" for n, code in enumerate(CODES)], name)
    channels = {name: tmp_path / name for name in ("training", "test")}
    with pytest.raises(UserError, match="test channel: the labels 'YES' do not occur in training"):
        load_splits(channels, Options(label_names="as-given"))


@pytest.mark.parametrize("given", ["TARGET", "Target ", "tar_get"])
def test_label_column_finds_its_column_in_another_spelling(tmp_path: Path, given: str) -> None:
    folder = write(tmp_path, "x,target", [f"{X[n]},{code}" for n, code in enumerate(CODES)])
    source = found(folder, Options(label_column=given))
    assert [d.taken for d in source.decisions if d.about == "label"] == ["'target'"]


# Measurements


def test_ages_are_doubted_as_classes_and_taken_where_they_are_named(tmp_path: Path) -> None:
    ages = DRAW.normal(40, 12, 400).round().astype(int).tolist()
    folder = write(tmp_path, "x,target", [f"{n * 7 % 31},{age}" for n, age in enumerate(ages)])
    with pytest.raises(
        OpenDecisionsError, match=r"whole numbers from .* may be measurements rather than classes"
    ) as error:
        found(folder)
    assert overview.settings(error.value.decisions) == ["label_column=target"]
    assert len(found(folder, Options(label_column="target")).source.classes) == len(set(ages))


@pytest.mark.parametrize("first", [0, 1])
def test_numbers_of_many_classes_are_classes(tmp_path: Path, first: int) -> None:
    rows = [f"{n * 7 % 31},{first + n % 100}" for n in range(200)]
    assert len(found(write(tmp_path, "x,target", rows)).source.classes) == 100


# Settings that settle


def test_the_settings_for_words_among_numbers_settle_them(tmp_path: Path) -> None:
    cells = [("<0.5", ">90")[n % 2] if n % 9 < 2 else f"{x:.3f}" for n, x in enumerate(X)]
    folder = write(
        tmp_path, "crp,n,label", [f"{cells[n]},{n * 7 % 31},{code}" for n, code in enumerate(CODES)]
    )
    with pytest.raises(OpenDecisionsError) as error:
        found(folder)
    (setting,) = overview.settings(error.value.decisions)
    assert setting.startswith("missing_values=")
    words = frozenset(setting.removeprefix("missing_values=").split(","))
    assert words == {"<0.5", ">90"}
    source = found(folder, Options(columns=Rules(missing=words))).source
    assert isinstance(source, Table)
    assert np.isnan(source.columns[0]).sum() == sum(cell in words for cell in cells)


def test_all_columns_of_other_types_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    columns = {"lists": [[1.0]] * ROWS, "raw": [b"1"] * ROWS, "x": X, "label": CODES}
    pq.write_table(pa.table(columns), tmp_path / "training" / "a.parquet")
    with pytest.raises(UserError, match=r"\(ignore_columns=lists,raw\)"):
        found(tmp_path / "training")
    options = Options(columns=Rules(ignored=("lists", "raw")))
    assert found(tmp_path / "training", options).source.classes == ("0", "1")

"""Hyperparameters for reading that the training channel's format does not heed are refused or said."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from subset_trainer.config import hyperparameters
from subset_trainer.config.data import DataKnobs
from subset_trainer.data.formats.format import Options
from subset_trainer.data.formats.registry import FORMATS
from subset_trainer.data.inspecting import options_of, understand
from subset_trainer.data.splits import load_splits
from subset_trainer.errors import UserError

OTHERS = {
    *("validation_fraction", "test_fraction", "label_names", "max_tokens", "fine_tune", "num_workers"),
    *(
        "augmentation",
        "augmentation_reach",
        "flip",
        "cutout",
        "image_size",
        "on_unreadable",
        "unreadable_limit",
    ),
    "max_image_pixels",
}
"""Those that are not about the format of the training channel."""
GIVEN = {
    "label_column": "label",
    "label_folder": "inner",
    "csv_header": "true",
    "text_encoding": "cp1252",
    "min_confidence": "0.5",
    "confidence_weighting": "true",
    "human_annotated_only": "true",
    "verified_as": "good",
    "s3_images": "true",
    "text_column": "a",
    "ignore_columns": "a",
    "keep_columns": "a",
    "number_columns": "a",
    "date_order": "dmy",
    "decimal_mark": "point",
    "missing_values": "none",
}


def options(**given: Any) -> Options:
    return options_of(hyperparameters.parse(given))


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for name in "ab":
        for number in range(10):
            path = tmp_path / "images" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(path)
    return tmp_path / "images"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    lines = ["label,x,y", *(f"{('cat', 'dog')[n % 2]},{n / 7:.3f},{n * n / 11:.3f}" for n in range(40))]
    (tmp_path / "table").mkdir()
    (tmp_path / "table/rows.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "table"


@pytest.mark.parametrize(("name", "value"), GIVEN.items())
def test_every_hyperparameter_is_known_as_given_and_heeded_by_a_format(name: str, value: str) -> None:
    assert list(options(**{name: value}).given()) == [name]
    assert any(name in form.heeds for form in FORMATS)


def test_no_hyperparameter_for_reading_is_forgotten() -> None:
    assert options().given() == {}
    assert {name for form in FORMATS for name in form.heeds} == set(GIVEN)
    # A new one is heeded by a format, or belongs to those that are not about formats.
    assert set(DataKnobs.model_fields) - set(GIVEN) == OTHERS


def test_label_folder_is_refused_where_no_folders_name_classes(table: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"training channel: label: label_folder=inner has no effect.*'csv', only on ",
    ):
        load_splits({"training": table}, options(label_folder="inner"))
    with pytest.raises(UserError, match="label_folder=inner has no effect"):
        understand({"training": table}, options(label_folder="inner"), beginnings=True)


def test_label_column_is_refused_where_there_are_no_columns(folders: Path) -> None:
    with pytest.raises(UserError, match=r"label_column=kind has no effect.*'folders', only on .*csv"):
        load_splits({"training": folders}, options(label_column="kind"))


def test_others_are_said(folders: Path) -> None:
    splits = load_splits({"training": folders}, options(csv_header="true", ignore_columns="a,b"))
    said = [one.sentence() for one in splits.understandings[0].decisions]
    assert any(
        "csv_header=true has no effect on data of the format 'folders', only on csv" in one for one in said
    )
    assert any("ignore_columns=a,b has no effect" in one for one in said)


@pytest.mark.parametrize("setting", ["merged", "as-given"])
def test_label_names_that_decide_nothing_are_said(table: Path, setting: str) -> None:
    splits = load_splits({"training": table}, options(label_names=setting))
    assert any(
        f"label_names={setting} has no effect" in one.sentence() for one in splits.understandings[0].decisions
    )
    with (table / "rows.csv").open("a") as rows:
        rows.writelines(f"Cat,{n / 3:.3f},{n / 5:.3f}\n" for n in range(10))
    splits = load_splits({"training": table}, options(label_names=setting))
    assert not any("has no effect" in one.sentence() for one in splits.understandings[0].decisions)

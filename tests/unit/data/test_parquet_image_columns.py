"""Parquet of images: numbers without a name in the schema, and several columns of images."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.data.test_layout import found, image, refused

PICTURES = [{"bytes": image(number), "path": f"{number}.jpg"} for number in range(12)]
SCHEMA = {
    "huggingface": json.dumps(
        {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    )
}


def write(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns).replace_schema_metadata(SCHEMA), path / "data.parquet")
    return path


@pytest.mark.parametrize(("number", "said"), [(-1, "marks examples without a label"), (2, "without a name")])
def test_a_number_that_the_schema_does_not_name_is_refused(tmp_path: Path, number: int, said: str) -> None:
    write(tmp_path, image=PICTURES, label=[0, 1, number] * 4)
    refused(tmp_path, f"4 of 12 rows have the label {number} in 'label'", said, "'data.parquet[2]'")
    write(tmp_path, image=PICTURES, label=[0, 1] * 6)
    assert dict(found(tmp_path).understanding("training").classes) == {"cat": 6, "dog": 6}


def test_of_several_columns_of_images_the_one_with_its_name_is_read(tmp_path: Path) -> None:
    write(tmp_path, left=PICTURES, right=PICTURES, label=[0, 1] * 6)
    refused(tmp_path, "several columns of images, 'left', 'right'", "called 'image'")
    write(tmp_path, mask=PICTURES, image=PICTURES, label=[0, 1] * 6)
    assert len(found(tmp_path).source) == 12

"""Which attribute of a manifest is the label, where lines differ; and the folders of a labelling job's output."""

import json
from pathlib import Path
from typing import Any

import pytest

from subset_trainer.data.formats.format import Options
from tests.unit.data.test_layout import found, image, put, refused

CLASSES = ("cat", "dog")


def line(
    number: int, attribute: str = "animal", kind: str = "image-classification", **more: Any
) -> dict[str, Any]:
    name = CLASSES[number % 2]
    metadata = {"class-name": name, "type": f"groundtruth/{kind}", "human-annotated": "yes"}
    return {
        "source-ref": f"s3://bucket/set/{number}.jpg",
        attribute: number % 2,
        f"{attribute}-metadata": metadata,
        **more,
    }


def manifest(root: Path, lines: list[dict[str, Any]], name: str = "output.manifest") -> Path:
    put(root, {f"{number}.jpg": image(number) for number in range(8)})
    return put(root, {name: "\n".join(map(json.dumps, lines))})


@pytest.mark.parametrize("first", [1, 4])
def test_another_label_attribute_in_later_lines_is_refused(tmp_path: Path, first: int) -> None:
    lines = [line(n) if n < first else {**line(n), **line(n, "animal-v2")} for n in range(8)]
    manifest(tmp_path, lines)
    refused(tmp_path, f"line {first + 1}: the labels may be 'animal' or 'animal-v2'", "label_column")
    source = found(tmp_path, Options(label_column="animal")).source
    assert len(source) == 8


def test_another_label_attribute_in_its_place_is_refused(tmp_path: Path) -> None:
    manifest(tmp_path, [line(n, "first" if n < 4 else "second") for n in range(8)])
    refused(tmp_path, "line 5: the labels may be 'first' or 'second'", "one attribute in all lines")


def test_other_attributes_of_a_line_are_no_labels(tmp_path: Path) -> None:
    verified = {
        "check": 0,
        "check-metadata": {"class-name": "good", "type": "groundtruth/label-verification"},
    }
    boxes = {"bb": {}, "bb-metadata": {"type": "groundtruth/object-detection"}}
    manifest(tmp_path, [line(n, id=n, weather="sun", **(verified if n > 3 else boxes)) for n in range(8)])
    assert dict(found(tmp_path).understanding("training").classes) == {"cat": 4, "dog": 4}


def test_a_failed_line_is_counted_as_such_also_where_it_is_the_first(tmp_path: Path) -> None:
    failed = {"source-ref": "s3://bucket/set/0.jpg", "animal-metadata": {"failure-reason": "ClientError"}}
    manifest(tmp_path, [failed, *(line(n) for n in range(1, 8))])
    assert "1 whose labelling failed left out" in found(tmp_path).notes[0]


def test_of_a_labelling_job_the_output_is_read_and_not_the_iterations(tmp_path: Path) -> None:
    put(tmp_path, {f"{number}.jpg": image(number) for number in range(8)})
    whole = "\n".join(json.dumps(line(n)) for n in range(8))
    put(tmp_path, {"job/manifests/output/output.manifest": whole})
    put(tmp_path, {"job/manifests/intermediate/1/output.manifest": json.dumps(line(0))})
    put(tmp_path, {"job/annotations/worker-response/iteration-1/0/a.json": "{}"})
    assert dict(found(tmp_path).understanding("training").classes) == {"cat": 4, "dog": 4}

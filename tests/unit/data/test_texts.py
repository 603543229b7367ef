"""Texts in folders, tables and manifests, and what becomes of them."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import reviews
from subset_trainer.config import parse
from subset_trainer.contract import Contract
from subset_trainer.data import MemoryDataset, Splits, TextKind, load_channel, load_splits
from subset_trainer.data.formats.format import Options
from subset_trainer.data.kinds.registry import from_json
from subset_trainer.data.tables.interpret import Rules
from subset_trainer.data.texts.ngrams import BUCKETS, MOST_NGRAMS, Hashing, encode_texts, fit_hashing
from subset_trainer.errors import UserError
from subset_trainer.job import read as job_read
from subset_trainer.training.parallel.ranks import Ranks
from tests.kinds import gathered, text_kind

WORDS = {"weather": ("rain", "sun", "wind"), "food": ("bread", "soup", "salt")}
ROWS = [
    (kind, f"Today {word}, and number {n} of it {word}s.")
    for kind, words in WORDS.items()
    for word in words
    for n in range(8)
]


def folders(root: Path) -> Path:
    for n, (kind, text) in enumerate(ROWS):
        (root / kind).mkdir(parents=True, exist_ok=True)
        (root / kind / f"{n}.txt").write_text(text, encoding="utf-8")
    return root


def table(root: Path, rows: Sequence[Sequence[Any]] = ROWS, header: Sequence[str] = ("kind", "text")) -> Path:
    root.mkdir(exist_ok=True)
    with (root / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return root


def manifest(root: Path, change: Mapping[str, Any] | None = None) -> Path:
    """As "Labeling Job Output Data" shows a text classification job's."""
    lines = []
    for kind, text in ROWS:
        metadata = {
            "class-name": kind,
            "confidence": 0.8,
            "human-annotated": "yes",
            "job-name": "labeling-job/x",
        }
        kinds = {
            "kind": list(WORDS).index(kind),
            "kind-metadata": {**metadata, "type": "groundtruth/text-classification"},
        }
        lines.append({"source": text, **kinds})
    lines[3].update(change or {})
    (root / "output.manifest").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


def check(found: Splits) -> None:
    assert found.preprocessing.name == "text"
    assert found.preprocessing.classes == ("food", "weather")
    hashing = text_kind(found.preprocessing).hashing
    assert hashing is not None
    expected = {}
    for kind, text in ROWS:
        (row,) = encode_texts([text], hashing)
        expected[row.tobytes()] = kind
    assert len(found.train) + len(found.validation) == len(ROWS)
    for part in (found.train, found.validation):
        assert isinstance(part, MemoryDataset)
        for row, label in zip(part.inputs, part.labels.tolist(), strict=True):
            assert expected[row.numpy().tobytes()] == found.preprocessing.classes[label]
    again = from_json(json.loads(json.dumps(found.preprocessing.to_json())))
    assert again == found.preprocessing


def complaint(root: Path, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        load_splits({"training": root}, **gathered(options))
    return str(error.value)


def test_class_folders(tmp_path: Path) -> None:
    found = load_splits({"training": folders(tmp_path)})
    check(found)
    assert found.understandings[0].examples == 48 and len(found.understandings[0].classes) == 2
    assert found.train_ids[0].endswith(".txt")


def test_a_column_of_a_table(tmp_path: Path) -> None:
    found = load_splits({"training": table(tmp_path)})
    check(found)
    assert ("column", "text") in {(one.about, one.name) for one in found.understandings[0].decisions}
    assert found.train_ids[0].startswith("t.csv:")


def test_a_named_column_among_others(tmp_path: Path) -> None:
    rows = [(n, *row) for n, row in enumerate(ROWS)]
    root = table(tmp_path, rows, ("number", "kind", "text"))
    found = load_splits({"training": root}, Options("kind", columns=Rules(texts=("text",))))
    check(found)
    assert ("column", "text") in {(one.about, one.name) for one in found.understandings[0].decisions}
    read = load_channel(root, found.preprocessing, name="test")
    assert torch.equal(
        read.labels, torch.tensor([found.preprocessing.classes.index(kind) for kind, _ in ROWS])
    )
    text = complaint(root, label_column="kind", columns=Rules(texts=("remark",)))
    assert text == (
        "text_column='remark': the training channel has no such column; expected some of 'number', 'kind', 'text'."
    )


def test_a_column_of_parquet(tmp_path: Path) -> None:
    pd.DataFrame(ROWS, columns=["kind", "text"]).to_parquet(tmp_path / "t.parquet")
    check(load_splits({"training": tmp_path}))


def test_a_column_of_categories_is_no_text(tmp_path: Path) -> None:
    rows = [(kind, "a town" if n % 2 else "a village") for n, (kind, _) in enumerate(ROWS)]
    assert load_splits({"training": table(tmp_path, rows)}).preprocessing.name == "table"


def test_a_manifest_that_holds_the_texts(tmp_path: Path) -> None:
    found = load_splits({"training": manifest(tmp_path)})
    check(found)
    assert found.notes[0] == (
        "training channel: 48 texts of 2 classes in a manifest, labels 'kind'; 48 by people (mean confidence 0.80)."
    )
    assert found.train_ids[0].startswith("output.manifest:")


def test_channels_of_other_kinds_do_not_mix(tmp_path: Path) -> None:
    found = load_splits({"training": folders(tmp_path / "a")})
    numbers = table(tmp_path / "b", [(kind, n) for n, (kind, _) in enumerate(ROWS)])
    with pytest.raises(UserError, match="holds a table; expected texts, as in training"):
        load_channel(numbers, found.preprocessing, name="test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": 5}, "source is 5"),
        ({"source": None, "source-ref": "s3://bucket/a.png"}, "source is None"),
        ({"kind": []}, "kind is []; expected a class: its number or name"),
    ],
)
def test_a_line_that_does_not_fit(tmp_path: Path, change: Mapping[str, Any], message: str) -> None:
    assert complaint(manifest(tmp_path, change)) == (
        f"training channel: 'output.manifest', line 4: {message}; expected lines of JSON objects with source (or with "
        "source-ref, and the images or s3_images=true) and a label."
    )


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (folders(tmp_path) / "food/0.txt").write_bytes(b"\xff")
    assert complaint(tmp_path).startswith(
        "training channel: text 'food/0.txt': not UTF-8 text (byte 0xff); expected UTF-8, so set text_encoding="
    )


def test_ngrams_are_padded_and_cut() -> None:
    hashing = fit_hashing(["one two three", "one"])
    assert hashing == Hashing("word", BUCKETS, 5)  # three words and two pairs
    rows = encode_texts(["one two three four", "", "ONE"], hashing)
    assert rows.shape == (3, 5) and rows.dtype == np.int32
    assert (rows[0] < BUCKETS).all() and (rows[1] == BUCKETS).all()
    assert rows[2, 0] == encode_texts(["one"], hashing)[0, 0]
    long = " ".join(f"word{n}" for n in range(10_000))
    assert fit_hashing([long]).length <= MOST_NGRAMS


def test_characters_where_words_are_not_set_apart() -> None:
    hashing = fit_hashing(
        ["天気は良いですがとても寒いので家にいます", "美味しいパンを毎朝焼いて食べるのが好きです"]
    )
    assert hashing.unit == "character"
    one, other = encode_texts(["天気は良いです", "良いです天気は"], hashing)
    shared = set(one.tolist()) & set(other.tolist())
    assert 1 < len(shared) < len(set(one.tolist()))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (0.2, 0.05)),
        ({"optimizer": "sgd", "eta": 0.3}, (0.2, 0.3)),
        ({"learning_rate": 0.05}, (0.05, 0.05)),
        ({"optimizer": "muon"}, (0.05, None)),
        ({"optimizer": "adamw"}, (0.001, None)),
    ],
)
def test_the_usual_learning_rate_of_texts_alone(
    given: dict[str, Any], expected: tuple[float, float | None], tmp_path: Path
) -> None:
    contract = Contract(
        tmp_path, {}, {"training": folders(tmp_path)}, ("localhost",), "localhost", None, None
    )
    config = job_read.read(contract, parse(given), Ranks()).config
    assert (config.learning_rate, config.eta) == expected


def test_a_text_beside_other_columns_keeps_the_usual_learning_rate(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    reviews.write(tmp_path / "t" / "t.csv", reviews.rows(40))
    contract = Contract(tmp_path, {}, {"training": tmp_path / "t"}, ("localhost",), "localhost", None, None)
    material = job_read.read(contract, parse({"label_column": "outcome"}), Ranks())
    assert material.model == "ngrams" and not isinstance(material.splits.preprocessing, TextKind)
    assert (material.config.learning_rate, material.config.eta) == (0.05, None)

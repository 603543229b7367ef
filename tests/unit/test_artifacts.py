"""A saved model that is damaged, or is none, is one sentence."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subset_trainer import artifacts
from subset_trainer.data import Column, ImageKind, Kind, TableAndTextKind, TableKind, TextKind
from subset_trainer.data.kinds.text import PLAIN
from subset_trainer.data.requests import CSV
from subset_trainer.data.tables.numbers import Spelling
from subset_trainer.data.texts.ngrams import BUCKETS, Hashing
from subset_trainer.errors import UserError
from subset_trainer.models import build
from subset_trainer.pretrained import encoders
from subset_trainer.pretrained.encoders import Encoder
from subset_trainer.serving.predictor import Predictor
from subset_trainer.serving.requests import batches
from tests.encoders import write as write_encoder
from tests.formats import png


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    preprocessing = ImageKind(("a", "b"), (8, 8), (0.5,) * 3, (0.2,) * 3)
    classifier = build("cnn", (3, 8, 8), 2, (0.5,) * 3, (0.2,) * 3)
    artifacts.save_model(tmp_path, classifier, "cnn", preprocessing, {"epochs": 1})
    return tmp_path


def change(saved: Path, **values: Any) -> None:
    path = saved / artifacts.DESCRIPTION
    description = json.loads(path.read_text())
    for name, value in values.items():
        (description if name in description else description["preprocessing"])[name] = value
    path.write_text(json.dumps(description))


def test_a_whole_one_loads(saved: Path) -> None:
    loaded = artifacts.load_model(saved)
    assert loaded.hyperparameters == {"epochs": 1}
    assert loaded.classifier(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)).shape == (1, 2)


@pytest.mark.parametrize("name", [artifacts.DESCRIPTION, artifacts.WEIGHTS])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(UserError, match=f"holds no {name}; expected the model folder of a job"):
        artifacts.load_model(saved)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"preprocessing": 1}']
)
def test_a_damaged_description_is_named(saved: Path, content: bytes) -> None:
    (saved / artifacts.DESCRIPTION).write_bytes(content)
    with pytest.raises(UserError, match=r"model\.json is damaged \("):
        artifacts.load_model(saved)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("architecture", None),
        ("image_size", [10**6, 10**6]),
        ("image_size", [8]),
        ("image_size", None),
        ("mean", ["a", "b", "c"]),
        ("mean", [0.5]),
        ("std", [0, 0, 0]),
        ("kind", "sound"),
        ("kind", "table"),
        ("hyperparameters", [1]),
    ],
)
def test_a_description_of_what_cannot_be_is_refused(saved: Path, name: str, value: Any) -> None:
    change(saved, **{name: value})
    with pytest.raises(UserError, match=r"model\.json is damaged|hyperparameter model"):
        artifacts.load_model(saved)


def test_no_classes_are_refused(saved: Path) -> None:
    change(
        saved,
        preprocessing={
            "kind": "image",
            "classes": [],
            "image_size": [8, 8],
            "mean": [0.5] * 3,
            "std": [1] * 3,
        },
    )
    with pytest.raises(UserError, match=r"damaged \(classes"):
        artifacts.load_model(saved)


@pytest.mark.parametrize("size", [0, 4, 100, 5_000])
def test_damaged_weights_are_named(saved: Path, size: int) -> None:
    path = saved / artifacts.WEIGHTS
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=r"model\.safetensors is damaged or belongs to another model"):
        artifacts.load_model(saved)


def test_weights_of_another_network_are_named(saved: Path) -> None:
    change(saved, architecture="resnet18")
    with pytest.raises(
        UserError, match=r"expected the weights of resnet18 for inputs of shape \(3, 8, 8\) and 2"
    ):
        artifacts.load_model(saved)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value of a JSON document."""
    if at:
        yield at
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield from places(part, (*at, name))


TAMPERED: tuple[Any, ...] = (1 << 40, -1, 0, None, "x", 1e308, float("nan"), [], {}, [1 << 40], "a" * 1000)
CLASSES = ("a", "b")
OF_FILES: dict[str, Any] = {"header": True, "label_column": "l"}
TABLE = TableKind(
    CLASSES,
    (Column("x", "numeric", missing=True), Column("c", "categorical", categories=("u", "v"))),
    **OF_FILES,
)
SPELLED = TableKind(
    CLASSES,
    (
        Column("x", "numeric", spelling=Spelling("comma", affix="€", missing=("n/a",))),
        Column("d", "date", cycles=("year", "week"), spelling=Spelling(orders=(("/last", "dmy"),))),
    ),
    left_out=(3,),
    **OF_FILES,
)
REQUESTS = {
    "image": (png(0), "image/png"),
    "table": (b"1,u\n", CSV),
    "spelled": (b'"3,5",1/2/2020\n', CSV),
    "texts": (b"hello you", PLAIN),
    "texts in a table": (b"1,u,hello you,more\n", CSV),
    "encoder": (b"bread and rain", PLAIN),
    "encoder in a table": (b"3,v,bread,sun\n", CSV),
}


def kind_of(case: str, encoder: Encoder | None) -> Kind:
    coding: dict[str, Any] = {"hashing": Hashing("word", BUCKETS, 8)}
    if encoder is not None:
        coding = {"tokens": encoder.tokens}
    if case == "image":
        return ImageKind(CLASSES, (8, 8), (0.5,) * 3, (0.2,) * 3)
    if case in ("table", "spelled"):
        return TABLE if case == "table" else SPELLED
    texts = tuple(TextKind(CLASSES, text_column=name, **coding, **OF_FILES) for name in "tu")
    return TableAndTextKind(CLASSES, tuple("xctu"), TABLE, texts) if "table" in case else texts[0]


@pytest.mark.parametrize("case", REQUESTS)
def test_a_description_that_was_tampered_with_answers_or_is_refused_in_a_sentence(
    tmp_path: Path, case: str
) -> None:
    """Each value in turn becomes another, or goes; no memory is taken that the weights do not fill."""
    encoder = encoders.read(write_encoder(tmp_path / "given"), 24) if "encoder" in case else None
    kind = kind_of(case, encoder)
    name = "encoder" if encoder else {"image": "cnn", "table": "mlp", "spelled": "mlp"}.get(case, "ngrams")
    model = build(name, kind.input_shape, 2, encoder=encoder.body if encoder else None, **kind.network).eval()
    artifacts.save_model(tmp_path, model, name, kind, {})
    whole = json.loads((tmp_path / artifacts.DESCRIPTION).read_text())

    def answer() -> np.ndarray:
        found = Predictor.load(tmp_path)
        return found.probabilities(batches(*REQUESTS[case], found.preprocessing))

    assert answer().shape == (1, 2)
    refused = []
    for *way, last in places(whole):
        for value in (*TAMPERED, ...):
            changed = json.loads(json.dumps(whole))
            holder = changed
            for step in way:
                holder = holder[step]
            if value is ...:
                del holder[last]
            else:
                holder[last] = value
            (tmp_path / artifacts.DESCRIPTION).write_text(json.dumps(changed))
            try:
                answer()
            except UserError as error:
                refused.append(str(error))
    assert len(refused) > 100
    assert not [sentence for sentence in refused if "\n" in sentence]

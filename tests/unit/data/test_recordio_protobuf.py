"""recordio-protobuf, from the SageMaker SDK's writers."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sagemaker.amazon.common import (
    _write_recordio,
    write_numpy_to_dense_tensor,
    write_spmatrix_to_sparse_tensor,
)
from sagemaker.amazon.record_pb2 import Record
from scipy import sparse

from subset_trainer.data import load_splits
from subset_trainer.data.formats.recordio_protobuf import read_protobuf
from subset_trainer.data.formats.registry import detect, open_channel
from subset_trainer.errors import UserError
from tests.kinds import table_kind

X = np.array([[0, 1.5, 0], [2, 0, 0], [0, 0, 0], [4, 0, 0.25]])
Y = np.array([1, 0, 1, 0])


def written(x: Any, y: np.ndarray | None) -> bytes:
    content = io.BytesIO()
    (write_spmatrix_to_sparse_tensor if sparse.issparse(x) else write_numpy_to_dense_tensor)(content, x, y)
    return content.getvalue()


def record(change: Callable[[Any], object]) -> bytes:
    """Good records, and one more that is changed."""
    message = Record()
    message.features["values"].float32_tensor.values.extend([1, 2, 3])
    message.label["values"].float32_tensor.values.append(1)
    change(message)
    content = io.BytesIO(written(X, Y))
    content.seek(0, io.SEEK_END)
    _write_recordio(content, message.SerializeToString())
    return content.getvalue()


def complaint(root: Path, content: bytes) -> str:
    (root / "t.pbr").write_bytes(content)
    with pytest.raises(UserError) as error:
        load_splits({"training": root})
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("kind", ["float32", "float64", "int64"])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("file", ["a.pbr", "a.rec", "a.recordio"])
def test_what_the_sdk_writes(tmp_path: Path, kind: str, form: Any, file: str) -> None:
    x = (X * (4 if kind == "int64" else 1)).astype(kind)
    (tmp_path / file).write_bytes(written(form(x), Y.astype(kind)))
    channel = open_channel("training", tmp_path)
    layout = detect(channel)
    assert layout.format.name == "protobuf"
    found = read_protobuf(channel, layout.files)
    np.testing.assert_array_equal(np.stack(found.columns, 1), x)
    assert (found.names, found.classes, found.labels.tolist()) == (("0", "1", "2"), ("0", "1"), Y.tolist())
    assert found.ids[3] == f"{file}[3]"


def test_dense_and_sparse_and_several_files_are_one_table(tmp_path: Path) -> None:
    for name in ("training", "validation"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.pbr").write_bytes(written(X, Y))
        (tmp_path / name / "b.pbr").write_bytes(written(sparse.csr_matrix(np.where(X, np.nan, 0)), Y))
    splits = load_splits({name: tmp_path / name for name in ("training", "validation")})
    assert (len(splits.train), splits.preprocessing.input_shape) == (8, (6,))
    assert all(column.missing for column in table_kind(splits.preprocessing).columns)


def clear(message: Any, attribute: str) -> None:
    message.ClearField(attribute)


def tensor(message: Any, **fields: list[float]) -> None:
    message.features["values"].float32_tensor.Clear()
    for name, values in fields.items():
        getattr(message.features["values"].float32_tensor, name).extend(values)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda m: clear(m, "label"), "the label is missing; expected 'values'"),
        (lambda m: clear(m, "features"), "the features are missing; expected 'values'"),
        (
            lambda m: m.features["size"].CopyFrom(m.features.pop("values")),
            "the features are called 'size'; expected 'values'",
        ),
        (
            lambda m: m.features["values"].bytes.value.append(b"x"),
            "the features are bytes; expected a tensor",
        ),
        (lambda m: m.features["values"].Clear(), "the features are empty; expected a tensor"),
        (
            lambda m: m.label["values"].float32_tensor.values.append(1),
            "the label is [1.0, 1.0]; expected one",
        ),
        (
            lambda m: m.label["values"].float64_tensor.values.append(np.nan),
            "the label is [nan]; expected one",
        ),
        (lambda m: tensor(m, values=[1, 2]), "2 features; expected 3, as in the first record of 't.pbr'"),
        (lambda m: tensor(m, values=[1, np.inf, 1]), "feature 1 is infinite; expected a finite number"),
        (
            lambda m: tensor(m, values=[1], keys=[1]),
            "the features are sparse and without a shape; expected one",
        ),
        (
            lambda m: tensor(m, values=[1], keys=[3], shape=[3]),
            "keys that are not different numbers below 3",
        ),
        (
            lambda m: tensor(m, values=[1, 1], keys=[1, 1], shape=[3]),
            "sparse with keys that are not different numbers",
        ),
        (
            lambda m: tensor(m, values=[1], keys=[1, 2], shape=[3]),
            "the features are 1 values with 2 keys, for a shape of 3; expected as many",
        ),
        (
            lambda m: tensor(m, values=[1, 2], shape=[3]),
            "the features are 2 values with 0 keys, for a shape of 3; expected as many",
        ),
        (
            lambda m: tensor(m, values=[1], keys=[1], shape=[2**63, 2**60]),
            "expected at most 100,000, and one at least",
        ),
    ],
)
def test_a_bad_record_is_named(tmp_path: Path, change: Callable[[Any], object], problem: str) -> None:
    text = complaint(tmp_path, record(change))
    assert text.startswith("training channel: file 't.pbr', record 4 (counted from 0): ")
    assert problem in text


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"label,x\n0,1\n0,1\n", "RecordIO's magic number; expected records of recordio-protobuf."),
        (written(X, Y)[:-20], "expected records of recordio-protobuf."),
        (written(X, None), "record 0 (counted from 0): the label is missing; expected 'values'."),
        (
            written(np.zeros((30, 2)), np.arange(30) / 7),
            "the label, one number a record, has 30 different values such as 2.14286; expected classes, because "
            "regression is not supported.",
        ),
    ],
)
def test_other_complaints(tmp_path: Path, content: bytes, problem: str) -> None:
    assert problem in complaint(tmp_path, content)


def test_a_record_that_is_no_message(tmp_path: Path) -> None:
    content = io.BytesIO()
    _write_recordio(content, b"\xff\xff\xff")
    assert complaint(tmp_path, content.getvalue()) == (
        "training channel: file 't.pbr', record 0 (counted from 0): it is not a recordio-protobuf message of "
        "features and a label."
    )


def test_zeros_that_do_not_fit_in_memory(tmp_path: Path) -> None:
    (tmp_path / "t.pbr").write_bytes(written(sparse.csr_matrix((8, 99_999)), np.arange(8) % 2))
    with pytest.raises(UserError, match=r"with others and all zeros filled in, takes 0\.0 GB or more"):
        read_protobuf(open_channel("training", tmp_path), ("t.pbr",), memory=1 << 20)

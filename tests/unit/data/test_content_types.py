"""A channel's content type decides where names do not tell, and must not contradict them."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sagemaker.amazon.common import write_numpy_to_dense_tensor
from sklearn.datasets import dump_svmlight_file

from subset_trainer.data import load_splits
from subset_trainer.data.formats.format import Options
from subset_trainer.errors import UserError

X = np.arange(40.0).reshape(20, 2)
Y = np.arange(20) % 2


def as_csv(path: Path) -> None:
    pd.DataFrame(X).assign(y=Y)[["y", 0, 1]].to_csv(path, index=False, header=False)


def as_parquet(path: Path) -> None:
    pd.DataFrame({"y": Y, "a": X[:, 0], "b": X[:, 1]}).to_parquet(path)


def as_libsvm(path: Path) -> None:
    dump_svmlight_file(X, Y, str(path), zero_based=False)


def as_protobuf(path: Path) -> None:
    content = io.BytesIO()
    write_numpy_to_dense_tensor(content, X, Y)
    path.write_bytes(content.getvalue())


@pytest.mark.parametrize(
    ("content_type", "write"),
    [
        ("text/csv", as_csv),
        ("text/csv; label_size=1", as_csv),
        ("TEXT/CSV;charset=utf-8;header=absent", as_csv),
        ("csv", as_csv),
        ("application/x-parquet", as_parquet),
        ("text/libsvm", as_libsvm),
        ("text/x-libsvm", as_libsvm),
        ("application/x-recordio-protobuf", as_protobuf),
    ],
)
@pytest.mark.parametrize("file", ["part-00000", "train", "data.txt"])
def test_it_decides_where_names_do_not_tell(
    tmp_path: Path, content_type: str, write: Callable[[Path], None], file: str
) -> None:
    write(tmp_path / file)
    splits = load_splits({"training": tmp_path}, Options(content_types={"training": content_type}))
    assert splits.preprocessing.input_shape == (2,)
    assert len(splits.train) == 18


def test_it_tells_whether_there_is_a_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2\n" + "0,3\n1,4\n" * 10)
    sizes = [
        len(
            load_splits(
                {"training": tmp_path}, Options(content_types={"training": f"text/csv; header={word}"})
            ).train
        )
        for word in ("present", "absent")
    ]
    assert sizes == [18, 19]


@pytest.mark.parametrize(
    ("content_type", "file", "write", "message"),
    [
        (
            "text/csv",
            "a.parquet",
            as_parquet,
            "and by its name 'a.parquet' is Parquet; expected the content type of",
        ),
        (
            "text/libsvm",
            "a.csv",
            as_csv,
            "and by its name 'a.csv' is CSV; expected the content type of its files",
        ),
        ("application/x-image", "a.svm", as_libsvm, "and by its name 'a.svm' is libsvm; expected"),
        (
            "application/x-parquet",
            "a.pbr",
            as_protobuf,
            "and by its name 'a.pbr' is recordio-protobuf; expected",
        ),
        (
            "text/csv; label_size=0",
            "a.csv",
            as_csv,
            "with label_size='0'; expected label_size=1, a class in the first",
        ),
    ],
)
def test_a_contradiction_is_one_sentence(
    tmp_path: Path, content_type: str, file: str, write: Callable[[Path], None], message: str
) -> None:
    write(tmp_path / file)
    with pytest.raises(UserError) as error:
        load_splits({"training": tmp_path}, Options(content_types={"training": content_type}))
    assert str(error.value).startswith(f"training channel: its content type is {content_type!r}, ")
    assert message in str(error.value)


def test_a_table_s_type_on_images(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(
        UserError, match=r"'text/csv', and by its name 'a/1\.png' is of another kind; expected"
    ):
        load_splits({"training": tmp_path}, Options(content_types={"training": "text/csv"}))


def test_another_type_says_nothing(tmp_path: Path) -> None:
    as_csv(tmp_path / "a.csv")
    assert (
        len(
            load_splits(
                {"training": tmp_path}, Options(content_types={"training": "application/octet-stream"})
            ).train
        )
        == 18
    )

"""The same values in another spelling, in other channels and in requests, are encoded as training's are."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from subset_trainer.data import load_splits
from subset_trainer.data.datasets import Dataset
from subset_trainer.data.formats.format import Options
from subset_trainer.data.kinds.table import TableKind
from subset_trainer.data.splits import Splits
from subset_trainer.data.tables.interpret import Rules
from subset_trainer.errors import UserError
from tests.kinds import table_kind

ROWS = 80
X = np.random.default_rng(7).normal(40, 9, ROWS).round(2)
LABELS = [("no", "yes")[int(value > 40)] for value in X]


def write(folder: Path, name: str, cells: Sequence[Any], separator: str = ",") -> None:
    folder.mkdir()
    rows = [separator.join((str(cell), f"{n}", LABELS[n])) for n, cell in enumerate(cells)]
    (folder / "a.csv").write_text("\n".join([separator.join((name, "n", "label")), *rows]) + "\n")


def parquet(folder: Path, name: str, cells: Any) -> None:
    folder.mkdir()
    pq.write_table(
        pa.table({name: cells, "n": list(range(len(cells))), "label": LABELS}), folder / "a.parquet"
    )


def load(root: Path, rules: Rules | None = None) -> tuple[Splits, TableKind]:
    channels = {name: root / name for name in ("training", "validation") if (root / name).exists()}
    splits = load_splits(channels, Options(columns=rules or Rules(ignored=("n",))))
    return splits, table_kind(splits.preprocessing)


def inputs_of(dataset: Dataset) -> np.ndarray:
    """[N, D] the inputs of all examples."""
    (inputs,) = dataset.batches([torch.arange(len(dataset))], torch.device("cpu"))
    return inputs.numpy()


def encoded(kind: TableKind, rows: Sequence[Any]) -> np.ndarray:
    """The first column of requests in JSON."""
    body = "\n".join(json.dumps({kind.columns[0].name: row}) for row in rows).encode()
    return np.concatenate(list(kind.batches(body, "application/jsonlines", "application/jsonlines")))


@pytest.mark.parametrize(
    ("training", "other"),
    [
        (("false", "true"), ("FALSE", "TRUE")),
        (("Red", "blue"), ("red", "BLUE")),
        (("1", "A"), ("1.0", "a")),
        (("2.0", "B"), ("2", "B")),
    ],
)
def test_a_category_in_another_spelling_is_the_same_one(
    tmp_path: Path, training: tuple[str, str], other: tuple[str, str]
) -> None:
    write(tmp_path / "training", "flag", [training[n % 2] for n in range(ROWS)])
    write(tmp_path / "validation", "flag", [other[n % 2] for n in range(ROWS)])
    splits, kind = load(tmp_path)
    assert np.array_equal(inputs_of(splits.train)[:4], inputs_of(splits.validation)[:4])
    assert np.array_equal(encoded(kind, training), encoded(kind, other))
    pairs = [f"{new!r} is read as training's {old!r}" for new, old in zip(other, training, strict=True)]
    assert any(pair in note for note in splits.notes for pair in pairs)


def test_letters_that_differ_in_case_in_training_stay_apart(tmp_path: Path) -> None:
    write(tmp_path / "training", "size", [("a", "A", "b")[n % 3] for n in range(ROWS)])
    _, kind = load(tmp_path)
    assert kind.columns[0].categories == ("A", "a", "b")
    assert encoded(kind, ["a", "A", "B"]).tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_truth_values_of_parquet_are_the_words_of_csv(tmp_path: Path) -> None:
    write(tmp_path / "training", "flag", [n % 3 == 0 for n in range(ROWS)])
    parquet(tmp_path / "validation", "flag", [n % 3 == 0 for n in range(ROWS)])
    splits, kind = load(tmp_path)
    assert encoded(kind, [True, False, "true"]).tolist() == [[0, 1], [1, 0], [0, 1]]
    assert np.array_equal(inputs_of(splits.train), inputs_of(splits.validation))


def _csv(folder: Path, cells: Sequence[Any]) -> None:
    write(folder, "heat", cells)


def _parquet(folder: Path, cells: Sequence[Any]) -> None:
    parquet(folder, "heat", [float(cell) for cell in cells])


@pytest.mark.parametrize("as_file", [_csv, _parquet])
@pytest.mark.parametrize("spelt", ["-999", "-999.0", "-9.99e2"])
@pytest.mark.parametrize("where", ["training", "validation"])
def test_missing_values_that_are_numbers_are_missing_wherever_they_stand(
    tmp_path: Path, as_file: Callable[[Path, Sequence[Any]], None], spelt: str, where: str
) -> None:
    holed = [spelt if n % 8 == 0 else value for n, value in enumerate(X.tolist())]
    for name in ("training", "validation"):
        as_file(tmp_path / name, holed if name == where else X.tolist())
    splits, kind = load(tmp_path, Rules(ignored=("n",), missing=frozenset(("-999",))))
    mean = np.delete(X, np.arange(0, ROWS, 8)).mean() if where == "training" else X.mean()
    assert kind.columns[0].mean == pytest.approx(mean)
    assert encoded(kind, [-999, "-999", "-999.0", None])[:, 0].tolist() == [0, 0, 0, 0]
    inputs = inputs_of(splits.validation)
    assert (inputs[::8, 0] == 0).all() == (where == "validation")


def test_a_number_in_json_has_no_thousands(tmp_path: Path) -> None:
    write(tmp_path / "training", "price", [f"{1 + n % 9}.{100 + n},50" for n in range(ROWS)], ";")
    _, kind = load(tmp_path)
    price, thousands, text = encoded(kind, [1.234, 1234.0, "1.234,00"])[:, 0]
    assert thousands == text
    assert price < thousands - 0.1


def test_points_do_not_become_thousands_where_training_has_decimal_commas_alone(tmp_path: Path) -> None:
    write(tmp_path / "training", "price", [f"{value:.2f}".replace(".", ",") for value in X], ";")
    write(tmp_path / "validation", "price", [f"{value:.3f}" for value in X], ";")
    with pytest.raises(
        UserError, match=r"'\d+\.\d{3}'; expected a number with a decimal comma, as in training"
    ):
        load(tmp_path)


def test_a_header_that_names_columns_that_were_left_out_is_a_header(tmp_path: Path) -> None:
    folder = tmp_path / "training"
    folder.mkdir()
    rows = [f"K-{n:04d},Z{n:05d},{value},{LABELS[n]}" for n, value in enumerate(X)]
    (folder / "a.csv").write_text("\n".join(["code,key,heat,label", *rows]) + "\n")
    _, kind = load(tmp_path, Rules())
    assert [column.name for column in kind.columns] == ["heat"]
    bodies = [b"code,key,heat\nK-1,Z-1,41.5\n", b"heat\n41.5\n", b"41.5\n", b"K-1,Z-1,41.5\n"]
    found = [np.concatenate(list(kind.batches(body, "text/csv", "text/csv"))).tolist() for body in bodies]
    assert all(one == found[0] for one in found)

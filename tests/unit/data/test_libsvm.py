"""libsvm files, from scikit-learn's writer."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import dump_svmlight_file

from subset_trainer.data import Splits, load_splits
from subset_trainer.data.formats.format import Options
from subset_trainer.data.formats.libsvm import read_libsvm
from subset_trainer.data.formats.registry import detect, open_channel
from subset_trainer.data.tables.interpret import Rules
from subset_trainer.errors import UserError
from tests.kinds import table_kind
from tests.unit.data.test_csv_tables import everything

X = np.array([[0, 1.5, 0], [2, 0, 0], [0, 0, -3], [4, 0, 0.25]])
Y = np.array([1, 0, 1, 0])


def split(root: Path, **texts: str) -> Splits:
    for name, text in texts.items():
        (root / name).mkdir(exist_ok=True)
        (root / name / "t.libsvm").write_text(text)
    return load_splits({name: root / name for name in texts})


def complaint(root: Path, **texts: str) -> str:
    with pytest.raises(UserError) as error:
        split(root, **texts)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("zero_based", [True, False])
@pytest.mark.parametrize("suffix", ["libsvm", "svm", "SVMLIGHT"])
def test_what_scikit_learn_writes(tmp_path: Path, zero_based: bool, suffix: str) -> None:
    # Of two files one ends before the last feature.
    dump_svmlight_file(X[:2], Y[:2], str(tmp_path / f"a.{suffix}"), zero_based=zero_based, comment="two rows")
    dump_svmlight_file(X[2:], Y[2:], str(tmp_path / f"b.{suffix}"), zero_based=zero_based)
    channel = open_channel("training", tmp_path)
    layout = detect(channel)
    assert layout.format.name == "libsvm"
    found = read_libsvm(channel, layout.files)
    assert found.names == (("0", "1", "2") if zero_based else ("1", "2", "3"))
    np.testing.assert_array_equal(np.stack(found.columns, 1), X)
    assert (found.classes, found.labels.tolist(), found.header) == (("0", "1"), [1, 0, 1, 0], False)
    lines = (tmp_path / f"b.{suffix}").read_text().splitlines()
    assert (
        found.ids[2] == f"b.{suffix}:{next(i for i, line in enumerate(lines, 1) if not line.startswith('#'))}"
    )


def test_comments_queries_and_gaps(tmp_path: Path) -> None:
    text = "# a comment\n\n+1 qid:3 1:1 3:nan # more\n-1 qid:4 1:2\n1\n"
    splits = split(tmp_path, training=text, validation=text)
    assert splits.preprocessing.classes == ("-1", "1")
    assert table_kind(splits.preprocessing).columns[2].missing
    assert everything(splits.train).shape == (3, 4)
    assert list(splits.train_ids) == ["t.libsvm:3", "t.libsvm:4", "t.libsvm:5"]


def test_another_channel_has_training_s_features(tmp_path: Path) -> None:
    splits = split(tmp_path, training="0 1:1 3:1\n1 1:3\n", validation="0 2:5 3:1\n1 1:1 2000000:7\n")
    one, two, three = table_kind(splits.preprocessing).columns
    assert (one.name, one.mean, two.mean, three.mean) == ("1", 2, 0, 0.5)
    assert everything(splits.validation).tolist() == [[-2, 5, 1], [-1, 0, -1]]
    assert (
        "validation channel: features above 3, up to 2000000, do not occur in training and are left out."
    ) in splits.notes


def test_a_model_of_named_columns_takes_none(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    (tmp_path / "training/t.csv").write_text("y,a\n0,1\n1,2\n")
    (tmp_path / "validation").mkdir()
    (tmp_path / "validation/t.svm").write_text("0 1:1\n1 1:2\n")
    with pytest.raises(UserError, match="libsvm files number their features, and training's have names"):
        load_splits({name: tmp_path / name for name in ("training", "validation")})


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("cat 1:2", "the label is 'cat'; expected a number, and then feature:value for each feature"),
        ("1,2 1:2", "the label is '1,2'; expected a number, and then feature:value for each feature"),
        ("nan 1:2", "the label is 'nan'; expected a number, and then feature:value for each feature"),
        ("1 1:2 3", "'3' stands where feature:value is expected, such as 3:0.5"),
        ("1 size:2", "'size:2' stands where feature:value is expected, such as 3:0.5"),
        ("1 -1:2", "'-1:2' stands where feature:value is expected, such as 3:0.5"),
        ("1 2:1 2:1", "feature 2 comes after 2; expected each once, in ascending order"),
        ("1 3:1 2:1", "feature 2 comes after 3; expected each once, in ascending order"),
        ("1 2:red", "the value of feature 2 is 'red'; expected a finite number"),
        ("1 2:inf", "the value of feature 2 is 'inf'; expected a finite number"),
        ("1 9999999999:1", "a feature's number has 10 digits; expected at most 9"),
        ("1,0.5,2", "the label is '1,0.5,2'; expected a number, and then feature:value for each feature"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, problem: str) -> None:
    text = "".join(f"{i % 2} 1:{i}\n" for i in range(6))
    assert complaint(tmp_path, training=f"# head\n{text}{line}\n") == (
        f"training channel: file 't.libsvm', line 8: {problem}."
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("0\n1\n", "file 't.libsvm' has labels and no features; expected feature:value behind them."),
        ("# nothing\n", "file 't.libsvm' holds no rows; expected some."),
        (
            "0 200000:1\n1 1:1\n",
            "have features up to number 200,000; expected at most 100,000, because all zeros",
        ),
        (
            "".join(f"{i / 7} 1:1\n" for i in range(30)),
            "the label, the first number of each line, has 30 different values such as 2.14286; expected classes, "
            "because regression is not supported.",
        ),
    ],
)
def test_other_complaints(tmp_path: Path, text: str, problem: str) -> None:
    assert problem in complaint(tmp_path, training=text)


def test_zeros_that_do_not_fit_in_memory(tmp_path: Path) -> None:
    text = "".join(f"{i % 2} 99999:1\n" for i in range(100))
    (tmp_path / "t.libsvm").write_text(text)
    with pytest.raises(
        UserError,
        match=r"with others and all zeros filled in, takes 0\.1 GB or more in memory once it is read",
    ):
        read_libsvm(open_channel("training", tmp_path), ("t.libsvm",), memory=1 << 20)


@pytest.mark.parametrize("first", [0, 1])
def test_features_counted_from_another_number_are_refused(tmp_path: Path, first: int) -> None:
    def rows(start: int) -> str:
        return "".join(f"{n % 2} {start}:{n}.5 {start + 1}:{n * 3 % 7}\n" for n in range(20))

    expected = r"numbered from 0 to 1 in .* and from 1 to 2 in .*; expected the same first number everywhere"
    with pytest.raises(UserError, match=f"validation channel: the features are {expected}"):
        split(tmp_path, training=rows(first), validation=rows(1 - first))
    (tmp_path / "training" / "u.libsvm").write_text(rows(1 - first))
    with pytest.raises(UserError, match=f"training channel: the features are {expected}"):
        load_splits({"training": tmp_path / "training"})


def test_missing_values_that_are_numbers_are_missing(tmp_path: Path) -> None:
    rows = "".join(f"{n % 2} 1:{-999 if n % 4 == 0 else n} 2:{n * 3 % 7}\n" for n in range(20))
    for name in ("training", "validation"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "t.libsvm").write_text(rows)
    channels = {name: tmp_path / name for name in ("training", "validation")}
    splits = load_splits(channels, Options(columns=Rules(missing=frozenset(("-999",)))))
    kind = table_kind(splits.preprocessing)
    assert kind.columns[0].mean == np.mean([n for n in range(20) if n % 4])
    assert (everything(splits.validation)[::4, 0] == 0).all()
    (one,) = kind.batches(b"-999,3", "text/csv", "text/csv")
    assert one[0, 0] == 0

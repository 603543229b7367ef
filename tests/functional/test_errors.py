"""Every fault gets its one sentence, as the failure reason and as the last line of the log, and exit code 1."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.functional.conftest import Job, write_image, write_table


def rows(*lines: str) -> Callable[[Job], None]:
    """A training table of 40 good rows and the given ones."""

    def write(job: Job) -> None:
        good = [f"{row % 2},{row}.5,{row % 7}" for row in range(40)]
        (job.channel("training") / "train.csv").write_text(
            "\n".join(["label,a,b", *good, *lines, ""]), encoding="utf-8"
        )

    return write


def table(job: Job) -> None:
    write_table(job.channel("training") / "train.csv")


def nothing(job: Job) -> None:
    job.channel("validation")


def empty(job: Job) -> None:
    job.channel("training")


def images(job: Job, classes: tuple[str, ...] = ("cat", "dog")) -> None:
    for name in classes:
        for number in range(12):
            write_image(job.channel("training") / name / f"{number}.png", seed=number)


def one_class(job: Job) -> None:
    images(job, ("cat",))


def corrupt(job: Job) -> None:
    images(job)
    whole = job.channel("training") / "cat" / "3.png"
    whole.write_bytes(whole.read_bytes()[:60])


def unknown_class(job: Job) -> None:
    images(job)
    write_image(job.channel("validation") / "horse" / "0.png")
    write_image(job.channel("validation") / "cat" / "0.png")


@pytest.mark.parametrize(
    ("prepare", "hyperparameters", "expected"),
    [
        pytest.param(
            table, {"fraction": "0"}, ["fraction='0'", "greater than 0 and at most 1"], id="fraction-0"
        ),
        pytest.param(table, {"fraction": "1.5"}, ["fraction='1.5'", "at most 1"], id="fraction-1.5"),
        pytest.param(table, {"fraction": "abc"}, ["fraction='abc'", "expected a number"], id="fraction-abc"),
        pytest.param(
            table, {"strategy": "glistr"}, ["strategy='glistr'", "did you mean 'glister'?"], id="strategy"
        ),
        pytest.param(table, {"fracton": "0.1"}, ["'fracton'", "did you mean 'fraction'?"], id="unknown-name"),
        pytest.param(table, {"epochs": "0"}, ["epochs='0'", "at least 1"], id="epochs-0"),
        pytest.param(
            table, {"fraction": "2", "epochs": "x"}, ["fraction='2'", "epochs='x'"], id="all-faults-at-once"
        ),
        pytest.param(
            table,
            {"fraction": "0.001"},
            ["fraction=0.001", "training examples", "rounds to 0"],
            id="budget-0",
        ),
        pytest.param(table, {"model": "resnet18"}, ["model='resnet18'", "mlp"], id="model-for-images"),
        pytest.param(table, {"model": "resnet81"}, ["model='resnet81'", "'resnet18'"], id="unknown-model"),
        pytest.param(
            nothing,
            {},
            ["channel 'training' is missing", "channels given: validation"],
            id="no-training-channel",
        ),
        pytest.param(empty, {}, ["training"], id="empty-channel"),
        pytest.param(one_class, {}, ["training", "class", "cat"], id="one-class"),
        pytest.param(corrupt, {}, ["training", "cat/3.png"], id="corrupt-image"),
        pytest.param(unknown_class, {}, ["validation", "horse"], id="labels-unknown-to-training"),
        pytest.param(rows("cat,1.5,2"), {}, ["train.csv", "42", "cat"], id="text-label"),
        pytest.param(rows(",1.5,2"), {}, ["train.csv", "42", "label"], id="missing-label"),
        pytest.param(rows("1,2.5"), {}, ["train.csv", "42", "3", "2"], id="ragged-row"),
        pytest.param(
            table,
            {"model": "mlp", "learning_rate": "1e30"},
            ["training diverged in epoch", "learning_rate=1e+30"],
            id="divergence",
        ),
    ],
)
def test_a_fault_that_the_user_can_mend(
    job: Job, prepare: Callable[[Job], None], hyperparameters: Mapping[str, Any], expected: list[str]
) -> None:
    prepare(job)
    job.run(hyperparameters)
    assert job.exit_code == 1, job.log
    assert job.failure is not None
    assert "\n" not in job.failure and len(job.failure) <= 1024
    assert job.failure in job.last_line
    assert [words for words in expected if words not in job.failure] == []
    assert "Traceback" not in job.log
    assert not (job.base / "model").exists()


def test_a_file_name_that_is_no_text_is_named_all_the_same(job: Job) -> None:
    job.cold = True
    images(job)
    (job.channel("training") / "cat" / os.fsdecode(b"\xff.png")).write_bytes(b"no image")
    job.run({})
    assert job.exit_code == 1, job.log
    assert r"cat/\udcff.png" in str(job.failure) and str(job.failure) in job.last_line


def test_an_earlier_failure_does_not_outlive_a_good_run(table_job: Job) -> None:
    table_job.cold = True
    (table_job.base / "output").mkdir(parents=True)
    (table_job.base / "output" / "failure").write_text("an old reason", encoding="utf-8")
    table_job.run({"model": "mlp", "epochs": 1})
    assert (table_job.exit_code, table_job.failure) == (0, None)


def test_what_the_user_cannot_mend_exits_with_2(table_job: Job) -> None:
    """The output directory is a file: nothing can be written there."""
    table_job.cold = True
    (table_job.base / "model").write_text("in the way", encoding="utf-8")
    table_job.run({"model": "mlp", "epochs": 1})
    assert table_job.exit_code == 2
    place = table_job.base / "model"
    assert table_job.failure == f"{place} is a file; expected a writable folder for {place}"
    assert table_job.failure in table_job.last_line


@pytest.fixture
def table_job(job: Job, tmp_path: Path) -> Job:
    table(job)
    return job


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("val", "validation"),
        ("eval", "validation"),
        ("Testing", "test"),
        ("train", "training"),
        ("pre-trained", "pretrained"),
    ],
)
def test_a_channel_that_is_nearly_another_is_refused(table: Job, name: str, meant: str) -> None:
    write_table(table.channel(name) / "data.csv", seed=1)
    table.run({"epochs": 1})
    assert (table.exit_code, table.failure) == (
        1,
        f"there is no channel {name!r} (is it {meant!r}?); expected the channels training, validation, test, "
        "training_lst, validation_lst, test_lst, pretrained, or other names",
    )


def test_a_channel_of_another_name_is_not_used_and_said(table: Job) -> None:
    write_table(table.channel("code") / "data.csv", seed=1)
    table.run({"epochs": 1})
    assert table.exit_code == 0, table.log
    assert "channel 'code' is not used" in table.log

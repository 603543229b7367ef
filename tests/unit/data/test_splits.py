"""Channels become splits."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from subset_trainer.data import (
    Column,
    Dataset,
    ImageKind,
    Kind,
    MemoryDataset,
    StreamingDataset,
    TableKind,
    load_channel,
    load_splits,
)
from subset_trainer.data.kinds.registry import from_json
from subset_trainer.data.splits import stratified_split
from subset_trainer.errors import UserError
from tests.kinds import image_kind


def folders(root: Path, counts: dict[str, int], size: tuple[int, int] = (8, 8), seed: int = 0) -> Path:
    generator = np.random.default_rng(seed)
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:03}.png")
    return root


def everything(dataset: Dataset) -> torch.Tensor:
    return torch.cat(list(dataset.batches(list(torch.arange(len(dataset)).split(8)), torch.device("cpu"))))


def complaint(channels: dict[str, Path], **options: Any) -> str:
    with pytest.raises(UserError) as error:
        load_splits(channels, **options)
    return str(error.value)


def test_class_folders(tmp_path: Path) -> None:
    root = folders(tmp_path, {"cat": 20, "dog": 30})
    splits = load_splits({"training": root}, validation_fraction=0.1)
    assert splits.preprocessing.classes == ("cat", "dog")
    assert torch.bincount(splits.train.labels).tolist() == [18, 27]
    assert torch.bincount(splits.validation.labels).tolist() == [2, 3]
    assert splits.test is None
    assert splits.preprocessing.input_shape == (3, 8, 8)
    pixels = everything(splits.train).double() / 255
    assert image_kind(splits.preprocessing).mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    assert image_kind(splits.preprocessing).std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist())
    assert (
        "validation: 5 of the 50 training examples set aside, by class (validation_fraction 0.1, seed 0)."
        in splits.notes
    )


def rows_of(splits: Any) -> tuple[set[bytes], set[bytes], set[bytes]]:
    """The inputs of the three data sets, as bytes."""
    assert splits.test is not None
    parts = (splits.train, splits.validation, splits.test)
    train, validation, test = ({row.numpy().tobytes() for row in everything(part)} for part in parts)
    return train, validation, test


def test_a_part_is_set_aside_for_testing_whatever_the_seed(tmp_path: Path) -> None:
    root = folders(tmp_path, {"cat": 20, "dog": 30})
    first, second = (load_splits({"training": root}, test_fraction=0.2, seed=seed) for seed in (0, 1))
    assert first.test is not None
    assert torch.bincount(first.test.labels).tolist() == [4, 6]
    assert len(first.validation) == 4 and len(first.train) == len(first.train_ids) == 36
    parts = rows_of(first)
    assert len(set.union(*parts)) == sum(map(len, parts)) == 50
    assert rows_of(second)[2] == parts[2]
    assert rows_of(second)[1] != parts[1]
    assert rows_of(load_splits({"training": root}, test_fraction=0.1))[2] < parts[2]
    said = "10 of 50 examples are set aside for testing (test_fraction=0.2, by class)"
    assert said in [
        decision.sentence().removeprefix("split: ") for decision in first.understandings[0].decisions
    ]


@pytest.mark.parametrize("memory", [None, 0])
@pytest.mark.parametrize("apart", [False, True])
def test_the_validation_examples_are_trained_on_with_the_others(
    tmp_path: Path, apart: bool, memory: int | None
) -> None:
    channels = {"training": folders(tmp_path / "a", {"cat": 10, "dog": 20})}
    if apart:
        channels["validation"] = folders(tmp_path / "b", {"cat": 2, "dog": 3}, seed=1)
    splits = load_splits(
        channels, validation_fraction=0.2, test_fraction=0.1, memory_limit=memory, num_workers=0
    )
    both = splits.trained_on("both", 0)
    assert torch.equal(both.train.labels, torch.cat([splits.train.labels, splits.validation.labels]))
    assert torch.equal(
        everything(both.train), torch.cat([everything(splits.train), everything(splits.validation)])
    )
    assert list(both.train_ids) == [*splits.train_ids, *splits.validation_ids]
    assert both.counted == len(splits.train)
    # In any order, and of a part.
    mixed = torch.randperm(len(both.train), generator=torch.Generator().manual_seed(0))
    assert torch.equal(everything(both.train.subset(mixed)), everything(both.train)[mixed])
    assert both.train.subset(mixed).labels.tolist() == both.train.labels[mixed].tolist()
    assert both.test is splits.test


def test_the_validation_examples_alone_are_judged_by_training_examples(tmp_path: Path) -> None:
    splits = load_splits(
        {"training": folders(tmp_path, {"cat": 20, "dog": 30})}, validation_fraction=0.2, test_fraction=0.1
    )
    alone = splits.trained_on("validation", 0)
    assert torch.equal(everything(alone.train), everything(splits.validation))
    assert list(alone.train_ids) == list(splits.validation_ids)
    assert len(alone.validation) == len(alone.validation_ids) == pytest.approx(len(splits.validation), abs=1)
    assert set(alone.validation_ids) <= set(splits.train_ids)
    parts = rows_of(alone)
    assert len(set.union(*parts)) == sum(map(len, parts))
    assert rows_of(alone)[2] == rows_of(splits)[2]


def test_a_test_set_that_is_given_is_the_test_set(tmp_path: Path) -> None:
    channels = {
        "training": folders(tmp_path / "a", {"cat": 9, "dog": 9}),
        "test": folders(tmp_path / "b", {"cat": 3}),
    }
    splits = load_splits(channels, test_fraction=0.3)
    assert splits.test is not None and len(splits.test) == 3
    assert len(splits.train) + len(splits.validation) == 18


def test_testing_beside_a_validation_channel(tmp_path: Path) -> None:
    channels = {
        "training": folders(tmp_path / "a", {"cat": 10, "dog": 10}),
        "validation": folders(tmp_path / "b", {"cat": 3, "dog": 3}, seed=1),
    }
    splits = load_splits(channels, test_fraction=0.3)
    assert [len(part) for part in rows_of(splits)] == [14, 6, 6]
    assert len(splits.train_ids) == 14


@pytest.mark.parametrize(
    ("names", "expected"), [(["10", "9", "1"], ("1", "9", "10")), (["b10", "b9", "a"], ("a", "b10", "b9"))]
)
def test_order_of_classes(tmp_path: Path, names: list[str], expected: tuple[str, ...]) -> None:
    root = folders(tmp_path, dict.fromkeys(names, 2))
    assert load_splits({"training": root}).preprocessing.classes == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_streaming_equals_memory_bit_for_bit(tmp_path: Path, workers: int) -> None:
    channels = {
        "training": folders(tmp_path / "training", {"a": 20, "b": 13}, (40, 50)),
        "test": folders(tmp_path / "test", {"a": 3, "b": 4}, (50, 40)),
    }
    kept = load_splits(channels, image_size=24)
    streamed = load_splits(channels, image_size=24, memory_limit=0, num_workers=workers)
    assert isinstance(kept.train, MemoryDataset)
    assert isinstance(streamed.train, StreamingDataset)
    assert streamed.preprocessing == kept.preprocessing
    assert any("streamed from files" in note for note in streamed.notes)
    assert kept.test is not None
    assert streamed.test is not None
    for one, two in (
        (kept.train, streamed.train),
        (kept.validation, streamed.validation),
        (kept.test, streamed.test),
    ):
        assert torch.equal(one.labels, two.labels)
        assert torch.equal(everything(one), everything(two))


def test_the_memory_limit_holds_for_all_channels_together(tmp_path: Path) -> None:
    channels = {
        "training": folders(tmp_path / "training", {"a": 10, "b": 10}),
        "test": folders(tmp_path / "test", {"a": 10, "b": 10}),
    }
    splits = load_splits(channels, memory_limit=20 * 3 * 64 + 1)
    assert isinstance(splits.train, MemoryDataset)
    assert isinstance(splits.test, StreamingDataset)


def test_seed(tmp_path: Path) -> None:
    root = folders(tmp_path, {"a": 30, "b": 30})
    one, again, other = (
        everything(load_splits({"training": root}, seed=seed).validation) for seed in (1, 1, 2)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_validation_channel_leaves_training_whole(tmp_path: Path) -> None:
    channels = {
        "training": folders(tmp_path / "training", {"a": 5, "b": 5, "c": 5}),
        "validation": folders(tmp_path / "validation", {"c": 2, "a": 1}),
    }
    splits = load_splits(channels)
    assert len(splits.train) == 15
    assert splits.validation.labels.tolist() == [0, 2, 2]


def test_images_of_different_sizes(tmp_path: Path) -> None:
    folders(tmp_path, {"a": 3}, (30, 40))
    splits = load_splits({"training": folders(tmp_path, {"b": 3}, (40, 30))})
    assert image_kind(splits.preprocessing).image_size == (
        32,
        32,
    )  # the multiple of 8 nearest to √(30 × 40) = 34.6
    assert everything(splits.train).shape == (4, 3, 32, 32)
    (size,) = [one for one in splits.understandings[0].decisions if one.about == "size"]
    assert size.certainty == "certain" and size.setting == "image_size=32"
    assert size.sentence() == (
        "size: 32 x 32 pixels (the median of √(height × width) is 35 in all 6 images of 30 x 40 to 40 x 30 pixels; a "
        "side is a multiple of 8 from 32 to 224; image_size sets another)"
    )
    assert f"training channel: {size.sentence()}." in splits.notes


@pytest.mark.parametrize("channel", ["validation", "test"])
def test_labels_that_training_never_has(tmp_path: Path, channel: str) -> None:
    channels = {
        "training": folders(tmp_path / "training", {"a": 3, "b": 3}),
        channel: folders(tmp_path / channel, {"a": 1, "x": 1, "y": 1}),
    }
    assert complaint(channels) == (
        f"{channel} channel: the labels 'x', 'y' do not occur in training; expected some of 'a', 'b'."
    )


def test_no_training_channel(tmp_path: Path) -> None:
    assert complaint({"validation": tmp_path}) == (
        "The channel 'training' is missing (channels given: 'validation'); expected at least 'training'."
    )


def test_one_class_only(tmp_path: Path) -> None:
    assert complaint({"training": folders(tmp_path, {"a": 4})}) == (
        "training channel: all 4 examples are of one class, 'a'; expected at least two."
    )


def test_a_damaged_image_in_memory(tmp_path: Path) -> None:
    root = folders(tmp_path, {"a": 4, "b": 4})
    (root / "b" / "002.png").write_bytes((root / "b" / "002.png").read_bytes()[:100])
    assert complaint({"training": root}).startswith("training channel: image 'b/002.png' cannot be read (")


def test_an_empty_image(tmp_path: Path) -> None:
    root = folders(tmp_path, {"a": 4, "b": 4})
    (root / "a" / "000.png").write_bytes(b"")
    assert "image 'a/000.png' cannot be read" in complaint({"training": root})


def test_too_few_examples_for_validation(tmp_path: Path) -> None:
    assert complaint({"training": folders(tmp_path, {"a": 1, "b": 1})}) == (
        "training channel: no class has more than one example, so none can be set aside for validation; expected more "
        "examples, or a validation channel."
    )


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
def test_impossible_fraction(tmp_path: Path, fraction: float) -> None:
    text = complaint({"training": folders(tmp_path, {"a": 4, "b": 4})}, validation_fraction=fraction)
    assert text == f"validation_fraction is {fraction:g}; expected more than 0 and less than 1."


@given(
    labels=st.lists(st.integers(0, 6), min_size=2, max_size=200),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**31),
)
def test_stratified_split(labels: list[int], fraction: float, seed: int) -> None:
    all_labels = np.array(labels)
    counts = np.bincount(all_labels)
    if counts.max() < 2:
        with pytest.raises(UserError):
            stratified_split(all_labels, fraction, seed)
        return
    train, validation = stratified_split(all_labels, fraction, seed)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    assert list(train) == sorted(train)
    assert list(validation) == sorted(validation)
    for label in np.flatnonzero(counts):
        held = int((all_labels[validation] == label).sum())
        if counts[label] == 1:
            assert held == 0
        else:
            assert 1 <= held < counts[label]
            assert abs(held - fraction * counts[label]) <= 1


def test_a_saved_preprocessing_reads_a_channel_as_training_did(tmp_path: Path) -> None:
    root = folders(tmp_path / "training", {"a": 5, "b": 5}, (20, 30))
    test = folders(tmp_path / "test", {"b": 3}, (33, 25))
    splits = load_splits({"training": root, "test": test}, image_size=16)
    saved = from_json(json.loads(json.dumps(splits.preprocessing.to_json())))
    again = load_channel(test, saved, name="test")
    assert splits.test is not None
    assert torch.equal(everything(again), everything(splits.test))
    assert again.labels.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "value",
    [
        ImageKind(("a", "b"), image_size=(32, 30), mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0)),
        TableKind(
            ("0", "1"),
            columns=(
                Column("x", "numeric", mean=1 / 3, std=0.1),
                Column("c", "categorical", categories=("p", "q")),
            ),
            header=True,
            label_column="y",
            label_index=2,
        ),
    ],
)
def test_preprocessing_survives_json(value: Kind) -> None:
    assert from_json(json.loads(json.dumps(value.to_json()))) == value


def test_images_where_a_table_is_expected(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "t.csv").write_text("0,1\n1,2\n0,0\n" * 4)
    channels = {"training": tmp_path / "t", "test": folders(tmp_path / "test", {"0": 1})}
    assert complaint(channels) == "test channel: '0/000.png' holds images; expected a table, as in training."


def test_workers_end_with_the_process(tmp_path: Path) -> None:
    """Nothing is printed and nothing remains when a process that streams ends."""
    folders(tmp_path, {"a": 20, "b": 20})
    code = (
        "import sys, pathlib, torch; from subset_trainer.data import load_splits;"
        "splits = load_splits({'training': pathlib.Path(sys.argv[1])}, memory_limit=0, num_workers=2);"
        "passed = splits.train.batches([torch.arange(4)] * 8, torch.device('cpu')); next(passed); print('done')"
    )
    # Torch warns of more workers than processors, of which there may be one.
    command = [sys.executable, "-W", "ignore:This DataLoader will create", "-c", code, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")

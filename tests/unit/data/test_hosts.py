"""Hosts that have other files of a channel, beside one that has all of them."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from subset_trainer.data import ImageKind, Kind, Splits, load_splits
from subset_trainer.data.hosts import Shard, Shards
from subset_trainer.errors import UserError
from tests.kinds import image_kind, table_kind

TWO = ("algo-1", "algo-2")
Write = Callable[[Path, int], None]


class Meeting:
    """What `all_gather_object` is among processes, among threads."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=60)
        self.brought: list[Any] = [None] * size

    def gather(self, rank: int, value: Any) -> list[Any]:
        self.brought[rank] = value
        self.barrier.wait()
        everyones = list(self.brought)
        self.barrier.wait()
        return everyones


def together(
    roots: Sequence[Path],
    hosts: Sequence[str] = TWO,
    sharded: tuple[str, ...] = ("training",),
    **options: Any,
) -> list[Splits]:
    """What each process loads; roots: of each host, in the order of their names. UserError: the first that one had."""
    meeting = Meeting(len(hosts))
    found: dict[int, Splits] = {}
    failed: list[UserError] = []
    names = tuple(dict.fromkeys(hosts))

    def load(rank: int) -> None:
        root = roots[names.index(hosts[rank])]
        channels = {name: root / name for name in told}
        shards = Shards(lambda value: meeting.gather(rank, value), tuple(hosts), rank, frozenset(sharded))
        try:
            found[rank] = load_splits(channels, shards=shards, **options)
        except UserError as error:
            failed.append(error)
            meeting.barrier.abort()
        except threading.BrokenBarrierError:
            pass

    told = {path.name for root in roots for path in root.iterdir()}
    threads = [threading.Thread(target=load, args=(rank,)) for rank in range(len(hosts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return [found[rank] for rank in range(len(hosts))]


def inputs(splits: Splits, rank: int) -> dict[int, torch.Tensor]:
    """Of the training examples that a process owns."""
    assert splits.train.owners is not None
    own = (splits.train.owners == rank).nonzero().flatten()
    if not len(own):
        return {}
    (batch,) = splits.train.batches([own], torch.device("cpu"))
    return dict(zip(own.tolist(), batch, strict=True))


def csv(rows: Sequence[str], header: str = "label,size,colour,when") -> str:
    return "\n".join([header, *rows]) + "\n"


# The second host's colours are texts and its dates known; the first has a class that the second lacks.
ROWS = (
    [f"{row % 2},{row},{row % 3}," for row in range(20)],
    [f"{1 + row % 2},{100 + row * row},c{row % 4},2024-01-{row + 1:02}" for row in range(24)],
)


def tables(root: Path, part: int) -> None:
    (root / f"part-{part}.csv").write_text(csv(ROWS[part]), encoding="utf-8")


def libsvm(root: Path, part: int) -> None:
    rows = [f"{row % (2 + part)} 1:{row} {2 + 3 * part}:{row % 5}" for row in range(15)]
    (root / f"part-{part}.libsvm").write_text("\n".join(rows) + "\n", encoding="utf-8")


def texts(root: Path, part: int) -> None:
    for label in ("ham", "spam", "eggs")[part : part + 2]:
        (root / label).mkdir(exist_ok=True)
        for number in range(6):
            words = "a text of several words " * (1 + part + number)
            (root / label / f"{part}-{number}.txt").write_text(words, encoding="utf-8")


def images(root: Path, part: int) -> None:
    draw = np.random.default_rng(part)
    for label in ("cat", "dog", "emu")[part : part + 2]:
        (root / f"{part}{label}").mkdir()
        for number in range(8):
            pixels = draw.integers(100 * part, 100 * part + 100, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"{part}{label}" / f"{number}.png")


def spread(tmp_path: Path, write: Write) -> tuple[list[Path], Path]:
    """The roots of two hosts, and of one that has it all."""
    roots = [tmp_path / name for name in (*TWO, "whole")]
    for root in roots:
        (root / "training").mkdir(parents=True)
    for part in range(2):
        write(roots[part] / "training", part)
    for part in range(2):
        write(roots[2] / "training", part)
    return roots[:2], roots[2] / "training"


@pytest.mark.parametrize("write", [tables, libsvm, images])
@pytest.mark.parametrize("hosts", [TWO, ("algo-1", "algo-2", "algo-2")])
def test_the_shards_are_numbered_and_prepared_as_if_one_host_had_them(
    write: Write, hosts: tuple[str, ...], tmp_path: Path
) -> None:
    roots, whole = spread(tmp_path, write)
    alone = load_splits({"training": whole}, seed=3)
    for rank, splits in enumerate(loaded := together(roots, hosts, seed=3)):
        assert splits.preprocessing.classes == alone.preprocessing.classes
        assert splits.train.labels.tolist() == alone.train.labels.tolist()
        assert splits.validation.labels.tolist() == alone.validation.labels.tolist()
        _prepared_alike(splits.preprocessing, alone.preprocessing)
        (expected,) = alone.train.batches([torch.arange(len(alone.train))], torch.device("cpu"))
        for row, values in inputs(splits, rank).items():
            torch.testing.assert_close(values, expected[row])
    owned = [row for rank, splits in enumerate(loaded) for row in inputs(splits, rank)]
    assert owned == list(range(len(alone.train)))  # each by one process, in order


def _prepared_alike(ours: Kind, theirs: Kind) -> None:
    if isinstance(ours, ImageKind):
        assert ours.mean == image_kind(theirs).mean  # sums of whole numbers
        return
    for own, other in zip(table_kind(ours).columns, table_kind(theirs).columns, strict=True):
        assert (own.kind, own.categories, own.missing, own.cycles) == (
            *(other.kind, other.categories),
            *(other.missing, other.cycles),
        )
        assert (own.mean, own.std) == pytest.approx((other.mean, other.std))


def test_images_beyond_one_host_s_memory_stream_from_there(tmp_path: Path) -> None:
    roots, whole = spread(tmp_path, images)
    limit = 15 * 3 * 64  # bytes: a host has 16 images
    alone = load_splits({"training": whole}, memory_limit=limit, num_workers=0)
    for splits in together(roots, memory_limit=limit, num_workers=0):
        assert image_kind(splits.preprocessing).mean == image_kind(alone.preprocessing).mean
        assert any("streamed from files" in note for note in splits.notes)


def test_texts_and_their_names(tmp_path: Path) -> None:
    roots, _ = spread(tmp_path, texts)
    first, second = together(roots, validation_fraction=0.2)
    assert first.preprocessing == second.preprocessing
    assert first.preprocessing.classes == ("eggs", "ham", "spam")
    assert first.train.labels.tolist() == second.train.labels.tolist()
    assert first.train_texts is not None and first.train_texts[0] and first.train_texts[-1] is None
    threads = [threading.Thread(target=splits.tell_names) for splits in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(first.train_ids) == list(second.train_ids)
    assert len({*first.train_ids, *first.validation_ids}) == 24


def test_a_shard_of_a_validation_channel_may_be_empty(tmp_path: Path) -> None:
    roots, _ = spread(tmp_path, tables)
    (roots[0] / "validation").mkdir()
    tables(roots[0] / "validation", 0)
    for splits in together(roots, sharded=("training", "validation")):
        assert len(splits.validation) == 20
        assert splits.validation.owners is not None and splits.validation.owners.unique().tolist() == [0]
    (roots[0] / "validation" / "part-0.csv").unlink()
    with pytest.raises(UserError, match=r"^validation channel: no host has any file of it"):
        together(roots, sharded=("training", "validation"))


def test_what_another_host_has_cannot_be_read(tmp_path: Path) -> None:
    first, _ = together(spread(tmp_path, tables)[0])
    with pytest.raises(ValueError, match="another host"):
        list(first.train.batches([torch.tensor([0, len(first.train) - 1])], torch.device("cpu")))


def other_columns(root: Path, part: int) -> None:
    (root / f"{part}.csv").write_text(csv([f"{row % 2},1" for row in range(9)], f"label,{'ab'[part]}"))


def other_formats(root: Path, part: int) -> None:
    (tables if part else libsvm)(root, part)


def other_headers(root: Path, part: int) -> None:
    text = csv(ROWS[0])
    (root / f"{part}.csv").write_text(text if not part else text.partition("\n")[2], encoding="utf-8")


def nothing_on_one(root: Path, part: int) -> None:
    if not part:
        tables(root, part)


def labels_csv(root: Path, part: int) -> None:
    images(root, part)
    if not part:
        names = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.png"))]
        rows = [f"{name},{name[:4]}" for name in [*names, "1emu/0.png"]]
        (root / "labels.csv").write_text("\n".join(["image,label", *rows]))


def cifar(root: Path, part: int) -> None:
    draw = np.random.default_rng(part)
    records = draw.integers(10, size=(20, 3073), dtype=np.uint8)
    (root / f"data_batch_{part + 1}.bin").write_bytes(records.tobytes())


def dark_arrays(root: Path, part: int) -> None:
    x = np.random.default_rng(part).random((12, 8, 8)).astype(np.float32) * (200 if part else 1)
    np.savez(root / f"{part}.npz", x=x, y=np.arange(12) % 2)


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (other_columns, r"and the list of columns is .*'a'.* on host algo-1 and .*'b'.* on host algo-2"),
        (other_formats, r"and the format is 'libsvm' on host algo-1 and 'csv' on host algo-2"),
        (other_headers, r"and whether there is a header is True on host algo-1 and False on host algo-2"),
        (nothing_on_one, r"no files in .*\(Host algo-2 has only its own part of the channel's files"),
        (
            labels_csv,
            r"(1emu/0.png.*\(Host algo-1 has only its own part)|(the format is 'listing' on host algo-1)",
        ),
        (cifar, r"CIFAR batches are sharded .*; expected FullyReplicated\.$"),
        (dark_arrays, r"and a white pixel's value is 1 on host algo-1 and 255 on host algo-2"),
    ],
)
def test_shards_that_do_not_fit_are_refused(write: Write, sentence: str, tmp_path: Path) -> None:
    roots, _ = spread(tmp_path, write)
    with pytest.raises(UserError, match=f"^training channel: .*{sentence}"):
        together(roots)


def test_a_host_s_processes_own_equal_parts() -> None:
    hosts = ("a", "a", "a", "b")
    shard = Shard(Shards(lambda value: [value] * 4, hosts, 1, frozenset()), (10, 3))
    assert shard.owners().tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert shard.own(np.array([1, 9, 11])).tolist() == [1, 9]

"""Batches from memory and from files."""

import gc
import logging
import multiprocessing
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from subset_trainer.data import Dataset, MemoryDataset, StreamingDataset
from subset_trainer.data.images.decoding import ImageFiles
from subset_trainer.errors import UserError

CPU = torch.device("cpu")
SIZE = (6, 5)
COUNT = 40


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(
        0, 256, (COUNT, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@pytest.fixture
def names(tmp_path: Path, pixels: torch.Tensor) -> list[str]:
    names = [f"{number}.png" for number in range(COUNT)]
    for name, image in zip(names, pixels, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy().copy()).save(tmp_path / name)
    return names


LABELS = torch.arange(COUNT) % 3


@pytest.fixture(params=["memory", "stream-0", "stream-2", "stream-pipes"])
def dataset(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    names: list[str],
    pixels: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> Dataset:
    if request.param == "memory":
        return MemoryDataset(pixels, LABELS)
    if request.param == "stream-pipes":
        monkeypatch.setattr("subset_trainer.data.datasets.shared_memory_free", lambda: 2 << 20)
        monkeypatch.setattr("subset_trainer.data.datasets._PREFETCH", 2_000)
    workers = 0 if request.param == "stream-0" else 2
    return StreamingDataset(names, LABELS, SIZE, workers, root=tmp_path, channel="training")


def order(seed: int, size: int = 7) -> list[torch.Tensor]:
    return list(torch.randperm(COUNT, generator=torch.Generator().manual_seed(seed)).split(size))


def test_batches_come_in_order(dataset: Dataset, pixels: torch.Tensor) -> None:
    for seed in range(3):
        batches = list(dataset.batches(order(seed), CPU))
        assert [len(batch) for batch in batches] == [7] * 5 + [5]
        for batch, indices in zip(batches, order(seed), strict=True):
            assert batch.dtype == torch.uint8
            assert torch.equal(batch, pixels[indices])


def test_subsets_of_subsets(dataset: Dataset, pixels: torch.Tensor) -> None:
    first = torch.tensor([30, 3, 12, 7, 1])
    second = torch.tensor([4, 0, 0])
    part = dataset.subset(first).subset(second)
    assert len(part) == 3
    assert torch.equal(part.labels, LABELS[first[second]])
    (batch,) = part.batches([torch.tensor([2, 0, 1])], CPU)
    assert torch.equal(batch, pixels[first[second[[2, 0, 1]]]])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_tells_the_sizes_that_its_images_had(tmp_path: Path, workers: int) -> None:
    """As they are in the files: before they are scaled, and after a camera's rotation."""
    upright = Image.Exif()
    upright[0x0112] = 6
    for number, size in enumerate([(300, 200), (30, 20), (8, 90)]):
        Image.new("RGB", size).save(tmp_path / f"{number}.jpg", exif=upright if number == 1 else b"")
    files = ImageFiles([f"{number}.jpg" for number in range(3)], tmp_path, "training")
    files.keep_sizes()
    dataset = StreamingDataset(files, torch.zeros(3, dtype=torch.int64), SIZE, workers)
    every = torch.arange(3)
    part = dataset.subset(torch.tensor([2, 1]))
    assert torch.equal(dataset.original_sizes(every), torch.zeros(3, 2, dtype=torch.int32))  # type: ignore[arg-type]
    list(part.batches([torch.arange(2)], CPU))
    assert part.original_sizes(torch.tensor([1, 0])).tolist() == [[30, 20], [90, 8]]  # type: ignore[union-attr]
    assert dataset.original_sizes(every).tolist() == [[0, 0], [30, 20], [90, 8]]  # type: ignore[union-attr]


def test_nothing_is_asked_for(dataset: Dataset) -> None:
    assert list(dataset.batches([], CPU)) == []


def test_a_pass_that_was_given_up_leaves_nothing_behind(dataset: Dataset, pixels: torch.Tensor) -> None:
    given_up = dataset.batches(order(0, 2), CPU)
    next(given_up)
    del given_up
    for batch, indices in zip(dataset.batches(order(1), CPU), order(1), strict=True):
        assert torch.equal(batch, pixels[indices])


def test_two_passes_at_once(dataset: Dataset, pixels: torch.Tensor) -> None:
    one, two = dataset.subset(torch.arange(20)), dataset.subset(torch.arange(20, 40))
    rows = [torch.arange(5), torch.arange(5, 20)]
    passes = zip(one.batches(rows, CPU), two.batches(rows, CPU), rows, strict=True)
    for first, second, indices in passes:
        assert torch.equal(first, pixels[indices])
        assert torch.equal(second, pixels[20 + indices])


def test_global_random_state_is_left_alone(dataset: Dataset) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    list(dataset.batches(order(0), CPU))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_file_is_named(tmp_path: Path, names: list[str], workers: int) -> None:
    (tmp_path / "17.png").write_bytes(b"no image")
    dataset = StreamingDataset(names, LABELS, SIZE, workers, root=tmp_path, channel="training")
    with pytest.raises(UserError) as error:
        list(dataset.batches(order(0), CPU))
    assert str(error.value) == (
        "training channel: image '17.png' cannot be read (its content is not in a known image format); expected an "
        "intact image file, or on_unreadable=skip, which leaves out a few such images."
    )
    intact = [indices[indices != 17] for indices in order(1)]
    assert sum(len(batch) for batch in dataset.batches(intact, CPU)) == COUNT - 1


def test_small_shared_memory_is_said_once(
    tmp_path: Path, names: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("subset_trainer.data.datasets.shared_memory_free", lambda: 2 << 20)
    big = StreamingDataset(names, LABELS, (300, 300), 2, root=tmp_path)
    with caplog.at_level(logging.WARNING):
        for seed in range(2):
            assert sum(len(batch) for batch in big.batches(order(seed), CPU)) == COUNT
    assert [record.message for record in caplog.records] == [
        "Shared memory (/dev/shm) has 2 MB free, less than the 9 MB of batches in flight: they are sent through pipes "
        "instead."
    ]


def test_without_shared_memory_this_process_decodes(
    tmp_path: Path,
    names: list[str],
    pixels: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("subset_trainer.data.datasets.shared_memory_free", lambda: 0)
    dataset = StreamingDataset(names, LABELS, SIZE, 2, root=tmp_path)
    before = len(multiprocessing.active_children())
    for _ in range(2):
        passed = dataset.batches([torch.arange(COUNT)], CPU)
        assert torch.equal(next(passed), pixels)
        assert len(multiprocessing.active_children()) == before
    assert len(caplog.records) == 1


class Counted(ImageFiles):
    """Notes in a file, which worker processes share, what is read."""

    note: Path

    def read(self, index: int) -> bytes:
        with self.note.open("a") as note:
            note.write(f"{index}\n")
        return super().read(index)

    @property
    def seen(self) -> list[int]:
        return [int(line) for line in self.note.read_text().splitlines()]


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_not_asked_for_is_not_read(tmp_path: Path, names: list[str], workers: int) -> None:
    files = Counted(names, tmp_path, "training")
    files.note = tmp_path / "read"
    files.note.touch()
    dataset = StreamingDataset(files, LABELS, SIZE, workers)
    assert files.seen == []
    part = dataset.subset(torch.tensor([30, 3, 12, 7, 1]))
    list(part.batches([torch.tensor([4, 0]), torch.tensor([2])], CPU))
    assert sorted(files.seen) == [1, 12, 30]


def test_workers_stay_between_passes(tmp_path: Path, names: list[str]) -> None:
    dataset = StreamingDataset(names, LABELS, SIZE, 2, root=tmp_path)
    list(dataset.batches(order(0), CPU))
    workers = {process.pid for process in multiprocessing.active_children()}
    list(dataset.subset(torch.arange(9)).batches([torch.arange(9)], CPU))
    assert {process.pid for process in multiprocessing.active_children()} == workers
    assert len(workers) >= 2


def test_a_data_set_is_placed_on_a_device_once(pixels: torch.Tensor) -> None:
    # The 'meta' device stands for an accelerator: it holds shapes and no data.
    meta = torch.device("meta")
    dataset = MemoryDataset(pixels, LABELS)
    assert dataset.place(meta)
    assert [
        batch.device.type for batch in dataset.subset(torch.arange(9)).batches([torch.arange(3)] * 2, meta)
    ] == ["meta"] * 2
    assert dataset._store.on(meta) is dataset._store.on(meta)


def test_a_device_without_room_gets_batches(pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []

    def too_little(device: torch.device) -> tuple[int, int]:
        asked.append(device)
        return 2 * pixels.numel() - 1, 1 << 40

    monkeypatch.setattr(torch.cuda, "mem_get_info", too_little)
    dataset = MemoryDataset(pixels, LABELS)
    cuda = torch.device("cuda")
    assert not dataset.place(cuda)
    assert not dataset.subset(torch.arange(3)).place(cuda)
    assert len(asked) == 1


def test_all_inputs(pixels: torch.Tensor) -> None:
    dataset = MemoryDataset(pixels, LABELS)
    assert dataset.inputs is pixels
    assert torch.equal(dataset.subset(torch.tensor([5, 2])).inputs, pixels[[5, 2]])


class _Collecting(torch.utils.data.Dataset[int]):
    """Its workers collect garbage."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        return gc.collect() and index


def test_a_worker_does_not_end_the_workers_of_a_loader_that_its_parent_has_left(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest's own hook keeps what the workers would print.
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    gc.disable()
    try:
        left: list[object] = [iter(torch.utils.data.DataLoader([1, 2, 3], num_workers=2))]  # type: ignore[arg-type]
        left.append(left)
        del left
        list(torch.utils.data.DataLoader(_Collecting(), num_workers=2))
    finally:
        gc.enable()
    assert "Exception" not in capfd.readouterr().err


def test_lengths_must_agree(pixels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="40 inputs and 39 labels"):
        MemoryDataset(pixels, LABELS[1:])


@pytest.mark.gpu
def test_on_a_gpu(dataset: Dataset, pixels: torch.Tensor) -> None:
    cuda = torch.device("cuda")

    def check(batches: Iterator[torch.Tensor]) -> None:
        for batch, indices in zip(batches, order(0), strict=True):
            assert batch.is_cuda
            assert torch.equal(batch.cpu(), pixels[indices])

    check(dataset.batches(order(0), cuda))
    check(dataset.batches(order(0), cuda))
    np.testing.assert_array_equal(dataset.labels.numpy(), LABELS.numpy())

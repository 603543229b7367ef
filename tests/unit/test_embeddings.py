"""What a pass gives, kept in float32, in float16, or in a file; and what strategies make of it."""

import errno
import os
from functools import partial
from pathlib import Path

import pytest
import torch

from subset_selection import Pool, Settings, create, names, storage
from subset_selection.storage import Embeddings
from subset_trainer import models
from subset_trainer.data import MemoryDataset
from subset_trainer.errors import UserError
from subset_trainer.training import embeddings
from subset_trainer.training.devices import Machine
from subset_trainer.training.embeddings import allocate, take
from subset_trainer.training.evaluation import judge, look_at
from subset_trainer.training.place import Place
from tests.unit.reference import generator, pool

CPU = torch.device("cpu")


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "memory_available", lambda: 0)


def lie_in_files(*tensors: torch.Tensor) -> bool:
    """Whether the process maps each from a file that has no name any more."""
    places = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith("(deleted)"):
            begin, end = (int(address, 16) for address in line.split(" ", 1)[0].split("-"))
            places.append(range(begin, end))
    return all(any(tensor.data_ptr() in place for place in places) for tensor in tensors)


def looked_at(examples: int = 700) -> Pool:
    torch.manual_seed(0)
    classifier = models.build("mlp", (3,), 4)
    data = MemoryDataset(torch.randn(examples, 3), torch.arange(examples) % 4)
    seen, own = look_at(classifier, data, Place(Machine(CPU, torch.float32)))
    assert torch.equal(own, torch.arange(examples))
    return seen


def test_a_few_are_kept_as_they_were_computed() -> None:
    seen = looked_at()
    assert seen.logits is not None and seen.features is not None
    assert seen.logits.dtype == seen.features.dtype == torch.float32
    assert not lie_in_files(seen.logits)


def test_many_are_kept_in_half_as_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = looked_at()
    monkeypatch.setattr(storage, "FLOAT32_KEPT", 100)
    seen = looked_at()
    assert seen.logits is not None and exact.logits is not None
    assert seen.features is not None and exact.features is not None
    assert seen.logits.dtype == seen.features.dtype == torch.float16
    assert torch.equal(seen.logits, exact.logits.half()) and torch.equal(seen.features, exact.features.half())


def test_the_type_goes_by_all_processes_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "FLOAT32_KEPT", 100)
    for examples, dtype in ((20, torch.float32), (21, torch.float16)):
        kept = Embeddings(4, (2, 3), CPU, examples)
        assert [column.dtype for column in kept.columns] == [dtype, dtype]


@pytest.mark.usefixtures("little_memory")
def test_what_memory_has_no_room_for_lies_in_a_file() -> None:
    seen = looked_at()
    assert seen.logits is not None and seen.features is not None
    assert lie_in_files(seen.logits, seen.features)
    # The same numbers are there, and the same are chosen.
    in_file = create("glister", Settings()).select(seen, seen, 30, generator())
    exact = looked_at()
    assert exact.logits is not None and exact.features is not None
    assert torch.equal(seen.logits, exact.logits) and torch.equal(seen.features, exact.features)
    assert torch.equal(
        in_file.indices, create("glister", Settings()).select(exact, exact, 30, generator()).indices
    )


def test_a_process_takes_a_quarter_of_its_part_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "memory_available", lambda: 800)
    for processes, rows, in_file in ((1, 50, False), (1, 51, True), (2, 25, False), (2, 26, True)):
        columns = allocate(rows, [(1, torch.float16)] * 2, CPU, processes)
        assert lie_in_files(*columns) == in_file


@pytest.mark.usefixtures("little_memory")
def test_the_file_goes_with_what_it_holds() -> None:
    def mappings() -> int:
        return Path("/proc/self/maps").read_text().count("(deleted)")

    before, descriptors = mappings(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    columns = allocate(1000, [(3, torch.float32)], CPU, 1)
    assert mappings() == before + 1
    del columns
    assert mappings() == before
    assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208


@pytest.mark.parametrize("in_file", [False, True])
def test_a_judgement_s_columns_lie_where_there_is_room(
    in_file: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "memory_available", lambda: 0 if in_file else 1 << 40)
    torch.manual_seed(0)
    classifier = models.build("mlp", (3,), 4).eval()
    inputs, labels = torch.randn(1100, 3), torch.arange(1100) % 4
    data, machine = MemoryDataset(inputs, labels), Machine(CPU, torch.float32)
    judged = judge(classifier, data, Place(machine), lambda rows: rows[:, :2].half(), keep_probabilities=True)
    with torch.inference_mode():
        expected = torch.cat([classifier(part) for part in inputs.split(512)]).softmax(1)
    assert torch.equal(judged.probabilities, expected)
    assert torch.equal(judged.own, expected[torch.arange(1100), labels])
    assert torch.equal(judged.predicted(labels), expected.argmax(1))
    assert torch.equal(judged.fingerprints, inputs[:, :2].half())
    assert lie_in_files(judged.probabilities, judged.fingerprints) == in_file
    bare = judge(classifier, data, Place(machine))
    assert (bare.probabilities.shape, bare.fingerprints.shape) == ((1100, 0), (1100, 0))


@pytest.mark.usefixtures("little_memory")
def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*arguments: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(UserError) as error:
        looked_at()
    free = f"{os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize / 1e9:.1f}"
    assert str(error.value).replace(free, "…") == (
        f"4 numbers for each of 700 examples take 0.0 GB, more than the available memory, and {tmp_path} has "
        "… GB left (No space left on device); use a larger volume, another folder for TMPDIR, or an instance with "
        "more memory"
    )


@pytest.mark.parametrize("in_file", [False, True])
def test_numbers_beyond_float16_are_not_lost(monkeypatch: pytest.MonkeyPatch, in_file: bool) -> None:
    monkeypatch.setattr(storage, "FLOAT32_KEPT", 0)
    monkeypatch.setattr(storage, "COPIED", 3)
    monkeypatch.setattr(embeddings, "memory_available", lambda: 0 if in_file else 1 << 40)
    kept = Embeddings(5, (1, 2), CPU, 5, partial(allocate, processes=1))
    kept.write(0, (torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0, 65504.0], [3.0, 4.0]])))
    kept.write(2, (torch.tensor([[3.0]]), torch.tensor([[-70000.0, 1.0]])))
    kept.write(3, (torch.tensor([[torch.inf], [4.0]]), torch.tensor([[5.0, 6.0], [1e30, 8.0]])))
    logits, features = kept.columns
    assert (logits.dtype, features.dtype) == (torch.float16, torch.float32)
    assert features.tolist() == [[1, 65504], [3, 4], [-70000, 1], [5, 6], [pytest.approx(1e30), 8]]
    assert logits.flatten().tolist() == [
        1,
        2,
        3,
        torch.inf,
        4,
    ]  # what is infinite by itself is for the pool to refuse
    assert lie_in_files(logits, features) == in_file


@pytest.mark.usefixtures("little_memory")
def test_many_rows_are_taken_into_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    values, indices = torch.randn(50, 3).half(), torch.randperm(50)[:20]
    assert not lie_in_files(take(values, indices, 1))
    monkeypatch.setattr(storage, "FLOAT32_KEPT", 59)
    monkeypatch.setattr(storage, "COPIED", 12)
    taken = take(values, indices, 1)
    assert lie_in_files(taken) and torch.equal(taken, values[indices])
    kept = Pool(torch.arange(50), values, values, keep=lambda column, rows: take(column, rows, 1)).at(indices)
    assert kept.features is not None and lie_in_files(kept.features)
    assert kept.at(torch.arange(2)).labels.tolist() == indices[:2].tolist()


def widened(part: Pool) -> Pool:
    assert part.logits is not None and part.features is not None
    return Pool(part.labels, part.logits.float(), part.features.float())


def in_a_file(part: Pool) -> Pool:
    assert part.logits is not None and part.features is not None
    logits, features = allocate(len(part), [(4, torch.float16), (6, torch.float16)], CPU, 1)
    logits.copy_(part.logits)
    features.copy_(part.features)
    assert lie_in_files(logits, features)
    return Pool(part.labels, logits, features)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("name", sorted(names("everything", "subset")))
def test_every_strategy_takes_float16_in_a_file(name: str) -> None:
    """What is chosen is what the same numbers in float32 give."""
    train, guide = pool(120, dtype=torch.float16), pool(40, seed=1, dtype=torch.float16)
    expected = create(name, Settings()).select(widened(train), widened(guide), 30, generator())
    chosen = create(name, Settings()).select(in_a_file(train), in_a_file(guide), 30, generator())
    assert torch.equal(chosen.indices, expected.indices)
    torch.testing.assert_close(chosen.weights, expected.weights)

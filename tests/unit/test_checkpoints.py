"""Checkpoints are written beside training: what it waits for, what is due, and what a full disk does."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from subset_selection import Subset
from subset_trainer import artifacts
from subset_trainer.errors import UserError
from subset_trainer.training.checkpoints import Checkpoints

LONG = 1e9


class Disk:
    """Writes as ``artifacts.write`` does, once it may."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()
        self.written: list[str] = []
        self._write = artifacts.write

    def write(self, path: Path, *arguments: Any, **options: Any) -> None:
        assert self.free.wait(20)
        self._write(path, *arguments, **options)
        self.written.append(path.name)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk()
    monkeypatch.setattr(artifacts, "write", disk.write)
    yield disk
    disk.free.set()


def state_of(value: float) -> dict[str, Any]:
    return {"weights": [torch.full((4, 3), value)], "step": value, "nothing": None}


def loaded(folder: Path) -> Any:
    return Checkpoints(folder, {"seed": 0}, LONG).load()


def test_training_goes_on_while_one_is_written(tmp_path: Path, disk: Disk) -> None:
    checkpoints = Checkpoints(tmp_path, {"seed": 0}, LONG)
    state = state_of(1)
    disk.free.clear()
    checkpoints.save(1, 5, state)
    state["weights"][0].fill_(2)  # the next step
    assert not disk.written
    disk.free.set()
    checkpoints.save(2, 0, state, last=True)
    assert disk.written == ["checkpoint-00001-0000005.pt", "checkpoint-00002-0000000.pt"]
    # The first one holds what was there when it was asked for.
    (tmp_path / "checkpoint-00002-0000000.pt").unlink()
    assert torch.equal(loaded(tmp_path)["weights"][0], torch.full((4, 3), 1.0))


def test_one_that_could_not_be_made_in_its_time_is_due_as_soon_as_it_can_be(
    tmp_path: Path, disk: Disk
) -> None:
    checkpoints = Checkpoints(tmp_path, {"seed": 0}, LONG)
    disk.free.clear()
    checkpoints.save(1, 0, state_of(1))
    assert not checkpoints.due()
    checkpoints.save(2, 0, state_of(2))
    assert not checkpoints.due()  # it could not be made either
    disk.free.set()
    assert checkpoints._writing is not None
    checkpoints._writing.result(20)
    assert checkpoints.due()
    checkpoints.save(2, 7, state_of(3), last=True)
    assert not checkpoints.due()
    assert disk.written == ["checkpoint-00001-0000000.pt", "checkpoint-00002-0000007.pt"]


def test_the_last_one_is_written_when_save_returns(tmp_path: Path, disk: Disk) -> None:
    checkpoints = Checkpoints(tmp_path, {"seed": 0}, LONG)
    disk.free.clear()
    checkpoints.save(1, 0, state_of(1))
    threading.Timer(0.2, disk.free.set).start()
    checkpoints.save(1, 3, state_of(4), last=True)
    assert disk.written == ["checkpoint-00001-0000000.pt", "checkpoint-00001-0000003.pt"]
    assert loaded(tmp_path)["step"] == 4


def test_subsets_are_on_the_disk_before_the_checkpoint_that_counts_on_them(
    tmp_path: Path, disk: Disk
) -> None:
    checkpoints = Checkpoints(tmp_path, {"seed": 0}, LONG)
    checkpoints.keep_subset(1, Subset.of(torch.arange(3)))
    checkpoints.keep_subset(2, Subset.of(torch.arange(4)))
    checkpoints.save(3, 0, state_of(1), last=True)
    assert disk.written == ["epoch-0001.npz", "epoch-0002.npz", "checkpoint-00003-0000000.pt"]


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_a_full_disk_is_said_once_and_training_goes_on(
    size: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In the middle of a tensor as well as at the end of the file."""
    caplog.set_level(logging.INFO)
    checkpoints = Checkpoints(tmp_path, {"seed": 0}, LONG, keep=1)
    checkpoints.save(1, 0, state_of(1), last=True)
    for epoch in (2, 3):
        # What is written there finds no space left.
        (tmp_path / f".checkpoint-{epoch:05d}-0000000.pt.tmp").symlink_to("/dev/full")
        checkpoints.save(epoch, 0, {**state_of(epoch), "more": torch.ones(size)}, last=True)
        assert not checkpoints.due()  # not at every step, either
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "checkpoint 00002-0000000 could not be written" in warnings[0] and "No space left" in warnings[0]
    assert loaded(tmp_path)["step"] == 1
    checkpoints.save(4, 0, state_of(4), last=True)
    assert "checkpoints can be written again" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00004-0000000.pt"]


def test_subsets_that_found_no_space_are_written_with_the_next(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, {"seed": 0}, LONG)
    checkpoints.keep_subset(1, Subset.of(torch.arange(3)))
    checkpoints.subsets.mkdir()
    (checkpoints.subsets / ".epoch-0001.npz.tmp").symlink_to("/dev/full")
    checkpoints.save(2, 0, state_of(1), last=True)
    # Without the subset the checkpoint would lack a part of the run.
    assert not list(tmp_path.glob("*.pt"))
    checkpoints.save(3, 0, state_of(1), last=True)
    assert [path.name for path in checkpoints.subsets.iterdir()] == ["epoch-0001.npz"]
    assert loaded(tmp_path) is not None


def test_what_is_not_the_disks_fault_is_not_passed_over(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, {"seed": 0}, LONG)
    with pytest.raises(Exception, match="pickle"):
        checkpoints.save(1, 0, {"not plain": threading.Lock()}, last=True)


def test_what_a_kill_left_unfinished_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".checkpoint-00001-0000003.pt.tmp"
    left.write_bytes(b"half")
    assert loaded(tmp_path) is None and not left.exists()


def test_a_bit_that_has_turned_is_noticed_wherever_it_matters(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = torch.arange(300.0)
    Checkpoints(tmp_path, {"seed": 0}, LONG).save(1, 0, {"weights": weights, "step": 3}, last=True)
    file = tmp_path / "checkpoint-00001-0000000.pt"
    whole = file.read_bytes()
    noticed = 0
    for place in range(0, len(whole), 7):
        content = bytearray(whole)
        content[place] ^= 16
        file.write_bytes(content)
        found = loaded(tmp_path)
        noticed += found is None
        # Between the archive's parts there are bytes that nobody reads.
        assert found is None or (torch.equal(found["weights"], weights) and found["step"] == 3), place
    assert noticed > len(whole) / 7 / 2
    assert "is damaged and left aside" in caplog.text


@pytest.mark.gpu
def test_a_gpus_state_is_as_it_was_when_it_was_asked_for(tmp_path: Path) -> None:
    weights = torch.zeros(2**24, device="cuda")
    checkpoints = Checkpoints(tmp_path, {"seed": 0}, LONG)
    for value in range(3):
        weights.fill_(value)
        checkpoints.save(1, value, {"weights": weights}, last=value == 2)
        weights.fill_(-1)
    assert loaded(tmp_path)["weights"].unique().tolist() == [2]


def test_a_hyperparameter_that_an_earlier_version_did_not_have_counts_as_its_default(tmp_path: Path) -> None:
    Checkpoints(tmp_path, {"seed": 0}, LONG).save(1, 0, state_of(1), last=True)
    defaults = {"seed": 7, "date_order": None, "metric": "accuracy"}
    same = {"seed": 0, "date_order": None, "metric": "accuracy"}
    assert Checkpoints(tmp_path, same, LONG, defaults=defaults).load() is not None
    with pytest.raises(UserError, match="metric=accuracy there and macro-f1 here"):
        Checkpoints(tmp_path, {**same, "metric": "macro-f1"}, LONG, defaults=defaults).load()


def test_a_checkpoint_of_a_later_version_is_refused_and_stays(tmp_path: Path) -> None:
    Checkpoints(tmp_path, {"seed": 0}, LONG).save(1, 0, state_of(1), last=True)
    (file,) = tmp_path.glob("*.pt")
    content = torch.load(file, weights_only=True)
    torch.save({**content, "format": 3}, file)
    with pytest.raises(UserError, match=r"another version \(format 3; this version reads up to 2\)"):
        loaded(tmp_path)
    assert file.exists()
    torch.save({name: content[name] for name in ("identity", "state")}, file)  # the first version's
    assert loaded(tmp_path)["step"] == 1


STATE: dict[str, Any] = {
    "modules": {
        "classifier": {"0.weight": torch.ones(3, 4), "0.bias": torch.ones(3)},
        "optimizer": {
            "state": {0: {"momentum_buffer": torch.ones(3, 4)}, 1: {"momentum_buffer": torch.ones(3)}},
            "param_groups": [{"lr": 0.1, "params": [0, 1]}],
        },
        "record": {"visits_N": torch.zeros(20, dtype=torch.int64), "weights_N": None},
    },
    "subset": {"indices": torch.arange(5), "weights": torch.ones(5), "note": ("of", "two")},
    "random": {"cpu": torch.get_rng_state()},
    "within": None,
    "reports": [{"epoch": epoch} for epoch in range(40)],
}


def parts(value: Any, *before: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The way to each part of a state but the reports, with the part."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield (*before, key), part
        if key != "reports":
            yield from parts(part, *before, key)


@pytest.mark.parametrize(
    "path", [path for path, _ in parts(STATE)], ids=lambda path: ".".join(map(str, path))
)
def test_a_checkpoint_without_one_of_its_keys_is_refused_by_name(
    tmp_path: Path, path: tuple[Any, ...]
) -> None:
    refused_with(tmp_path, path, None, "it lacks '")


@pytest.mark.parametrize(
    "path",
    [path for path, part in parts(STATE) if isinstance(part, torch.Tensor)],
    ids=lambda path: ".".join(map(str, path)),
)
@pytest.mark.parametrize("change", ["longer", "flat", "another type"])
def test_a_tensor_of_another_shape_is_refused_by_name(
    tmp_path: Path, path: tuple[Any, ...], change: str
) -> None:
    value: Any = STATE
    for key in path:
        value = value[key]
    assert isinstance(value, torch.Tensor)
    changed = {
        "longer": torch.cat([value, value[:1]]),
        "flat": value[None],
        "another type": value.to(torch.float16),
    }
    refused_with(
        tmp_path, path, changed[change], rf"'{'.'.join(map(str, path))}' is torch\.\w+ \[.*\], and was torch"
    )


def refused_with(folder: Path, path: tuple[Any, ...], value: Any, expected: str) -> None:
    Checkpoints(folder, {"seed": 0}, LONG).save(1, 0, STATE, last=True)
    assert loaded(folder) is not None
    (file,) = folder.glob("*.pt")
    content = torch.load(file, weights_only=True)
    inner = content["state"]
    for key in path[:-1]:
        inner = inner[key]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    torch.save(content, file)
    with pytest.raises(UserError, match=rf"the checkpoint {file.name} does not fit this run \({expected}"):
        loaded(folder)
    assert file.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_another_users_checkpoint_is_refused_and_not_taken_for_damaged(tmp_path: Path) -> None:
    Checkpoints(tmp_path, {"seed": 0}, LONG).save(1, 0, state_of(1), last=True)
    (file,) = tmp_path.glob("*.pt")
    file.chmod(0o600)
    # The folders above are root's alone.
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    code = (
        "import os, sys, pathlib\nfrom subset_trainer.training.checkpoints import Checkpoints\nos.setegid(65534)\n"
        "os.seteuid(65534)\nCheckpoints(pathlib.Path(sys.argv[1]), {'seed': 0}, 1e9).load()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 1
    assert f"the checkpoint {file} cannot be read (permission denied); expected files that" in done.stderr
    assert file.exists()

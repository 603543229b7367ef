"""The memory that reading may take: counted against what is free, and looked up while it is taken."""

from pathlib import Path

import pytest

from subset_trainer.data import room
from subset_trainer.data.formats.registry import open_channel
from subset_trainer.data.room import RESERVE, Room
from subset_trainer.errors import UserError

MB = 1 << 20


def made(folder: Path, monkeypatch: pytest.MonkeyPatch, free: int, limit: int | None = None) -> Room:
    (folder / "t.csv").write_text("label,a\n0,1\n1,2\n")
    leave(monkeypatch, free)
    return Room(open_channel("training", folder), limit)


def leave(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(room, "memory_available", lambda: free)


@pytest.mark.parametrize(("free", "limit"), [(100 * MB, None), (100 * MB, 200 * MB), (200 * MB, 100 * MB)])
def test_what_is_counted_is_compared_with_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, limit: int | None
) -> None:
    found = made(tmp_path, monkeypatch, free, limit)
    for _ in range(100):
        found.take(MB, "file 't.csv'")
    with pytest.raises(
        UserError, match=r"file 't\.csv' takes 0\.1 GB or more in memory once it is read, of which 0\.1"
    ):
        found.take(1, "file 't.csv'")


def test_memory_that_others_take_meanwhile_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = made(tmp_path, monkeypatch, 1000 * MB)
    found.take(10 * MB, "it")
    leave(monkeypatch, RESERVE - 1)
    with pytest.raises(UserError, match=r"of which 0\.0 GB are left"):
        found.take(10 * MB, "it")


def test_a_need_beside_what_is_counted_is_compared_with_what_is_free_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = made(tmp_path, monkeypatch, 1000 * MB)
    leave(monkeypatch, 100 * MB)
    found.look("it", 100 * MB - RESERVE)
    with pytest.raises(UserError, match="expected less data"):
        found.look("it", 100 * MB)

"""What the container's limits leave, read from files laid out as the kernel does."""

import os
from pathlib import Path

import pytest

from subset_trainer.data.machine import (
    cpu_count,
    has_bfloat16_units,
    killed_for_memory,
    memory_available,
    shared_memory_free,
)

GB = 1 << 30


def write(root: Path, files: dict[str, object]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{content}\n")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    write(
        tmp_path / "proc",
        {"meminfo": f"MemTotal: {64 << 20} kB\nMemAvailable:   {32 << 20} kB", "self/cgroup": "0::/"},
    )
    return tmp_path / "proc"


def test_no_limit(tmp_path: Path, proc: Path) -> None:
    write(tmp_path / "cgroup", {"memory.max": "max", "memory.current": GB})
    assert memory_available(tmp_path / "cgroup", proc) == 32 * GB


def test_version_2(tmp_path: Path, proc: Path) -> None:
    write(
        tmp_path / "cgroup",
        {"memory.max": 8 * GB, "memory.current": 3 * GB, "memory.stat": f"anon 5\ninactive_file {GB}"},
    )
    assert memory_available(tmp_path / "cgroup", proc) == 6 * GB


def test_version_2_nested(tmp_path: Path, proc: Path) -> None:
    write(proc, {"self/cgroup": "0::/slice/unit"})
    write(
        tmp_path / "cgroup",
        {"slice/memory.max": 4 * GB, "slice/memory.current": GB, "slice/unit/memory.max": "max"},
    )
    assert memory_available(tmp_path / "cgroup", proc) == 3 * GB


@pytest.mark.parametrize("where", ["memory/docker/1234", "memory"], ids=["host's path", "mounted as root"])
def test_version_1(tmp_path: Path, proc: Path, where: str) -> None:
    write(proc, {"self/cgroup": "9:name=systemd:/\n4:memory:/docker/1234\n0::/"})
    write(
        tmp_path / "cgroup" / where,
        {
            "memory.limit_in_bytes": 2 * GB,
            "memory.usage_in_bytes": GB,
            "memory.stat": "total_inactive_file 7",
        },
    )
    assert memory_available(tmp_path / "cgroup", proc) == GB + 7


def test_exhausted(tmp_path: Path, proc: Path) -> None:
    write(tmp_path / "cgroup", {"memory.max": GB, "memory.current": 2 * GB})
    assert memory_available(tmp_path / "cgroup", proc) == 0


def test_this_machine() -> None:
    assert 0 < memory_available() < 1 << 50
    assert 1 <= cpu_count() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": 100000, "cpu/cpu.cfs_period_us": 100000}, 1),
        ({"cpu/cpu.cfs_quota_us": -1, "cpu/cpu.cfs_period_us": 100000}, None),
        ({}, None),
    ],
)
def test_quota_of_processors(tmp_path: Path, files: dict[str, object], expected: int | None) -> None:
    write(tmp_path, files)
    assert cpu_count(tmp_path) == (expected or len(os.sched_getaffinity(0)))


def test_shared_memory(tmp_path: Path) -> None:
    assert shared_memory_free(str(tmp_path)) > 0
    assert shared_memory_free(str(tmp_path / "no")) == 0


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 rdpid", True),
        ("flags\t\t: fpu avx512f amx_bf16 amx_tile", True),
        ("Features\t: fp asimd i8mm bf16 sve", True),
        ("flags\t\t: fpu avx512f avx2", False),
        ("model name\t: a processor with avx512_bf16", False),
    ],
)
def test_bfloat16_is_read_from_the_processors_flags(tmp_path: Path, line: str, expected: bool) -> None:
    write(tmp_path, {"cpuinfo": f"processor\t: 0\n{line}\nbugs\t\t:"})
    assert has_bfloat16_units(tmp_path / "cpuinfo") == expected
    assert not has_bfloat16_units(tmp_path / "absent")


@pytest.mark.parametrize(
    ("own", "file", "content"),
    [
        ("0::/", "memory.events", "low 0\noom 4\noom_kill 3\noom_group_kill 0"),
        ("4:memory:/docker/1234", "memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3"),
    ],
)
def test_processes_that_were_killed_for_memory(
    tmp_path: Path, proc: Path, own: str, file: str, content: str
) -> None:
    write(proc, {"self/cgroup": own})
    assert killed_for_memory(tmp_path / "cgroup", proc) == 0
    write(tmp_path / "cgroup", {file: content})
    assert killed_for_memory(tmp_path / "cgroup", proc) == 3

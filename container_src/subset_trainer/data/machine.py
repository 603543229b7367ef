"""The processors, their features, the memory and the shared memory that this process may use, within the limits of its
container."""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, of prctl(2)


def cpu_count(cgroup: Path = _CGROUP) -> int:
    """Processors that this process may use: its affinity, limited by the container's quota; at least 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, period = _read(cgroup / "cpu/cpu.cfs_quota_us"), _read(cgroup / "cpu/cpu.cfs_period_us")
    if (limit := _read(cgroup / "cpu.max")) is not None:
        quota, _, period = limit.partition(" ")
    if quota and period and quota.isdigit() and period.isdigit():
        count = min(count, max(1, round(int(quota) / int(period))))
    return max(1, count)


def has_bfloat16_units(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor multiplies bfloat16 in hardware (x86: AVX-512 BF16 or AMX; Arm: BF16).

    Emulation through float32 is slower than float32 itself.
    """
    for line in (_read(cpuinfo) or "").splitlines():
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags.split())
    return False


def memory_available(cgroup: Path = _CGROUP, proc: Path = Path("/proc")) -> int:
    """Bytes that can still be allocated: the kernel's estimate, limited by every enclosing control group (version 1
    or 2). Reclaimable page cache counts as free."""
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for line in (_read(proc / "meminfo") or "").splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    for group in _memory_groups(cgroup, proc):
        available = min(available, _left_in_group(group, available))
    return max(0, available)


def killed_for_memory(cgroup: Path = _CGROUP, proc: Path = Path("/proc")) -> int:
    """How many processes of this control group the kernel has killed because memory ran out."""
    for group in _memory_groups(cgroup, proc):
        for name in ("memory.events", "memory.oom_control"):
            for line in (_read(group / name) or "").splitlines():
                word, _, count = line.partition(" ")
                if word == "oom_kill" and count.isdigit():
                    return int(count)
    return 0


def _memory_groups(cgroup: Path, proc: Path) -> Iterator[Path]:
    """The control groups (version 1 or 2) that limit this process's memory, from its own to the outermost."""
    # Inside a container the group is usually mounted as the root, so paths that do not exist are skipped.
    for line in (_read(proc / "self/cgroup") or "0::/").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory") and "memory" not in controllers.split(","):
            continue
        root = cgroup / "memory" if controllers else cgroup
        group = root / path.strip("/")
        while True:
            yield group
            if group == root:
                break
            group = group.parent


def _left_in_group(group: Path, otherwise: int) -> int:
    for limit_file, usage_file, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, usage = _read(group / limit_file), _read(group / usage_file)
        if limit and usage and limit.isdigit() and usage.isdigit():
            reclaimable = 0
            for line in (_read(group / "memory.stat") or "").splitlines():
                if line.split(" ")[0] == cache:
                    reclaimable = int(line.split()[1])
            return int(limit) - int(usage) + reclaimable
    return otherwise


def end_with_parent() -> None:
    """Have the kernel end this process as soon as the thread that started it has ended, even by SIGKILL (on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def shared_memory_free(path: str = "/dev/shm") -> int:  # noqa: S108
    """Bytes free in the file system through which worker processes share tensors; 0 if there is none."""
    try:
        status = os.statvfs(path)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None

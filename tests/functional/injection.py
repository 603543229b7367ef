"""Faults as a machine has them: small or read-only file systems, little memory, clocks that jump, code that raises."""

import functools
import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.functional.conftest import Job

# Where this is not root, a user namespace in which it is may be allowed.
UNSHARE = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",)))


@functools.cache
def _why_no_namespaces() -> str | None:
    try:
        command = [*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/tmp"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except OSError as error:
        return str(error)
    return done.stderr.strip() if done.returncode else None


def within(job: Job, *commands: str) -> Job:
    """Have the program see mounts that nobody else sees; skips the test where the machine does not allow that."""
    if reason := _why_no_namespaces():
        pytest.skip(f"no file systems of its own here ({reason})")
    script = "\n".join(["set -e", *commands, 'exec "$@"'])
    job.wrapper = (*UNSHARE, "sh", "-c", script, "sh")
    return job


def small_shared_memory(size: str) -> str:
    """A command for ``within``."""
    return f"mount -t tmpfs -o size={size} tmpfs /dev/shm"


def no_memory_for_pixels(folder: Path) -> str:
    """A command for ``within``: as on a machine that has so little memory left that images are streamed."""
    file = folder / "meminfo"
    file.write_text("MemTotal: 1000000 kB\nMemAvailable: 1 kB\n")
    return f"mount --bind {shlex.quote(str(file))} /proc/meminfo"


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A file system in memory at a folder, which this process sees too; skips the test where only root may have one."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no file systems can be mounted here ({done.stderr.strip()})")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, spare: int = 0) -> None:
    """To the last byte, but for so many."""
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(file.tell() - spare)


def inject(job: Job, folder: Path, code: str) -> Job:
    """Have the program run this Python before anything else."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    job.environment["PYTHONPATH"] = os.pathsep.join(paths)
    return job

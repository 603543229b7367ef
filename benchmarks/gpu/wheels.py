"""What a bare machine with Python 3.12 and torch 2.11 needs besides, in a folder that is carried there."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.gpu.runner import ROOT

MOST_MIB = 60.0
WITH_NEEDS = (
    *("numpy", "pandas", "pillow", "pyarrow", "pydantic", "safetensors", "transformers"),
    *("pytest", "pytest-timeout", "hypothesis", "dotmap"),
)
WITHOUT_NEEDS = ("torchvision==0.26.0", "cords==0.0.4")
"""torchvision's need is torch itself, and it must be the one of that torch; CORDS's cannot be met."""
SOURCES = ("apricot-select==0.6.1",)
"""Which have no wheel; of pure Python."""
TARGET = (
    *("--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp"),
    *(
        f"--platform={tag}_x86_64"
        for tag in ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")
    ),
)
LOCK = ROOT / "docker/requirements/dev-cuda13.txt"


def prepare(folder: Path, has: Sequence[str], data: Path | None, commit: str) -> int:
    """Fill the folder and print its list and the command to run; the exit code, 1 where it is too large.

    Args:
        folder: a new one, or an empty one.
        has: packages that the machine has already: they are left out.
        data: what goes with them.
        commit: what is measured.
    """
    if folder.exists() and any(folder.iterdir()):
        print(f"error: --wheels {folder}: expected a folder that is not there, or empty", file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        versions = Path(place) / "versions.txt"
        versions.write_text("\n".join(_pinned(LOCK.read_text())) + "\n")
        # A package that is there has its needs there.
        wanted = _without(WITH_NEEDS, has)
        _pip("download", "-c", str(versions), "-d", place, *TARGET, *wanted)
        if wanted := _without(WITHOUT_NEEDS, has):
            _pip("download", "--no-deps", "-d", place, *TARGET, *wanted)
        if wanted := _without(SOURCES, has):
            _pip("wheel", "--no-deps", "-w", place, *wanted)
        left_out = {_plain(name) for name in has}
        for wheel in Path(place).glob("*.whl"):
            if _plain(wheel.name.partition("-")[0]) not in left_out:
                shutil.copy(wheel, folder)
    shutil.copy(ROOT / "docker/cords/cords_shim.py", folder)
    shutil.copy(Path(__file__).with_name("lay_out.py"), folder)
    (folder / "commit").write_text(commit + "\n")
    if data is not None:
        (shutil.copytree if data.is_dir() else shutil.copy)(data, folder / data.name)
    return _say(folder, data)


def _say(folder: Path, data: Path | None) -> int:
    sizes = {
        path: sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]))
        for path in sorted(folder.iterdir())
    }
    for path, size in sizes.items():
        print(f"{size / 2**20:8.2f} MiB  {path.name}")
    total = sum(sizes.values()) / 2**20
    print(f"{total:8.2f} MiB in all; expected at most {MOST_MIB:g}")
    given = f" --data {folder / data.name}" if data else ""
    print(
        "\nOn that machine, in the project's root:\n\n"
        f"python3 {folder}/lay_out.py /tmp/site && . /tmp/site/environment && "
        f"python3 -m benchmarks.gpu_proof{given} --json gpu.json --minutes 9"
    )
    if total > MOST_MIB:
        print(f"error: {total:.1f} MiB: name with --has what that machine has already", file=sys.stderr)
        return 1
    return 0


def _without(names: Iterable[str], has: Sequence[str]) -> list[str]:
    left_out = {_plain(name) for name in has}
    return [name for name in names if _plain(name.partition("==")[0]) not in left_out]


def _plain(name: str) -> str:
    """As package indices compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _pinned(lock: str) -> list[str]:
    """The lock's versions, without hashes, and without torch's, which are that machine's own."""
    lines = [line.partition(" \\")[0] for line in lock.splitlines() if re.match(r"[a-z0-9]", line)]
    return [line for line in lines if not re.match(r"torch|nvidia|triton|cuda", line)]


def _pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", *arguments, "--quiet"], check=True)

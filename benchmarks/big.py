"""Training on images that take several times the memory there is, beside the same training from memory.

    make benchmark-big                                                    # in a control group of this machine, as root
    make benchmark-big OPTIONS="--limit-mb 1000 --image subset-trainer"   # the image, by `docker run --memory`

Runs the real `train` on generated JPEG images in tar shards: ``--images`` of them, twice and four times as many, each
in a control group that may use ``--limit-mb`` megabytes, page cache included and without swap; what uses more is
killed. The first size is trained on once more without the limit, where its pixels are decoded into memory before the
first epoch.

- **decoded**: 3 · side² bytes an image, which is what training holds in memory where it can.
- **images/s**: examples that an epoch trains on, by its seconds; the median of the epochs.
- **peak, MB**: the most that all processes of the run together had at once of their own, anonymous and shared memory as
  the group counts it; read every ``SECONDS_BETWEEN``. Page cache, and files that are mapped, are not in it: the kernel
  takes those back when somebody needs the room.

The last lines give the growth of the peak in bytes per further image, from the smallest to the largest set.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import Parser, command, processor, write_text
from deploy.grid import program
from subset_trainer.data.machine import cpu_count, memory_available
from subset_trainer.errors import UserError

CLASSES = 10
SHARD = 1_000
"""Images in an archive."""
SIZES = (1, 2, 4)
SECONDS_BETWEEN = 0.1
STRATEGIES = ("rs2", "glister")
BATCH = 64
CGROUP = Path("/sys/fs/cgroup")

Row = dict[str, Any]
"""One line of the table, as JSON."""


def make_shards(folder: Path, count: int, side: int, quality: int = 90) -> int:
    """Write tar archives of JPEG images in class folders, one image at a time; how many bytes they have.

    An image is its class's colour with noise, so that there is something to learn, and no two are alike.
    """
    draw = np.random.default_rng(0)
    colours = draw.integers(64, 192, size=(CLASSES, 3))
    noise = draw.integers(-64, 64, size=(4 * side, 4 * side, 3), dtype=np.int16)
    written = 0
    for start in range(0, count, SHARD):
        path = folder / f"shard-{start // SHARD:05}.tar"
        with tarfile.open(path, "w") as archive:
            for number in range(start, min(start + SHARD, count)):
                row, column = draw.integers(3 * side, size=2)
                pixels = noise[row : row + side, column : column + side] + colours[number % CLASSES]
                encoded = io.BytesIO()
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(encoded, "JPEG", quality=quality)
                member = tarfile.TarInfo(f"class{number % CLASSES}/{number:08}.jpg")
                member.size = encoded.tell()
                encoded.seek(0)
                archive.addfile(member, encoded)
                archive.members.clear()  # type: ignore[attr-defined]  # it would keep a header of each
        written += path.stat().st_size
    return written


def part_of(shards: Path, folder: Path, count: int) -> Path:
    """A folder with the first so many images of the shards: hard links, since links that lead out are not followed."""
    folder.mkdir(parents=True)
    for path in sorted(shards.iterdir())[: -(-count // SHARD)]:
        (folder / path.name).hardlink_to(path)
    return folder


@dataclass
class Group:
    """A control group for memory, and the most that was seen in it. Version 1 and version 2 call things differently.

    path: where the kernel shows it.
    """

    path: Path
    peak: int = 0
    """Bytes of anonymous and shared memory."""
    highest: int = 0
    """Bytes with page cache, as the kernel has noted them."""
    killed: int = 0
    """Processes that the kernel has ended for want of memory."""

    def look(self) -> None:
        """Add the process's present figures; none if it has ended."""
        with contextlib.suppress(OSError, ValueError):
            stat = _numbers(self.path / "memory.stat")
            first = "anon" in stat
            # Version 1 counts a group's own and, under other names, those of the groups in it.
            own = stat["anon"] + stat["shmem"] if first else stat["total_rss"] + stat.get("total_shmem", 0)
            self.peak = max(self.peak, own)
            most = self.path / ("memory.peak" if first else "memory.max_usage_in_bytes")
            self.highest = max(self.highest, int(most.read_text()))
            events = _numbers(self.path / ("memory.events" if first else "memory.oom_control"))
            self.killed = max(self.killed, events["oom_kill"])


def _numbers(path: Path) -> dict[str, int]:
    return {name: int(value) for name, value in (line.split() for line in path.read_text().splitlines())}


def make_group(limit: int | None, cgroup: Path = CGROUP, proc: Path = Path("/proc/self/cgroup")) -> Group:
    """A new group below this process's own. limit: bytes, page cache included; None: none.

    Raises:
        UserError: this process may not make one.
    """
    own, version = group_of(proc.read_text(), cgroup)
    # Version 2 lets no group have both processes and limited groups in it: the nearest that hands memory on.
    known = [
        group
        for group in (own, *own.parents)
        if version == 1 or (group.is_relative_to(cgroup) and _hands_on_memory(group))
    ]
    if not known:
        raise UserError(f"no control group of this machine limits memory; {_OTHERWISE}")
    parent, files = known[0], _LIMITS[version]
    path = parent / f"subset-trainer-{os.getpid()}-{time.monotonic_ns()}"
    try:
        path.mkdir()
        for name, value in files.items() if limit is not None else ():
            if (path / name).exists() or name in _MUST:
                (path / name).write_text(str(limit if value is None else value))
    except OSError as error:
        with contextlib.suppress(OSError):
            path.rmdir()
        raise UserError(
            f"a control group cannot be made in {parent} ({error.strerror}); {_OTHERWISE}"
        ) from error
    return Group(path)


_LIMITS: dict[int, dict[str, int | None]] = {
    1: {"memory.limit_in_bytes": None, "memory.memsw.limit_in_bytes": None},
    2: {"memory.max": None, "memory.swap.max": 0},
}
"""By version: the file, and what goes there; None: the limit. Without swap accounting the second is absent."""
_MUST = ("memory.limit_in_bytes", "memory.max")
_OTHERWISE = "run this as root, or with --image and Docker"


def _hands_on_memory(group: Path) -> bool:
    try:
        return "memory" in (group / "cgroup.subtree_control").read_text().split()
    except OSError:
        return False


@contextlib.contextmanager
def watched(group: Group) -> Iterator[None]:
    """Samples the group continuously."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SECONDS_BETWEEN):
            group.look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        group.look()


def run_here(base: Path, limit: int | None) -> Group:
    """`train` over a base directory, in a control group of its own.

    Raises:
        UserError: it failed.
    """
    group = make_group(limit)
    try:
        with watched(group), (base / "train.log").open("w") as log:
            done = subprocess.run(
                [program.train_program()],
                env={**os.environ, "SAGEMAKER_BASE_DIR": str(base)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # In this file, 0 means the process that writes it.
                preexec_fn=lambda: (group.path / "cgroup.procs").write_text("0") and None,
            )
    finally:
        _remove(group.path)
    _check(done.returncode, base, group, limit)
    return group


def _remove(path: Path) -> None:
    """A group is gone once the last of its processes is."""
    for _ in range(50):
        try:
            path.rmdir()
        except OSError:
            time.sleep(0.1)
        else:
            return


def run_in_docker(image: str, base: Path, data: Path, limit: int | None) -> Group:
    """The image's `train`, as SageMaker starts it.

    Raises:
        UserError: it failed, or Docker did.
    """
    # What was linked there does not lead anywhere in the container.
    place = base / "input/data/training"
    place.unlink()
    place.mkdir()
    memory = [] if limit is None else ["--memory", str(limit), "--memory-swap", str(limit)]
    mounts = ["--volume", f"{base}:/opt/ml", "--volume", f"{data}:/opt/ml/input/data/training:ro"]
    started = subprocess.run(
        ["docker", "run", "--detach", "--network", "none", *memory, *mounts, image, "train"],
        capture_output=True,
        text=True,
    )
    if started.returncode:
        raise UserError(f"docker could not run {image!r}: {started.stderr.strip()}")
    container = started.stdout.strip()
    try:
        pid = _docker("inspect", "--format", "{{.State.Pid}}", container)
        try:
            group = Group(group_of(Path(f"/proc/{pid}/cgroup").read_text())[0])
        except OSError as error:
            raise UserError(f"{image!r} ended at once: {_docker('logs', container)}") from error
        with watched(group):
            code = int(_docker("wait", container))
        (base / "train.log").write_text(_docker("logs", container))
        group.killed = max(
            group.killed, _docker("inspect", "--format", "{{.State.OOMKilled}}", container) == "true"
        )
    finally:
        subprocess.run(["docker", "rm", "--force", container], capture_output=True)
    _check(code, base, group, limit)
    return group


def group_of(text: str, cgroup: Path = CGROUP) -> tuple[Path, int]:
    """Where the kernel shows the memory of a process, and by which version of control groups.

    text: of its /proc/…/cgroup.
    """
    lines = [line.split(":", 2) for line in text.splitlines() or ["0::/"]]
    for _, controllers, own in lines:
        if "memory" in controllers.split(","):
            return cgroup / "memory" / own.strip("/"), 1
    return cgroup / lines[-1][2].strip("/"), 2


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise UserError(f"docker {arguments[0]}: {done.stdout.strip()}")
    return done.stdout.strip()


def _check(code: int, base: Path, group: Group, limit: int | None) -> None:
    if code == 0:
        return
    last = (base / "train.log").read_text(errors="replace").strip().splitlines() or ["nothing"]
    memory = f" within {limit / 1e6:,.0f} MB" if limit else ""
    killed = f"; the kernel ended {group.killed} processes for want of memory" if group.killed else ""
    raise UserError(f"the training{memory} ended with {code}{killed}; its last line: {last[-1]}")


@dataclass(frozen=True)
class Case:
    """One run of the table."""

    strategy: str
    images: int
    limit: int | None
    values: dict[str, Any] = field(default_factory=dict)


def cases(options: argparse.Namespace) -> list[Case]:
    """In the order in which they are shown."""
    limit = options.limit_mb * 1_000_000
    sizes = [options.images * size for size in options.sizes]
    found = []
    for strategy in options.strategies:
        found += [Case(strategy, sizes[0], None), *(Case(strategy, size, limit) for size in sizes)]
    return found


def fraction(images: int, wanted: float, validation_fraction: float) -> float:
    """The nearest share whose batches are all full, so that each step takes the same memory."""
    training = images - CLASSES * round(validation_fraction * images / CLASSES)
    return BATCH * max(1, round(wanted * training / BATCH)) / training


def measure(case: Case, shards: Path, folder: Path, options: argparse.Namespace) -> Row:
    """Run it, and what came of it."""
    data = part_of(shards, folder / "data", case.images)
    base = folder / "run"
    values = {
        "strategy": case.strategy,
        "fraction": fraction(case.images, options.fraction, options.validation_fraction),
        "batch_size": BATCH,
        "select_every": 1,
        "model": options.model,
        "image_size": options.side,
        "epochs": options.epochs,
        "validation_fraction": options.validation_fraction,
        "report": options.report,
    }
    program.prepare(base, {"training": data}, values)
    started = time.perf_counter()
    image = options.image
    group = run_in_docker(image, base, data, case.limit) if image else run_here(base, case.limit)
    total = time.perf_counter() - started
    row = {
        **described(base),
        "strategy": case.strategy,
        "images": case.images,
        "decoded_gb": 3 * options.side**2 * case.images / 1e9,
        "encoded_gb": sum(path.stat().st_size for path in data.iterdir()) / 1e9,
        "limit_mb": None if case.limit is None else options.limit_mb,
        "total_seconds": total,
        "peak_mb": group.peak / 1e6,
        "highest_mb": group.highest / 1e6,
    }
    shutil.rmtree(folder)
    return row


def described(base: Path) -> Row:
    """What a finished run reports."""
    history = [json.loads(line) for line in (base / "output/data/history.jsonl").read_text().splitlines()]
    summary = json.loads((base / "output/data/summary.json").read_text())
    log = (base / "train.log").read_text(errors="replace")
    return {
        "streamed": "training channel: streamed from files" in log,
        "loading_seconds": summary["seconds"]["loading"],
        "images_per_second": statistics.median(row["subset_size"] / row["epoch:seconds"] for row in history),
        "selection_seconds": statistics.median(row["selection:seconds"] for row in history),
        "report_seconds": summary["seconds"]["report"],
        "accuracy": history[-1]["validation:accuracy"],
        "memory_mapped": "of all examples lie in" in log,
    }


def growth(rows: Sequence[Row]) -> float:
    """Bytes that the peak grew by for each further image, of runs of one strategy within the limit."""
    limited = sorted((row for row in rows if row["limit_mb"] is not None), key=lambda row: row["images"])
    fewest, most = limited[0], limited[-1]
    if most["images"] == fewest["images"]:
        return 0.0
    return 1e6 * (most["peak_mb"] - fewest["peak_mb"]) / (most["images"] - fewest["images"])


def table(rows: Sequence[Row]) -> str:
    lines = [
        "| strategy | images | decoded, GB | encoded, GB | limit, MB | data | loading, s | images/s | selection, s "
        "| in all, s | peak, MB |",
        "| --- | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        limit = "none" if row["limit_mb"] is None else f"{row['limit_mb']:,}"
        lines.append(
            f"| {row['strategy']} | {row['images']:,} | {row['decoded_gb']:.2f} | {row['encoded_gb']:.2f} | {limit} | "
            f"{'streamed' if row['streamed'] else 'in memory'} | {row['loading_seconds']:.1f} | "
            f"{row['images_per_second']:.0f} | {row['selection_seconds']:.2f} | {row['total_seconds']:.0f} | "
            f"{row['peak_mb']:.0f} |"
        )
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    line = Parser(description=__doc__)
    line.add_argument(
        "--limit-mb", type=int, default=700, help="megabytes that a run may use, cache included"
    )
    line.add_argument("--images", type=int, default=20_000, help="the smallest set, a multiple of 1,000")
    line.add_argument("--sizes", type=_sizes, default=SIZES, help="1,2,…: how many times as many")
    line.add_argument("--side", type=int, default=96, help="pixels")
    line.add_argument("--strategies", type=lambda text: text.split(","), default=STRATEGIES)
    line.add_argument("--fraction", type=float, default=0.01)
    line.add_argument("--validation-fraction", type=float, default=0.01)
    line.add_argument("--model", default="cnn")
    line.add_argument("--epochs", type=int, default=1)
    line.add_argument("--report", action="store_true", help="with the report's pass over all images")
    line.add_argument(
        "--image", help="the built image to run, by Docker; default: `train` of this environment"
    )
    line.add_argument("--folder", type=Path, help="where the images go (default: a temporary folder)")
    line.add_argument("--json", type=Path, metavar="FILE")
    return line


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(sorted(int(size) for size in text.split(",")))


def check(options: argparse.Namespace, available: Callable[[], int] = memory_available) -> None:
    """Raise UserError where the runs would not show what they are for."""
    if options.images < SHARD or options.images % SHARD:
        raise UserError(f"--images {options.images}: expected a multiple of {SHARD:,}, the images of a shard")
    decoded = 3 * options.side**2 * options.images
    if 2 * decoded <= options.limit_mb * 1_000_000:
        raise UserError(
            f"--images {options.images} of {options.side} pixels take {decoded / 1e6:,.0f} MB, which fit within "
            f"--limit-mb {options.limit_mb}; expected more than half of the limit, so that they are streamed"
        )
    if 2 * decoded >= available():
        raise UserError(
            f"--images {options.images} of {options.side} pixels take {decoded / 1e6:,.0f} MB; expected less than half "
            f"of the {available() / 1e6:,.0f} MB that are available, so that one run holds them in memory"
        )


@command
def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    check(options)
    if not options.image:
        _remove(make_group(None).path)  # refused now rather than once the images are made
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        (folder / "shards").mkdir()
        started = time.perf_counter()
        make_shards(folder / "shards", options.images * options.sizes[-1], options.side)
        print(f"images made in {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        rows = []
        for case in cases(options):
            rows.append(measure(case, folder / "shards", folder / "case", options))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    where = f"{processor()}, {cpu_count()} processors"
    print(
        f"{where}; torch {torch.__version__}; {options.model} at {options.side}×{options.side}, "
        f"{options.fraction:g} of the images an epoch, {options.epochs} epochs\n\n{table(rows)}\n"
    )
    for strategy in options.strategies:
        own = [row for row in rows if row["strategy"] == strategy]
        print(f"{strategy}: the peak grew by {growth(own):.0f} bytes for each further image")
    if options.json:
        write_text(options.json, json.dumps({"machine": where, "rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Faults of machine and data under the real program: what docs/reference/reliability.md says of them."""

import csv
import gzip
import io
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from subset_trainer.tracking.metrics import metric_definitions
from tests.functional.conftest import Job, write_image
from tests.functional.injection import (
    fill,
    inject,
    mounted,
    no_memory_for_pixels,
    small_shared_memory,
    within,
)
from tests.functional.test_resume import outcome
from tests.slow_images import jpeg_of_scans, slow_png

QUICK = {"model": "mlp", "epochs": 2, "device": "cpu"}
CHECKPOINTED = {**QUICK, "epochs": 3, "batch_size": 16}
IMAGES = {
    "model": "cnn",
    "epochs": 2,
    "batch_size": 16,
    "num_workers": 2,
    "device": "cpu",
    "strategy": "full",
}


def failed(job: Job, code: int, *words: str) -> str:
    """The job's one sentence, which is the last line of its log, too."""
    assert job.exit_code == code, job.log
    sentence = job.failure
    assert sentence is not None and "\n" not in sentence and len(sentence) <= 1024
    assert sentence in job.last_line
    assert [word for word in words if word not in sentence] == [], sentence
    assert "internal error" not in sentence
    return sentence


def images(folder: Path, count: int = 30, size: int = 8) -> None:
    for name in ("cat", "dog"):
        for number in range(count):
            write_image(folder / name / f"{number}.png", seed=number, size=size)


def checkpoints(job: Job) -> list[str]:
    return sorted(path.name for path in (job.base / "checkpoints").glob("checkpoint-*"))


# The disk


@pytest.mark.parametrize(
    ("place", "file"),
    [
        ("model", "model/model.safetensors"),
        ("output/data", "output/data/history.jsonl"),
        ("output/data/subsets", "output/data/subsets/epoch-0001.npz"),
    ],
)
def test_disk_full(table: Job, place: str, file: str) -> None:
    with mounted(table.base / place, "size=64k"):
        # Two pages are enough for understanding.json and the subset, which come before the history.
        fill(table.base / place, spare=8192 if place == "output/data" else 0)
        table.run(QUICK)
        failed(table, 2, "no space left on the disk", str(table.base / file), "a larger volume is needed")
        assert not [
            path for path in (table.base / place).rglob("*") if path.name.startswith((".", "history"))
        ]


def checkpoint_bytes(job: Job) -> int:
    return max(path.stat().st_size for path in (job.base / "checkpoints").glob("checkpoint-*"))


def test_disk_full_while_writing_checkpoints(table: Job) -> None:
    """One fits. Training goes on, and a later start goes on from there."""
    whole = Job(table.base.with_name("whole"))
    shutil.copytree(table.base / "input", whole.base / "input")
    (whole.base / "checkpoints").mkdir()
    whole.run(CHECKPOINTED)
    with mounted(table.base / "checkpoints", f"size={checkpoint_bytes(whole) * 3 // 2 + (64 << 10)}"):
        table.run({**CHECKPOINTED, "checkpoints_kept": 1})
        assert table.exit_code == 0, table.log
        assert table.log.count("could not be written (No space left on device") == 1
        assert outcome(table) == outcome(whole)
        assert checkpoints(table) == ["checkpoint-00002-0000000.pt"]
        assert not list((table.base / "checkpoints").glob(".*"))
        for name in ("model", "output"):
            shutil.rmtree(table.base / name)
        table.run({**CHECKPOINTED, "checkpoints_kept": 1})
        assert "resuming from a checkpoint: 1 of 3 epochs are done" in table.log
        assert outcome(table) == outcome(whole)


def test_disk_full_of_earlier_checkpoints(table: Job) -> None:
    """Two fit, and no third beside them: the older one makes room."""
    with mounted(table.base / "checkpoints", "size=64m"):
        table.run({**CHECKPOINTED, "epochs": 1})
        size = checkpoint_bytes(table)
    with mounted(table.base / "checkpoints", f"size={size * 5 // 2 + (64 << 10)}"):
        table.run({**CHECKPOINTED, "epochs": 4, "checkpoints_kept": 2})
        assert table.exit_code == 0 and "could not be written" not in table.log, table.log
        assert checkpoints(table)[-1] == "checkpoint-00005-0000000.pt"


def test_disk_full_where_the_reason_goes(table: Job) -> None:
    with mounted(table.base / "output", "size=64k"):
        fill(table.base / "output")
        table.run({"epochss": 3})
        assert table.exit_code == 1
        assert "the failure file could not be written: [Errno 28] No space left on device" in table.log
        assert table.last_line.endswith("unknown hyperparameter 'epochss': did you mean 'epochs'?")


def test_disk_full_where_images_are_copied_to(job: Job, tmp_path: Path) -> None:
    """The buffer that does not fit is written once more by a finalizer, which fails at the very end."""
    draw = np.random.default_rng(0)
    with tarfile.open(job.channel("training") / "shard.tar.gz", "w:gz") as archive:
        for number in range(60):
            content = io.BytesIO()
            Image.fromarray(draw.integers(256, size=(40, 40, 3), dtype=np.uint8)).save(content, "PNG")
            for suffix, part in ((".png", content.getvalue()), (".cls", str(number % 2).encode())):
                member = tarfile.TarInfo(f"{number:04}{suffix}")
                member.size = len(part)
                archive.addfile(member, io.BytesIO(part))
    job.environment["TMPDIR"] = str(tmp_path / "small")
    with mounted(tmp_path / "small", "size=64k"):
        job.run(IMAGES)
        failed(
            job, 1, f"its images are copied to {tmp_path / 'small'} to be read one by one", "expected room"
        )


def test_what_finalizers_print_does_not_follow_the_sentence(table: Job, tmp_path: Path) -> None:
    inject(
        table,
        tmp_path / "site",
        "import atexit, os, sys\n"
        "atexit.register(lambda: (print('said late'), print('said late', file=sys.stderr), os.write(2, b'late')))\n",
    )
    table.run({"epochss": 3})
    assert table.exit_code == 1
    assert table.last_line.endswith("unknown hyperparameter 'epochss': did you mean 'epochs'?")


def test_disk_full_of_event_files(table: Job) -> None:
    with mounted(table.base / "output/tensorboard", "size=64k"):
        fill(table.base / "output/tensorboard")
        table.run({**QUICK, "tensorboard": True})
        assert table.exit_code == 0, table.log
        assert "No space left on device" in table.log and "training continues" in table.log


@pytest.mark.parametrize("place", ["model", "output/data", "output"])
def test_a_read_only_folder_is_refused_before_training(table: Job, place: str) -> None:
    with mounted(table.base / place, "ro"):
        table.run(QUICK)
        assert table.exit_code == 2, table.log
        assert "read-only" in table.last_line and str(table.base / place) in table.last_line
        assert "epoch=1" not in table.log


def test_a_read_only_folder_of_checkpoints(table: Job) -> None:
    with mounted(table.base / "checkpoints", "ro"):
        table.run(QUICK)
        assert table.exit_code == 0, table.log
        assert table.log.count("could not be written (Read-only file system") == 1


# Memory


@pytest.mark.parametrize("size", ["64m", "4k"])
def test_small_shared_memory(job: Job, tmp_path: Path, size: str) -> None:
    images(job.channel("training"), count=16)
    within(job, small_shared_memory(size), no_memory_for_pixels(tmp_path))
    # Five batches of 28 images under way, of 480 kB each.
    job.run({**IMAGES, "image_size": 400, "batch_size": 28, "epochs": 1})
    assert job.exit_code == 0, job.log
    assert "streamed from files" in job.log
    expected = "they are sent through pipes instead" if size == "64m" else "decoded without worker processes"
    assert job.log.count(expected) == 1
    assert len(job.history) == 1


def test_out_of_memory_on_the_gpu(table: Job, tmp_path: Path) -> None:
    """As torch raises it, in the first step."""
    code = """
import torch
def cross_entropy(*args, **kwargs):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of ...")
torch.nn.functional.cross_entropy = cross_entropy
"""
    inject(table, tmp_path / "site", code).run({**QUICK, "batch_size": 64})
    sentence = failed(table, 1, "out of memory on the GPU with batch_size=64: try batch_size=32, a smaller")
    assert "CUDA out of memory. Tried to allocate 20.00 MiB" in sentence
    assert "does not fit in the GPU's memory: it is taken in parts of" in table.log


def test_out_of_memory_on_the_host(job: Job) -> None:
    """Really: the process may take 6 GB of addresses, and a step takes more."""
    images(job.channel("training"), count=8, size=16)
    job.wrapper = ("sh", "-c", 'ulimit -v 6000000; exec "$@"', "sh")
    job.run({**IMAGES, "image_size": 1024, "batch_size": 14, "precision": "float32"})
    failed(job, 1, "out of memory on the host with batch_size=14: try batch_size=7, a smaller image_size")


def test_out_of_memory_while_reading(job: Job) -> None:
    """Really: the pixels take more addresses than the process may have."""
    images(job.channel("training"), count=1000, size=2)
    job.wrapper = ("sh", "-c", 'ulimit -v 5000000; exec "$@"', "sh")
    job.run({**IMAGES, "image_size": 1024})
    failed(
        job, 1, "out of memory on the host: use a smaller batch_size or image_size, or an instance with more"
    )


# Processes


def test_a_decoding_process_is_killed(job: Job, tmp_path: Path) -> None:
    images(job.channel("training"))
    within(job, no_memory_for_pixels(tmp_path))

    workers: list[psutil.Process] = []

    def kill(process: "subprocess.Popen[str]") -> None:
        workers.extend(psutil.Process(process.pid).children())
        assert len(workers) >= 2
        workers[0].send_signal(signal.SIGKILL)

    job.when({**IMAGES, "epochs": 1000}, "epoch=2 ", kill)
    failed(job, 2, "a process that decodes images ended unexpectedly", "short of memory")
    assert psutil.wait_procs(workers, timeout=10)[1] == []


# Divergence

DIVERGING = {
    **CHECKPOINTED,
    "epochs": 30,
    "batch_size": 64,
    "strategy": "full",
    "learning_rate": 30,
    "weight_decay": 1,
    "warmup_ratio": 0.1,
    "momentum": 0,
}


def test_divergence(table: Job) -> None:
    """Ends at the step where it shows. The last checkpoint is one of finite weights, from which it shows again."""
    (table.base / "checkpoints").mkdir()
    table.run({**DIVERGING, "checkpoint_minutes": 1e-6})
    sentence = failed(table, 1, "training diverged in epoch ", "learning_rate=30", "batch_size=64")
    epoch = int(sentence.split("epoch ")[1].split(",")[0])
    step = int(sentence.split("step ")[1].split(" ")[0])
    assert epoch >= 2
    newest = checkpoints(table)[-1]
    assert newest <= f"checkpoint-{epoch:05d}-{step:07d}.pt"
    file = table.base / "checkpoints" / newest
    state = torch.load(file, weights_only=True)["state"]["modules"]["classifier"]
    assert all(bool(value.isfinite().all()) for value in state.values())
    assert len(table.history) == epoch - 1
    assert not (table.base / "model").exists()
    table.run({**DIVERGING, "checkpoint_minutes": 1e-6})
    assert "resuming from a checkpoint" in table.log
    assert failed(table, 1) == sentence


# Data that changes while it is trained on


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda path: path.unlink(), "the file is gone"),
        (lambda path: path.write_bytes(path.read_bytes()[:80]), "truncated"),
    ],
    ids=["vanishes", "is-truncated"],
)
def test_a_streamed_file(job: Job, tmp_path: Path, change: Callable[[Path], Any], expected: str) -> None:
    images(job.channel("training"))
    within(job, no_memory_for_pixels(tmp_path))

    def change_all(process: "subprocess.Popen[str]") -> None:
        for number in range(30):
            change(job.channel("training") / "cat" / f"{number}.png")

    job.when({**IMAGES, "epochs": 1000}, "epoch=2 ", change_all)
    # One of them, if the run met it before the others were there to be found.
    sentence = failed(job, 1, "training channel: ", "'cat/", expected, "expected")
    assert "expected an intact image file" in sentence or "of 60 images cannot be read" in sentence


def test_a_streamed_file_becomes_another_image(job: Job, tmp_path: Path) -> None:
    """Of another size, which is brought to that of the others: it is trained on."""
    images(job.channel("training"))
    within(job, no_memory_for_pixels(tmp_path))

    def change(process: "subprocess.Popen[str]") -> None:
        for number in range(30):
            other = tmp_path / "other.png"
            write_image(other, seed=number, size=33)
            other.replace(job.channel("training") / "cat" / f"{number}.png")

    job.when({**IMAGES, "epochs": 8}, "epoch=2 ", change)
    assert job.exit_code == 0, job.log


def test_files_that_were_read_may_go(job: Job) -> None:
    images(job.channel("training"))
    job.when(
        {**IMAGES, "epochs": 6},
        "epoch=1 ",
        lambda process: shutil.rmtree(job.channel("training")),
    )
    assert job.exit_code == 0, job.log
    assert len(job.history) == 6


def test_few_open_files(job: Job, tmp_path: Path) -> None:
    """With many files and workers."""
    images(job.channel("training"), count=100)
    within(job, no_memory_for_pixels(tmp_path), "ulimit -n 64")
    job.run({**IMAGES, "epochs": 1, "num_workers": 8})
    assert job.exit_code == 0, job.log
    job.wrapper = ()
    within(job, no_memory_for_pixels(tmp_path), "ulimit -n 32")
    job.run({**IMAGES, "epochs": 1, "num_workers": 8})
    failed(job, 1, "too many open files: the limit is 32; expected a larger one (ulimit -n)", "num_workers")


# Clocks

JUMPING = """
import itertools, time
real, real_ns, jumps = time.time, time.time_ns, itertools.cycle((0, 86400, -86400, 3e9, -1e9))
time.time = lambda: real() + next(jumps)
time.time_ns = lambda: real_ns() + int(next(jumps)) * 10**9
"""


def test_clock_jumps(table: Job, tmp_path: Path) -> None:
    """By days and years, at every look at the clock: everything is timed by clocks that do not."""
    (table.base / "checkpoints").mkdir()
    started = time.monotonic()
    inject(table, tmp_path / "site", JUMPING).run({**CHECKPOINTED, "checkpoints_kept": 1000})
    took = time.monotonic() - started
    assert table.exit_code == 0, table.log
    # A look at the jumping clock is in every line, so it was there.
    assert len({line[:4] for line in table.log.splitlines() if " INFO " in line}) > 1
    seconds = [row[name] for row in table.history for name in row if name.endswith("seconds")]
    seconds += table.summary["seconds"].values()
    assert all(0 <= value <= took for value in seconds)
    # One an epoch, and none before its time.
    assert len(checkpoints(table)) <= 3 and checkpoints(table)[-1] == "checkpoint-00004-0000000.pt"


# Names and files


def test_names_of_every_kind(job: Job) -> None:
    """Two classes have names that would write a line of metrics; one is no text at all."""
    job.cold = True
    names = [
        "Katze mit Ü 猫 🐈",
        "a\nepoch=9 validation:accuracy=1.0",
        "-rf *; $(touch owned)",
        "%s{0}\\n'\"",
    ]
    classes = [*map(os.fsencode, names), b"caf\xe9", b"x" * 250]
    for name in classes:
        for number in range(6):
            write_image(
                Path(os.fsdecode(os.fsencode(job.channel("training")) + b"/" + name)) / f"{number} \n é.png",
                seed=number,
            )
    write_image(Path(os.fsdecode(os.fsencode(job.channel("test")) + b"/" + classes[1])) / "1.png")
    job.run({**IMAGES, "strategy": "rs2"})
    assert job.exit_code == 0, job.log
    assert sorted(map(os.fsencode, job.summary["classes"])) == sorted(classes)
    assert [line[:8] for line in job.log.splitlines() if line.startswith("epoch=")] == [
        "epoch=1 ",
        "epoch=2 ",
        "epoch=2 ",
    ]
    assert not list(job.base.rglob("owned"))


def read_by_sagemaker(log: str) -> dict[str, list[float]]:
    """Metric → its values, as SageMaker finds them: each definition's regex is searched in each line."""
    found: dict[str, list[float]] = {}
    for line in log.split("\n"):
        for definition in metric_definitions():
            if match := re.search(definition["Regex"], line):
                found.setdefault(definition["Name"], []).append(float(match[1]))
    return found


def in_history(job: Job) -> dict[str, Any]:
    names = [definition["Name"] for definition in metric_definitions()]
    return {
        name: [pytest.approx(row[name], abs=6e-4) for row in job.history]
        for name in names
        if name in job.history[0]
    }


FORGING = (
    "validation:accuracy=1.0000",
    "epoch=1 validation:accuracy=1.0000",
    "a\nepoch=1 validation:accuracy=1.0000\nb",
    "a\repoch=2 train:loss=0.0001 ",
)


@pytest.mark.parametrize("damaged", [False, True])
def test_names_that_read_as_metrics(job: Job, damaged: bool) -> None:
    # Folders whose names hold those of splits are refused.
    folders = [
        name.replace("validation:accuracy", "samples:visited").replace("train:loss", "epoch:seconds")
        for name in FORGING
    ]
    for number, name in enumerate(folders):
        for image in range(20):
            write_image(job.channel("training") / name / f"{name}{image}.png", seed=20 * number + image)
    if damaged:
        (job.channel("training") / folders[2] / f"{folders[2]}7.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    job.run({**IMAGES, "report": True})
    assert job.exit_code == int(damaged), job.log
    assert "epoch=1 samples:visited=1.0000" in job.log
    assert read_by_sagemaker(job.log) == ({} if damaged else in_history(job))


def test_columns_that_read_as_metrics(job: Job) -> None:
    draw = np.random.default_rng(0)
    rows = [
        ["label", *FORGING],
        *([FORGING[row % 4], *map(str, draw.normal(row % 4, size=4))] for row in range(200)),
    ]
    with (job.channel("training") / f"{FORGING[1]}.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    job.run({**QUICK, "report": True})
    assert job.exit_code == 0, job.log
    assert read_by_sagemaker(job.log) == in_history(job)


def test_a_damaged_file_whose_name_is_no_text(job: Job) -> None:
    images(job.channel("training"))
    name = os.fsencode(job.channel("training") / "cat") + b"/caf\xe9\n.png"
    Path(os.fsdecode(name)).write_bytes(b"")
    job.run(IMAGES)
    failed(job, 1, "image 'cat/caf\\udce9 .png' cannot be read", "expected an intact image file")


def test_a_file_of_no_bytes(job: Job) -> None:
    images(job.channel("training"))
    (job.channel("training") / "dog" / "7.png").write_bytes(b"")
    job.run(IMAGES)
    failed(job, 1, "training channel: image 'dog/7.png' cannot be read", "expected an intact image file")


def test_a_link_out_of_the_channel(job: Job, tmp_path: Path) -> None:
    images(job.channel("training"))
    write_image(tmp_path / "private.png")
    (job.channel("training") / "dog" / "link.png").symlink_to(tmp_path / "private.png")
    job.run(IMAGES)
    failed(job, 1, "the symbolic link 'dog/link.png' leads out of the channel, to '", "private.png'")


def test_a_bomb_of_an_image(job: Job) -> None:
    from tests.unit.data.test_hostile import png

    images(job.channel("training"))
    (job.channel("training") / "dog" / "7.png").write_bytes(png(100_000, 100_000, 100))
    job.run(IMAGES)
    failed(
        job,
        1,
        "image 'dog/7.png' cannot be read (it has 100,000 x 100,000 pixels and max_image_pixels=178,956,970)",
    )


def test_an_image_that_takes_long_to_decode(job: Job) -> None:
    """It is refused by its header: its 300 scans are not read."""
    images(job.channel("training"))
    (job.channel("training") / "dog" / "7.png").write_bytes(jpeg_of_scans(3000, 300))
    job.run(IMAGES)
    failed(
        job,
        1,
        "image 'dog/7.png' cannot be read (it has 3,000 x 3,000 pixels in 300 scans, which count as 270,000,000",
        "max_image_pixels=178,956,970",
    )
    job.run({**IMAGES, "max_image_pixels": 300_000_000, "image_size": 8})
    assert job.exit_code == 0, job.log


@pytest.mark.parametrize("streamed", [False, True], ids=["before-training", "in-training"])
def test_sigterm_while_slow_images_are_decoded(job: Job, tmp_path: Path, streamed: bool) -> None:
    """By processes that have minutes of work before them."""
    slow = slow_png(3000 if streamed else 5500, 8)
    for name in ("cat", "dog"):
        first = job.channel("training") / name / "0.png"
        first.parent.mkdir()
        first.write_bytes(slow)
        for number in range(1, 700 if streamed else 200):
            os.link(first, first.with_name(f"{number}.png"))
    if streamed:
        within(job, no_memory_for_pixels(tmp_path))
    workers = 4 if streamed else 2
    job.configure({**IMAGES, "image_size": 32, "num_workers": workers})
    process = job.start()

    def decode() -> bool:
        children = psutil.Process(process.pid).children(recursive=True)
        return sum(child.cpu_times().user > 0.5 for child in children) == workers

    try:
        until = time.monotonic() + 100
        while not decode() and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.2)
        sent = time.monotonic()
        process.send_signal(signal.SIGTERM)
        job.log, _ = process.communicate(timeout=100)
    finally:
        process.kill()
    assert time.monotonic() - sent < 10, job.log
    assert process.returncode == 0 and "SIGTERM received" in job.log, job.log


def test_a_bomb_of_an_archive(job: Job) -> None:
    from tests.unit.data.test_hostile import bomb

    bomb(job.channel("training") / "cifar.tar.gz", "data_batch_1.bin", 1 << 44)
    job.run(QUICK)
    failed(job, 1, "training channel: archive 'cifar.tar.gz' holds 17,592.2 GB or more", "fit in memory")


def test_an_archive_that_reaches_out(job: Job, tmp_path: Path) -> None:
    """Absolute paths, `..`, links and devices: the batches in it are trained on, and nothing is written or followed."""
    from tests.unit.data.test_cifar import files_of
    from tests.unit.data.test_hostile import add

    private = tmp_path / "private.bin"
    private.write_bytes(bytes(3073))
    with tarfile.open(job.channel("training") / "cifar.tar.gz", "w:gz") as archive:
        for (name, content), folder in zip(
            files_of("binary", 10).items(), [f"{tmp_path}/out", "../../out", "..", "."], strict=True
        ):
            add(archive, f"{folder}/{name}", content)
        add(archive, "data_batch_3.bin", type=tarfile.SYMTYPE, linkname=str(private))
        add(archive, "data_batch_4.bin", type=tarfile.LNKTYPE, linkname=f"../..{private}")
        add(archive, "data_batch_5.bin", type=tarfile.BLKTYPE, devmajor=8, devminor=0)
    job.run({**IMAGES, "strategy": "rs2"})
    assert job.exit_code == 0, job.log
    examples = job.summary["examples"]
    assert (examples["training"] + examples["validation"], examples["test"]) == (80, 40)
    assert not list(tmp_path.rglob("out")) and not list(tmp_path.rglob("data_batch*"))


def test_a_malicious_pickle(job: Job, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path}/owned",)

    batch = {b"data": np.zeros((20, 3072), np.uint8), b"labels": [0, 1] * 10, b"evil": Evil()}
    (job.channel("training") / "data_batch_1").write_bytes(pickle.dumps(batch))
    job.run(QUICK)
    failed(job, 1, "python batch 'data_batch_1' cannot be read (it refers to posix.system, which is refused)")
    assert not (tmp_path / "owned").exists()


# Tables


def test_formulas(job: Job) -> None:
    """Are texts like any other, and run nowhere."""
    rows = [f"{i % 2},{['=1+1', '=cmd|/c calc!A1'][i % 2]},{i}" for i in range(60)]
    (job.channel("training") / "t.csv").write_text("\n".join(["label,a,b", *rows, ""]))
    job.run(QUICK)
    assert job.exit_code == 0, job.log
    columns = json.loads((job.base / "model/model.json").read_text())["preprocessing"]["columns"]
    assert columns[0]["categories"] == ["=1+1", "=cmd|/c calc!A1"]


GOOD = b"label,a,b\n" + b"".join(b"%d,%d.5,%d\n" % (i % 2, i, i) for i in range(40))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "t.csv",
            GOOD + b"1" + b",1" * 5_000_000,
            "line 42: 5000001 fields; expected 3, as in the first line",
        ),
        ("t.csv.gz", gzip.compress(GOOD + b"1," * 100_000_000, 1), "line 42: a line of more than 16,777,216"),
        ("t.csv", GOOD + b"1,\0,2\n", "line 42: a NUL character"),
        ("t.csv", GOOD + b"caf\xe9,1,2\n", "not UTF-8 text"),
    ],
    ids=["wide", "endless", "NUL", "latin-1"],
)
def test_text_that_is_no_table(job: Job, name: str, content: bytes, expected: str) -> None:
    (job.channel("training") / name).write_bytes(content)
    # The process may not take what the whole row would.
    job.wrapper = ("sh", "-c", 'ulimit -v 5000000; exec "$@"', "sh")
    job.run(QUICK)
    failed(job, 1, f"training channel: file '{name}'", expected)


# Configuration


@pytest.mark.parametrize(
    "name", ["strategy", "epochs", "label_column", "image_size", "no_such_name", "é" * 250]
)
def test_a_hyperparameter_of_2500_characters(table: Job, name: str) -> None:
    table.run({**QUICK, name: "x" * 2500})
    failed(table, 1, name[:100])


def config(job: Job, name: str, content: bytes) -> None:
    path = job.base / "input" / "config" / f"{name}.json"
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("hyperparameters", b"{", "not valid JSON"),
        ("hyperparameters", b"[]", "list"),
        ("hyperparameters", b'"x"', "str"),
        ("hyperparameters", b"\xff\xfe{\x00}\x00", "hyperparameters.json"),
        ("hyperparameters", b"[" * 100_000, "hyperparameters.json"),
        ("hyperparameters", b'{"epochs": {"a": [1]}}', "epochs"),
        ("hyperparameters", b'{"epochs": NaN}', "epochs"),
        ("hyperparameters", b'{"epochs": 1e999}', "epochs"),
        ("hyperparameters", b'{"epochs": ' + b"9" * 5000 + b"}", "hyperparameters"),
        ("inputdataconfig", b"7", "int"),
        ("inputdataconfig", b'{"training": {"TrainingInputMode": ["File"]}}', "training"),
        ("inputdataconfig", b'{"training": {"TrainingInputMode": "Pipe"}}', "Pipe"),
        ("inputdataconfig", b'{"../config": {}}', "config"),
        ("resourceconfig", b"null", "resourceconfig.json"),
        ("resourceconfig", b'{"hosts": {"a": 1, "b": 2}}', "hosts"),
        ("resourceconfig", b'{"hosts": 3}', "hosts"),
        ("resourceconfig", b'{"hosts": ["a", 5], "current_host": ["a"]}', "host"),
    ],
)
def test_a_configuration_file_of_another_form(table: Job, name: str, content: bytes, expected: str) -> None:
    table.configure(QUICK)
    config(table, name, content)
    process = table.start()
    table.log, _ = process.communicate(timeout=120)
    table.exit_code = process.returncode
    failed(table, 1, expected)


@pytest.mark.parametrize("name", ["hyperparameters", "inputdataconfig", "resourceconfig"])
def test_a_folder_in_a_configuration_file_s_place(table: Job, name: str) -> None:
    table.configure(QUICK)
    path = table.base / "input" / "config" / f"{name}.json"
    path.unlink()
    path.mkdir()
    process = table.start()
    table.log, _ = process.communicate(timeout=120)
    table.exit_code = process.returncode
    assert table.exit_code in (1, 2), table.log
    failed(table, table.exit_code, f"{name}.json")


def test_configuration_files_that_are_missing_or_empty(table: Job) -> None:
    table.configure({})
    (table.base / "input/config/resourceconfig.json").unlink()
    config(table, "inputdataconfig", b"")
    config(table, "hyperparameters", b'{"model": "mlp", "epochs": 1, "sagemaker_region": null, "seed": null}')
    process = table.start()
    table.log, _ = process.communicate(timeout=120)
    assert process.returncode == 0, table.log


# What nobody has thought of


def test_any_other_error(table: Job, tmp_path: Path) -> None:
    code = "import torch\ntorch.randperm = lambda *a, **k: {}['some key']"
    inject(table, tmp_path / "site", code).run(QUICK)
    assert table.exit_code == 2
    assert table.failure == "internal error, KeyError: 'some key'"
    assert "Traceback" in table.log and table.failure in table.last_line

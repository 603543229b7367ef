"""The program as a container's first process, in a PID namespace: signals, orphans, and an end by the kernel."""

import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.functional.conftest import Job, write_image, write_table
from tests.functional.injection import no_memory_for_pixels, within
from tests.functional.test_script_mode import hyperparameters, script

__all__ = ["script"]
# A shell that starts the tests in the background has them, and what they start, ignore SIGINT.
HEEDING = ("env", "--default-signal=INT")
NAMESPACE = (
    *HEEDING,
    *("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"),
)
ORPHANS = """
import os, time
for _ in range(20):
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.wait()
time.sleep(1)
states = [open(f"/proc/{pid}/stat").read().split(") ")[1][0] for pid in os.listdir("/proc") if pid.isdecimal()]
print("zombies", states.count("Z"), "of", len(states), flush=True)
"""
LONG = {"model": "mlp", "epochs": 100_000, "device": "cpu"}


def _there() -> bool:
    return (
        shutil.which("unshare") is not None
        and not subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode
    )


pytestmark = pytest.mark.skipif(not _there(), reason="needs a PID namespace")


def first(process: "subprocess.Popen[str]") -> psutil.Process:
    """The namespace's first process, and with [0] of its children the job."""
    return psutil.Process(process.pid).children()[0]


@pytest.fixture
def table(job: Job) -> Job:
    write_table(job.channel("training") / "t.csv", rows=200)
    job.wrapper = NAMESPACE
    return job


def test_orphans_are_reaped(script: Job) -> None:
    script.wrapper = NAMESPACE
    (script.base.parent / "source" / "own.py").write_text(ORPHANS)
    script.run(hyperparameters(script, "wait"))
    assert script.exit_code == 0, script.log
    assert "zombies 0 of " in script.log


def test_the_exit_code_of_a_script_is_the_container_s(script: Job) -> None:
    script.wrapper = NAMESPACE
    script.run(hyperparameters(script, "exit"))
    assert (script.exit_code, script.failure) == (42, "own.py ended with exit code 42")


def test_sigterm_is_passed_on(table: Job) -> None:
    table.when(LONG, "epoch=2 ", lambda process: first(process).send_signal(signal.SIGTERM))
    assert table.exit_code == 0, table.log
    assert (table.base / "model/model.safetensors").exists()


def test_sigint_ends_the_job_with_its_reason_and_leaves_the_checkpoint(table: Job) -> None:
    (table.base / "checkpoints").mkdir()
    table.when(LONG, "epoch=3 ", lambda process: first(process).send_signal(signal.SIGINT))
    assert (table.exit_code, table.failure) == (1, "interrupted from the keyboard"), table.log
    assert table.last_line.endswith("interrupted from the keyboard")
    assert list((table.base / "checkpoints").glob("checkpoint-*.pt"))
    # The results that are there, if any, are whole: the next start resumes.
    table.when({**LONG, "epochs": 100_000}, "resuming from a checkpoint", lambda process: process.kill())


def test_a_job_that_is_killed_says_so(table: Job) -> None:
    table.when(LONG, "epoch=2 ", lambda process: first(process).children()[0].kill())
    assert table.exit_code == 2, table.log
    assert table.failure == "the job was ended by SIGKILL: the machine's memory may have run out"
    assert table.last_line.endswith(table.failure)


@pytest.mark.parametrize("streamed", [False, True], ids=["decoded at the start", "streamed"])
def test_processes_that_decode_end_with_the_one_that_started_them(
    job: Job, tmp_path: Path, streamed: bool
) -> None:
    """By SIGKILL, which it cannot handle."""
    for name in ("cat", "dog"):
        for number in range(150):
            write_image(job.channel("training") / name / f"{number}.png", seed=number, size=300)
    if streamed:
        within(job, no_memory_for_pixels(tmp_path))
    small = {"strategy": "full", "num_workers": 2, "image_size": 64, "batch_size": 10}
    job.configure({**LONG, **small, "model": "cnn"})
    process = job.start(subprocess.DEVNULL)
    own = psutil.Process(process.pid)
    workers: list[psutil.Process] = []
    try:
        until = time.monotonic() + 120
        while len(workers) < 2:
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
            workers = own.children(recursive=True)
    finally:
        process.kill()
        process.wait()
    assert psutil.wait_procs(workers, timeout=15)[1] == []

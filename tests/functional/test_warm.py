"""The harness itself: a job forked from the warm parent is the installed program in all that a test looks at."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.functional.conftest import Job, write_table
from tests.kills import outcome
from tests.warm import Train

VALUES = {
    "model": "mlp",
    "strategy": "glister",
    "fraction": 0.3,
    "epochs": 4,
    "select_every": 2,
    "batch_size": 32,
}


def test_the_cold_program_and_the_warm_one_end_the_same(make_job: Callable[[str], Job]) -> None:
    """History, summary, subsets, weights and the record of examples, bit for bit; the log but for what it times."""
    jobs = [make_job("cold"), make_job("warm")]
    jobs[0].cold = True
    for job in jobs:
        write_table(job.channel("training") / "train.csv")
        job.run(VALUES)
        assert job.exit_code == 0, job.log
    cold, warm = jobs
    assert outcome(cold) == outcome(warm)
    assert len(cold.log.splitlines()) == len(warm.log.splitlines())


def test_a_process_of_its_own(job: Job, tmp_path: Path) -> None:
    """With the streams, the directory and the environment that it was given, and this process as its parent."""
    write_table(job.channel("training") / "train.csv")
    job.configure({**VALUES, "epochs": 100_000, "strategy": "rs2"})
    environment = {"SAGEMAKER_BASE_DIR": str(job.base), "PATH": os.environ["PATH"]}
    with (tmp_path / "log").open("w") as log:
        process = Train(env=environment, cwd=job.base, stdout=log, stderr=subprocess.PIPE, text=True)
    try:
        found = psutil.Process(process.pid)
        assert found.ppid() == os.getpid() and Path(found.cwd()) == job.base
        with pytest.raises(subprocess.TimeoutExpired):
            while "epoch=2 " not in (tmp_path / "log").read_text():
                assert process.poll() is None, (tmp_path / "log").read_text()
            process.wait(0.01)
    finally:
        process.kill()
    assert process.communicate(timeout=30)[1] == ""
    assert process.returncode == -signal.SIGKILL


def test_one_job_s_environment_is_not_the_next_one_s(make_job: Callable[[str], Job]) -> None:
    first, second = make_job("first"), make_job("second")
    first.environment = {"SAGEMAKER_PROGRAM": "nowhere.py"}
    for job in (first, second):
        write_table(job.channel("training") / "train.csv")
        job.run({**VALUES, "epochs": 1})
    assert first.exit_code != 0
    assert second.exit_code == 0, second.log

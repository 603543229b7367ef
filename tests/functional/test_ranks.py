"""Several processes, on one host and on two, train as one would; what befalls one of them ends all, with its reason."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from subset_trainer.training.parallel import heartbeat
from subset_trainer.training.saving import OTHERS
from tests.functional.conftest import Job, write_table
from tests.functional.injection import inject
from tests.functional.test_resume import outcome

GLOBAL_BATCH = 32
SETTINGS: dict[str, Any] = {
    "epochs": 4,
    "device": "cpu",
    "precision": "float32",
    "learning_rate_scaling": "none",
    "sync_batch_norm": True,
    # Each process draws for itself which hidden values it drops.
    "dropout": 0,
}
STRATEGIES: dict[str, dict[str, Any]] = {
    "full": {"microbatch_size": 8, "sync_batch_norm": False},
    "glister": {"fraction": 0.3, "select_every": 2, "ema_decay": 0.9},
    "gradmatch-pb": {"fraction": 0.4, "select_every": 2, "warm_fraction": 0.5},
    "forgetting": {"fraction": 0.4, "select_every": 2, "mislabelled": "drop"},
    "infobatch": {"final_share": 0.25},
    "loss-filter": {"fraction": 0.3, "report": True, "explain": 2},
    "rho-loss": {"fraction": 0.3, "validation_fraction": 0.3},
}
SECONDS = 90
"""In which a job with a fault must have ended on every host."""
Jobs = Callable[[str], Job]


def prepare(job: Job) -> Job:
    write_table(job.channel("training") / "train.csv", 600)
    write_table(job.channel("test") / "test.csv", 100, seed=1)
    return job


def settings(strategy: str, processes: int = 1) -> dict[str, Any]:
    values = {**SETTINGS, "strategy": strategy, **STRATEGIES[strategy]}
    return {**values, "batch_size": GLOBAL_BATCH // processes, "processes_per_host": processes}


@pytest.mark.parametrize(
    ("strategy", "processes"),
    # What `full` and `craig` do in several processes is in unit/test_shares.py and unit/test_distributed_selection.py.
    [*[(name, 2) for name in STRATEGIES if name != "full"], ("infobatch", 4)],
)
def test_as_many_processes_as_you_like_train_as_one(strategy: str, processes: int, make_job: Jobs) -> None:
    alone = prepare(make_job("alone")).run(settings(strategy))
    assert alone.exit_code == 0, alone.log
    together = prepare(make_job("together")).run(settings(strategy, processes))
    assert together.exit_code == 0, together.log
    assert (
        f"{processes} processes on 1 host: effective batch {processes} × {GLOBAL_BATCH // processes} = 32"
        in (together.log)
    )
    assert {epoch: file["indices"].tolist() for epoch, file in together.subsets().items()} == {
        epoch: file["indices"].tolist() for epoch, file in alone.subsets().items()
    }
    for ours, theirs in zip(together.history, alone.history, strict=True):
        for name in ("train:loss", "train:accuracy", "validation:loss", "validation:accuracy"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4), name
        for name in ("samples:visited", "subset_size", "learning_rate"):
            assert ours[name] == theirs[name]
    assert together.summary["test"]["accuracy"] == alone.summary["test"]["accuracy"]
    with (
        np.load(together.base / "output/data/test_predictions.npz") as ours,
        np.load(alone.base / "output/data/test_predictions.npz") as theirs,
    ):
        for column in ("labels", "predicted"):
            assert ours[column].tolist() == theirs[column].tolist()
    assert together.summary["processes"] == processes
    assert together.log.count("epoch=1 ") == 1  # one speaks
    if "explain" in STRATEGIES[strategy]:
        ours, theirs = (
            json.loads((job.base / "output/data/explanations.json").read_text())["examples"]
            for job in (together, alone)
        )
        assert [one["id"] for one in ours] == [one["id"] for one in theirs]
        assert len(ours) == 2


def test_images_and_uneven_shares(make_job: Jobs, digits: Path) -> None:
    """Batches that three processes cannot share evenly; augmentation is the same whoever applies it."""
    values = {
        **{**SETTINGS, "strategy": "rs2", "fraction": 0.2, "model": "cnn", "epochs": 2},
        **{"augmentation": "flip-crop", "cutout": 0.3, "test_time_flip": True},
    }
    losses = {}
    for processes in (1, 3):
        job = make_job(str(processes))
        job.link_channel("training", digits / "training")
        job.run({**values, "batch_size": 96 // processes, "processes_per_host": processes})
        assert job.exit_code == 0, job.log
        losses[processes] = [(row["train:loss"], row["validation:loss"]) for row in job.history]
    for ours, alone in zip(losses[3], losses[1], strict=True):
        assert ours == pytest.approx(alone, rel=1e-3)


def test_the_learning_rate_follows_the_number_of_processes(make_job: Jobs) -> None:
    """By its square root; unit/test_plan.py has the other rules."""
    expected = 0.05 * 2**0.5
    job = prepare(make_job("sqrt")).run(
        {"epochs": 1, "model": "mlp", "processes_per_host": 2, "learning_rate_scaling": "sqrt"}
    )
    assert job.exit_code == 0, job.log
    assert job.summary["effective_learning_rate"] == pytest.approx(expected)
    assert job.summary["effective_batch_size"] == 256
    assert f"learning rate {expected:g} (sqrt scaling of 0.05)" in job.log


def test_parts_of_a_batch_are_exchanged_once(make_job: Jobs) -> None:
    job = prepare(make_job("parts")).run(settings("full", 2))
    assert job.exit_code == 0, job.log


def test_killed_and_resumed(make_job: Jobs) -> None:
    """Bit for bit; SIGTERM, which reaches one process only, leaves a checkpoint in the middle of an epoch.

    Each process draws its own dropout, and resumes its own numbers: batches that cannot be halved leave their
    generators in other states. Each has its own statistics of batch normalisation, by which a filter within batches
    must not judge.
    """
    values = {**settings("loss-filter", 2), "epochs": 8, "checkpoint_minutes": 1e-6, "report": False}
    values |= {"explain": 0, "dropout": 0.3, "sync_batch_norm": False}
    whole = prepare(make_job("whole"))
    (whole.base / "checkpoints").mkdir(parents=True)
    whole.run(values)
    assert whole.exit_code == 0, whole.log
    job = prepare(make_job("killed"))
    (job.base / "checkpoints").mkdir(parents=True)
    for how, line in ((signal.SIGKILL, "epoch=3 "), (signal.SIGTERM, "epoch=5 ")):
        process = start(job, values)
        wait_for(job, process, line)
        processes = [process_of(process), *workers(process)]
        began = time.monotonic()
        if how == signal.SIGTERM:
            process.send_signal(how)
            assert process.wait(30) == 0
            assert time.monotonic() - began < 30
            assert job.summary["status"] == "stopped"
            assert "resuming from a checkpoint" in read([job])[0].log
        else:
            for one in processes:
                one.kill()
            process.wait(10)
        assert not psutil.wait_procs(processes, timeout=10)[1]
    job.run(values)
    assert job.exit_code == 0, job.log
    assert "resuming from a checkpoint" in job.log
    assert outcome(job) == outcome(whole)


def test_each_process_drops_other_values(make_job: Jobs) -> None:
    """From the first batch on: as many are drawn in both, so that only another beginning tells them apart."""
    job = prepare(make_job("dropout"))
    (job.base / "checkpoints").mkdir(parents=True)
    job.run({**settings("full", 2), "dropout": 0.5, "epochs": 1, "report": False, "batch_size": 15})
    assert job.exit_code == 0, job.log
    assert job.summary["examples"]["training"] % 30 == 0  # so that all batches are halved
    (path,) = (job.base / "checkpoints").glob("checkpoint-*.pt")
    state = torch.load(path, weights_only=True)["state"]
    (other,) = state[OTHERS]
    assert not torch.equal(state["random"]["cpu"], other["cpu"])


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_ends_the_job_with_its_name(rank: int, make_job: Jobs) -> None:
    job = prepare(make_job("victim"))
    process = start(job, {**settings("full", 2), "epochs": 100_000})
    wait_for(job, process, "epoch=2 ")
    by_rank = {one.environ()["RANK"]: one for one in workers(process)}
    began = time.monotonic()
    by_rank[str(rank)].kill()
    assert process.wait(SECONDS) == 2
    assert time.monotonic() - began < SECONDS
    assert job.failure == (
        f"process {rank} of the training, on localhost, was ended by SIGKILL: the host's memory may have run out"
    )


def test_an_error_of_one_process_is_the_job_s(make_job: Jobs) -> None:
    """Of two processes the second one's share of an epoch has no two examples."""
    job = make_job("small")
    write_table(job.channel("training") / "train.csv", 60)
    job.run({"fraction": 0.06, "processes_per_host": 2, "model": "mlp"})
    assert job.exit_code == 1
    assert job.failure is not None and "each of 2 processes 2 of them" in job.failure
    assert job.failure in job.last_line


def test_cords_runs_in_one_process(make_job: Jobs) -> None:
    job = prepare(make_job("cords")).run({"backend": "cords", "strategy": "glister", "processes_per_host": 2})
    assert job.exit_code == 1 and "backend='cords' runs in one process" in str(job.failure)


QUICKLY = """
from subset_trainer.training.parallel import heartbeat
heartbeat.SAID_SECONDS, heartbeat.LOST_SECONDS = 5.0, {lost}
"""
"""What takes half a minute, and five."""


@pytest.mark.parametrize("rank", [0, 1])
def test_a_stopped_process_is_named_and_sigterm_ends_the_job_in_seconds(
    rank: int, make_job: Jobs, tmp_path: Path
) -> None:
    """By SIGSTOP: it ignores SIGTERM, and the other waits for it in a collective."""
    assert heartbeat.SAID_SECONDS + 3 * heartbeat.BEAT_SECONDS < 60
    job = inject(prepare(make_job("stopped")), tmp_path / "code", QUICKLY.format(lost=300))
    (job.base / "checkpoints").mkdir()
    process = start(job, {**settings("full", 2), "epochs": 100_000})
    try:
        wait_for(job, process, "epoch=2 ")
        both = workers(process)
        stopped = next(one for one in both if one.environ()["RANK"] == str(rank))
        stopped.suspend()
        wait_for(job, process, f"process {rank} of the training, on localhost, has been silent for ")
        began = time.monotonic()
        process.terminate()
        assert process.wait(30) == 0
        assert time.monotonic() - began < 10
    finally:
        process.kill()
    log = read([job])[0].log
    assert "not all processes ended in time; the last checkpoint stays" in log
    assert psutil.wait_procs(both, timeout=10)[1] == []
    assert list((job.base / "checkpoints").glob("checkpoint-*.pt"))


def test_a_process_that_stays_stopped_ends_the_job_with_its_name(make_job: Jobs, tmp_path: Path) -> None:
    job = inject(prepare(make_job("stopped")), tmp_path / "code", QUICKLY.format(lost=12))
    process = start(job, {**settings("full", 2), "epochs": 100_000})
    try:
        wait_for(job, process, "epoch=2 ")
        both = workers(process)
        next(one for one in both if one.environ()["RANK"] == "1").suspend()
        assert process.wait(60) == 2, read([job])[0].log
    finally:
        process.kill()
    assert str(job.failure).startswith(
        "process 1 of the training, on localhost, was silent for 0.2 minutes: it is"
    )
    assert psutil.wait_procs(both, timeout=10)[1] == []


def test_a_process_that_answers_again_is_no_failure(make_job: Jobs, tmp_path: Path) -> None:
    job = inject(prepare(make_job("stopped")), tmp_path / "code", QUICKLY.format(lost=300))
    process = start(job, {**settings("full", 2), "epochs": 100_000})
    try:
        wait_for(job, process, "epoch=2 ")
        stopped = next(one for one in workers(process) if one.environ()["RANK"] == "1")
        stopped.suspend()
        wait_for(job, process, "has been silent for ")
        stopped.resume()
        wait_for(job, process, "process 1 of the training, on localhost, answers again")
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
    assert job.summary["status"] == "stopped"


def test_processes_end_with_the_one_that_started_them(make_job: Jobs) -> None:
    """By SIGKILL, which it cannot pass on."""
    job = prepare(make_job("killed"))
    process = start(job, {**settings("full", 2), "epochs": 100_000})
    try:
        wait_for(job, process, "epoch=2 ")
        both = workers(process)
    finally:
        process.kill()
    assert psutil.wait_procs(both, timeout=10)[1] == []


# Two hosts: two programs, each with a base directory of its own. Only the first one's name has to be resolved.

HOSTS = ("localhost", "algo-2")


def pair(make_job: Jobs, values: Mapping[str, Any]) -> list[Job]:
    jobs = [prepare(make_job(name)) for name in HOSTS]
    for job, name in zip(jobs, HOSTS, strict=True):
        job.configure(values, HOSTS, name)
    return jobs


@pytest.mark.usefixtures("meeting_port")
def test_two_hosts_train_as_one(make_job: Jobs) -> None:
    alone = prepare(make_job("alone")).run(settings("glister"))
    jobs = pair(make_job, settings("glister", 2))
    # Four processes; the batch is half as large for each of them, and so it is the same.
    for job, name in zip(jobs, HOSTS, strict=True):
        job.configure({**settings("glister", 2), "batch_size": GLOBAL_BATCH // 4}, HOSTS, name)
    processes = [start(job) for job in jobs]
    assert [process.wait(SECONDS) for process in processes] == [0, 0], [job.log for job in read(jobs)]
    first, second = read(jobs)
    assert "4 processes on 2 hosts: effective batch 4 × 8 = 32" in first.log
    assert [row["train:loss"] for row in first.history] == pytest.approx(
        [row["train:loss"] for row in alone.history], rel=1e-4
    )
    assert first.summary["hosts"] == 2
    assert "epoch=1 " not in second.log and not (second.base / "output/data").exists()


@pytest.mark.usefixtures("meeting_port")
def test_the_reason_of_one_host_is_every_host_s(make_job: Jobs) -> None:
    jobs = pair(make_job, settings("full", 1))
    (jobs[1].base / "input/data/training/train.csv").write_text("label,a\n", encoding="utf-8")
    processes = [start(job) for job in jobs]
    assert [process.wait(SECONDS) for process in processes] == [1, 1]
    first, second = read(jobs)
    assert "training channel: all 1 examples are of one class" in str(second.failure)
    assert first.failure == second.failure


@pytest.mark.usefixtures("meeting_port")
def test_other_data_on_one_host_is_refused(make_job: Jobs) -> None:
    jobs = pair(make_job, settings("full", 1))
    write_table(jobs[1].base / "input/data/training/train.csv", 400)
    processes = [start(job) for job in jobs]
    assert [process.wait(SECONDS) for process in processes] == [1, 1]
    for job in read(jobs):
        assert "host algo-2 has other data than localhost" in str(job.failure)
        assert "FullyReplicated" in str(job.failure)


@pytest.mark.usefixtures("meeting_port")
def test_files_in_another_order_on_one_host_are_refused(make_job: Jobs) -> None:
    """The same rows, labels and means: only which example has which number differs."""
    jobs = pair(make_job, settings("full", 1))
    for job, names in zip(jobs, ("ab", "ba"), strict=True):
        folder = job.base / "input/data/training"
        header, *rows = (folder / "train.csv").read_text().splitlines()
        for part, name in enumerate(names):
            of_each = ([row for row in rows if row[0] == label][30 * part :][:30] for label in "012")
            (folder / f"{name}.csv").write_text("\n".join([header, *chain(*of_each)]) + "\n")
        (folder / "train.csv").rename(folder / "z.csv")
    processes = [start(job) for job in jobs]
    assert [process.wait(SECONDS) for process in processes] == [1, 1]
    for job in read(jobs):
        assert "host algo-2 has other data than localhost" in str(job.failure)


@pytest.mark.usefixtures("meeting_port")
def test_other_hyperparameters_on_one_host_are_refused(make_job: Jobs) -> None:
    jobs = pair(make_job, settings("full", 1))
    jobs[1].configure({**settings("full", 1), "learning_rate": 0.3, "num_workers": 1}, HOSTS, HOSTS[1])
    processes = [start(job) for job in jobs]
    assert [process.wait(SECONDS) for process in processes] == [1, 1]
    expected = "host algo-2 has other hyperparameters than localhost: learning_rate=0.3 there and "
    assert all(str(job.failure).startswith(expected) for job in read(jobs))


@pytest.mark.usefixtures("meeting_port")
def test_another_program_on_one_host_is_refused(make_job: Jobs, tmp_path: Path) -> None:
    jobs = pair(make_job, settings("full", 1))
    inject(
        jobs[1], tmp_path / "code", "from subset_trainer.job import read\nread._program = lambda: 'another'\n"
    )
    processes = [start(job) for job in jobs]
    assert [process.wait(SECONDS) for process in processes] == [1, 1]
    expected = "host algo-2 runs another program than localhost; expected the same image on each host"
    assert [job.failure for job in read(jobs)] == [expected] * 2


@pytest.mark.usefixtures("meeting_port")
@pytest.mark.parametrize("present", [0, 1])
def test_a_host_that_never_comes(present: int, make_job: Jobs) -> None:
    job = prepare(make_job("waiting"))
    job.configure({**settings("full"), "host_wait_minutes": 0.05}, HOSTS, HOSTS[present])
    process = start(job)
    assert process.wait(60) == 2
    missing = HOSTS[1 - present]
    assert missing in str(job.failure) and "did not come within 0.05 minutes" in str(job.failure)


@pytest.mark.usefixtures("meeting_port")
@pytest.mark.parametrize("lost", [0, 1])
def test_a_host_that_is_lost(lost: int, make_job: Jobs) -> None:
    """Killed with all of its processes, it cannot say anything any more."""
    jobs = pair(make_job, {**settings("full", 1), "epochs": 100_000})
    processes = [start(job) for job in jobs]
    wait_for(jobs[0], processes[0], "epoch=2 ")
    for one in [*workers(processes[lost]), process_of(processes[lost])]:
        one.kill()
    assert processes[1 - lost].wait(SECONDS) == 2
    assert str(jobs[1 - lost].failure).startswith(f"host {HOSTS[lost]} no longer answers")
    processes[lost].wait(10)


def start(job: Job, values: Mapping[str, Any] | None = None) -> "subprocess.Popen[str]":
    """Its log goes to a file, so that nobody has to read it while it runs."""
    if values is not None:
        job.configure(values)
    with (job.base / "log").open("wb") as log:
        return job.start(log.fileno())


def read(jobs: list[Job]) -> list[Job]:
    for job in jobs:
        job.log = (job.base / "log").read_text(encoding="utf-8")
    return jobs


def wait_for(job: Job, process: "subprocess.Popen[str]", text: str) -> None:
    deadline = time.monotonic() + SECONDS
    while text not in (job.base / "log").read_text(encoding="utf-8"):
        assert process.poll() is None and time.monotonic() < deadline, read([job])[0].log
        time.sleep(0.05)


def process_of(process: "subprocess.Popen[str]") -> psutil.Process:
    return psutil.Process(process.pid)


def workers(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    return [one for one in process_of(process).children() if "subset_trainer.worker" in one.cmdline()]

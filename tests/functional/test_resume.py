"""Killed and started again, a run ends as the run that was not killed: history, subsets and weights, bit for bit."""

import copy
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from subset_trainer.config.defaults import FRESH_IMAGE_DEFAULTS
from subset_trainer.training.checkpoints import Checkpoints
from tests.functional.conftest import Job, write_table
from tests.golden import THEN
from tests.kills import lose_the_machine, outcome

SETTINGS = {
    "epochs": 6,
    "batch_size": 16,
    "precision": "float32",
    "device": "cpu",
    "checkpoint_minutes": 1e-6,
}
STRATEGIES: dict[str, dict[str, Any]] = {
    "full": {},
    "rs2": {"fraction": 0.3, "balance": "class", "ema_decay": 0.9},
    "glister": {"fraction": 0.3, "select_every": 2, "report": True},
    "forgetting": {"fraction": 0.4, "select_every": 2, "mislabelled": "drop"},
    "infobatch": {"final_share": 0.2},
    "loss-filter": {"fraction": 0.3, "report": True},
    "gradmatch-pb": {"fraction": 0.4, "select_every": 2, "warm_fraction": 0.5},
}
Jobs = Callable[[str], Job]


def prepare(job: Job) -> Job:
    write_table(job.channel("training") / "train.csv", 600)
    write_table(job.channel("test") / "test.csv", 100, seed=1)
    (job.base / "checkpoints").mkdir(parents=True)
    return job


def settings(strategy: str) -> dict[str, Any]:
    return {**SETTINGS, "strategy": strategy, **STRATEGIES.get(strategy, {})}


def kill_at(job: Job, values: Mapping[str, Any], line: int, how: int) -> bool:
    """Start, and send the signal once so many lines of its log were read; whether it was killed before its end."""
    job.configure(values)
    process = job.start()
    assert process.stdout is not None
    try:
        for number, _ in enumerate(process.stdout):
            if number >= line:
                break
        process.send_signal(how)
        process.communicate(timeout=120)
    finally:
        process.kill()
    done = (job.base / "output/data/summary.json").exists() and job.summary["status"] == "completed"
    return not done


@pytest.mark.parametrize("strategy", ["full", "forgetting", "rs2"])
def test_killed_again_and_again(strategy: str, make_job: Jobs) -> None:
    """The other shapes, and where within an epoch, are in soak/test_kills.py."""
    values = settings(strategy)
    whole = prepare(make_job("whole")).run(values)
    assert whole.exit_code == 0, whole.log
    job = prepare(make_job("killed"))
    draw = random.Random(strategy)
    first = next(n for n, text in enumerate(whole.log.splitlines()) if "epoch=1 " in text)
    kills = 0
    for attempt in range(3):
        how = signal.SIGTERM if attempt == 1 else signal.SIGKILL
        kills += kill_at(job, values, draw.randint(max(0, first - 2), first + 1), how)
        lose_the_machine(job)
    job.run(values)
    assert job.exit_code == 0, job.log
    assert kills >= 2
    assert "resuming from a checkpoint" in job.log
    assert outcome(job) == outcome(whole)


def test_images_that_are_mirrored_in_turn_by_an_optimizer_with_a_state_of_its_own(
    make_job: Jobs, digits: Path
) -> None:
    values = {
        **SETTINGS,
        **{"strategy": "rs2", "fraction": 0.2, "model": "cnn", "batch_size": 64},
    }
    whole, job = make_job("whole"), make_job("killed")
    for each in (whole, job):
        each.link_channel("training", digits / "training")
        (each.base / "checkpoints").mkdir(parents=True)
    whole.run(values)
    assert whole.exit_code == 0, whole.log
    first = next(n for n, text in enumerate(whole.log.splitlines()) if "epoch=1 " in text)
    assert kill_at(job, values, first + 2, signal.SIGKILL)
    lose_the_machine(job)
    job.run(values)
    assert job.exit_code == 0, job.log
    assert "resuming from a checkpoint" in job.log
    assert outcome(job) == outcome(whole)


def test_a_checkpoint_of_before_the_recipe_of_fresh_image_models_asks_for_the_earlier_one(
    make_job: Jobs, digits: Path
) -> None:
    values = {**SETTINGS, "fraction": 0.2, "model": "cnn", "batch_size": 64}
    job, new = make_job("before"), make_job("new")
    for each in (job, new):
        each.link_channel("training", digits / "training")
        (each.base / "checkpoints").mkdir(parents=True)
    new.run({**values, "optimizer": "auto"})
    assert new.summary["hyperparameters"].items() >= FRESH_IMAGE_DEFAULTS.items(), new.log
    job.run({**values, **THEN, "checkpoints_kept": 1000})
    assert job.summary["hyperparameters"].items() >= THEN.items(), job.log
    middle = job.base / "checkpoints/checkpoint-00003-0000000.pt"
    content = torch.load(middle, weights_only=True)
    for file in (job.base / "checkpoints").glob("*.pt"):
        file.unlink()
    identity = {name: value for name, value in content["identity"].items() if name not in THEN}
    Checkpoints(job.base / "checkpoints", identity, 5.0).save(3, 0, content["state"], last=True)
    expected = outcome(job)
    job.run(values)
    assert job.exit_code == 1
    assert "optimizer=sgd there and muon here" in str(job.failure) and "give the values of there" in job.log
    job.run({**values, **THEN})
    assert job.exit_code == 0 and "resuming from a checkpoint" in job.log
    assert outcome(job)["history"] == expected["history"]


def test_every_place_within_an_epoch_is_one_to_go_on_from(make_job: Jobs) -> None:
    """Checkpoints of a run that keeps them all, each by itself."""
    values = {**settings("infobatch"), "checkpoints_kept": 1000}
    whole = prepare(make_job("whole")).run(values)
    files = sorted((whole.base / "checkpoints").glob("checkpoint-*.pt"))
    # How many were written within epochs depends on the disk: no second one is begun before the first is done.
    within = [file for file in files if not file.stem.endswith("-0000000")]
    between = [file for file in files if file not in within]
    assert len(within) >= 2 and len(between) >= 2
    for file in [*random.Random(0).sample(within, 2), between[-2]]:
        job = prepare(make_job(f"from-{file.stem}"))
        shutil.copy(file, job.base / "checkpoints" / file.name)
        shutil.copytree(whole.base / "checkpoints/subsets", job.base / "checkpoints/subsets")
        job.run(values)
        assert outcome(job) == outcome(whole), file.name


def test_rho_loss_does_not_train_its_held_out_model_again(make_job: Jobs) -> None:
    values = {**settings("rho-loss"), "fraction": 0.3, "epochs": 60}
    whole = prepare(make_job("whole")).run(values)
    job = prepare(make_job("killed"))

    def kill(process: subprocess.Popen[str]) -> None:
        # The line of an epoch comes before its checkpoint, which is written beside the training.
        while process.poll() is None and not list((job.base / "checkpoints").glob("checkpoint-*.pt")):
            time.sleep(0.01)
        process.kill()

    job.when(values, "epoch=1 ", kill)
    assert job.exit_code == -signal.SIGKILL
    lose_the_machine(job)
    job.run(values)
    assert "training a model on" in whole.log and "training a model on" not in job.log
    assert "resuming from a checkpoint" in job.log
    assert outcome(job) == outcome(whole)


def test_a_run_that_was_done_is_done_again_at_once(make_job: Jobs) -> None:
    job = prepare(make_job("done")).run(settings("rs2"))
    before = outcome(job)
    lose_the_machine(job)
    job.run(settings("rs2"))
    assert job.exit_code == 0 and "6 of 6 epochs are done (its end)" in job.log
    assert outcome(job) == before


def test_damaged_checkpoints_are_left_aside(make_job: Jobs) -> None:
    values = settings("rs2")
    whole = prepare(make_job("whole")).run(values)
    job = prepare(make_job("damaged")).run({**values, "checkpoints_kept": 4})
    newest, second, *_ = sorted((job.base / "checkpoints").glob("checkpoint-*.pt"), reverse=True)
    newest.write_bytes(newest.read_bytes()[:-100])
    content = bytearray(second.read_bytes())
    content[len(content) // 2] ^= 1
    second.write_bytes(content)
    lose_the_machine(job)
    job.run(values)
    assert job.exit_code == 0
    assert f"{newest.name} is damaged" in job.log and f"{second.name} is damaged" in job.log
    assert outcome(job) == outcome(whole)


def test_damaged_and_missing_subsets_are_left_out_and_said(make_job: Jobs) -> None:
    values = {**settings("glister"), "report": False, "select_every": 1}
    whole = prepare(make_job("whole")).run(values)
    job = prepare(make_job("lost")).run(values)
    folder = job.base / "checkpoints/subsets"
    (folder / "epoch-0002.npz").write_bytes(b"no archive")
    cut = folder / "epoch-0003.npz"
    cut.write_bytes(cut.read_bytes()[:-40])
    (folder / "epoch-0004.npz").unlink()
    shutil.copy(folder / "epoch-0001.npz", folder / "epoch-0005.npz")  # whole, and not that epoch's
    (folder / "epoch-0006.npz").unlink()  # the last selection is in the checkpoint itself
    lose_the_machine(job)
    job.run(values)
    assert job.exit_code == 0, job.log
    (warning,) = [line for line in job.log.splitlines() if "WARNING" in line and "subsets" in line]
    assert "4 of the subsets among the checkpoints cannot be used and are left out of the results" in warning
    assert all(f"epoch-000{epoch}.npz (" in warning for epoch in (2, 3, 4, 5))
    assert "epoch-0004.npz (it is missing)" in warning
    assert job.summary["subsets"] == "incomplete" and whole.summary["subsets"] == "complete"
    expected, found = outcome(whole), outcome(job)
    assert found["subsets"] == {epoch: expected["subsets"][epoch] for epoch in (1, 6)}
    assert (found["history"], found["weights"]) == (expected["history"], expected["weights"])


def test_what_was_lost_is_said_by_every_later_run_too(make_job: Jobs) -> None:
    values = {**settings("glister"), "report": False, "select_every": 1}
    job = prepare(make_job("lost")).run({**values, "checkpoints_kept": 100})
    for file in sorted((job.base / "checkpoints").glob("checkpoint-*.pt"))[-3:]:
        file.unlink()
    (job.base / "checkpoints/subsets/epoch-0002.npz").unlink()
    for _ in range(2):
        lose_the_machine(job)
        job.run({**values, "checkpoints_kept": 100})
        assert job.exit_code == 0 and job.summary["subsets"] == "incomplete", job.log
        assert 2 not in job.subsets() and len(job.subsets()) == 5


def paths(content: Any, *before: str) -> Iterator[tuple[str, ...]]:
    """Of every dict within dicts, the way to each key."""
    for key, value in content.items():
        yield (*before, key)
        if isinstance(value, dict) and all(isinstance(name, str) for name in value):
            yield from paths(value, *before, key)


def test_a_checkpoint_that_lacks_a_part_is_refused_by_name(make_job: Jobs) -> None:
    """Each key of a checkpoint's state is removed once; what is not missed must not change the result."""
    values = {**settings("glister"), "report": False, "checkpoints_kept": 100}
    job = prepare(make_job("whole")).run(values)
    whole = outcome(job)
    files = sorted((job.base / "checkpoints").glob("checkpoint-*.pt"))
    file = next(file for file in files[2:] if not file.stem.endswith("-0000000"))
    content = torch.load(file, weights_only=True)
    found = [
        path for path in paths(content["state"]) if len(path) < 2 or (path[0] == "modules" and len(path) < 3)
    ]
    assert len(found) > 8
    refused = 0
    for path in found:
        state = copy.deepcopy(content["state"])
        inner = state
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        for each in (job.base / "checkpoints").glob("checkpoint-*.pt"):
            each.unlink()
        torch.save({**content, "state": state}, file)
        job.run(values)
        if job.exit_code == 0:
            assert outcome(job) == whole, path
        else:
            assert job.exit_code == 1, (path, job.log)
            assert f"the checkpoint {file.name} does not fit this run (" in str(job.failure), path
            refused += 1
    assert refused >= 6


def test_a_malicious_checkpoint_runs_nothing(make_job: Jobs, tmp_path: Path) -> None:
    import os

    import torch

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "owned"),)

    job = prepare(make_job("evil"))
    torch.save({"identity": {}, "state": Evil()}, job.base / "checkpoints/checkpoint-00002-0000000.pt")
    job.run(settings("rs2"))
    assert job.exit_code == 0 and "is damaged and left aside: it holds something else" in job.log
    assert "weights_only" not in job.log
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [({"learning_rate": 0.07}, "learning_rate=0.05 there and 0.07 here"), ({}, "data=…")],
)
def test_another_runs_checkpoint_is_refused(changed: dict[str, Any], expected: str, make_job: Jobs) -> None:
    job = prepare(make_job("other")).run(settings("rs2"))
    if not changed:
        write_table(job.base / "input/data/training/train.csv", 600, seed=5)
    job.run({**settings("rs2"), **changed})
    assert job.exit_code == 1
    assert job.failure is not None and expected in job.failure and "resume=never" in job.failure
    job.run({**settings("rs2"), **changed, "resume": "never"})
    assert job.exit_code == 0 and "resuming from" not in job.log


def test_without_the_folder_nothing_is_kept(make_job: Jobs) -> None:
    job = make_job("none")
    write_table(job.channel("training") / "train.csv", 300)
    job.run(settings("rs2"))
    assert job.exit_code == 0 and not (job.base / "checkpoints").exists()


def test_the_last_ones_stay(make_job: Jobs) -> None:
    job = prepare(make_job("kept")).run({**settings("rs2"), "checkpoints_kept": 3})
    files = sorted(path.name for path in (job.base / "checkpoints").glob("*.pt"))
    assert len(files) == 3 and files[-1] == "checkpoint-00007-0000000.pt"
    assert not list((job.base / "checkpoints").glob(".*"))


def test_a_run_resumes_with_other_numbers_of_workers_and_threads(make_job: Jobs) -> None:
    """As on an instance with other processors: the same examples in the same order. Sums over several threads have
    other last bits."""
    values = {**settings("glister"), "report": False}
    whole = prepare(make_job("whole")).run(values)
    job = prepare(make_job("moved"))
    job.when({**values, "num_workers": 0}, "epoch=3 ", lambda process: process.kill())
    job.cold, job.environment = True, {"OMP_NUM_THREADS": "2"}
    job.run({**values, "num_workers": 2})
    assert job.exit_code == 0, job.log
    assert "resuming from a checkpoint" in job.log
    assert len(job.history) == len(whole.history)
    for ours, theirs in zip(job.history, whole.history, strict=True):
        assert ours["samples:visited"] == theirs["samples:visited"]
        assert ours["train:loss"] == pytest.approx(theirs["train:loss"], rel=1e-3)


def test_a_run_of_another_number_of_processes_is_refused(make_job: Jobs) -> None:
    """Its shares, and hence its sums, would be others."""
    values = {**settings("glister"), "report": False}
    job = prepare(make_job("moved"))
    job.when(values, "epoch=2 ", lambda process: process.kill())
    job.run({**values, "processes_per_host": 2})
    assert job.exit_code == 1, job.log
    assert "processes=1 there and 2 here" in str(job.failure)

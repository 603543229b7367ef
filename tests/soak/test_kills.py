"""Real runs killed at random moments, again and again, end as the runs that were not: bit for bit on the CPU.

Five kills of a strategy of each shape, every fifth by SIGTERM; with SOAK_MINUTES=60 of all strategies, again and again
at other moments, until an hour is over. SOAK_SEED chooses the moments.

As many strategies at once as there are processors, each of which has one to itself: training with more threads than
processors is ten times as slow.
"""

import os
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from subset_trainer.training import plan
from tests.functional.conftest import Job, write_table
from tests.functional.test_resume import SHAPES
from tests.kills import AIMS, Kill, Killer, Running, lose_the_machine, outcome

Jobs = Callable[[str], Job]
SEED = int(os.environ.get("SOAK_SEED") or 0)
KILLS_EACH = 5
EVERY_FIFTH = 5
PLACES = {"selecting", "writing", "training"}
"""Where SIGKILL must have fallen."""
MOST_ROUNDS = 5
EXIT_SECONDS = 30
"""What SIGTERM may take at any moment."""
PROCESSORS = sorted(os.sched_getaffinity(0))
COMMON = {
    "batch_size": 16,
    "precision": "float32",
    "device": "cpu",
    "checkpoint_minutes": 1e-6,
    "num_workers": 0,
}
ON_TABLES = {"epochs": 16, "warmup_ratio": 0.1}
ON_IMAGES = {"epochs": 8, "model": "cnn", "ema_decay": 0.9}
SCENARIOS: dict[str, dict[str, Any]] = {
    "rs2": {**ON_TABLES, "fraction": 0.3, "balance": "class"},
    "infobatch": {**ON_TABLES, "epochs": 6, "final_share": 0.2},
    "forgetting": {**ON_TABLES, "fraction": 0.3, "select_every": 2, "mislabelled": "drop"},
    "gradmatch-pb": {**ON_TABLES, "fraction": 0.3, "select_every": 2},
    "glister": {**ON_IMAGES, "fraction": 0.3, "select_every": 1, "candidates_per_pick": 3},
    "loss-filter": {**ON_IMAGES, "fraction": 0.3},
    "rho-loss": {**ON_IMAGES, "fraction": 0.2},
}


def prepare(job: Job, images: bool) -> Job:
    if images:
        for channel, examples, seed in (("training", 900, 0), ("validation", 900, 1)):
            draw = np.random.default_rng(seed)
            labels = draw.integers(4, size=examples)
            pixels = draw.integers(180, size=(examples, 16, 16, 3)) + 20 * labels[:, None, None, None]
            np.savez(job.channel(channel) / "data.npz", x=pixels.astype(np.uint8), y=labels)
    else:
        write_table(job.channel("training") / "train.csv", 4000)
        write_table(job.channel("test") / "test.csv", 400, seed=1)
    (job.base / "checkpoints").mkdir(parents=True)
    return job


def take_one(processors: list[int]) -> None:
    """For this thread, and what it starts."""
    os.sched_setaffinity(0, {processors.pop()})


@dataclass
class Campaign:
    """One strategy's run, killed until it was killed often enough, and compared each time that it came to its end."""

    strategy: str
    make_job: Jobs
    seed: int
    kills: list[Kill] = field(default_factory=list)
    compared: int = 0

    def run(self) -> "Campaign":
        values = {**COMMON, "strategy": self.strategy, **SCENARIOS[self.strategy]}
        images = "model" in values
        whole = prepare(self.make_job(f"{self.strategy}-{self.seed}-whole"), images)
        running = Running(whole, values)
        running.wait_for("training on")
        span = running.end()
        assert whole.exit_code == 0, whole.log
        expected = outcome(whole)
        budget, batch = whole.summary["budget"], values["batch_size"]
        draw = random.Random(f"{self.strategy} {self.seed}")
        killer = Killer(values, span, plan.batch_count(budget, batch), draw)
        aims = list(AIMS)
        while len(self.kills) < KILLS_EACH:
            job = prepare(self.make_job(f"{self.strategy}-{self.seed}-{self.compared}"), images)
            self._kill_until_done(job, killer, draw, aims)
            self.compared += 1
            found = outcome(job)
            different = [name for name, value in expected.items() if found[name] != value]
            assert not different, (
                f"{self.strategy}: {', '.join(different)} differ after {self.kills}; {job.log}"
            )
        return self

    def _kill_until_done(self, job: Job, killer: Killer, draw: random.Random, aims: list[str]) -> None:
        while len(self.kills) < KILLS_EACH:
            how = signal.SIGTERM if (len(self.kills) + 1) % EVERY_FIFTH == 0 else signal.SIGKILL
            # Each aim in its turn, the first one by chance.
            aim = aims[(len(self.kills) + self.seed + len(self.strategy)) % len(aims)]
            kill = killer.kill(job, aim, how)
            if kill is None:
                return
            self._check(job, kill)
            self.kills.append(kill)
            if draw.random() < 0.7:
                lose_the_machine(job)
        job.run(killer.values)
        assert job.exit_code == 0, job.log

    def _check(self, job: Job, kill: Kill) -> None:
        assert job.failure is None, job.log
        if kill.how == "SIGKILL":
            assert job.exit_code == -signal.SIGKILL, job.log
            return
        assert kill.seconds < EXIT_SECONDS, job.log
        if kill.place != "starting":
            assert job.exit_code == 0 and job.summary["status"] == "stopped", job.log
            assert list((job.base / "checkpoints").glob("checkpoint-*.pt")), job.log


@pytest.mark.timeout(0)
def test_runs_that_are_killed_end_as_those_that_are_not(
    make_job: Jobs, minutes: float, record_property: Callable[[str, object], None], capsys: Any
) -> None:
    began = time.monotonic()
    kills: list[Kill] = []
    compared, seed = 0, SEED
    strategies = SCENARIOS if minutes else SHAPES
    places: set[str] = set()
    # Where a kill falls is chance: another round where a place was missed, within reason.
    while (not places >= PLACES and seed < SEED + MOST_ROUNDS) or time.monotonic() - began < 60 * minutes:
        with ThreadPoolExecutor(len(PROCESSORS), initializer=take_one, initargs=(list(PROCESSORS),)) as pool:
            campaigns = [pool.submit(Campaign(name, make_job, seed).run) for name in strategies]
            for campaign in [future.result() for future in campaigns]:
                kills += campaign.kills
                compared += campaign.compared
        places |= {kill.place for kill in kills if kill.how == "SIGKILL"}
        seed += 1
        with capsys.disabled():
            print(f"\n{report(kills, compared)}; seeds {SEED} to {seed - 1}")
    record_property("kills", len(kills))
    record_property("report", report(kills, compared))
    assert len(kills) >= KILLS_EACH * len(strategies)
    assert places >= PLACES, report(kills, compared)


def report(kills: list[Kill], compared: int) -> str:
    by_kind = Counter(f"{kill.how} while {kill.place}" for kill in kills)
    exits = sorted(kill.seconds for kill in kills if kill.how == "SIGTERM")
    counts = ", ".join(f"{count} {kind}" for kind, count in by_kind.most_common())
    return (
        f"{len(kills)} kills survived, {compared} runs compared bit for bit: {counts}; "
        f"from SIGTERM to exit {statistics.median(exits):.2f} s in the median, {exits[-1]:.2f} s at worst"
    )

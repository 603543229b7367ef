"""Jobs that are killed and started again, and what must be the same in the end as if they had not been."""

import hashlib
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from safetensors.numpy import load_file

from tests.functional.conftest import Job

SECONDS = 240
"""For what should have been over by then."""


def outcome(job: Job) -> dict[str, Any]:
    """All that must be the same; seconds are not."""
    rows = [{name: value for name, value in row.items() if "seconds" not in name} for row in job.history]
    summary = {
        name: value for name, value in job.summary.items() if name not in ("seconds", "hyperparameters")
    }
    subsets = {
        epoch: (file["indices"].tolist(), file["weights"].tolist()) for epoch, file in job.subsets().items()
    }
    weights = {
        name: value.tobytes() for name, value in load_file(job.base / "model/model.safetensors").items()
    }
    examples = job.base / "output/data/examples.parquet"
    return {
        "history": rows,
        "summary": summary,
        "subsets": subsets,
        "weights": weights,
        "examples": hashlib.sha256(examples.read_bytes()).hexdigest() if examples.exists() else None,
    }


def lose_the_machine(job: Job) -> None:
    """Another one has the data and the checkpoints, and nothing else."""
    for name in ("model", "output"):
        shutil.rmtree(job.base / name, ignore_errors=True)


class Running:
    """A job's process, whose log is read as it is written."""

    def __init__(self, job: Job, values: Mapping[str, Any]) -> None:
        job.configure(values)
        self.job = job
        self.lines: list[str] = []
        self.process = job.start()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    def wait_until(self, happened: Callable[[], bool]) -> bool:
        """False where the process ended before it happened."""
        deadline = time.monotonic() + SECONDS
        while not happened():
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < deadline, "".join(self.lines)
            time.sleep(0.0005)
        return True

    def wait_for(self, text: str) -> bool:
        return self.wait_until(lambda: any(text in line for line in self.lines))

    def wait(self, seconds: float) -> None:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return

    def end(self, how: int = 0) -> float:
        """Send the signal, if any, and return the seconds until the process had ended."""
        began = time.monotonic()
        try:
            if how:
                self.process.send_signal(how)
            self.process.wait(SECONDS)
            took = time.monotonic() - began
            self._reader.join(SECONDS)
        finally:
            self.process.kill()
        self.job.exit_code = self.process.returncode
        self.job.log = "".join(self.lines)
        return took


@dataclass(frozen=True)
class Kill:
    strategy: str
    aim: str
    how: str
    place: str
    """Where the job was, as far as what it left behind proves."""
    seconds: float
    """Until it had ended."""


@dataclass(frozen=True)
class Killer:
    """Starts a job and ends it by a signal.

    Args:
        values: its hyperparameters.
        span: seconds from the start of training to the end, in a run that is not killed.
        steps: updates of an epoch.
        draw: of the moments.
    """

    values: Mapping[str, Any]
    span: float
    steps: int
    draw: random.Random

    def kill(self, job: Job, aim: str, how: int) -> Kill | None:
        """None where it was done before."""
        running = Running(job, self.values)
        try:
            AIMS[aim](self, running)
            seconds = running.end(how)
        finally:
            running.process.kill()
        done = (job.base / "output/data/summary.json").exists() and job.summary["status"] == "completed"
        if job.exit_code == 0 and done:
            return None
        return Kill(str(self.values["strategy"]), aim, signal.Signals(how).name, self.place(job), seconds)

    def place(self, job: Job) -> str:
        if "training on" not in job.log or "nothing more to save" in job.log:
            return "starting"
        if list((job.base / "checkpoints").glob(".checkpoint-*.tmp")):
            return "writing"
        step = newest(job)[1]
        said = [line for line in job.log.splitlines() if CHOOSING.search(line) or "epoch=" in line]
        if said and CHOOSING.search(said[-1]) and step == 0:
            return "selecting"
        return "evaluating" if step == self.steps else "training"

    def _somewhere(self, running: Running, share: float = 0.5) -> None:
        if running.wait_for("training on"):
            running.wait(self.draw.uniform(0, share * self.span))

    def anywhere(self, running: Running) -> None:
        """While starting and while reading the data, too."""
        if self.draw.random() < 0.2:
            running.wait(self.draw.uniform(0, 5))
        else:
            self._somewhere(running)

    def selecting(self, running: Running) -> None:
        """Within a selection, or the training that it needs; anywhere, for a strategy that does not log it."""
        self._somewhere(running, self.draw.choice((0, 0.5)))
        seen = len(running.lines) if self.draw.random() < 0.5 else 0
        deadline = time.monotonic() + self.span / 2
        running.wait_until(
            lambda: any(CHOOSING.search(line) for line in running.lines[seen:]) or time.monotonic() > deadline
        )
        running.wait(self.draw.uniform(0, 0.02 * self.span))

    def writing(self, running: Running) -> None:
        """At once where a file with a checkpoint's temporary name is there."""
        self._somewhere(running)
        folder = running.job.base / "checkpoints"
        running.wait_until(lambda: any(folder.glob(".checkpoint-*.tmp")))

    def evaluating(self, running: Running) -> None:
        """After the last update of an epoch."""
        self._somewhere(running)
        deadline = time.monotonic() + self.span / 2
        running.wait_until(lambda: newest(running.job)[1] == self.steps or time.monotonic() > deadline)
        running.wait(self.draw.uniform(0, 0.02 * self.span))


AIMS: dict[str, Callable[[Killer, Running], None]] = {
    "anywhere": Killer.anywhere,
    "selecting": Killer.selecting,
    "writing": Killer.writing,
    "evaluating": Killer.evaluating,
}
CHOOSING = re.compile("choosing|training a model")


def newest(job: Job) -> tuple[int, int]:
    """Epoch and step of the last checkpoint; (1, 0) where there is none."""
    names = [path.stem.split("-") for path in (job.base / "checkpoints").glob("checkpoint-*.pt")]
    return max(((int(epoch), int(step)) for _, epoch, step in names), default=(1, 0))

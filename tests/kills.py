"""Jobs that are killed and started again, and what must be the same in the end as if they had not been."""

import hashlib
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
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


def newest(job: Job) -> tuple[int, int]:
    """Epoch and step of the last checkpoint; (1, 0) where there is none."""
    names = [path.stem.split("-") for path in (job.base / "checkpoints").glob("checkpoint-*.pt")]
    return max(((int(epoch), int(step)) for _, epoch, step in names), default=(1, 0))

"""The real ``train`` program over a temporary base directory, forked from a warm parent unless its start is tested."""

import fcntl
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.warm import TRAIN, Train

SECONDS = 240


@dataclass
class Job:
    """A base directory in SageMaker's layout, and what came of the job that ran there."""

    base: Path
    exit_code: int | None = None
    log: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    wrapper: tuple[str, ...] = ()
    """The command that runs the program, where it is not started by itself."""
    cold: bool = False
    """Whether Python and the imports are started, too, as they are where there is a wrapper or a PYTHONPATH."""
    content_types: dict[str, str] = field(default_factory=dict)

    def channel(self, name: str) -> Path:
        path = self.base / "input" / "data" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def link_channel(self, name: str, target: Path) -> None:
        path = self.base / "input" / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target, target_is_directory=True)

    def configure(
        self,
        hyperparameters: Mapping[str, Any],
        hosts: tuple[str, ...] = ("localhost",),
        current: str | None = None,
    ) -> None:
        """Write the configuration files as the platform does: every hyperparameter a string.

        Args:
            current: which of the hosts this is; default: the first.
        """
        channels = sorted(path.name for path in (self.base / "input" / "data").glob("*"))
        # The report has tests of its own; what it imports would take a second of every other one's.
        usual = {} if "sagemaker_program" in hyperparameters else {"report": False}
        contents: dict[str, Any] = {
            "hyperparameters": {name: str(value) for name, value in {**usual, **hyperparameters}.items()},
            "inputdataconfig": {
                name: {"TrainingInputMode": "File", "ContentType": self.content_types.get(name, "")}
                for name in channels
            },
            "resourceconfig": {"current_host": current or hosts[0], "hosts": list(hosts)},
        }
        for name, content in contents.items():
            path = self.base / "input" / "config" / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content), encoding="utf-8")

    def start(self, log: int = subprocess.PIPE) -> "subprocess.Popen[str]":
        """Start the program, without a word of configuration.

        Args:
            log: the file that stdout and stderr go to; default: the process's ``stdout``.
        """
        environment = {**os.environ, **self.environment, "SAGEMAKER_BASE_DIR": str(self.base)}
        environment["PYTHONUNBUFFERED"] = "1"
        options: dict[str, Any] = {"stderr": subprocess.STDOUT, "text": True, "cwd": self.base}
        if self.cold or self.wrapper or "PYTHONPATH" in self.environment:
            return subprocess.Popen([*self.wrapper, str(TRAIN)], env=environment, stdout=log, **options)
        return Train(env=environment, stdout=log, **options)

    def run(self, hyperparameters: Mapping[str, Any], hosts: tuple[str, ...] = ("localhost",)) -> "Job":
        self.configure(hyperparameters, hosts)
        process = self.start()
        try:
            self.log, _ = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
        self.exit_code = process.returncode
        return self

    def when(
        self, hyperparameters: Mapping[str, Any], line: str, do: "Callable[[subprocess.Popen[str]], None]"
    ) -> "Job":
        """Start, do something once ``line`` appears in the log, and wait for the end."""
        self.configure(hyperparameters)
        process = self.start()
        assert process.stdout is not None
        try:
            for text in process.stdout:
                self.log += text
                if line in text:
                    do(process)
                    break
            rest, _ = process.communicate(timeout=SECONDS)
            self.log += rest
        finally:
            process.kill()
        self.exit_code = process.returncode
        return self

    def terminate_when(self, hyperparameters: Mapping[str, Any], line: str) -> float:
        """Send SIGTERM once ``line`` appears in the log, and return the seconds until the process ended."""
        sent: list[float] = []

        def terminate(process: "subprocess.Popen[str]") -> None:
            sent.append(time.monotonic())
            process.send_signal(signal.SIGTERM)

        self.when(hyperparameters, line, terminate)
        assert sent, self.log
        return time.monotonic() - sent[0]

    @property
    def last_line(self) -> str:
        return self.log.strip().splitlines()[-1]

    @property
    def failure(self) -> str | None:
        path = self.base / "output" / "failure"
        return path.read_text(encoding="utf-8") if path.exists() else None

    @property
    def summary(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(
            (self.base / "output/data/summary.json").read_text(encoding="utf-8")
        )
        return content

    @property
    def history(self) -> list[dict[str, Any]]:
        lines = (self.base / "output/data/history.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def subsets(self) -> dict[int, "np.lib.npyio.NpzFile"]:
        paths = sorted((self.base / "output/data/subsets").glob("epoch-*.npz"))
        return {int(path.stem.removeprefix("epoch-")): np.load(path, allow_pickle=False) for path in paths}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path / "ml")


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[[str], Job]:
    return lambda name: Job(tmp_path / name)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded data set: ``training`` and ``test`` folders of 8×8 PNGs in ten class folders."""
    from deploy.digits import write_digits

    directory = tmp_path_factory.mktemp("digits")
    write_digits(directory)
    return directory


@pytest.fixture
def meeting_port() -> Iterator[None]:
    """For tests of several hosts, which meet at one port of this machine: one test at a time."""
    with (Path(tempfile.gettempdir()) / "subset-trainer-hosts.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture
def table(job: Job) -> Job:
    """A job whose training channel is a small table that is easy to learn."""
    write_table(job.channel("training") / "train.csv")
    return job


def write_table(path: Path, rows: int = 300, seed: int = 0) -> None:
    draw = np.random.default_rng(seed)
    labels = draw.integers(3, size=rows)
    features = draw.normal(size=(rows, 4)) + labels[:, None]
    lines = ["label,a,b,c,d"]
    lines += [
        ",".join([str(label), *(f"{value:.4f}" for value in row)])
        for label, row in zip(labels, features, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_image(path: Path, seed: int = 0, size: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(256, size=(size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)

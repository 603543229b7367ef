"""The built image, which SUBSET_TRAINER_IMAGE names, and commands that run inside it."""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SECONDS = 300


@dataclass(frozen=True)
class Image:
    name: str
    config: dict[str, Any]
    """What `docker image inspect` calls Config: Cmd, Entrypoint, Env, Labels …"""

    @property
    def environment(self) -> dict[str, str]:
        pairs = (variable.split("=", 1) for variable in self.config["Env"])
        return dict(pairs)

    def run(
        self, *command: str, options: Sequence[str] = (), network: str = "none"
    ) -> "subprocess.CompletedProcess[str]":
        """`docker run`, by default without a network; stdout and stderr are kept apart, a failure is not raised."""
        own = own_processors()
        arguments = ["docker", "run", "--rm", "--network", network, *own, *options, self.name, *command]
        return subprocess.run(
            arguments, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL
        )

    def output(self, *command: str, options: Sequence[str] = ()) -> str:
        """The stdout of a command that must succeed."""
        done = self.run(*command, options=options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def python(self, code: str) -> Any:
        """What a piece of Python prints as JSON on its last line, run by the image's interpreter."""
        return json.loads(self.output("python", "-c", code).splitlines()[-1])


def docker(*arguments: str) -> str:
    """The output of a `docker` command that must succeed."""
    return subprocess.run(
        ["docker", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        timeout=90,
    ).stdout.strip()


@dataclass(frozen=True)
class Container:
    """One that runs in the background, until it is left."""

    name: str

    @property
    def log(self) -> str:
        return docker("logs", self.name)

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 120
        while text not in self.log:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)

    def exit_code(self) -> int:
        """When it has ended."""
        return int(docker("wait", self.name))

    def stop(self, *options: str) -> float:
        """The seconds that `docker stop` takes. By default it kills after 10."""
        began = time.monotonic()
        docker("stop", *options, self.name)
        return time.monotonic() - began


@contextmanager
def container(
    image: Image, *command: str, options: Sequence[str] = (), network: str = "none"
) -> Iterator[Container]:
    own = own_processors()
    started = Container(docker("run", "--detach", "--network", network, *own, *options, image.name, *command))
    try:
        yield started
    finally:
        docker("rm", "--force", started.name)


def script_job(folder: Path, script: str, **arguments: str) -> list[str]:
    """A folder to stand for /opt/ml, with a script of one's own, and the `docker run` options that mount it."""
    (folder / "code").mkdir()
    (folder / "code/own.py").write_text(script, encoding="utf-8")
    (folder / "input/config").mkdir(parents=True)
    (folder / "input/data/training").mkdir(parents=True)
    named = {"sagemaker_program": "own.py", "sagemaker_submit_directory": "/opt/ml/code", **arguments}
    configuration = {
        "hyperparameters": {name: json.dumps(value) for name, value in named.items()},
        "inputdataconfig": {"training": {"TrainingInputMode": "File"}},
        "resourceconfig": {"current_host": "localhost", "hosts": ["localhost"]},
    }
    for name, content in configuration.items():
        (folder / f"input/config/{name}.json").write_text(json.dumps(content))
    return ["-v", f"{folder}:/opt/ml"]


def own_processors() -> list[str]:
    """Options of `docker run` for a container to keep to this process's processors, where several run tests."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return []
    return ["--cpuset-cpus", ",".join(map(str, sorted(os.sched_getaffinity(0))))]


@pytest.fixture(scope="session")
def image() -> Image:
    name = os.environ.get("SUBSET_TRAINER_IMAGE")
    if not name:
        pytest.skip("SUBSET_TRAINER_IMAGE names no image")
    inspect = subprocess.run(
        ["docker", "image", "inspect", name],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert inspect.returncode == 0, inspect.stderr
    return Image(name, json.loads(inspect.stdout)[0]["Config"])

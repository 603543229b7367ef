"""The user's own script, through the toolkit: its output, exit code, signals and stderr."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.functional.conftest import Job

SCRIPT = """
import argparse, json, os, signal, sys, time

parser = argparse.ArgumentParser()
parser.add_argument("--fraction", type=float)
parser.add_argument("--then")
arguments = parser.parse_args()

def stop(number, frame):
    with open(os.path.join(os.environ["SM_MODEL_DIR"], "stopped"), "w") as file:
        file.write("in order")
    sys.exit(7)

signal.signal(signal.SIGTERM, stop)
print("fraction", arguments.fraction, "channel", os.environ["SM_CHANNEL_TRAINING"], flush=True)
if arguments.then == "import":
    import cords, subset_trainer
    import helper
    print(helper.__name__, "imported", cords.__name__, subset_trainer.__name__)
if arguments.then == "raise":
    print("a warning of before", file=sys.stderr)
    raise ValueError("the third file is odd")
if arguments.then == "exit":
    sys.exit(42)
if arguments.then == "own-failure":
    with open(os.path.join(os.environ["SM_OUTPUT_DIR"], "failure"), "w") as file:
        file.write("my own words")
    sys.exit(5)
if arguments.then == "wait":
    print("waiting", flush=True)
    time.sleep(120)
"""


@pytest.fixture
def script(job: Job, tmp_path: Path) -> Job:
    source = tmp_path / "source"
    source.mkdir()
    (source / "own.py").write_text(SCRIPT, encoding="utf-8")
    (source / "helper.py").write_text("", encoding="utf-8")
    job.channel("training")
    for folder in ("model", "output"):
        (job.base / folder).mkdir()
    return job


def hyperparameters(job: Job, then: str) -> dict[str, Any]:
    # As the SDK sends them with an entry_point: each value JSON-encoded once more.
    values = {
        "sagemaker_program": "own.py",
        "sagemaker_submit_directory": str(job.base.parent / "source"),
        "fraction": 0.3,
        "then": then,
    }
    return {name: json.dumps(value) for name, value in values.items()}


def test_a_script_sees_its_hyperparameters_channels_and_our_packages(script: Job) -> None:
    script.run(hyperparameters(script, "import"))
    assert (script.exit_code, script.failure) == (0, None), script.log
    assert f"fraction 0.3 channel {script.base}/input/data/training" in script.log
    assert "helper imported cords subset_trainer" in script.log


def test_the_last_lines_of_stderr_become_the_failure_reason(script: Job) -> None:
    script.run(hyperparameters(script, "raise"))
    assert script.exit_code == 1
    assert str(script.failure).startswith("own.py ended with exit code 1: ")
    assert str(script.failure).endswith("ValueError: the third file is odd")
    assert len(str(script.failure)) <= 1024


def test_the_exit_code_is_passed_on(script: Job) -> None:
    script.run(hyperparameters(script, "exit"))
    assert (script.exit_code, script.failure) == (42, "own.py ended with exit code 42")


def test_a_failure_file_that_the_script_wrote_is_kept(script: Job) -> None:
    script.run(hyperparameters(script, "own-failure"))
    assert (script.exit_code, script.failure) == (5, "my own words")


def test_sigterm_reaches_the_script_and_its_exit_code_comes_back(script: Job) -> None:
    seconds = script.terminate_when(hyperparameters(script, "wait"), "waiting")
    assert script.exit_code == 7, script.log
    assert seconds < 15
    assert (script.base / "model" / "stopped").read_text() == "in order"


def test_requirements_beside_the_script_are_installed(script: Job) -> None:
    """Without an index, so that it fails at once: what counts is that pip runs, and that its reason arrives."""
    source = script.base.parent / "source"
    (source / "requirements.txt").write_text("subset-trainer-test-missing==99\n", encoding="utf-8")
    script.environment = {"PIP_NO_INDEX": "1"}
    script.run(hyperparameters(script, "import"))
    assert script.exit_code == 1
    assert str(script.failure).startswith("requirements.txt could not be installed: ")
    assert "subset-trainer-test-missing" in str(script.failure)


def test_mpi_is_refused_and_not_ignored(script: Job) -> None:
    script.run({**hyperparameters(script, "import"), "sagemaker_mpi_enabled": "true"})
    assert script.exit_code == 1
    assert "distribution='mpi'" in str(script.failure)

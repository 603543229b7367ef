"""The image with as few rights as a container can have: nothing but the mounted /opt/ml and shared memory to write to.

No tmpfs on /tmp is needed: where /tmp cannot be written to, temporary files go to /dev/shm.
"""

import json
from pathlib import Path

import pytest

from tests.image.conftest import Image
from tests.image.test_training import QUICK, make_job

RIGHTS = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "secret-of-aws-0123",
    "AWS_SESSION_TOKEN": "secret-session-4567",
    "MLFLOW_TRACKING_PASSWORD": "secret-of-mlflow-89",
    "HF_TOKEN": "secret-token-abcd",
}
STREAMED = """
from subset_trainer.entrypoint import main
from subset_trainer.job import read
load = read.load_splits
read.load_splits = lambda *channels, **options: load(*channels, **{**options, "memory_limit": 0})
main()
"""
BROKEN = """
import os
from subset_trainer import job
from subset_trainer.entrypoint import main
def run(*arguments):
    environment = dict(os.environ)
    raise RuntimeError("broken")
job.run = run
main()
"""
SCRIPT = """
import json, os, sys
import matplotlib.pyplot, numba
print("in", os.environ["SM_CHANNEL_TRAINING"])
open(os.path.join(os.environ["SM_MODEL_DIR"], "model.json"), "w").write("{}")
sys.exit(int(json.loads(os.environ["SM_HPS"])["code"]))
"""


PINGED = """
import subprocess, sys, time, urllib.error, urllib.request
server = subprocess.Popen(["with-cuda-compat", "serve"])
for _ in range(600):
    try:
        status = urllib.request.urlopen("http://127.0.0.1:8080/ping").status
        break
    except urllib.error.URLError:
        time.sleep(0.1)
server.terminate()
print(status, server.wait(20))
"""


@pytest.fixture(params=["1000:1000", "0:0"], ids=["user", "root"])
def restricted(request: pytest.FixtureRequest) -> list[str]:
    """The `docker run` options."""
    return [*RIGHTS, "--user", request.param]


def writable(folder: Path, digits: Path) -> None:
    """What is mounted can be read by any user, and written to: also by a root that has lost its capabilities."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777)
    for path in (digits, *digits.rglob("*")):
        path.chmod(0o755)


def ended(folder: Path) -> dict[str, object]:
    assert not (folder / "output/failure").exists()
    summary: dict[str, object] = json.loads((folder / "output/data/summary.json").read_text())
    return summary


def test_glister_trains_to_the_end(image: Image, digits: Path, tmp_path: Path, restricted: list[str]) -> None:
    options = make_job(tmp_path, digits, {**QUICK, "tensorboard": "true"})
    writable(tmp_path, digits)
    done = image.run("train", options=[*restricted, *options])
    assert done.returncode == 0, done.stdout + done.stderr
    assert ended(tmp_path)["status"] == "completed"
    assert (tmp_path / "model/model.safetensors").stat().st_size > 0
    assert list((tmp_path / "output/tensorboard").iterdir())


def test_images_are_streamed_by_worker_processes(
    image: Image, digits: Path, tmp_path: Path, restricted: list[str]
) -> None:
    options = make_job(tmp_path, digits, {**QUICK, "num_workers": "2", "epochs": "1"})
    writable(tmp_path, digits)
    done = image.run("python", "-c", STREAMED, options=[*restricted, *options])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "streamed from files" in done.stdout
    assert ended(tmp_path)["status"] == "completed"


def test_cords_needs_no_home_for_its_caches(image: Image, digits: Path, tmp_path: Path) -> None:
    options = make_job(tmp_path, digits, {**QUICK, "epochs": "1", "backend": "cords", "strategy": "random"})
    writable(tmp_path, digits)
    done = image.run("train", options=[*RIGHTS, "--user", "1000:1000", *options])
    assert done.returncode == 0, done.stdout + done.stderr
    assert ended(tmp_path)["backend"] == "cords"
    assert "cache directory" not in done.stdout + done.stderr


@pytest.mark.parametrize("code", [0, 3])
def test_a_script_and_what_a_job_leaves_hold_no_secret(
    image: Image, digits: Path, tmp_path: Path, restricted: list[str], code: int
) -> None:
    folder = tmp_path / "ml"
    source = {"sagemaker_program": "own.py", "sagemaker_submit_directory": "/source", "code": code}
    options = make_job(folder, digits, {name: json.dumps(value) for name, value in source.items()})
    resources = {"current_host": "localhost", "hosts": ["localhost"]}
    for name, content in (("inputdataconfig", {"training": {}, "test": {}}), ("resourceconfig", resources)):
        (folder / f"input/config/{name}.json").write_text(json.dumps(content))
    for name in ("model", "output"):  # the platform makes them
        (folder / name).mkdir()
    (tmp_path / "source").mkdir()
    (tmp_path / "source/own.py").write_text(SCRIPT)
    writable(tmp_path, digits)
    options += ["-v", f"{tmp_path / 'source'}:/source:ro"]
    done = image.run("train", options=[*restricted, *options, *given(SECRETS)])
    assert done.returncode == code, done.stdout + done.stderr
    assert "in /opt/ml/input/data/training" in done.stdout
    assert found(done.stdout + done.stderr, folder) == []


def test_the_log_and_what_a_job_leaves_hold_no_secret(image: Image, digits: Path, tmp_path: Path) -> None:
    """Also of a job that breaks down: the environment is in no traceback."""
    good, bad = tmp_path / "good", tmp_path / "bad"
    options = make_job(good, digits, {**QUICK, "epochs": "1"})
    done = image.run("train", options=[*options, *given(SECRETS)])
    assert done.returncode == 0, done.stdout + done.stderr
    assert found(done.stdout + done.stderr, good) == []

    options = make_job(bad, digits, {**QUICK, "epochs": "1"})
    done = image.run("python", "-c", BROKEN, options=[*options, *given(SECRETS)])
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" in done.stdout
    assert "internal error, RuntimeError: broken" in done.stdout
    assert found(done.stdout + done.stderr, bad) == []


def test_serve_answers_and_stops_and_says_where_there_is_no_model(
    image: Image, digits: Path, tmp_path: Path, restricted: list[str]
) -> None:
    options = make_job(tmp_path, digits, {**QUICK, "epochs": "1"})
    writable(tmp_path, digits)
    done = image.run("serve", options=[*restricted, *options])
    assert done.returncode == 1, done.stdout + done.stderr
    assert "/opt/ml/model holds no model.json; expected the model folder of a job" in done.stdout
    done = image.run("train", options=[*restricted, *options])
    assert done.returncode == 0, done.stdout + done.stderr
    done = image.run("python", "-c", PINGED, options=[*restricted, *options])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "200 0"


def given(variables: dict[str, str]) -> list[str]:
    return [word for name, value in variables.items() for word in ("-e", f"{name}={value}")]


def found(log: str, folder: Path) -> list[str]:
    """The secrets that are in the log, or in a file of model/ and output/."""
    contents = [log.encode()]
    for part in ("model", "output"):
        contents += [path.read_bytes() for path in (folder / part).rglob("*") if path.is_file()]
    assert len(contents) > 1
    return [secret for secret in SECRETS.values() if any(secret.encode() in content for content in contents)]

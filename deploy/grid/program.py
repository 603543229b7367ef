"""Runs the image's `train` program on this machine, without Docker, in a folder laid out like /opt/ml."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from deploy.grid.studies import is_unfinished, write_whole
from subset_trainer.errors import AlgorithmError, TrainingError, UserError

LOG_NAME = "train.log"
CONFIG = Path("input/config")
# The time that SageMaker gives a job between SIGTERM and SIGKILL.
STOP_SECONDS = 120

HYPERPARAMETERS = "hyperparameters.json"
CHECKPOINTS = "checkpoints"
PROCESSOR = "processor.json"
# PR_SET_PDEATHSIG outlives execv. The parent may have ended before it was set.
_TIED = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, int(signal.SIGTERM), 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""

_STEP = re.compile(r"epoch (\d+).*: step (\d+) of (\d+)$")
_METRIC = re.compile(r"([a-z_:]+)=(\S+)")


def train(
    base: Path,
    channels: Mapping[str, Path],
    hyperparameters: Mapping[str, object],
    on_metrics: Callable[[dict[str, float]], None] = lambda metrics: None,
    *,
    resume: bool = False,
    threads: int | None = None,
    inherited: Sequence[int] = (),
) -> None:
    """Run one training job to its end; its outputs are in `base/model` and `base/output`, as on SageMaker.

    On an interruption the run is stopped in an orderly way before the exception is raised again. If this process is
    killed, the run is stopped in the same way, where the system allows it (Linux).

    Args:
        base: folder of the run; the log is written to `base/train.log`.
        channels: name → local folder or file, which is linked rather than copied where possible.
        hyperparameters: name → value.
        on_metrics: called with the metrics of each epoch, `{"epoch": 3.0, "train:loss": 0.51, …}`, and about every
            half minute within one with `epoch`, `step` and `steps`.
        resume: keep checkpoints in `base/checkpoints`, and resume from those of an earlier run of the same data and
            hyperparameters. Otherwise an earlier run in `base` is replaced.
        threads: number of threads on a CPU; None for what the environment says, or all.
        inherited: open files that the run keeps open until it ends.

    Raises UserError or AlgorithmError with the run's own failure reason if it fails.
    """
    if resume:
        check_channels(channels)
        _refuse_others(base)
        lay_out(base, channels, hyperparameters)
        (base / CHECKPOINTS).mkdir(exist_ok=True)
    else:
        prepare(base, channels, hyperparameters)
    log_path = base / LOG_NAME
    # What an earlier part of the run used belongs to it where its epochs are not trained again.
    used = (processor_seconds(base) or 0.0) if any((base / CHECKPOINTS).glob("*")) else 0.0
    environment = {**os.environ, "SAGEMAKER_BASE_DIR": str(base.resolve()), "PYTHONUNBUFFERED": "1"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    with log_path.open("a" if resume else "w") as log:
        process = subprocess.Popen(
            _ending_with_this_process(train_program()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            errors="replace",
            # In the same session, a terminal's Ctrl-C would reach both processes. This way the run gets one SIGTERM, as
            # on SageMaker.
            start_new_session=True,
            pass_fds=inherited,
        )
        assert process.stdout is not None
        try:
            _read(process.stdout, log, on_metrics)
            # As `process.wait`, which does not say what the process and those that it started used.
            _, status, usage = os.wait4(process.pid, 0)
            code = process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if process.poll() is None:
                _stop(process)
    write_whole(base / PROCESSOR, json.dumps({"seconds": used + usage.ru_utime + usage.ru_stime}) + "\n")
    if code != 0:
        raise _failure(base, code, log_path)


def processor_seconds(base: Path) -> float | None:
    """Return the processor's seconds that the run in `base` took, from its start to its end; None if not known."""
    try:
        return float(json.loads((base / PROCESSOR).read_text())["seconds"])
    except (OSError, ValueError):
        return None


def prepare(base: Path, channels: Mapping[str, Path], hyperparameters: Mapping[str, object]) -> None:
    """Lay out `base` as SageMaker lays out /opt/ml: configuration, linked channels, empty output folders.

    Raises UserError if a channel's path does not exist, or if `base` has files that are not from an earlier run.
    """
    check_channels(channels)
    _refuse_others(base)
    remove(base)
    lay_out(base, channels, hyperparameters)


def remove(base: Path) -> None:
    """Remove the run in `base`. What is left if the process is killed meanwhile never passes for a run."""
    aside = base.with_name(f".{base.name}.removed")
    shutil.rmtree(aside, ignore_errors=True)
    if base.exists():
        base.rename(aside)
        shutil.rmtree(aside)


def given(base: Path) -> dict[str, Any] | None:
    """Return the hyperparameters that the run in `base` was started with; None if there is no run."""
    try:
        content = json.loads((base / CONFIG / HYPERPARAMETERS).read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def is_free(base: Path) -> bool:
    """Whether `base` holds no file: it is not there, or was being laid out when the process was killed."""
    files = (path for path in base.rglob("*") if path.is_symlink() or not path.is_dir())
    return all(is_unfinished(file) for file in files)


def _refuse_others(base: Path) -> None:
    if given(base) is None and not is_free(base):
        raise UserError(f"{str(base)!r} holds files that are no earlier run; name an empty folder")


def lay_out(base: Path, channels: Mapping[str, Path], hyperparameters: Mapping[str, object]) -> None:
    """Write the configuration and link the channels; outputs and checkpoints that are there stay."""
    data = base / "input/data"
    for folder in (base / CONFIG, base / "model", base / "output/data"):
        folder.mkdir(parents=True, exist_ok=True)
    host = "localhost"  # the training toolkit waits until every host's name resolves
    configuration = {
        # First, because a folder with it is known as a run's.
        HYPERPARAMETERS: {name: str(value) for name, value in hyperparameters.items()},
        "inputdataconfig.json": {name: {"TrainingInputMode": "File"} for name in channels},
        "resourceconfig.json": {
            "current_host": host,
            "current_instance_type": "local",
            "current_group_name": "homogeneousCluster",
            "hosts": [host],
            "instance_groups": [
                {"instance_group_name": "homogeneousCluster", "instance_type": "local", "hosts": [host]}
            ],
            "network_interface_name": "lo",
        },
    }
    for name, content in configuration.items():
        write_whole(base / CONFIG / name, json.dumps(content, indent=2) + "\n")
    if data.exists():
        shutil.rmtree(data)  # links, whose targets stay
    data.mkdir(parents=True)
    for name, path in channels.items():
        place = data / name
        if path.is_dir():
            place.symlink_to(path.resolve(), target_is_directory=True)
        else:
            place.mkdir()
            _bring(path.resolve(), place / path.name)


def _ending_with_this_process(program: str) -> list[str]:
    """Return the command of a program that gets SIGTERM when this process ends, however it ends; on Linux alone."""
    if sys.platform != "linux":
        return [program]
    return [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), program]


def _bring(file: Path, place: Path) -> None:
    """Link or copy a file into a channel; not by a symbolic link, because links out of a channel are refused."""
    try:
        place.hardlink_to(file)
    except OSError:  # on another disk
        shutil.copy2(file, place)


def check_channels(channels: Mapping[str, Path]) -> None:
    """Raise UserError naming the first channel whose path does not exist."""
    for name, path in channels.items():
        if not path.exists():
            raise UserError(f"channel {name!r}: there is no file or folder {str(path)!r}")


def train_program() -> str:
    """Return the `train` program beside this interpreter, else the first on PATH. Raises UserError if there is none."""
    beside = Path(sys.executable).with_name("train")
    found = str(beside) if beside.exists() else shutil.which("train")
    if found is None:
        raise UserError(
            "the program `train` is neither beside this Python nor on PATH; "
            "install it with `pip install ./container_src/subset_selection ./container_src` or run `make venv`"
        )
    return found


def _read(stream: IO[str], log: IO[str], on_metrics: Callable[[dict[str, float]], None]) -> None:
    for line in stream:
        log.write(line)
        log.flush()
        if line.startswith("epoch="):
            metrics = {}
            for name, value in _METRIC.findall(line):
                with suppress(ValueError):
                    metrics[name] = float(value)
            on_metrics(metrics)
        elif step := _STEP.search(line):
            on_metrics(dict(zip(("epoch", "step", "steps"), map(float, step.groups()), strict=True)))


def _stop(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.communicate(timeout=STOP_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        # The whole process group, including data-loading workers.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _failure(base: Path, code: int, log_path: Path) -> TrainingError:
    failure = base / "output/failure"
    reason = failure.read_text().strip() if failure.exists() else ""
    if not reason:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        lines = log_path.read_text(errors="replace").strip().splitlines()
        last = lines[-1] if lines else "(empty)"
        reason = f"the training ended with {how}; the last line of its log: {last}"
    kind = UserError if code == UserError.exit_code else AlgorithmError
    return kind(f"{reason} (log: {log_path})")

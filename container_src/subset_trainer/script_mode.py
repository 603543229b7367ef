"""Script mode: the user's own training script, run in the image by the sagemaker-training toolkit.

The toolkit downloads the source, installs its requirements.txt, sets the SM_* environment variables and builds the
command. This module adds what the toolkit's own ``train`` program lacks: SIGTERM reaches the script, the script's exit
code becomes the job's, and the last lines of its stderr become the failure reason.
"""

import logging
import os
import re
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from subset_trainer import contract
from subset_trainer.contract import Contract
from subset_trainer.errors import UserError

logger = logging.getLogger(__name__)
PROGRAM = "sagemaker_program"
TORCH_DISTRIBUTED = "sagemaker_torch_distributed_enabled"
STDERR_LINES = 20


def requested(job: Contract) -> bool:
    """Whether the job has its own entry point (``entry_point`` of an SDK estimator)."""
    return bool(job.hyperparameters.get(PROGRAM) or os.environ.get("SAGEMAKER_PROGRAM"))


def run(job: Contract) -> int:
    """Run the user's script until it ends.

    Returns:
        The script's exit code, or 128 + n if signal n ended it.
    """
    # Imported here because importing the toolkit creates directories and reads configuration.
    from sagemaker_training import entry_point, environment, errors, logging_config

    env = environment.Environment()
    logging_config.configure_logger(env.log_level)
    runner_type = _runner(env.additional_framework_parameters)
    with _signals_passed_on(), _stderr_tail() as tail:
        try:
            entry_point.run(
                env.module_dir,
                env.user_entry_point,
                env.to_cmd_args(),
                env.to_env_vars(),
                runner_type=runner_type,
            )
            return 0
        except errors.InstallRequirementsError as error:
            code, what = _exit_code(error.return_code), "requirements.txt could not be installed"
        except errors.ExecuteUserScriptError as error:
            code = _exit_code(error.return_code)
            what = f"{env.user_entry_point} ended with exit code {code}"
        except errors.ClientError as error:
            code, what = 1, str(error)
    _write_failure(what, list(tail))
    return code


def _runner(settings: Mapping[str, Any]) -> Any:
    """The toolkit's runner for the ``distribution`` setting of a framework estimator.

    Raises:
        UserError: the setting is MPI, which this image lacks.
    """
    from sagemaker_training import params, runner

    if settings.get(TORCH_DISTRIBUTED):
        return runner.RunnerType.TorchDistributed
    if settings.get(params.MPI_ENABLED):
        raise UserError("distribution='mpi': this image has no MPI; expected torch_distributed or none")
    return runner.RunnerType.Process


def _exit_code(return_code: str | int | None) -> int:
    code = int(str(return_code)) if str(return_code).lstrip("-").isdigit() else 1
    return 128 - code if code < 0 else code


def _write_failure(what: str, stderr: list[str]) -> None:
    """Write the failure reason: what happened, followed by as many of the last lines of stderr as fit.

    If the script has written a failure file, that file is kept.
    """
    message = what
    for line in reversed(stderr):
        longer = f"{what}: {line}" if message == what else f"{what}: {line}\n{message[len(what) + 2 :]}"
        if len(longer) > contract.FAILURE_CHARACTERS:
            break
        message = longer
    path = contract.failure_file()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(message, encoding="utf-8")
    logger.error("%s", message)


@contextmanager
def _signals_passed_on() -> Iterator[None]:
    """Forward SIGTERM and SIGINT to the script while it runs. The job ends when the script ends."""
    import psutil

    def forward(number: int, frame: FrameType | None) -> None:
        for child in psutil.Process().children():
            child.send_signal(number)

    previous = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _stderr_tail() -> Iterator[deque[str]]:
    """Copy what this process and its children write to stderr, and keep the last lines."""
    lines: deque[str] = deque(maxlen=STDERR_LINES)
    original = os.dup(2)
    read_end, write_end = os.pipe()
    os.dup2(write_end, 2)
    os.close(write_end)

    def copy() -> None:
        # Output is copied in chunks as it arrives, because a progress bar writes no line breaks.
        unfinished = b""
        while piece := os.read(read_end, 65536):
            os.write(original, piece)
            *whole, unfinished = re.split(rb"[\r\n]+", unfinished + piece)
            lines.extend(text for line in whole if (text := line.decode("utf-8", errors="replace").rstrip()))
        if unfinished:
            lines.append(unfinished.decode("utf-8", errors="replace"))

    thread = threading.Thread(target=copy, name="stderr-tail", daemon=True)
    thread.start()
    try:
        yield lines
    finally:
        sys.stderr.flush()
        os.dup2(original, 2)
        # The wait is bounded, because a process that the script left running may keep the pipe open.
        thread.join(timeout=2)

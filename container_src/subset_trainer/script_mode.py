"""Script mode: the user's own training script, run in the image by the sagemaker-training toolkit.

The toolkit downloads the source, installs its requirements.txt, sets the SM_* environment variables and builds the
command. This module adds what the toolkit's own ``train`` program lacks: SIGTERM reaches the script, the script's exit
code becomes the job's, and the last lines of its stderr become the failure reason. A source that cannot be fetched and
a host whose name does not resolve are named. The configuration files may be missing, as for the built-in trainer.
"""

import logging
import os
import re
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from subset_trainer import contract, script_source
from subset_trainer.contract import Contract
from subset_trainer.errors import PlatformError, UserError

logger = logging.getLogger(__name__)
PROGRAM = "sagemaker_program"
TORCH_DISTRIBUTED = "sagemaker_torch_distributed_enabled"
STDERR_LINES = 20
HOST_MINUTES = 15.0
"""How long the names of a job's hosts may take to resolve, as the toolkit has it."""
SAY_SECONDS = 30
PIP = Path("/opt/pip")
"""The image's folder with pip's wheel, which Python can run as it is."""


def requested(job: Contract) -> bool:
    """Whether the job has its own entry point (``entry_point`` of an SDK estimator); null means that it has not."""
    from subset_trainer.config.parsing import decode

    given = job.hyperparameters.get(PROGRAM)
    return (given is not None and decode(given) is not None) or bool(os.environ.get("SAGEMAKER_PROGRAM"))


def run(job: Contract) -> int:
    """Run the user's script until it ends.

    Returns:
        The script's exit code, or 128 + n if signal n ended it.
    """
    # Imported here because importing the toolkit creates directories and reads configuration.
    from sagemaker_training import entry_point, environment, errors, logging_config

    _tolerate_missing_configuration(environment, job)
    env = environment.Environment()
    logging_config.configure_logger(env.log_level)
    runner_type = _runner(env.additional_framework_parameters)
    # Before signals are passed on: SIGTERM ends these two at once.
    script_source.unpack(env.module_dir, Path(environment.code_dir))
    script_source.check_program(env.user_entry_point, Path(environment.code_dir))
    wait_for_hosts(job.hosts)
    entry_point._wait_hostname_resolution = lambda: None
    _offer_pip()
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
            what = f"{env.user_entry_point} {_end(error.return_code)}"
        except errors.ClientError as error:
            code, what = 1, str(error)
    _write_failure(what, list(tail))
    return code


def _offer_pip() -> None:
    """Let the toolkit and the script run ``python -m pip``, which the image has beside its environment."""
    wheels = [str(path) for path in sorted(PIP.glob("pip-*.whl"))]
    sys.path.extend(wheels)  # the toolkit gives this path to the script
    os.environ["PYTHONPATH"] = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), *wheels])


def _tolerate_missing_configuration(environment: Any, job: Contract) -> None:
    """Let the toolkit, which requires three configuration files, take the contract's word where one is missing."""
    defaults: dict[str, dict[str, Any]] = {
        environment.RESOURCE_CONFIG_FILE: {"current_host": job.current_host, "hosts": list(job.hosts)},
        environment.INPUT_DATA_CONFIG_FILE: {name: {"TrainingInputMode": "File"} for name in job.channels},
        environment.HYPERPARAMETERS_FILE: {},
    }
    read = environment._read_json

    def read_or_default(path: str) -> Any:
        default = defaults.get(Path(path).name)
        if default is None:
            return read(path)
        content = read(path) if Path(path).exists() else {}
        return (
            {**default, **content}
            if Path(path).name == environment.RESOURCE_CONFIG_FILE
            else content or default
        )

    environment._read_json = read_or_default


def wait_for_hosts(hosts: tuple[str, ...], minutes: float = HOST_MINUTES) -> None:
    """Wait until the names of all hosts resolve, and log which do not. One host needs no name.

    Raises:
        PlatformError: a name does not resolve within these minutes.
    """
    if len(hosts) == 1:
        return
    start = time.monotonic()
    said = start - SAY_SECONDS
    waiting = list(hosts)
    while waiting := [host for host in waiting if not _resolves(host)]:
        now = time.monotonic()
        if now - start > 60 * minutes:
            raise PlatformError(
                f"the names of {len(waiting)} of {len(hosts)} hosts do not resolve within {minutes:g} minutes: "
                f"{', '.join(waiting)}; expected the hosts of resourceconfig.json on this network"
            )
        if now - said >= SAY_SECONDS:
            said = now
            logger.info("waiting for the names of hosts to resolve: %s", ", ".join(waiting))
        time.sleep(0.5)


def _resolves(host: str) -> bool:
    """Whether a host's name resolves. Asked in a thread, because a signal's handler would wait for the answer."""
    found: list[str] = []

    def ask() -> None:
        try:
            found.append(socket.gethostbyname(host))
        except OSError:
            return

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(10)
    return bool(found)


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


def _end(return_code: str | int | None) -> str:
    """How a script ended, in words."""
    code = _exit_code(return_code)
    if code == 128 + signal.SIGKILL:  # a shell reports the death of its child in this form, too
        return (
            f"was ended by signal 9 (SIGKILL, exit code {code}): usually the machine is out of memory; use smaller "
            "batches, or an instance with more memory"
        )
    if str(return_code).startswith("-") and code > 128:
        return f"was ended by signal {code - 128} ({signal.Signals(code - 128).name}, exit code {code})"
    return f"ended with exit code {code}"


def _write_failure(what: str, stderr: list[str]) -> None:
    """Write the failure reason: what happened, followed by as many of the last lines of stderr as fit.

    If the script has written a failure file, that file is kept.
    """
    message = what
    for line in reversed(stderr):
        longer = f"{what}: {line}" if message == what else f"{what}: {line}\n{message[len(what) + 2 :]}"
        if len(longer) > contract.FAILURE_CHARACTERS:
            if (
                message == what
            ):  # the last line, where the reason is: cut, because half of it is better than nothing
                message = longer[: contract.FAILURE_CHARACTERS - 1] + "…"
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

"""The ``train`` program: the process, its signals, its exit code and its failure file.

Exit codes: 0 for success (or for a stop by SIGTERM, after results were saved), 1 for errors that you can fix, 2 for all
other errors. In script mode the exit code is that of the script.
"""

import contextlib
import errno
import io
import logging
import os
import resource
import sys
import traceback

from subset_trainer import __version__, contract, first_process, outputs
from subset_trainer.errors import (
    AlgorithmError,
    PlatformError,
    TrainingError,
    UserError,
    first_line,
    short_of_memory,
    shown,
)
from subset_trainer.training.interruption import Interruption, Terminated

logger = logging.getLogger("subset_trainer")
HELP = """usage: train [--help] [--version]

Runs the training job that SageMaker, or anyone else, has laid out below /opt/ml, or below SAGEMAKER_BASE_DIR:
hyperparameters in input/config/hyperparameters.json, each channel's data in input/data/CHANNEL. The model goes to
model/, results to output/data/, and the reason of a failure to output/failure.

`python -m subset_trainer.config` lists the hyperparameters. There are no other arguments."""
UNWRITABLE = {
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a file stands where a folder should",
    errno.EEXIST: "a file stands where a folder should",
    errno.EISDIR: "a folder stands where a file should",
    errno.EIO: "the disk fails (input/output error)",
}


def main() -> None:
    """Run the job that the contract describes, and exit."""
    answer_options(HELP)
    log_to_stdout()
    if os.getpid() == 1 and (ended := first_process.tend()) is not None:
        sys.exit(ended if isinstance(ended, int) else _report(ended, ended))
    interruption = Interruption()
    try:
        interruption.install()
        refuse_arguments("train")
        code = _run(interruption)
        interruption.ignore()
    except Terminated:
        interruption.ignore()
        logger.info("SIGTERM received, and there was nothing more to save: stopped")
        code = 0
    except BaseException as error:
        interruption.ignore()
        code = _report(failure_of(error), error)
        _say_no_more()  # what the error's frames hold is freed after this
    logging.shutdown()
    _say_no_more()
    sys.exit(code)


def _say_no_more() -> None:
    """Send what finalizers print to nowhere: the log ends with the failure's sentence."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # it is closed, or no file
            stream.flush()
            os.dup2(nowhere, stream.fileno())


def answer_options(text: str) -> None:
    """Print the help or the version and exit, if the command line has that option."""
    if {"-h", "--help"} & {*sys.argv[1:]}:
        print(text)
    elif "--version" in sys.argv[1:]:
        print(f"subset-trainer {__version__}")
    else:
        return
    sys.exit(0)


def refuse_arguments(program: str) -> None:
    """Raises UserError if there are any: what somebody meant by them, the program would not do."""
    if arguments := sys.argv[1:]:
        where = "hyperparameters.json" if program == "train" else "environment variables"
        raise UserError(
            f"{program} was started with {shown(' '.join(arguments))}; expected no arguments but --help or --version, "
            f"because settings are read from {where}"
        )


def log_to_stdout(who: str = "", level: int = logging.INFO) -> None:
    """Log to stdout, one line per message.

    Args:
        who: prefix that names the process, if there are several.
        level: the lowest level that is logged.
    """
    # The log and the metrics share one stream, so that CloudWatch keeps their order.
    # Escaped, because file names may contain bytes that are not valid text.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_OneLine(f"%(asctime)s %(levelname)s {who}%(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


class _OneLine(logging.Formatter):
    """Keeps each message on one line.

    A file name may contain line breaks, and the text after one could be parsed as metrics.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = "\\n".join(record.message.splitlines())
        return super().formatMessage(record)


def print_traceback(error: BaseException) -> None:
    """Print a traceback to stdout. Its lines are indented, because the error's message may have one that reads as
    metrics."""
    for line in "".join(traceback.format_exception(error)).splitlines():
        print(f"  {line}")


def _run(interruption: Interruption) -> int:
    with interruption.deferred():
        contract.failure_file().unlink(missing_ok=True)
    job = contract.read()
    from subset_trainer import script_mode

    if script_mode.requested(job):
        with interruption.deferred():
            outputs.clear_if_of_trainer(job)
        return script_mode.run(job)
    with interruption.deferred():
        outputs.clear(job)
    logger.info("subset-trainer %s", __version__)
    from subset_trainer.config import parse

    hyperparameters = parse(job.hyperparameters)
    with interruption.deferred():
        outputs.clear_events(job, resume=hyperparameters.resume == "auto")
    # Imported after validation, because importing torch takes seconds and a misspelt knob should fail at once.
    with interruption.deferred():
        from subset_trainer.training.parallel import launcher

    if len(job.hosts) > 1 or launcher.processes_here(hyperparameters) > 1:
        launcher.run(job, hyperparameters)
        return 0
    with interruption.deferred():
        from subset_trainer.job import run
        from subset_trainer.training.parallel.ranks import Ranks

    run(job, hyperparameters, Ranks(interruption))
    return 0


def failure_of(error: BaseException) -> TrainingError:
    """Convert an exception to one of the three kinds of error, with a sentence for the user."""
    if isinstance(error, TrainingError):
        return error
    said = first_line(error, "no message")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PlatformError(f"no space left on the disk{_for_file(error)}: a larger volume is needed")
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        return PlatformError(
            f"{UNWRITABLE[error.errno]}{_for_file(error)}; expected a place that can be written"
        )
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return UserError(
            f"too many open files: the limit is {limit}; expected a larger one (ulimit -n), or a smaller num_workers"
        )
    if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker"):
        return PlatformError(
            "a process that decodes images ended unexpectedly, as when the machine is short of memory "
            f"({said}): use a smaller num_workers, or an instance with more memory"
        )
    no_memory = isinstance(error, OSError) and error.errno == errno.ENOMEM
    if where := "host" if no_memory else short_of_memory(error):
        return UserError(
            f"out of memory on the {where}: use a smaller batch_size or image_size, or an instance with more memory "
            f"({said})"
        )
    if "does not have a deterministic implementation" in str(error):
        return UserError(
            "hyperparameter deterministic=true, but the model needs an operation without such a kernel on this device: "
            f"expected another model, or deterministic=false ({said})"
        )
    if isinstance(error, KeyboardInterrupt):
        return UserError("interrupted from the keyboard")
    return AlgorithmError(f"internal error, {type(error).__name__}: {said}")


def _for_file(error: OSError) -> str:
    return f" for {error.filename}" if error.filename else ""


def _report(failure: TrainingError, error: BaseException) -> int:
    """Log the failure, write the failure file, and return the exit code."""
    if not isinstance(error, TrainingError):
        print_traceback(error)
    # Escaped, because a file name may contain bytes that neither the log nor the failure file accepts.
    sentence = " ".join(str(failure).encode("utf-8", "backslashreplace").decode().split())
    if len(sentence) > contract.FAILURE_CHARACTERS:
        sentence = sentence[: contract.FAILURE_CHARACTERS - 1] + "…"
    # Somebody who tries out the program's arguments has no job that could fail.
    if not sys.argv[1:] or (contract.base_directory() / "input").is_dir():
        path = contract.failure_file()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(sentence, encoding="utf-8")
        except OSError as problem:
            logger.error("the failure file could not be written: %s", problem)
    logger.error("%s", sentence)
    return failure.exit_code


if __name__ == "__main__":
    main()

"""The ``train`` program: the process, its signals, its exit code and its failure file.

Exit codes: 0 done (or stopped by SIGTERM, with what there was saved), 1 what the user can mend, 2 anything
else. In script mode the script's own exit code is passed on.
"""

import errno
import logging
import sys
import traceback

from subset_trainer import __version__, contract
from subset_trainer.errors import AlgorithmError, PlatformError, TrainingError, UserError
from subset_trainer.training.interruption import Interruption, Terminated

logger = logging.getLogger("subset_trainer")


def main() -> None:
    """Run the job that the contract describes, and exit."""
    # Lines reach CloudWatch as they are written, in one stream with the metrics, so that their order holds.
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    interruption = Interruption()
    interruption.install()
    try:
        code = _run(interruption)
    except Terminated:
        logger.info("SIGTERM received before there was anything to save: stopped")
        code = 0
    except BaseException as error:
        code = _report(_explain(error), error)
    logging.shutdown()
    sys.stdout.flush()
    sys.exit(code)


def _run(interruption: Interruption) -> int:
    with interruption.deferred():
        contract.failure_file().unlink(missing_ok=True)
    job = contract.read()
    from subset_trainer import script_mode

    if script_mode.requested(job):
        return script_mode.run(job)
    logger.info("subset-trainer %s", __version__)
    from subset_trainer.hyperparameters import parse

    hyperparameters = parse(job.hyperparameters)
    # After validation: importing torch takes seconds, a misspelt knob should not.
    from subset_trainer.training.job import run

    run(job, hyperparameters, interruption)
    return 0


def _explain(error: BaseException) -> TrainingError:
    """The failure as one of our three kinds, with a sentence fit for the user."""
    if isinstance(error, TrainingError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PlatformError(f"no space left on the disk{_for_file(error)}: a larger volume is needed")
    if isinstance(error, PermissionError):
        return PlatformError(f"permission denied{_for_file(error)}")
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        return UserError(
            "out of memory: use a smaller batch_size or image_size, or an instance with more memory "
            f"({_first_line(error)})"
        )
    if isinstance(error, KeyboardInterrupt):
        return UserError("interrupted from the keyboard")
    return AlgorithmError(f"internal error, {type(error).__name__}: {_first_line(error)}")


def _for_file(error: OSError) -> str:
    return f" for {error.filename}" if error.filename else ""


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]


def _report(failure: TrainingError, error: BaseException) -> int:
    """Log the failure, write the failure file, and return the exit code."""
    if not isinstance(error, TrainingError):
        traceback.print_exception(error, file=sys.stdout)
    # A file's name may hold bytes that are no text, which neither the log nor the failure file take.
    sentence = " ".join(str(failure).encode("utf-8", "backslashreplace").decode().split())
    if len(sentence) > contract.FAILURE_CHARACTERS:
        sentence = sentence[: contract.FAILURE_CHARACTERS - 1] + "…"
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

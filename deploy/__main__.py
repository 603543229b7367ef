"""`subset-trainer COMMAND`, or `python -m deploy COMMAND`: the host side's commands.

Exit code 1 for errors that you can fix, 2 for every other error.
"""

import errno
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from deploy import terminal
from deploy.commands import (
    codebuild,
    compare,
    explain,
    image,
    inspect,
    labels,
    launch,
    options,
    policy,
    sweep,
    tune,
)
from subset_trainer import __version__
from subset_trainer.errors import TrainingError, UserError

COMMAND = "subset-trainer"
"""Name of the installed program."""
FIXABLE = (
    errno.EACCES,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)
"""Errors of files that come from where a user told a command to write."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the process's exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    _forget()
    terminal.prepare()
    try:
        given = _parser().parse_args(arguments)
        given.command(given)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has seen enough.
        terminal.forget_stdout()
        return terminal.CLOSED_PIPE
    except KeyboardInterrupt:
        print(f"\ninterrupted{_left_behind()}", file=sys.stderr)
        return 130
    except Exception as error:
        known = _known(error)
        if known is None:
            raise
        print(f"error: {known}{_left_behind()}", file=sys.stderr)
        return known.exit_code
    return 0


def _terminate(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _known(error: Exception) -> TrainingError | None:
    if isinstance(error, TrainingError):
        return error
    if isinstance(error, OSError) and error.errno in FIXABLE and error.filename is not None:
        return UserError(f"{str(error.filename)!r}: {error.strerror}")
    # An error of AWS is only possible if the command has imported boto3. Importing it here would take seconds.
    if "boto3" in sys.modules:
        from deploy.aws import calls

        return calls.as_training_error(error)
    return None


def _forget() -> None:
    if "boto3" in sys.modules:
        from deploy.aws import calls

        calls.reported()


def _left_behind() -> str:
    """Return a remark that names the AWS resources created before the error."""
    if "boto3" not in sys.modules:
        return ""
    from deploy.aws import calls

    made = calls.made()
    return f" (created before that, and still there: {', '.join(made)})" if made else ""


def _parser() -> options.Parser:
    parser = options.Parser(
        prog=COMMAND if Path(sys.argv[0]).name == COMMAND else "python -m deploy",
        description="Train on chosen fractions of your data, here and on Amazon SageMaker, and compare the results.",
    )
    parser.add_argument("--version", action="version", version=f"{COMMAND} {__version__}")
    commands = options.Commands(parser)
    for module in (compare, inspect, image, codebuild, launch, sweep, tune, labels, explain, policy):
        module.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())

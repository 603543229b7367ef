"""`subset-trainer COMMAND`, or `python -m deploy COMMAND`: the host side's commands.

Exit code 1 for errors that you can fix, 2 for every other error.
"""

import errno
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from deploy import terminal
from deploy.commands import codebuild, compare, explain, image, inspect, labels, launch, policy, sweep, tune
from deploy.commands.declared import Act, Command, Group, add, sentence
from subset_trainer import __version__
from subset_trainer.errors import TrainingError, UserError

COMMAND = "subset-trainer"
"""Name of the installed program."""
COMPLETE = "_SUBSET_TRAINER_COMPLETE"
"""Environment variable by which a shell asks for completions."""
HELP = {"help_option_names": ["-h", "--help"]}
GROUPS = {
    "image": "Build the image, push it to Amazon ECR, or print its URI there.",
    "labels": "Work with Ground Truth's labels: consolidate, audit, choose the next round, follow a job.",
}
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
    terminal.quiet()
    try:
        act = parse(sys.argv[1:] if arguments is None else arguments)
        if act is not None:
            act()
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the output, such as `head`, has seen enough.
        terminal.forget_stdout()
        return terminal.CLOSED_PIPE
    except KeyboardInterrupt as stopped:
        known = f": {stopped}" if str(stopped) else ""
        print(f"\ninterrupted{known}{_left_behind()}", file=sys.stderr)
        return 130
    except Exception as error:
        mine = _known(error)
        if mine is None:
            raise
        print(f"error: {mine}{_left_behind()}", file=sys.stderr)
        return mine.exit_code
    return 0


def parse(arguments: Sequence[str]) -> Act | None:
    """Return the command that the arguments name; None if help or the version was asked for, and printed.

    Raises:
        UserError: the arguments are no command.
    """
    if list(arguments) == ["--version"]:
        print(f"{COMMAND} {__version__}")
        return None
    command, name, words = typer.main.get_command(app(program())), program(), list(arguments)
    known = getattr(command, "commands", {})
    if words and words[0] in known:
        # Without the options before a command: typer reads those of completion in a tenth of a second.
        command, name, words = known[words[0]], f"{name} {words[0]}", words[1:]
    try:
        found = command.main(words, prog_name=name, complete_var=COMPLETE, standalone_mode=False)
    except typer.TyperException as error:
        raise UserError(sentence(error)) from error
    except SystemExit as ended:
        # So typer ends where what reads its help has closed the pipe. Completion ends with 0.
        if ended.code == 1:
            raise BrokenPipeError from ended
        raise
    return found if callable(found) else None


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


def commands() -> tuple[Command, ...]:
    """Return all commands, in the order of their list."""
    modules = (compare, inspect, image, codebuild, launch, sweep, tune, labels, explain, policy)
    return tuple(command for module in modules for command in module.COMMANDS)


def app(program: str = COMMAND) -> typer.Typer:
    """Return the command line.

    Args:
        program: its name in examples.
    """
    made = typer.Typer(
        cls=Group,
        help="Train on chosen fractions of your data, here and on Amazon SageMaker, and compare the results.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings=HELP,
    )
    made.callback()(_root)
    groups: dict[str, typer.Typer] = {}
    for command in commands():
        group, _, _ = command.name.rpartition(" ")
        if group and group not in groups:
            groups[group] = typer.Typer(
                cls=Group, help=GROUPS[group], no_args_is_help=True, context_settings=HELP
            )
            made.add_typer(groups[group], name=group, short_help=GROUPS[group].rstrip("."))
        add(groups.get(group, made), command, program)
    return made


def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    pass


def program() -> str:
    """Return the program's name as it was called."""
    return COMMAND if Path(sys.argv[0]).name == COMMAND else "python -m deploy"


if __name__ == "__main__":
    sys.exit(main())

"""What the benchmarks share: their command line's errors, the machine's name, and files that are whole or not there."""

import argparse
import functools
import platform
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, ParamSpec

import torch

from subset_trainer.errors import TrainingError, UserError

P = ParamSpec("P")


class Parser(argparse.ArgumentParser):
    """Reports a wrong argument as every other mistake is reported: as a UserError. A description keeps its lines."""

    def __init__(self, prog: str | None = None, description: str | None = None) -> None:
        super().__init__(
            prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see --help)")


def command(main: Callable[P, int], interrupted: str = "interrupted") -> Callable[P, int]:
    """A benchmark's `main`, in which a mistake is one sentence and an exit code, and Ctrl-C is no traceback."""

    @functools.wraps(main)
    def reported(*arguments: P.args, **named: P.kwargs) -> int:
        try:
            return main(*arguments, **named)
        except TrainingError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt:
            print(f"\n{interrupted}", file=sys.stderr)
            return 130

    return reported


def resumable(main: Callable[P, int]) -> Callable[P, int]:
    """A `command` that keeps the runs that are finished."""
    return command(main, "interrupted; the same command resumes")


def processor() -> str:
    """The processor's model, or its architecture if the system does not report a model."""
    try:
        names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def synchronise(device: torch.device | None) -> None:
    """Wait until a GPU has finished its work; on other devices return at once."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


def write_text(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    # Imported here, so that a process whose memory is measured does not load what only the writing needs.
    from subset_trainer import artifacts

    artifacts.write(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))

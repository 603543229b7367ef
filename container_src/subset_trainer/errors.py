"""The three kinds of failure, by who can fix them.

SageMaker shows the message as the failure reason: one sentence that names the hyperparameter, channel, file or column,
the value, and what was expected.
"""

from typing import Literal


class TrainingError(Exception):
    """A failure with a message for the user and an exit code."""

    exit_code = 2


class UserError(TrainingError):
    """An error that the user can fix: a hyperparameter, the data, the choice of instance or image."""

    exit_code = 1


class AlgorithmError(TrainingError):
    """This program is at fault, or training itself failed."""


class PlatformError(TrainingError):
    """The machine or the service is at fault: a full disk, a file that cannot be read."""


def short_of_memory(error: BaseException) -> Literal["GPU", "host"] | None:
    """Whose memory ran out; None for any other error. It compares names and texts, so as not to import torch."""
    if isinstance(error, MemoryError):
        return "host"
    if type(error).__name__ == "OutOfMemoryError":
        return "GPU"
    if not isinstance(error, RuntimeError):
        return None
    # torch raises a plain RuntimeError for its allocator on the CPU and for CUDA's libraries.
    text = str(error)
    if "DefaultCPUAllocator" in text:
        return "host"
    return "GPU" if "CUDA error: out of memory" in text or "_STATUS_ALLOC_FAILED" in text else None


def first_line(error: BaseException, otherwise: str | None = None) -> str:
    """The first line of an error's message; where there is none, ``otherwise`` or the type's name."""
    return (str(error).strip().splitlines() or [otherwise or type(error).__name__])[0]


def shown(value: object, most: int = 200) -> str:
    """A value for a message: its repr, cut to ``most`` characters."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of more than 4,300 digits, which Python does not write out
        text = f"a very long {type(value).__name__}"
    return text if len(text) <= most else f"{text[:most]}…"

"""The three kinds of failure, classified by who can fix them.

SageMaker shows the message as the failure reason. It is one sentence that names the hyperparameter, channel, file or
column, the value, and what was expected.
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
    """The memory that ran out; None for any other error. Compares names and texts to avoid importing torch."""
    if isinstance(error, MemoryError):
        return "host"
    if type(error).__name__ == "OutOfMemoryError":
        return "GPU"
    if not isinstance(error, RuntimeError):
        return None
    # torch's CPU allocator and CUDA's libraries raise a plain RuntimeError.
    text = str(error)
    if "DefaultCPUAllocator" in text:
        return "host"
    return "GPU" if "CUDA error: out of memory" in text or "_STATUS_ALLOC_FAILED" in text else None


def first_line(error: BaseException, otherwise: str | None = None) -> str:
    """The first line of an error's message. If it is empty: ``otherwise``, by default the error's type name."""
    return (str(error).strip().splitlines() or [otherwise or type(error).__name__])[0]


def shown(value: object, most: int = 200) -> str:
    """A value's repr for a message, truncated to ``most`` characters."""
    try:
        text = repr(value)
    except ValueError:  # Python does not print integers of more than 4,300 digits
        text = f"a very long {type(value).__name__}"
    return text if len(text) <= most else f"{text[:most]}…"

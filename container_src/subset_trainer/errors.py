"""The three kinds of failure, told apart by who can mend them.

The message of each is what SageMaker shows as the failure reason: one readable sentence that names the knob,
channel or file, the value, and what was expected.
"""

from typing import Literal


class TrainingError(Exception):
    """A failure with a message fit for the user and an exit code."""

    exit_code = 2


class UserError(TrainingError):
    """The user can mend it: a hyperparameter, the data, the choice of instance or image."""

    exit_code = 1


class AlgorithmError(TrainingError):
    """This program is at fault, or training itself broke down."""


class PlatformError(TrainingError):
    """The machine or the service is at fault: a disk that is full, a configuration file that is missing."""


def short_of_memory(error: BaseException) -> Literal["GPU", "host"] | None:
    """Whose memory ran out; None where it is another error. By names and words, since this does not import torch."""
    if isinstance(error, MemoryError):
        return "host"
    if type(error).__name__ == "OutOfMemoryError":
        return "GPU"
    if not isinstance(error, RuntimeError):
        return None
    # What torch's classes do not tell apart: its allocator on the CPU, and CUDA's libraries.
    text = str(error)
    if "DefaultCPUAllocator" in text:
        return "host"
    return "GPU" if "CUDA error: out of memory" in text or "_STATUS_ALLOC_FAILED" in text else None


def first_line(error: BaseException, otherwise: str | None = None) -> str:
    """What an error says, in a sentence of ours; of one that says nothing its type's name, or what is given."""
    return (str(error).strip().splitlines() or [otherwise or type(error).__name__])[0]


def shown(value: object, most: int = 200) -> str:
    """A value in a message: its repr, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of more than 4,300 digits, which Python does not write out
        text = f"a very long {type(value).__name__}"
    return text if len(text) <= most else f"{text[:most]}…"

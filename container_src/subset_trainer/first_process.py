"""What the first process of a container owes to the others: it passes signals on, takes orphans, and says how the job
ended where the job itself cannot, because the kernel has killed it.
"""

import contextlib
import os
import signal
import sys
from pathlib import Path

from subset_trainer.data.machine import end_with_parent, killed_for_memory
from subset_trainer.errors import PlatformError, TrainingError, UserError

PASSED_ON = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
SHORT_OF_MEMORY = (
    "the machine's memory ran out, and the system ended the job: use less data, a smaller batch_size or image_size, or "
    "an instance with more memory"
)
_BEFORE_OTHERS = "500"
"""Of -1,000 to 1,000: which process the kernel ends where memory runs out. The job, not who is to speak for it."""


def tend() -> int | TrainingError | None:
    """Fork, and return None in the child, which is to be the job. Return in the parent after the child's end.

    Call this before there are threads. Signals reach the child, also those that arrived before the fork and are
    blocked. The child dies with the parent.

    Returns:
        The child's exit code, or why it was killed.
    """
    own = PASSED_ON | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, own)
    killed = killed_for_memory()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        end_with_parent()
        # Of its own, so that Ctrl-C in a terminal reaches it once.
        os.setsid()
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_BEFORE_OTHERS, encoding="utf-8")
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return None
    while (status := _ended(child)) is None:
        number = signal.sigwait(own)
        if number != signal.SIGCHLD:
            os.kill(child, number)
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return code
    if code == -signal.SIGKILL and killed_for_memory() > killed:
        return UserError(SHORT_OF_MEMORY)
    why = ": the machine's memory may have run out" if code == -signal.SIGKILL else ""
    return PlatformError(f"the job was ended by {signal.Signals(-code).name}{why}")


def _ended(child: int) -> int | None:
    """The child's status; None while it lives. Every other process that has ended is an orphan, and is forgotten."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in (0, child):
            return status if pid else None

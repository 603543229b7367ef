"""One of several processes that train together: ``python -m subset_trainer.worker``, started by torch's launcher."""

import logging
import os
import sys
import time
import traceback
from pathlib import Path

import torch.distributed as dist

from subset_trainer import contract, job
from subset_trainer.config import parse
from subset_trainer.entrypoint import failure_of, log_to_stdout
from subset_trainer.errors import TrainingError
from subset_trainer.training.interruption import Interruption, Terminated
from subset_trainer.training.parallel import launcher
from subset_trainer.training.parallel.hosts import Reason
from subset_trainer.training.parallel.ranks import Ranks

BYSTANDER_SECONDS = 10
"""How long a process that has lost another waits to be ended, so that the other one counts as the first to fail."""
LOST = ("connection", "gloo", "nccl", "timed out", "peer", "socket", "store")


def main() -> None:
    """Train, and leave the reason of a failure for the launcher."""
    rank = int(os.environ["RANK"])
    if rank == 0:
        log_to_stdout()
    else:
        log_to_stdout(f"process {rank}: ", logging.WARNING)
    interruption = Interruption()
    try:
        interruption.install()
        described = contract.read()
        hp = parse(described.hyperparameters)
        ranks = Ranks.join(interruption, cuda=launcher.gpus(hp) > 0)
        job.run(described, hp, ranks)
        ranks.leave()
    except Terminated:
        pass
    except BaseException as error:
        _leave_reason(rank, error, interruption)
    (Path(os.environ[launcher.REPORTS_VARIABLE]) / f"{os.environ['LOCAL_RANK']}{launcher.ENDED}").touch()
    logging.shutdown()
    sys.stdout.flush()
    # Not through the interpreter's end, which would wait for exchanges with processes that are gone.
    os._exit(0)


def _leave_reason(rank: int, error: BaseException, interruption: Interruption) -> None:
    bystander = _is_lost_peer(error)
    reason = failure_of(error)
    if not bystander and not isinstance(error, TrainingError):
        traceback.print_exception(error, file=sys.stdout)
    path = Path(os.environ[launcher.REPORTS_VARIABLE]) / f"{rank}.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(Reason.of(reason, bystander).to_json(), encoding="utf-8")
    temporary.replace(path)
    until = time.monotonic() + BYSTANDER_SECONDS
    while bystander and not interruption.requested and time.monotonic() < until:
        time.sleep(0.1)
    logging.shutdown()
    sys.stdout.flush()
    os._exit(reason.exit_code)


def _is_lost_peer(error: BaseException) -> bool:
    """Whether it says that another process is gone, rather than what this one did wrong."""
    if isinstance(error, dist.DistError):
        return True
    text = str(error).lower()
    return (
        isinstance(error, RuntimeError)
        and not isinstance(error, TrainingError)
        and any(word in text for word in LOST)
    )


if __name__ == "__main__":
    main()

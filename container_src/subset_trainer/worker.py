"""A worker process of distributed training: ``python -m subset_trainer.worker``, started by torch's launcher."""

import logging
import os
import sys
import time
from pathlib import Path

import torch.distributed as dist

from subset_trainer import contract, job
from subset_trainer.config import parse
from subset_trainer.data.machine import end_with_parent
from subset_trainer.entrypoint import failure_of, log_to_stdout, print_traceback
from subset_trainer.errors import PlatformError, TrainingError
from subset_trainer.training.interruption import Interruption, Terminated
from subset_trainer.training.parallel import launcher
from subset_trainer.training.parallel.heartbeat import Heartbeat
from subset_trainer.training.parallel.hosts import Reason
from subset_trainer.training.parallel.ranks import Ranks

BYSTANDER_SECONDS = 10
"""How long a process that has lost a peer waits before it exits, so that the peer is reported as the first failure."""
LOST = ("connection", "gloo", "nccl", "timed out", "peer", "socket", "store")


def main() -> None:
    """Train. On failure, write the reason to a file for the launcher."""
    rank = int(os.environ["RANK"])
    if rank == 0:
        log_to_stdout()
    else:
        log_to_stdout(f"process {rank}: ", logging.WARNING)
    end_with_parent()
    interruption = Interruption()
    try:
        interruption.install()
        described = contract.read()
        hp = parse(described.hyperparameters)
        ranks = Ranks.join(interruption, cuda=launcher.gpus(hp) > 0)
        watches = ranks.rank < 2 or ranks.local_rank == 0

        def end(error: PlatformError) -> None:
            _leave_reason(rank, error, interruption)

        with Heartbeat(ranks.rank, ranks.size, described.current_host, watches, end):
            job.run(described, hp, ranks)
            ranks.leave()
    except Terminated:
        pass
    except BaseException as error:
        _leave_reason(rank, error, interruption)
    (Path(os.environ[launcher.REPORTS_VARIABLE]) / f"{os.environ['LOCAL_RANK']}{launcher.ENDED}").touch()
    logging.shutdown()
    sys.stdout.flush()
    # The interpreter's normal shutdown would wait for collectives with processes that have ended.
    os._exit(0)


def _leave_reason(rank: int, error: BaseException, interruption: Interruption) -> None:
    bystander = _is_lost_peer(error)
    reason = failure_of(error)
    if not bystander and not isinstance(error, TrainingError):
        print_traceback(error)
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
    """Whether the error reports the loss of another process, not a fault of this one."""
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

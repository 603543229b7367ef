"""Starts one process per GPU of this host with torch's launcher, and reports the reason if one fails."""

import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from subset_trainer.config import Hyperparameters
from subset_trainer.contract import SHARDED, Contract
from subset_trainer.errors import PlatformError, UserError, first_line
from subset_trainer.training.parallel.hosts import PORT, SILENT_SECONDS, Hosts, Reason

logger = logging.getLogger(__name__)
REPORTS_VARIABLE = "SUBSET_TRAINER_REPORTS"
"""Names the folder to which each process writes the reason of its failure, in a file named by its rank."""
WORKER = "subset_trainer.worker"
ENDED = ".ended"
"""The suffix of the file, named by its local rank, that each process creates in that folder at its end."""
NETWORK = Path("/sys/class/net")
EFA = Path("/sys/class/infiniband")


def gpus(hp: Hyperparameters) -> int:
    """The number of this host's GPUs that the job uses."""
    return 0 if hp.device == "cpu" else torch.cuda.device_count()


def processes_here(hp: Hyperparameters) -> int:
    """The number of training processes on this host.

    Raises:
        UserError: the host has fewer GPUs than the requested processes.
    """
    have = gpus(hp)
    wanted = hp.processes_per_host or max(1, have)
    if 0 < have < wanted:
        raise UserError(
            f"hyperparameter processes_per_host={wanted}, but the host has {have} GPUs, one for each"
        )
    return wanted


def run(contract: Contract, hp: Hyperparameters) -> None:
    """Train in several processes, on this host and the job's other hosts. Returns normally also if SIGTERM ended it.

    Raises:
        TrainingError: a process failed. Every host raises the error of the process that failed first.
    """
    logging.getLogger("torch.distributed.elastic").setLevel(
        logging.CRITICAL
    )  # the failure is reported here, in one sentence
    hosts = Hosts(contract.hosts, contract.current_host, hp.host_wait_minutes)
    facts = {"processes": processes_here(hp), "gpus": gpus(hp)}
    try:
        met = hosts.meet(facts) if len(contract.hosts) > 1 else {contract.current_host: facts}
        taking_part = _taking_part(met)
        if contract.sharded and len(taking_part) < len(met):
            idle = ", ".join(name for name in met if name not in taking_part)
            raise UserError(
                f"channel {min(contract.sharded)!r} is sharded (S3DistributionType={SHARDED}), and {idle}, without a "
                "GPU, would keep its part to itself; expected FullyReplicated, or a GPU on every host or on none"
            )
        _prepare_network(contract.network_interface)
        if contract.current_host in taking_part:
            _train(contract, hosts, taking_part, facts["processes"])
        else:
            logger.info("this host has no GPU: %s train, and it waits for their end", ", ".join(taking_part))
            _wait(hosts)
    finally:
        hosts.leave()


def _taking_part(met: dict[str, dict[str, Any]]) -> list[str]:
    """The hosts that train: those with GPUs, or all if none has a GPU."""
    with_gpus = [name for name, facts in met.items() if facts["gpus"]]
    return with_gpus or list(met)


def _prepare_network(interface: str | None) -> None:
    """Set the network interface and the fabric provider for NCCL and gloo."""
    if interface and (NETWORK / interface).exists():
        os.environ.setdefault("NCCL_SOCKET_IFNAME", interface)
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    if EFA.is_dir() and any(device.name.startswith(("rdmap", "efa")) for device in EFA.iterdir()):
        os.environ.setdefault("FI_PROVIDER", "efa")


def _train(contract: Contract, hosts: Hosts, taking_part: list[str], processes: int) -> None:
    several = len(taking_part) > 1
    # By its own name, as torch would have it, a host without a network does not find itself.
    where: dict[str, Any] = {
        "rdzv_backend": "c10d",
        "rdzv_endpoint": "localhost:0",
        "local_addr": "127.0.0.1",
    }
    if several:
        node = taking_part.index(contract.current_host)
        where = {"rdzv_backend": "static", "rdzv_endpoint": f"{taking_part[0]}:{PORT + 1}"}
        where["rdzv_configs"] = {"rank": node, "timeout": 300}
    config = LaunchConfig(
        min_nodes=len(taking_part),
        max_nodes=len(taking_part),
        nproc_per_node=processes,
        run_id=contract.job_name or ("training" if several else uuid.uuid4().hex),
        max_restarts=0,
        monitor_interval=0.2,
        **where,
    )
    with tempfile.TemporaryDirectory(prefix="reports-") as reports:
        os.environ[REPORTS_VARIABLE] = reports
        # Set here, because torch's launcher would otherwise set it to 1 and log that.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // processes)))
        watch = _Watch(hosts)
        logger.info("starting %d processes on this host", processes)
        failed: dict[int, int] = {}
        stopped = False
        unstarted: Reason | None = None
        try:
            with watch, _StoppedProcesses(Path(reports)):
                elastic_launch(config, sys.executable)("-m", WORKER)
        except ChildFailedError as error:
            failed = {rank: failure.exitcode for rank, failure in error.failures.items()}
        except SignalException:
            stopped = watch.reason is None
        except RuntimeError as error:
            unstarted = Reason.of(
                PlatformError(f"the training's processes could not be started: {first_line(error)}")
            )
        finally:
            # The remaining steps are short, and torch's handler would interrupt them with an exception.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        reason = _reason(Path(reports), failed, contract.current_host) or unstarted
        if stopped and reason is not None and reason.bystander:
            reason = None  # it lost a process that did not end in time
        if watch.reason is not None and (reason is None or reason.bystander):
            reason = watch.reason
        if reason is None:
            if stopped and not all((Path(reports) / f"{rank}{ENDED}").exists() for rank in range(processes)):
                logger.warning("SIGTERM received: not all processes ended in time; the last checkpoint stays")
            return
        raise _settled(hosts, reason).error()


def _settled(hosts: Hosts, reason: Reason) -> Reason:
    """The reason of the job's failure: this host's own or, if it only lost another host, the reason of that host."""
    hosts.tell(reason)
    if not reason.bystander or len(hosts.names) == 1:
        return reason
    until = time.monotonic() + SILENT_SECONDS + 5
    while time.monotonic() < until:
        heard = hosts.heard()
        if heard is not None and not heard.bystander:
            hosts.tell(heard)
            return heard
        if heard is not None:
            return heard  # the host that knows the reason is gone
        time.sleep(0.5)
    return reason


def _reason(reports: Path, failed: dict[int, int], host: str) -> Reason | None:
    """The reason why a process of this host failed: its report or, without one, its exit code."""
    left = sorted(reports.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    reasons = {path.stem: Reason.from_json(path.read_text(encoding="utf-8")) for path in left}
    own = [reason for reason in reasons.values() if not reason.bystander]
    if own:
        return own[0]
    for rank, code in sorted(failed.items()):
        # The launcher ends the others with SIGTERM.
        if code < 0 and -code != signal.SIGTERM and str(rank) not in reasons:
            name = signal.Signals(-code).name
            why = ": the host's memory may have run out" if -code == signal.SIGKILL else ""
            return Reason.of(
                PlatformError(f"process {rank} of the training, on {host}, was ended by {name}{why}")
            )
    if reasons:
        return next(iter(reasons.values()))
    if failed:
        ends = ", ".join(f"{rank} with {code}" for rank, code in sorted(failed.items()))
        return Reason.of(
            PlatformError(f"processes of the training, on {host}, ended without a reason: {ends}")
        )
    return None


def _wait(hosts: Hosts) -> None:
    """Wait until the hosts that train have left.

    Raises:
        TrainingError: a host failed.
    """
    while (reason := hosts.heard()) is None:
        if hosts.alone():
            return
        time.sleep(1)
    raise reason.error()


class _StoppedProcesses:
    """Ends those of this host's processes that are stopped (SIGSTOP), once all are to end: by SIGTERM, or because one
    has failed. SIGTERM does not reach a stopped process, the others wait for it in a collective, and torch's launcher
    ends them by SIGKILL after half a minute only.
    """

    def __init__(self, reports: Path) -> None:
        self._reports = reports
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stopped-processes", daemon=True)

    def __enter__(self) -> "_StoppedProcesses":
        # Told of signals by the interpreter, whatever handlers torch's launcher installs.
        self._signals, own = socket.socketpair()
        own.setblocking(False)
        self._own, self._before = own, signal.set_wakeup_fd(own.fileno(), warn_on_full_buffer=False)
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        signal.set_wakeup_fd(self._before)
        self._over.set()
        self._thread.join()
        self._own.close()
        self._signals.close()

    def _run(self) -> None:
        self._signals.settimeout(0.5)
        ending = False
        while not self._over.is_set():
            try:
                ending = ending or bool({*self._signals.recv(64)} & {signal.SIGTERM, signal.SIGINT})
            except TimeoutError:
                ending = ending or any(self._reports.glob("*.json"))
            if ending:
                self._over.wait(0.5)
                self._end_stopped()

    def _end_stopped(self) -> None:
        for child in psutil.Process().children():
            try:
                if child.status() == psutil.STATUS_STOPPED:
                    logger.warning(
                        "a process of the training (%d) is stopped, and is ended by SIGKILL", child.pid
                    )
                    child.kill()
            except psutil.Error:
                continue


class _Watch:
    """Monitors the other hosts during training, and ends this host's processes if another host fails."""

    def __init__(self, hosts: Hosts) -> None:
        self.reason: Reason | None = None
        self._hosts = hosts
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> "_Watch":
        if len(self._hosts.names) > 1:
            self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _listen(self) -> None:
        while not self._over.wait(1):
            reason = self._hosts.heard()
            if reason is not None and not self._over.is_set():
                self.reason = reason
                # The launcher in the main thread handles this like the platform's SIGTERM, and ends its processes.
                os.kill(os.getpid(), signal.SIGTERM)
                return

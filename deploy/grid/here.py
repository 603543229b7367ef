"""Runs cells on this machine: each is a run of the image's `train` program in its own folder."""

import fcntl
import itertools
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploy.grid import program
from deploy.grid.agenda import Agenda
from deploy.grid.backend import Ended
from deploy.grid.plan import Cell
from deploy.results import compare
from deploy.results.compare import Lost, Run
from subset_trainer.config import hyperparameters
from subset_trainer.errors import TrainingError, UserError

BAR = 16


@dataclass(frozen=True)
class Here:
    """Runs each cell in a subfolder that has the cell's name.

    A completed run of the same hyperparameters is not run again, and one that was interrupted resumes. The channels
    must be those of the runs that are there: `studies` gives other data another folder.
    """

    folder: Path
    channels: Mapping[str, Path]
    jobs: int = 1
    """Number of runs at a time; each has its own share of the processors."""
    threads: int | None = None
    """Number of threads of a run on a CPU; None for what the environment says, or all."""
    overwrite: bool = False
    """Whether the cells' earlier runs are removed and run again."""
    stop_at_failure: bool = False
    """Whether the first failure stops all runs and raises the error with the run's name."""
    progress: bool = False
    """Whether each run shows a progress bar; only with one job at a time."""

    def run(self, agenda: Agenda) -> Iterator[Ended]:
        """Yield each cell as it ends.

        On an interruption, active runs stop in an orderly way; with several jobs, at the end of their current epochs.

        Raises:
            UserError: a channel's path does not exist.
            TrainingError: a run failed, with `stop_at_failure`.
        """
        program.check_channels(self.channels)
        if self.jobs > 1:
            yield from self._run_several(agenda)
            return
        while (cell := agenda.take()) is not None:
            yield cell, self._run_one(cell, self._shown(cell, agenda))

    def look_up(self, agenda: Agenda) -> int:
        """Record the runs that an earlier call completed; return their number."""
        known = {} if self.overwrite else {cell: self.finished(cell) for cell in agenda.cells}
        found = {cell: run for cell, run in known.items() if run is not None}
        for cell, run in found.items():
            agenda.record(cell, run)
        return len(found)

    def place(self, cell: Cell) -> Path:
        """Return the folder of a cell's run: by its name, with a number if that of the name is another run's."""
        name = cell.folder
        for number in itertools.count(2):
            base = self.folder / name
            values = program.given(base)
            if program.is_free(base) if values is None else _same(values, cell.values):
                return base
            name = f"{cell.folder}-{number}"
        raise AssertionError("there is always a further number")

    def finished(self, cell: Cell) -> Run | None:
        """Return the completed run with exactly this cell's hyperparameters, if there is one."""
        try:
            run = replace(compare.read_run(self.place(cell)), name=cell.name)
        except UserError:
            return None
        if run.summary.get("status") != "completed" or (
            "test" in self.channels and not run.summary.get("test")
        ):
            return None
        # Defaults that changed since are other hyperparameters. An encoder's run names those that it used.
        wanted = hyperparameters.parse(cell.values).model_dump(mode="json")
        return (
            run if run.summary.get("model") == "encoder" or run.summary["hyperparameters"] == wanted else None
        )

    def _earlier(self, cell: Cell) -> Run | None:
        return None if self.overwrite else self.finished(cell)

    def _shown(self, cell: Cell, agenda: Agenda) -> "Progress | None":
        if not self.progress:
            return None
        label = f"{agenda.count()} {cell.name:<{max(len(one.name) for one in agenda.cells)}}"
        return Progress(label, hyperparameters.parse(cell.values).epochs)

    def _run_one(
        self, cell: Cell, progress: "Progress | None" = None, stop: threading.Event | None = None
    ) -> Run | Lost:
        def watch(metrics: Mapping[str, float]) -> None:
            if stop is not None and stop.is_set():
                raise KeyboardInterrupt
            if progress is not None:
                progress.update(metrics)

        base = self.place(cell)
        try:
            with _alone(base, cell.name) as lock:
                # Another process may have completed it meanwhile.
                if (done := self._earlier(cell)) is not None:
                    return done
                program.train(
                    base,
                    self.channels,
                    cell.values,
                    watch,
                    resume=not self.overwrite,
                    threads=self.threads,
                    inherited=(lock,),
                )
                run = replace(compare.read_run(base), name=cell.name)
                if run.summary["status"] == "completed":
                    shutil.rmtree(base / program.CHECKPOINTS, ignore_errors=True)
        except TrainingError as error:
            if self.stop_at_failure:
                raise type(error)(f"run {cell.name!r}: {error}") from error
            return Lost(cell.name, str(error))
        finally:
            if progress is not None:
                progress.close()
        # SIGTERM from outside stops a run in an orderly way, but before its last epoch.
        stopped = run.summary["status"] != "completed" and not self.stop_at_failure
        return Lost(cell.name, "the run was stopped before its end") if stopped else run

    def _run_several(self, agenda: Agenda) -> Iterator[Ended]:
        stop = threading.Event()

        def run_one(cell: Cell) -> Run | Lost:
            return Lost(cell.name, "interrupted") if stop.is_set() else self._run_one(cell, stop=stop)

        with ThreadPoolExecutor(
            self.jobs, initializer=_take_processors, initargs=(_shares(self.jobs),)
        ) as pool:
            active: dict[Future[Run | Lost], Cell] = {}
            try:
                while True:
                    while len(active) < self.jobs and (cell := agenda.take()) is not None:
                        active[pool.submit(run_one, cell)] = cell
                    if not active:
                        return
                    for future in wait(active, return_when=FIRST_COMPLETED).done:
                        yield active.pop(future), future.result()
            except BaseException:
                # Active runs stop at the end of their current epochs.
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _same(values: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether two sets of hyperparameters mean the same."""
    try:
        # Those that were given: an encoder has other defaults than those that are declared.
        first, second = (
            hyperparameters.parse(each).model_dump(exclude_unset=True) for each in (values, others)
        )
        return first == second
    except UserError:  # of another version
        return False


@contextmanager
def _alone(base: Path, name: str) -> Iterator[int]:
    """Wait until no other process trains in a run's folder; keep others out meanwhile. Yield the lock's descriptor.

    The run itself inherits the lock: it may outlive this process for as long as it takes to save its results.
    """
    base.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(base.with_name(f".{base.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{name}: waiting for another process that trains in {base}", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def _shares(jobs: int) -> list[set[int]]:
    processors = sorted(os.sched_getaffinity(0))
    return [set(processors[job::jobs]) or set(processors) for job in range(jobs)]


def _take_processors(shares: list[set[int]]) -> None:
    # On Linux, affinity belongs to a thread, and a new process inherits it from the thread that starts it. So a run
    # only sees its own share of the processors, and sizes its thread pools accordingly.
    os.sched_setaffinity(0, shares.pop())


class Progress:
    """A progress line of one run: redrawn in place in a terminal, else printed at the start and the end."""

    def __init__(self, label: str, epochs: int) -> None:
        self._label = label
        self._epochs = epochs
        self._start = time.monotonic()
        self._terminal = sys.stdout.isatty()
        self._last = f"{label} starting"
        self._show()

    def update(self, metrics: Mapping[str, float]) -> None:
        """Update the line with the metrics of one log line of the run."""
        if "validation:accuracy" not in metrics:
            return
        epoch = int(metrics["epoch"])
        filled = BAR * epoch // self._epochs
        self._last = (
            f"{self._label} epoch {epoch:>{len(str(self._epochs))}}/{self._epochs} "
            f"{'█' * filled}{'░' * (BAR - filled)} validation accuracy {metrics['validation:accuracy']:.2%}, "
            f"{time.monotonic() - self._start:.0f} s"
        )
        if self._terminal:
            self._show()

    def close(self) -> None:
        """Print the final state."""
        self._show()
        if self._terminal:
            print(flush=True)

    def _show(self) -> None:
        if self._terminal:
            print(f"\r\x1b[K{self._last}", end="", flush=True)
        else:
            print(self._last, flush=True)

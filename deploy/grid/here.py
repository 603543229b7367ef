"""Runs cells on this machine: each is a run of the image's `train` program in its own folder."""

import fcntl
import itertools
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploy.grid import program
from deploy.grid.agenda import Agenda
from deploy.grid.backend import Ended
from deploy.grid.duration import seconds_left
from deploy.grid.plan import Cell
from deploy.progress import Board, Progress
from deploy.results import compare
from deploy.results.compare import Lost, Run
from subset_trainer.config import hyperparameters
from subset_trainer.config.resolved import as_trained, optimizer_before
from subset_trainer.errors import TrainingError, UserError
from subset_trainer.tracking.metrics import spoken_time


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
    """Whether runs show how far they are: live in a terminal, and with one job at a time as lines elsewhere."""

    def run(self, agenda: Agenda) -> Iterator[Ended]:
        """Yield each cell as it ends.

        On an interruption, active runs stop in an orderly way; with several jobs, at the end of their current epochs.

        Raises:
            UserError: a channel's path does not exist.
            TrainingError: a run failed, with `stop_at_failure`.
        """
        program.check_channels(self.channels)
        board = Board(lines=self.jobs == 1) if self.progress else None
        if self.jobs > 1:
            yield from self._run_several(agenda, board)
            return
        while (cell := agenda.take()) is not None:
            yield cell, self._run_one(cell, _shown(cell, agenda, board))

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
                done = _completed(base)
                if done is None or self._has(done, cell):
                    return base
            name = f"{cell.folder}-{number}"
        raise AssertionError("there is always a further number")

    def finished(self, cell: Cell) -> Run | None:
        """Return the completed run with exactly this cell's hyperparameters, if there is one."""
        run = _completed(self.place(cell))
        if run is None or ("test" in self.channels and not run.summary.get("test")):
            return None
        return replace(run, name=cell.name)

    def _has(self, run: Run, cell: Cell) -> bool:
        """Whether a run had a cell's hyperparameters, also those that were not given, as defaults change."""
        kind, model = (run.summary.get(name, "") for name in ("kind", "model"))
        wanted = as_trained(hyperparameters.parse(cell.values), kind, model, "pretrained" in self.channels)
        theirs = run.hyperparameters
        if theirs["optimizer"] == "auto":  # of an earlier version
            theirs = {**theirs, "optimizer": optimizer_before(model)}
        return theirs == wanted.model_dump(mode="json")

    def _earlier(self, cell: Cell) -> Run | None:
        return None if self.overwrite else self.finished(cell)

    def _run_one(
        self, cell: Cell, progress: Progress | None = None, stop: threading.Event | None = None
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
                run = replace(_read(base), name=cell.name)
                if run.summary["status"] == "completed":
                    shutil.rmtree(base / program.CHECKPOINTS, ignore_errors=True)
        except TrainingError as error:
            if progress is not None:
                progress.cut("failed")
            if self.stop_at_failure:
                raise type(error)(f"run {cell.name!r}: {error}") from error
            return Lost(cell.name, str(error))
        except KeyboardInterrupt:
            if progress is not None:
                progress.cut("interrupted")
            raise
        finally:
            if progress is not None:
                progress.close()
        # SIGTERM from outside stops a run in an orderly way, but before its last epoch.
        stopped = run.summary["status"] != "completed" and not self.stop_at_failure
        return Lost(cell.name, "the run was stopped before its end") if stopped else run

    def _run_several(self, agenda: Agenda, board: Board | None) -> Iterator[Ended]:
        stop = threading.Event()

        def run_one(cell: Cell, progress: Progress | None) -> Run | Lost:
            if not stop.is_set():
                return self._run_one(cell, progress, stop)
            if progress is not None:
                progress.close()
            return Lost(cell.name, "interrupted")

        with ThreadPoolExecutor(
            self.jobs, initializer=_take_processors, initargs=(_shares(self.jobs),)
        ) as pool:
            active: dict[Future[Run | Lost], Cell] = {}
            try:
                while True:
                    while len(active) < self.jobs and (cell := agenda.take()) is not None:
                        active[pool.submit(run_one, cell, _shown(cell, agenda, board))] = cell
                    if not active:
                        return
                    for future in wait(active, return_when=FIRST_COMPLETED).done:
                        yield active.pop(future), future.result()
            except BaseException:
                # Active runs stop at the end of their current epochs.
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _shown(cell: Cell, agenda: Agenda, board: Board | None) -> Progress | None:
    if board is None:
        return None
    label = f"{agenda.count()} {cell.name:<{max(len(one.name) for one in agenda.cells)}}"
    left = seconds_left(dict.fromkeys([cell, *agenda.needed()]), agenda.outcomes)
    return board.start(label, hyperparameters.parse(cell.values).epochs, spoken_time(left) if left else None)


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


def _read(base: Path) -> Run:
    return replace(compare.read_run(base), processor_seconds=program.processor_seconds(base))


def _completed(base: Path) -> Run | None:
    """Return the run in a folder, if it was completed."""
    try:
        run = _read(base)
    except UserError:
        return None
    return run if run.summary.get("status") == "completed" else None


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

"""How far runs are: a live line for each run at work in a terminal, lines at their starts and ends elsewhere."""

import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

BAR = 16


class Board:
    """The live display of several runs, which is there while one of them is.

    Args:
        lines: whether a line is printed where a run starts (not in a terminal) and ends.
    """

    def __init__(self, lines: bool = True) -> None:
        self.lines = lines
        self.display: Any = _display() if sys.stdout.isatty() else None
        self._lock = threading.Lock()
        self._active = 0

    def start(self, label: str, epochs: int, left: str | None = None) -> "Progress":
        """Show a run.

        Args:
            label: the run's number and name.
            epochs: number of its epochs.
            left: what is known of the time that all runs still take, in words.
        """
        with self._lock:
            self._active += 1
            if self._active == 1 and self.display is not None:
                self.display.start()
        return Progress(self, label, epochs, f" (all: {left})" if left else "")

    def end(self) -> None:
        """Show one run less."""
        with self._lock:
            self._active -= 1
            if self._active == 0 and self.display is not None:
                self.display.stop()


class Progress:
    """The progress of one run of a board."""

    def __init__(self, board: Board, label: str, epochs: int, left: str) -> None:
        self._board = board
        self._label = label
        self._epochs = epochs
        self._left = left
        self._start = time.monotonic()
        self._result = "starting"
        if board.display is not None:
            self._task = board.display.add_task(label.rstrip(), total=epochs, state=f"starting{left}")
        elif board.lines:
            print(f"{label} {self._result}", flush=True)

    def update(self, metrics: Mapping[str, float]) -> None:
        """Show the metrics of an epoch, or `step` of `steps` within one."""
        epoch = int(metrics.get("epoch", 0))
        if "step" in metrics:
            done = epoch - 1 + metrics["step"] / metrics["steps"]
            state = f"epoch {epoch}/{self._epochs} step {metrics['step']:.0f}/{metrics['steps']:.0f}"
        elif "validation:accuracy" in metrics:
            done = float(epoch)
            state = f"epoch {epoch}/{self._epochs} {metrics['validation:accuracy']:.2%}"
            self._result = (
                f"epoch {epoch:>{len(str(self._epochs))}}/{self._epochs}, "
                f"validation accuracy {metrics['validation:accuracy']:.2%}"
            )
        else:
            return
        if self._board.display is not None:
            self._board.display.update(self._task, completed=done, state=f"{state}{self._left}")

    def cut(self, how: str) -> None:
        """Let the final state be that the run did not end well. how: `failed` or `interrupted`."""
        self._result = f"{how} after {self._result}" if self._result != "starting" else how

    def close(self) -> None:
        """Take the run off the board, and print its final state."""
        if self._board.display is not None:
            self._board.display.remove_task(self._task)
        self._board.end()
        if self._board.lines:
            print(f"{self._label} {self._result}, {time.monotonic() - self._start:.0f} s", flush=True)


def _display() -> Any:
    # Imported here because rich's displays take a moment to import, and pipes do not need them.
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    return Progress(
        TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
        BarColumn(BAR),
        TextColumn("{task.fields[state]}", table_column=Column(no_wrap=True)),
        TimeRemainingColumn(compact=True),
        transient=True,
        expand=True,
    )

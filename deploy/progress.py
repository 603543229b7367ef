"""How far a run is: one line that is redrawn in a terminal, and a line at its start and end elsewhere."""

import sys
import time
from collections.abc import Mapping
from typing import Any

BAR = 16


class Progress:
    """The progress of one run.

    Args:
        label: the run's number and name.
        epochs: number of its epochs.
        left: what is known of the time that all runs still take, in words.
    """

    def __init__(self, label: str, epochs: int, left: str | None = None) -> None:
        self._label = label
        self._epochs = epochs
        self._left = f" (all runs: {left})" if left else ""
        self._start = time.monotonic()
        self._result = "starting"
        self._display: Any = None
        if sys.stdout.isatty():
            self._display = _display()
            self._task = self._display.add_task(label, total=epochs, state=f"starting{self._left}")
            self._display.start()
        else:
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
        if self._display is not None:
            self._display.update(self._task, completed=done, state=f"{state}{self._left}")

    def close(self) -> None:
        """Print the final state."""
        if self._display is not None:
            self._display.stop()
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

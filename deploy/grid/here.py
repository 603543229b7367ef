"""The article's experiment on this machine: the same training on the full data and on fractions of it."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.grid import program
from deploy.results import compare
from subset_trainer import hyperparameters
from subset_trainer.errors import TrainingError

BAR = 16


def run(
    output: Path,
    channels: Mapping[str, Path],
    fractions: Sequence[float],
    strategy: str,
    settings: Mapping[str, Any],
    baselines: bool = False,
) -> list[compare.Run]:
    """Train once for each fraction, 1 meaning the full data, each in a folder of its own below `output`.

    `settings` are hyperparameters that all runs share. With `baselines`, each fraction below 1 is followed by
    full data for as many epochs as cost the same sample visits, on a schedule compressed to them, and by `rs2` (a
    fresh random subset every epoch) at the same fraction. Everything is validated before the first run starts.

    Raises UserError or AlgorithmError with the run's name when one fails; finished runs stay where they are.
    """
    planned: list[tuple[str, dict[str, Any]]] = []
    for fraction in fractions:
        whole = fraction == 1
        chosen = {"strategy": "full"} if whole else {"strategy": strategy, "fraction": fraction}
        planned.append(("full" if whole else f"{strategy}-{fraction:g}", {**settings, **chosen}))
        if baselines and not whole:
            planned.append((f"full-at-{fraction:g}", {**settings, "strategy": "full"}))
            planned.append((f"rs2-{fraction:g}", {**settings, "strategy": "rs2", "fraction": fraction}))
    program.check_channels(channels)
    for _, values in planned:
        hyperparameters.parse(values)

    runs: list[compare.Run] = []
    for number, (name, values) in enumerate(planned, 1):
        if name.startswith("full-at-"):
            # The visits that the run before it really made, warm-up included.
            spent = runs[-1].summary
            values["epochs"] = max(1, round(spent["samples_visited"] / spent["examples"]["training"]))
        epochs = hyperparameters.parse(values).epochs
        progress = Progress(f"[{number}/{len(planned)}] {name:<14}", epochs)
        try:
            program.train(output / name, channels, values, progress.update)
        except TrainingError as error:
            raise type(error)(f"run {name!r}: {error}") from error
        finally:
            progress.close()
        runs.append(compare.read_run(output / name))
    return runs


class Progress:
    """One line a run: rewritten in place in a terminal, printed at the start and the end elsewhere."""

    def __init__(self, label: str, epochs: int) -> None:
        self._label = label
        self._epochs = epochs
        self._start = time.monotonic()
        self._terminal = sys.stdout.isatty()
        self._last = f"{label} starting"
        self._show()

    def update(self, metrics: Mapping[str, float]) -> None:
        """Take in one metric line of the training."""
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
        """Leave the last state standing."""
        self._show()
        if self._terminal:
            print(flush=True)

    def _show(self) -> None:
        if self._terminal:
            print(f"\r\x1b[K{self._last}", end="", flush=True)
        else:
            print(self._last, flush=True)

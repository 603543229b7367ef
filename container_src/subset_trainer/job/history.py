"""Writes each epoch's report to the log, the files and the trackers."""

from collections.abc import Mapping, Sequence
from typing import Any

from subset_trainer import artifacts
from subset_trainer.job.values import Run
from subset_trainer.tracking import metrics
from subset_trainer.training.checkpoints import Checkpoints
from subset_trainer.training.reports import EpochReport


class History:
    """The reports of a run's epochs. Every process holds them, and the first process writes them.

    Args:
        run: the run.
        checkpoints: also store the subsets; None: the run keeps no checkpoints.
        silent: only keep the reports, until :meth:`publish`.
    """

    def __init__(self, run: Run, checkpoints: Checkpoints | None, silent: bool = False) -> None:
        self._run, self._checkpoints, self._silent = run, checkpoints, silent
        self._resumed = 0
        self._output = run.contract.output_data
        self.reports: list[EpochReport] = []
        self.rows: list[dict[str, Any]] = []
        self.lost_subsets: list[int] = []
        """Epochs whose subsets an earlier machine had, and which its checkpoints do not give back."""

    def add(self, report: EpochReport) -> None:
        """Add and write the report of an epoch that has ended."""
        self.reports.append(report)
        self.rows.append(_row(report))
        if not self._run.first:
            return
        if report.subset is not None and self._checkpoints:
            self._checkpoints.keep_subset(report.epoch.number, report.subset)
        if not self._silent:
            self._write_subset(report)
            artifacts.save_history(self._output / "history.jsonl", self.rows)
            self.tell(self.rows[-1])

    def restore(self, done: Sequence[EpochReport]) -> None:
        """Restore the reports of a resumed run, because its output folders are not on this machine."""
        self.reports.extend(done)
        self.rows.extend(map(_row, done))
        self._resumed = len(done)
        if self._run.first and not self._silent:
            self._restore_subsets()
            artifacts.save_history(self._output / "history.jsonl", self.rows)

    def publish(self) -> None:
        """Write and report all epochs of a silent run, as if they had just ended."""
        if not self._run.first:
            return
        self._restore_subsets()
        for report in self.reports:
            self._write_subset(report)
        artifacts.save_history(self._output / "history.jsonl", self.rows)
        for row in self.rows:
            self.tell(row, row["epoch"])

    def _write_subset(self, report: EpochReport) -> None:
        if report.subset is not None:
            artifacts.save_subset(self._output / "subsets", report.epoch.number, report.subset)

    def _restore_subsets(self) -> None:
        if self._checkpoints and self._resumed:
            self.lost_subsets = self._checkpoints.restore_subsets(self._output / "subsets", self._resumed)

    def tell(self, values: Mapping[str, Any], epoch: int | None = None) -> None:
        """Send metrics of an epoch, by default the last, to the trackers and to the log, from which SageMaker parses
        them."""
        epoch = epoch or self.reports[-1].epoch.number
        print(metrics.line(epoch, values), flush=True)
        known = {name: values[name] for name in metrics.FORMATS if name in values}
        self._run.trackers.metrics(epoch, known)


def _row(report: EpochReport) -> dict[str, Any]:
    return {
        "epoch": report.epoch.number,
        "train:loss": report.train.loss,
        "train:accuracy": report.train.accuracy,
        **{f"validation:{name}": value for name, value in report.validation.measures().items()},
        "epoch:seconds": report.training_seconds,
        "selection:seconds": report.selection_seconds,
        "evaluation:seconds": report.evaluation_seconds,
        "samples:visited": report.samples_visited,
        "learning_rate": report.learning_rate,
        "subset_size": report.subset_size,
    }

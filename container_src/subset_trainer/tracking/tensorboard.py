"""TensorBoard's event files, for ``tensorboard --logdir`` and SageMaker's TensorBoardOutputConfig."""

from pathlib import Path

from subset_trainer.tracking.background import Background, Backlog


class TensorBoard(Background):
    """Writes one job's scalars. Does nothing where ``directory`` is None."""

    def __init__(self, directory: Path | None) -> None:
        connect = None if directory is None else lambda: _Writer(directory)
        super().__init__("TensorBoard", connect, imports=["torch.utils.tensorboard"])


class _Writer:
    def __init__(self, directory: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(directory))

    def send(self, backlog: Backlog) -> None:
        if backlog.parameters:
            rows = [f"| {name} | {value} |" for name, value in backlog.parameters.items()]
            table = "\n".join(["| hyperparameter | value |", "| --- | --- |", *rows])
            self._writer.add_text("hyperparameters", table, 0)
        for metric in backlog.metrics:
            # TensorBoard groups charts by the part of the name before a slash, and does not allow colons.
            name = metric.name.replace(":", "/")
            self._writer.add_scalar(name, metric.value, metric.step, metric.time.timestamp())
        backlog.parameters.clear()
        backlog.metrics.clear()
        self._writer.flush()
        if backlog.outcome is not None:
            self._writer.close()

    def passing(self, error: Exception) -> bool:
        return False

"""Combines all trackers of a job."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from subset_trainer.tracking.background import Background, Outcome
from subset_trainer.tracking.experiments import Experiments
from subset_trainer.tracking.mlflow import URI_VARIABLE, MLflow
from subset_trainer.tracking.tensorboard import TensorBoard

DRAIN_SECONDS: dict[Outcome, float] = {"completed": 30.0, "failed": 30.0, "stopped": 10.0}
"""Seconds that a job waits for its trackers at the end. A stopped job has less time."""


class Trackers:
    def __init__(self, trackers: Sequence[Background]) -> None:
        self._trackers = trackers

    @classmethod
    def of_this_job(cls, tensorboard: Path | None, mlflow_uri: str | None) -> "Trackers":
        """The trackers that the hyperparameters and the environment configure."""
        return cls(
            (
                Experiments.of_this_job(),
                MLflow(mlflow_uri or os.environ.get(URI_VARIABLE)),
                TensorBoard(tensorboard),
            )
        )

    def parameters(self, values: Mapping[str, Any]) -> None:
        for tracker in self._trackers:
            tracker.parameters(values)

    def metrics(self, epoch: int, values: Mapping[str, float]) -> None:
        for tracker in self._trackers:
            tracker.metrics(epoch, values)

    def close(self, outcome: Outcome) -> None:
        """Wait a bounded time until all trackers have sent everything."""
        deadline = time.monotonic() + DRAIN_SECONDS[outcome]
        for tracker in self._trackers:
            tracker.finish(outcome)
        for tracker in self._trackers:
            tracker.wait(max(0.0, deadline - time.monotonic()))

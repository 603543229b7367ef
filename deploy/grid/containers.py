"""Runs cells in containers of the image on this machine, with SageMaker's local mode."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.aws import jobs
from deploy.grid.agenda import Agenda
from deploy.grid.backend import Ended, digest
from deploy.results import compare
from subset_trainer.errors import TrainingError

if TYPE_CHECKING:
    from sagemaker.estimator import Estimator


@dataclass(frozen=True)
class Containers:
    """Runs the cells one after the other. Cells with results from an earlier call are not run again."""

    image_uri: str
    make: "Callable[[Mapping[str, Any], Path], Estimator]"
    """(hyperparameters, folder of the results) → an `Estimator` in local mode."""
    channels: Mapping[str, str]
    """Name → URI."""
    folder: Path
    """Folder for the results; each cell has its own subfolder."""
    say: Callable[[str], None] = print
    """Called with each progress message."""

    def run(self, agenda: Agenda) -> Iterator[Ended]:
        """Run each cell in turn. A cell that fails does not stop the others."""
        while (cell := agenda.take()) is not None:
            results = self.folder / f"{cell.name}-{digest(cell.values, self.image_uri, self.channels)}"
            self.say(f"{agenda.count()} {cell.name}")
            try:
                if not (results / "summary.json").exists():
                    jobs.fit_here(self.make(cell.values, results), self.channels, results)
                yield cell, replace(compare.read_run(results), name=cell.name)
            except TrainingError as error:
                self.say(f"{cell.name}: {error}")
                yield cell, compare.Lost(cell.name, str(error))

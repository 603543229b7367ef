"""Cells in containers of the image on this machine: SageMaker's local mode."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.aws import jobs
from deploy.grid.backend import Ended, digest
from deploy.grid.plan import Cell
from deploy.results import compare
from subset_trainer.errors import TrainingError

if TYPE_CHECKING:
    from sagemaker.estimator import Estimator


@dataclass(frozen=True)
class Containers:
    """One after the other; those that left results before are not run again."""

    image_uri: str
    make: "Callable[[Mapping[str, Any], Path], Estimator]"
    """Hyperparameters, and the folder of the results → an `Estimator` of local mode."""
    channels: Mapping[str, str]
    """Name → URI."""
    folder: Path
    """Where each cell's results go, into a folder of its own."""
    say: Callable[[str], None] = print
    """Takes a line about what happens."""

    def run(self, cells: Sequence[Cell]) -> Iterator[Ended]:
        """Each cell in turn. One that fails does not end the others."""
        for number, cell in enumerate(cells, 1):
            results = self.folder / f"{cell.name}-{digest(cell, self.image_uri, self.channels)}"
            self.say(f"[{number}/{len(cells)}] {cell.name}")
            try:
                if not (results / "summary.json").exists():
                    jobs.fit_here(self.make(cell.values, results), self.channels, results)
                yield cell, replace(compare.read_run(results), name=cell.name)
            except TrainingError as error:
                self.say(f"{cell.name}: {error}")
                yield cell, compare.Lost(cell.name, str(error))

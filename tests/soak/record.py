"""The kills of a campaign, counted by shape and moment; a file holds those of earlier ones."""

import dataclasses
import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.soak.variants import KINDS, MOMENTS, SHAPES

Position = tuple[int, int, int]


@dataclass(frozen=True)
class Kill:
    """A kill, by what the job left behind."""

    seed: int
    shape: str
    strategy: str
    kind: str
    processes: int
    how: str
    moment: str
    """``elsewhere``: it had gone on before it was killed."""
    where: str
    """The line at which it was, or which it had passed."""
    position: Position
    """Epoch and step of the newest checkpoint, and the stage after the last."""
    counts: bool
    seconds: float
    """Until it had ended."""


@dataclass(frozen=True)
class Record:
    """The kills so far, of this test and of earlier ones that wrote to the same file."""

    file: Path | None
    kills: list[Kill] = field(default_factory=list)

    @classmethod
    def of(cls, path: str | None) -> "Record":
        file = Path(path) if path else None
        lines = file.read_text(encoding="utf-8").splitlines() if file and file.exists() else []
        known = [json.loads(line) for line in lines]
        return cls(file, [Kill(**{**each, "position": tuple(each["position"])}) for each in known])

    def add(self, kills: list[Kill]) -> None:
        self.kills.extend(kills)
        if self.file:
            with self.file.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(dataclasses.asdict(kill)) + "\n" for kill in kills)

    def counted(self, **wanted: Any) -> int:
        return sum(
            kill.counts and all(getattr(kill, name) == value for name, value in wanted.items())
            for kill in self.kills
        )

    def lacking(self, shape: str, enough: int) -> tuple[str, ...]:
        return tuple(
            moment for moment in MOMENTS if self.counted(shape=shape, moment=moment, how="SIGKILL") < enough
        )

    def table(self) -> str:
        """Of the kills that count, by shape and moment, with those by SIGTERM behind a plus sign."""
        kinds = [*KINDS]
        columns = ("shape", *MOMENTS, "elsewhere", *kinds, "1 process", "2 processes", "all")
        rows = [f"| {' | '.join(columns)} |", f"| --- |{' ---: |' * (len(columns) - 1)}"]
        cells: list[dict[str, Any]] = [{"moment": moment} for moment in (*MOMENTS, "elsewhere")]
        cells += [*({"kind": kind} for kind in kinds), {"processes": 1}, {"processes": 2}, {}]
        for shape in (*SHAPES, None):
            of_shape = {} if shape is None else {"shape": shape}
            counts = [
                " + ".join(str(self.counted(**of_shape, **cell, how=how)) for how in ("SIGKILL", "SIGTERM"))
                for cell in cells
            ]
            rows.append(f"| {shape or 'all'} | {' | '.join(counts)} |")
        exits = [kill.seconds for kill in self.kills if kill.how == "SIGTERM"] or [0.0]
        runs = len({kill.seed for kill in self.kills})
        return "\n".join(
            [
                f"{self.counted()} kills that count, of {len(self.kills)}, in {runs} runs that ended as if they had "
                f"not been killed; from SIGTERM to exit {statistics.median(exits):.2f} s in the median, "
                f"{max(exits):.2f} s at worst (SIGKILL + SIGTERM):",
                *rows,
            ]
        )

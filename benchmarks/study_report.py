"""What a study found: rows over seeds, and the tables and the chart made of them."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.common import write_text
from subset_selection.catalogue import BASELINE, CATALOGUE, REFERENCE, VALIDATION_BASELINES, TrainsOn

BASELINES = (REFERENCE, BASELINE, *VALIDATION_BASELINES)
TESTED = "<!-- tested by {} -->"
"""Before a command in a page: the test that runs it."""
COLUMNS = (
    "strategy",
    "fraction",
    "epochs",
    "test accuracy",
    "validation accuracy",
    "total time, s",
    "selection time, s",
    "samples seen",
    "updates",
    "processor time, s",
)


@dataclass(frozen=True)
class Row:
    """One strategy at one fraction in one scenario, over its seeds; accuracies are shares 0…1, seconds wall time."""

    scenario: str
    strategy: str
    """As it was asked for, settings included."""
    fraction: float
    epochs: int
    seeds: tuple[int, ...]
    """Those that finished; the lists below follow their order."""
    test_accuracies: tuple[float, ...]
    validation_accuracies: tuple[float, ...]
    seconds: tuple[float, ...]
    """Training, selecting and evaluating."""
    selection_seconds: tuple[float, ...]
    samples_visited: tuple[int, ...]
    updates: tuple[int, ...] = ()
    """Steps of the optimizer; rows of earlier versions have none."""
    failures: dict[str, str] = field(default_factory=dict)
    """Seed → why it has no result."""
    header: str = ""
    """What the rows of its scenario have in common: machine, versions, seeds, data, settings."""
    settings: dict[str, Any] = field(default_factory=dict)
    """The hyperparameters that all rows of the study share."""
    processor_seconds: tuple[float, ...] = ()
    """Of the whole processes, start and reading of data included; rows of earlier versions have none."""

    @property
    def accuracy(self) -> float:
        """Mean over seeds; below every real one where there is none."""
        return statistics.mean(self.test_accuracies) if self.test_accuracies else -1.0

    @property
    def cost(self) -> float:
        """Mean over seeds, in seconds: the processor's time of whole jobs where it is known, else the total time."""
        return statistics.mean(self.processor_seconds or self.seconds)

    @property
    def deviation(self) -> float:
        """Sample deviation over seeds; 0 where there is one seed."""
        return statistics.stdev(self.test_accuracies) if len(self.test_accuracies) > 1 else 0.0

    def to_json(self) -> dict[str, Any]:
        """The row with its means, for `study.json`."""
        return {
            **asdict(self),
            "test_accuracy": self.accuracy if self.seeds else None,
            "test_accuracy_deviation": self.deviation if len(self.seeds) > 1 else None,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Row":
        """The row that `to_json` gave."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in content.items()
            if name in cls.__dataclass_fields__
        }
        return cls(**values)


def sort(rows: Sequence[Row]) -> list[Row]:
    """By scenario in the order of first appearance, fraction from the largest, and accuracy from the best."""
    scenarios = list(dict.fromkeys(row.scenario for row in rows))
    return sorted(rows, key=lambda row: (scenarios.index(row.scenario), -row.fraction, -row.accuracy))


def marks(rows: Sequence[Row]) -> list[str]:
    """For each of the rows of one scenario and fraction: 'best', 'close' or ''.

    Close: its mean falls short of the best one's by no more than one sample deviation, the larger of the two rows'.
    """
    best = max(rows, key=lambda row: row.accuracy)
    return [
        ""
        if not row.seeds
        else "best"
        if row is best
        else "close"
        if best.accuracy - row.accuracy <= max(best.deviation, row.deviation)
        else ""
        for row in rows
    ]


def groups(rows: Sequence[Row]) -> list[list[Row]]:
    """The sorted rows, those of one scenario and fraction together."""
    return [list(group) for _, group in groupby(sort(rows), key=lambda row: (row.scenario, row.fraction))]


def markdown(rows: Sequence[Row]) -> str:
    """A table for each scenario, under what its runs have in common."""
    parts = []
    for scenario, group in groupby(sort(rows), key=lambda row: row.scenario):
        members = list(group)
        # Rows of earlier calls may have been made on another machine.
        headers = list(dict.fromkeys(row.header for row in members))
        lines = [f"### {scenario}", "", *(f"{header}\n" for header in headers)]
        lines += [
            "| " + " | ".join(COLUMNS) + " |",
            "| --- |" + " ---: |" * (len(COLUMNS) - 1),
        ]
        for fraction_rows in groups(members):
            lines += [_line(row, mark) for row, mark in zip(fraction_rows, marks(fraction_rows), strict=True)]
        failures = [
            f"- {row.strategy} at {row.fraction:g}, seed {seed}: {reason}"
            for row in members
            for seed, reason in row.failures.items()
        ]
        parts.append("\n".join([*lines, *(["", "Without a result:", "", *failures] if failures else [])]))
    parts.append(
        "**Bold**: the best mean at its fraction; ≈: short of it by no more than one deviation, the larger of the two. "
        "±: sample deviation over seeds. Times, samples and updates are means. The total time is that of training, "
        "selection and evaluation by the clock, without start and reading of data; the processor's time is that of the "
        "whole job."
    )
    return "\n\n".join(parts) + "\n"


def _trained_on(row: Row) -> TrainsOn:
    spec = CATALOGUE.get(row.strategy)
    return spec.trains_on if spec else "training"


def _line(row: Row, mark: str) -> str:
    if not row.seeds:
        cells = [row.strategy, f"{row.fraction:g}", str(row.epochs), "failed", *["–"] * (len(COLUMNS) - 4)]
        return "| " + " | ".join(cells) + " |"
    accuracy = f"{row.accuracy:.2%}"
    if len(row.seeds) > 1:
        accuracy = f"{100 * row.accuracy:.2f} ± {100 * row.deviation:.2f}%"
    accuracy = f"**{accuracy}**" if mark == "best" else f"≈ {accuracy}" if mark == "close" else accuracy
    incomplete = f" ({len(row.seeds)} of {len(row.seeds) + len(row.failures)} seeds)" if row.failures else ""
    cells = [
        f"**{row.strategy}**{incomplete}" if mark == "best" else row.strategy + incomplete,
        f"{row.fraction:g}",
        str(row.epochs),
        accuracy,
        # Of examples that it trained on, it says nothing.
        "–" if _trained_on(row) == "both" else f"{statistics.mean(row.validation_accuracies):.2%}",
        f"{statistics.mean(row.seconds):.1f}",
        f"{statistics.mean(row.selection_seconds):.1f}",
        f"{statistics.mean(row.samples_visited):,.0f}",
        f"{statistics.mean(row.updates):,.0f}" if row.updates else "–",
        f"{row.cost:.1f}" if row.processor_seconds else "–",
    ]
    return "| " + " | ".join(cells) + " |"


def write(rows: Sequence[Row], directory: Path, title: str) -> Path:
    """Write study.md, study.json and study.png into the directory; return the chart's path."""
    ordered = sort(rows)
    write_text(directory / "study.json", json.dumps([row.to_json() for row in ordered], indent=2) + "\n")
    write_text(directory / "study.md", f"## {title}\n\n{markdown(ordered)}")
    path = directory / "study.png"
    chart([row for row in ordered if row.seeds], path, title)
    return path


def read(directory: Path) -> list[Row]:
    """The rows of an earlier call; none where there was none."""
    path = directory / "study.json"
    if not path.exists():
        return []
    return [Row.from_json(content) for content in json.loads(path.read_text())]


def chart(rows: Sequence[Row], path: Path, title: str) -> None:
    """Draw a panel for each scenario and fraction: mean, deviation and single seeds of every row, and a line at each
    baseline's mean. Nothing is drawn of no rows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    panels = groups(rows)
    if not panels:
        return
    tallest = max(len(panel) for panel in panels)
    figure = Figure(figsize=(max(7.0, 5.2 * len(panels)), 1.8 + 0.34 * tallest), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for place, (row, mark) in enumerate(zip(panel, marks(panel), strict=True)):
            baseline = row.strategy in BASELINES
            colour = "black" if baseline else "tab:green" if mark else "tab:blue"
            axes.errorbar(
                row.accuracy,
                place,
                xerr=row.deviation,
                fmt="s" if baseline else "o",
                color=colour,
                capsize=3,
                markersize=6,
            )
            axes.plot(row.test_accuracies, [place] * len(row.seeds), "|", color=colour, alpha=0.5)
            if baseline:
                style = "--" if row.strategy == "full" else ":"
                axes.axvline(row.accuracy, color="grey", linestyle=style, linewidth=1, zorder=0)
        axes.set_yticks(range(len(panel)), [row.strategy for row in panel], fontsize=8)
        axes.invert_yaxis()
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        axes.set(
            xlabel="test accuracy: mean, deviation, seeds",
            title=f"{panel[0].scenario}, fraction {panel[0].fraction:g}",
        )
        axes.title.set_fontsize(9)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{title} (equal samples; dashed: full, compressed schedule; dotted: rs2)", fontsize=10)
    figure.savefig(path, dpi=130)

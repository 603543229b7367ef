"""Compares finished runs: a table, and its rows as CSV and JSON.

A run's total time is the time of training, selection and evaluation. The search for wrong labels and duplicates before
training counts as selection. Costs cover everything that SageMaker bills, including startup and reading the data.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from deploy import text
from deploy.aws import jobs
from deploy.aws.jobs import Job
from deploy.results import predictions
from deploy.results.predictions import Predictions
from subset_selection.catalogue import CATALOGUE, REFERENCE
from subset_trainer.config import Hyperparameters
from subset_trainer.errors import UserError
from subset_trainer.tracking.metrics import SPOKEN
from subset_trainer.training.plan import batch_count

FURTHER = tuple(name for name in SPOKEN if name != "accuracy")
"""Measures that runs of earlier versions do not have, and that not every data set has."""
ALIKE, MOST_UPDATES = 0.05, 1.1
"""Relative difference in samples seen up to which runs have seen as many; ratio of updates beyond which it is said."""


@dataclass(frozen=True)
class Run:
    """The results of one training run. Accuracies are shares 0..1, seconds are wall time."""

    name: str
    summary: dict[str, Any]
    history: list[dict[str, Any]]
    job: Job | None = None
    """The run's SageMaker job; None for a local run."""
    place: Path | None = None
    """Folder of its files (summary.json, report.html, …); None: they are nowhere at hand."""
    predictions: Predictions | None = None
    """For the test examples; None if the run has none, or is of an earlier version."""
    processor_seconds: float | None = None
    """What the whole process took of the processor, start, reading and results included; None where nobody measured."""

    @property
    def seconds(self) -> float:
        """Total time: training, selection and evaluation. Startup and reading the data are the same for all runs."""
        return float(
            self.summary["seconds"]["training"] + self.selecting + self.summary["seconds"]["evaluation"]
        )

    @property
    def selecting(self) -> float:
        """Selection time, before the first epoch and between epochs."""
        return float(self.cleaning + self.summary["seconds"]["selection"])

    @property
    def cleaning(self) -> float:
        """Selection time before the first epoch: the search for wrong labels and duplicates, with its training runs."""
        return float(self.summary["seconds"].get("cleaning", 0.0))

    @property
    def clock(self) -> list[float]:
        """Total time at the end of each epoch, in seconds."""
        parts = ("epoch:seconds", "selection:seconds", "evaluation:seconds")
        costs = [sum(entry.get(part, 0.0) for part in parts) for entry in self.history]
        # A search's other trainings come before what its model's epochs took.
        begun = self.cleaning if self.searched is None else max(self.cleaning, self.seconds - sum(costs))
        return list(accumulate(costs, initial=begun))[1:]

    @property
    def searched(self) -> Mapping[str, Any] | None:
        """The answer of a search with `fraction=auto`; None: the run was given its fraction."""
        answer: Mapping[str, Any] | None = self.summary.get("answer")
        return answer

    @property
    def samples_seen(self) -> int:
        """By the run; of a search, by all of its trainings."""
        return int((self.searched or self.summary).get("samples_visited", self.summary["samples_visited"]))

    @property
    def updates(self) -> int | None:
        """Number of steps of the optimizer; None if the run does not say enough.

        Where a subset is not much larger than a batch, a run on it makes more steps than one on all data that sees as
        many samples, because each epoch ends with a small batch.
        """
        batch = self.hyperparameters.get("batch_size")
        sizes = [entry.get("subset_size") for entry in self.history]
        if batch is None or not all(sizes):
            return None
        processes = int(self.summary.get("processes", 1))
        return sum(batch_count(size, batch, processes) for size in sizes if size)

    @property
    def metric(self) -> str:
        """The measure that the run's verdicts go by; earlier versions wrote none."""
        return str(self.summary.get("metric", "accuracy"))

    def measure(self, metric: str, tested: bool) -> float | None:
        """Return a measure of the test set or the validation set, a share 0..1; None if the run has none."""
        if not tested and self.trained_on_validation:
            return None
        value: float | None = (self.summary.get("test" if tested else "validation") or {}).get(metric)
        return value

    @property
    def data(self) -> str:
        """What tells its data from others', as far as the run says: the classes, and how many examples judge it."""
        examples = self.summary.get("examples") or {}
        # A part of the training data that validates may be larger in one run than in another on the same data.
        return json.dumps([self.summary.get("classes"), examples.get("test") or examples.get("validation")])

    @property
    def trained_on_validation(self) -> bool:
        """Whether its validation measures are of examples that it trained on, so that they say nothing."""
        return self.summary.get("trained_on") == "both"

    @property
    def is_full(self) -> bool:
        return bool(self.summary["strategy"] == REFERENCE)

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """As the run resolved them, with defaults for those that its version did not have; empty if it names none."""
        own: dict[str, Any] = self.summary.get("hyperparameters") or {}
        return {**Hyperparameters().model_dump(mode="json"), **own} if own else {}

    @property
    def planned_epochs(self) -> int:
        """Number of epochs that the run was given, of which it may have stopped early."""
        own: Mapping[str, Any] = self.summary.get("hyperparameters") or {}
        return int(own.get("epochs") or self.summary["epochs"])

    def cost(self, prices: Mapping[str, float]) -> float | None:
        """Return the cost in dollars; None if the price is unknown.

        Args:
            prices: instance type → dollars an hour; `local` is for runs that are not SageMaker jobs.
        """
        if self.job is not None:
            return self.job.cost(prices)
        return prices["local"] * self.seconds / 3600 if "local" in prices else None


@dataclass(frozen=True)
class Lost:
    """A run without results, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class Row:
    """One run in the table.

    `speedup`: total time of the reference run of the same seed divided by this run's; None without a reference run.
    `cost`: estimated dollars. `spot_saving`: share of the on-demand price that spot instances saved. `answer`: of a
    search with `fraction=auto`, whose time and samples are those of all its trainings, and whose fraction is the one
    that its model was trained on.
    """

    run: str
    status: str
    strategy: str
    fraction: float
    epochs: int
    validation_accuracy: float | None
    test_accuracy: float | None
    seconds_training: float
    seconds_selecting: float
    seconds_evaluating: float
    seconds_total: float
    samples_visited: int
    speedup: float | None
    validation_macro_f1: float | None = None
    validation_balanced_accuracy: float | None = None
    validation_auc: float | None = None
    test_macro_f1: float | None = None
    test_balanced_accuracy: float | None = None
    test_auc: float | None = None
    instance_type: str | None = None
    billable_seconds: float | None = None
    cost: float | None = None
    spot_saving: float | None = None
    answer: str | None = None
    updates: int | None = None


def is_baseline(strategy: str) -> bool:
    """Return whether the strategy is a baseline: one that computes nothing to choose its examples."""
    spec = CATALOGUE.get(strategy)
    return spec is not None and not spec.needs


def read_run(directory: Path) -> Run:
    """Read a run from its base directory, from its output folder, or from an unpacked output.tar.gz.

    Raises UserError if there is no readable summary.json.
    """
    summary = jobs.find(directory, "summary.json")
    if summary is None:
        raise UserError(
            f"{str(directory)!r} holds no summary.json of a run, neither directly nor in output/data"
        )
    data = summary.parent
    try:
        content = json.loads(summary.read_text())
        history = data / "history.jsonl"
        lines = history.read_text().splitlines() if history.exists() else []
        steps = [json.loads(line) for line in lines if line.strip()]
        held = predictions.read(data / predictions.FILE)
        return Run(directory.resolve().name, content, steps, place=data.resolve(), predictions=held)
    except json.JSONDecodeError as error:
        raise UserError(f"{str(error.doc)[:40]!r} in {str(data)!r} is not JSON: {error}") from error


def reference(runs: Sequence[Run]) -> Run | None:
    """Return the run that the others are compared with: the one on full data that saw the most samples.

    None if that run is shorter than another one: it is `full` at equal samples of a fraction, and not all training.
    """
    longest = max((run.planned_epochs for run in runs), default=0)
    return max(
        (run for run in runs if run.is_full and run.planned_epochs >= longest),
        key=lambda run: run.summary["samples_visited"],
        default=None,
    )


def _full_by_seed(runs: Sequence[Run]) -> dict[Any, Run]:
    """Return seed → the reference run of that seed; of None, the reference run where a seed has none."""
    base = reference(runs)
    if base is None:
        return {}
    alike = (run for run in runs if run.is_full and run.planned_epochs == base.planned_epochs)
    return {None: base} | {run.summary.get("seed"): run for run in alike}


def _comparable(run: Run) -> tuple[str, Any]:
    """Return what runs share whose times and updates can be compared."""
    return run.data, run.summary.get("model")


def rows(runs: Sequence[Run], prices: Mapping[str, float] | None = None) -> list[Row]:
    """Return one row for each run, in the order given. `prices`: instance type → dollars an hour."""
    # A run on other data, or of another model, is no reference.
    alike: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        alike[_comparable(run)].append(run)
    whole = {key: _full_by_seed(group) for key, group in alike.items()}

    def speedup(run: Run) -> float | None:
        own = whole[_comparable(run)]
        full = own.get(run.summary.get("seed"), own.get(None))
        return full.seconds / run.seconds if full is not None and run.seconds > 0 else None

    return [
        Row(
            run=run.name,
            status=run.summary["status"],
            strategy=run.summary["strategy"],
            fraction=1.0 if run.is_full else run.summary["fraction"],
            epochs=len(run.history) or run.summary["epochs"],
            validation_accuracy=run.measure("accuracy", tested=False),
            test_accuracy=run.summary["test"]["accuracy"] if run.summary.get("test") else None,
            seconds_training=run.summary["seconds"]["training"],
            seconds_selecting=run.selecting,
            seconds_evaluating=run.summary["seconds"]["evaluation"],
            seconds_total=run.seconds,
            samples_visited=run.samples_seen,
            speedup=speedup(run),
            **{
                f"{part}_{name}": run.measure(name, part == "test")
                for part in ("validation", "test")
                for name in FURTHER
            },
            instance_type=run.job.instance_type if run.job else None,
            billable_seconds=run.job.billable_seconds if run.job else None,
            cost=run.cost(prices or {}),
            spot_saving=run.job.spot_saving if run.job else None,
            answer=None if run.searched is None else str(run.searched["sentence"]),
            updates=run.updates,
        )
        for run in runs
    ]


def unequal_updates(runs: Sequence[Run]) -> str | None:
    """Return a sentence on the run on a subset whose number of updates differs most from that of `full` at as many
    samples seen; None if none differs by more than a tenth."""
    pairs = [
        (max(run.updates, full.updates) / min(run.updates, full.updates), run, full)
        for full in runs
        for run in runs
        if full.is_full and (spec := CATALOGUE.get(run.summary["strategy"])) and spec.takes_fraction
        if full.summary.get("seed") == run.summary.get("seed") and _comparable(full) == _comparable(run)
        if run.updates and full.updates and abs(run.samples_seen / full.samples_seen - 1) <= ALIKE
    ]
    ratio, run, full = max(pairs, key=lambda pair: pair[0], default=(1.0, None, None))
    if run is None or full is None or ratio <= MOST_UPDATES:
        return None
    size, batch = run.history[-1]["subset_size"], run.hyperparameters["batch_size"]
    compared = (
        "smaller than" if size < batch else "not much larger than" if size > batch else "no larger than"
    )
    return (
        f"Equal samples are not equal updates here: {run.name} made {run.updates:,} updates and {full.name} "
        f"{full.updates:,}, because a subset of {size:,} examples is {compared} a batch of {batch:,}."
    )


def table(lines: Sequence[Row]) -> str:
    """Return the comparison as a table for a terminal. It has a column for costs if any cost is known."""
    header = [
        ("", "run"),
        ("", "fraction"),
        ("", "epochs"),
        ("accuracy", "validation"),
        ("accuracy", "test"),
        ("training", "time (s)"),
        ("selection", "time (s)"),
        ("evaluation", "time (s)"),
        ("total", "time (s)"),
        ("samples", "seen"),
        ("speed-up", "over full"),
    ]
    cells = [cells_of(line) for line in lines]
    for heading, column in further_columns(lines):
        header.append(heading)
        for cell, value in zip(cells, column, strict=True):
            cell.append(value)
    if any(line.cost is not None for line in lines):
        header.append(("estimated", "cost"))
        for cell, line in zip(cells, lines, strict=True):
            cell.append(money(line.cost, line.spot_saving))
    # A run's name and test accuracy stay; samples, speed-up and total time are the last to go.
    tested = all(line.test_accuracy is not None for line in lines)
    spare = [7, 5, 6, *range(len(header) - 1, 10, -1), 2, 1, *([3] if tested else [4]), 9, 10, 8]
    return text.table([[head for head, _ in header], [name for _, name in header]], cells, spare=spare)


def further_columns(lines: Sequence[Row]) -> list[tuple[tuple[str, str], list[str]]]:
    """Return heading and cells of each measure beside accuracy that any run has: of the test set if every run has one,
    else of the validation set."""
    part = "test" if all(line.test_accuracy is not None for line in lines) else "validation"
    found = []
    for name in FURTHER:
        values = [getattr(line, f"{part}_{name}") for line in lines]
        if any(value is not None for value in values):
            cells = ["–" if value is None else f"{value:.2%}" for value in values]
            found.append(((SPOKEN[name], part), cells))
    return found


def cells_of(line: Row) -> list[str]:
    """Return a row's formatted cells, from its name to its speed-up."""
    return [
        line.run if line.status == "completed" else f"{line.run} ({line.status})",
        f"{line.fraction:.3g}" if line.answer is None else f"{line.fraction:.3g} (auto)",
        str(line.epochs),
        "–" if line.validation_accuracy is None else f"{line.validation_accuracy:.2%}",
        "–" if line.test_accuracy is None else f"{line.test_accuracy:.2%}",
        f"{line.seconds_training:.1f}",
        f"{line.seconds_selecting:.1f}",
        f"{line.seconds_evaluating:.1f}",
        f"{line.seconds_total:.1f}",
        f"{line.samples_visited:,}",
        "–" if line.speedup is None else f"{line.speedup:.2f}×",
    ]


def money(dollars: float | None, spot_saving: float | None = None) -> str:
    """Format a cost: `$0.42`, or `$0.13 (spot −69%)`."""
    if dollars is None:
        return "–"
    text = f"${dollars:.2f}" if dollars >= 0.1 or dollars == 0 else f"${dollars:.2g}"
    return text if spot_saving is None else f"{text} (spot −{spot_saving:.0%})"


def write(runs: Sequence[Run], directory: Path, prices: Mapping[str, float] | None = None) -> None:
    """Write comparison.csv and comparison.json into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = [asdict(row) for row in rows(runs, prices)]
    with (directory / "comparison.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    (directory / "comparison.json").write_text(json.dumps(lines, indent=2) + "\n")

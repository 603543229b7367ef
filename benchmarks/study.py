"""Is choosing data any use? Trains a grid (strategy × fraction × seed) at equal samples seen and compares.

    python -m benchmarks.study --strategies random,glister,glister:scope=per-class,eta=0.01 --out build/study
    python -m benchmarks.study --training DIR --test DIR --noise 0.4 --strategies infobatch --fractions 0.1 --out DIR

`full`, for the epochs in which it sees as many samples, on a schedule compressed to them, and `rs2` are always run.
Without `--training` the embedded digits serve. Each cell is a run of the image's own `train` program in a folder of its
own; a finished one is not run again, so that the same command resumes. Calls with the same
`--out` gather their scenarios and strategies in one `study.md`, `study.json` and `study.png`.

A strategy that sets its own size gets the epochs in which it sees about as many samples, and the table shows how many
it saw. Strategies that choose within a batch train on as many examples as the others; those that they score and leave
out are not counted as seen, but their time is, as selection.
"""

import argparse
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import scenarios, study_report
from benchmarks.common import Parser, processor, resumable
from benchmarks.scenarios import Scenario
from benchmarks.study_report import Row
from deploy.digits import write_digits
from deploy.grid import program
from deploy.grid.agenda import Agenda
from deploy.grid.backend import work
from deploy.grid.duration import seconds_left
from deploy.grid.here import Here
from deploy.grid.plan import UNEQUAL, Cell, Grid, Plan, file_name, parse_strategies, plan
from deploy.results import compare
from subset_trainer.config import hyperparameters
from subset_trainer.errors import UserError
from subset_trainer.tracking.metrics import spoken_time

SETTINGS: dict[str, str] = {"model": "cnn", "report": "false"}
"""What `--set` changes: a network for CPUs, trained as it is by default; no report, since what the seconds compare is
the training."""
DIGITS_SETTINGS: dict[str, str] = {"augmentation": "crop"}
"""A mirrored digit is another sign."""


@dataclass
class Outcome:
    """What became of the cells so far."""

    runs: dict[Cell, compare.Run] = field(default_factory=dict)
    failures: dict[Cell, str] = field(default_factory=dict)


def planned(
    rows: Mapping[str, Mapping[str, str]],
    fractions: Sequence[float],
    seeds: Sequence[int],
    settings: Mapping[str, str],
) -> Plan:
    """The grid's cells at equal samples seen, named as their folders among the runs of a scenario.

    Raises:
        UserError: a hyperparameter is wrong, or `full` cannot see about as many samples.
    """
    found = plan(Grid(rows, fractions, seeds, settings, match_own_sizes=True, tested=True))
    for cell in found.cells:
        if abs(cell.unequal) > UNEQUAL:
            raise UserError(
                f"epochs times the fraction {cell.fraction:g} is not whole, but full data takes whole epochs, so the "
                f"samples it sees would differ by {abs(cell.unequal):.0%}; choose --epochs so that the product is whole"
            )
    return found.renamed(lambda cell: f"{file_name(cell.row)}-at-{cell.fraction:g}-seed-{cell.seed}")


def run(cells: Sequence[Cell], here: Here, label: str) -> Outcome:
    """Run the cells that are not finished. One that fails does not end the others.

    label: the scenario's name, for the lines that report its progress.
    """
    outcome = Outcome()
    agenda = Agenda(cells)
    before = here.look_up(agenda)
    print(f"{label}: {len(cells)} runs, {before} of them finished before", flush=True)

    def say(cell: Cell, ended: compare.Run | compare.Lost) -> None:
        if isinstance(ended, compare.Lost):
            outcome.failures[cell] = ended.reason
            result = f"failed: {ended.reason}"
        else:
            outcome.runs[cell] = ended
            seconds = ended.summary["seconds"]["total"]
            result = f"test accuracy {ended.summary['test']['accuracy']:.2%}, {seconds:.0f} s"
        needed = agenda.needed()
        left = (seconds_left(needed, agenda.outcomes) or 0.0) / max(1, min(here.jobs, len(needed)))
        print(
            f"[{len(agenda.outcomes)}/{len(cells)}] {label}, {cell.row} at {cell.fraction:g}, seed {cell.seed}: "
            f"{result}; left: {len(needed)}, about {spoken_time(left)}",
            flush=True,
        )

    for cell, ended in agenda.outcomes.items():
        assert isinstance(ended, compare.Run)
        outcome.runs[cell] = ended
    work(here, agenda, say)
    return outcome


def rows_of(
    cells: Sequence[Cell], outcome: Outcome, scenario: str, header: str, settings: Mapping[str, str]
) -> list[Row]:
    """One row a strategy and fraction, over the seeds that finished."""
    rows = []
    for name, fraction in dict.fromkeys((cell.row, cell.fraction) for cell in cells):
        own = [cell for cell in cells if (cell.row, cell.fraction) == (name, fraction)]
        done = [cell for cell in own if cell in outcome.runs]
        runs = [outcome.runs[cell] for cell in done]
        rows.append(
            Row(
                scenario=scenario,
                strategy=name,
                fraction=fraction,
                epochs=hyperparameters.parse(own[0].values).epochs,
                seeds=tuple(cell.seed for cell in done),
                test_accuracies=tuple(run.summary["test"]["accuracy"] for run in runs),
                validation_accuracies=tuple(run.summary["validation"]["accuracy"] for run in runs),
                seconds=tuple(run.seconds for run in runs),
                selection_seconds=tuple(run.selecting for run in runs),
                samples_visited=tuple(run.summary["samples_visited"] for run in runs),
                updates=tuple(run.updates for run in runs if run.updates is not None),
                failures={str(cell.seed): outcome.failures[cell] for cell in own if cell in outcome.failures},
                header=header,
                settings=dict(settings),
                processor_seconds=tuple(
                    run.processor_seconds for run in runs if run.processor_seconds is not None
                ),
            )
        )
    return rows


def gather(new: Sequence[Row], old: Sequence[Row]) -> list[Row]:
    """The new rows and those earlier ones that they neither replace nor contradict: of other scenarios, or of the same
    one with the same settings."""
    replaced = {(row.scenario, row.strategy, row.fraction) for row in new}
    settings = {row.scenario: row.settings for row in new}
    kept = [
        row
        for row in old
        if (row.scenario, row.strategy, row.fraction) not in replaced
        and settings.get(row.scenario, row.settings) == row.settings
    ]
    return [*kept, *new]


def header_line(
    description: Mapping[str, Any],
    outcome: Outcome,
    cells: Sequence[Cell],
    settings: Mapping[str, str],
    data: str,
    jobs: int,
) -> str:
    """What the rows have in common, in a sentence each."""
    summary = next((run.summary for run in outcome.runs.values()), None)
    examples = description["examples"]
    counts = description["training_classes"]
    sizes = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{counts[0]}"
    # rs2 sees what was planned, to the example.
    visited = {
        c.fraction: run.summary["samples_visited"] for c, run in outcome.runs.items() if c.row == "rs2"
    }
    seen = [f"{count:,} samples seen at {fraction:g}" for fraction, count in visited.items()]
    seeds = ", ".join(str(seed) for seed in sorted({cell.seed for cell in cells}))
    parts = [
        f"{data}: {examples['training']:,} training ({sizes} a class), {examples['validation']:,} validation, "
        f"{examples['test']:,} test examples",
        f"seeds {seeds}",
        *seen,
        "; ".join(f"{name}={value}" for name, value in settings.items()),
    ]
    if summary is not None:
        versions = ", ".join(
            f"{name} {version}"
            for name, version in summary["versions"].items()
            if name in ("python", "torch", "subset-trainer")
        )
        at_a_time = "" if jobs == 1 else f", {jobs} runs at a time"
        parts.append(f"{summary['device']}{at_a_time}, {processor()}; {versions}")
    return ". ".join(parts) + "."


@resumable
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study; return the exit code: 1 for errors that the user can fix, 2 where a run failed."""
    signal.signal(signal.SIGTERM, _terminate)
    return study(_parser().parse_args(arguments))


def run_all(calls: Iterable[Sequence[str]]) -> int:
    """Run several studies by their arguments: the worst exit code, or at once that of a mistake or an interruption."""
    worst = 0
    for call in calls:
        code = main(call)
        if code not in (0, 2):
            return code
        worst = max(worst, code)
    return worst


def parser_of_several(program: str, description: str | None, out: str) -> argparse.ArgumentParser:
    """With the options that studies of one page have in common. out: the default folder of runs, for the help."""
    parser = Parser(f"python -m {program}", description)
    add = parser.add_argument
    add("--training", type=Path, required=True, metavar="PATH", help="in any form that the trainer reads")
    add("--test", type=Path, required=True, metavar="PATH")
    add("--seeds", default="0,1,2", metavar="LIST", help="default: 0,1,2")
    add("--title", default="", help="what to call the data")
    add("--out", type=Path, metavar="PATH", help=f"default: {out}")
    add("--docs", type=Path, metavar="FILE", help="write the page there, and the chart beside it")
    return parser


def common_arguments(options: argparse.Namespace, title: str, out: Path) -> list[str]:
    """Of these options, those that every one of the studies is given."""
    given = {"training": options.training, "test": options.test, "title": title, "out": out}
    return [text for name, value in given.items() for text in (f"--{name}", str(value))]


def study(options: argparse.Namespace) -> int:
    """Run the grid that the options describe and write what came of it; 0, or 2 where a run failed."""
    scenario = Scenario(
        noise=options.noise,
        imbalance=options.imbalance,
        duplicates=options.duplicates,
        per_class=options.per_class,
        validation_fraction=options.validation_fraction,
        seed=options.scenario_seed,
    )
    digits = options.training is None
    settings = {
        **SETTINGS,
        **(DIGITS_SETTINGS if digits else {}),
        **dict(options.set),
    }
    if "epochs" in settings:
        raise UserError("--set epochs: use --epochs")
    settings["epochs"] = str(options.epochs)
    found = planned(parse_strategies(options.strategies), options.fractions, options.seeds, settings)
    cells = found.cells
    for note in found.notes:
        print(note)
    if digits and (options.test or options.validation):
        raise UserError("--test and --validation go with --training")
    given = {name: getattr(options, name) for name in ("training", "validation", "test")}
    sources: dict[str, Path] = {name: path for name, path in given.items() if path is not None}
    program.check_channels(sources)
    if digits:
        write_digits(options.out / "digits")
        sources = {name: options.out / "digits" / name for name in ("training", "test")}
    data = options.title or ("scikit-learn's digits" if digits else str(options.training))

    folder = options.out / scenario.name
    channels = scenarios.prepare(folder / "channels", sources, scenario)
    description = scenarios.read_description(folder / "channels")
    assert description is not None
    started = time.monotonic()
    here = Here(folder / "runs", channels, options.jobs)
    outcome = run(cells, here, scenario.name)
    header = header_line(description, outcome, cells, settings, data, options.jobs)
    shared = {**settings, "data": description["sha256"]}
    new = rows_of(cells, outcome, scenario.sentence, header, shared)
    rows = gather(new, study_report.read(options.out))
    chart = study_report.write(rows, options.out, data)
    mine = [row for row in rows if row.scenario == scenario.sentence]
    print(f"\n{study_report.markdown(mine)}\n{chart} ({spoken_time(time.monotonic() - started)})")
    return 2 if outcome.failures else 0


def _terminate(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def numbers(kind: type) -> Any:
    """For argparse: a list of different numbers of a kind, separated by commas."""

    def read(text: str) -> tuple[Any, ...]:
        values = tuple(kind(part) for part in text.split(","))
        if len(set(values)) < len(values):
            raise ValueError
        return values

    read.__name__ = "list of different numbers"  # what argparse calls it in its message
    return read


def pair(text: str) -> tuple[str, str]:
    """For argparse: NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=VALUE")
    return name, value


def _parser() -> argparse.ArgumentParser:
    parser = Parser("python -m benchmarks.study", __doc__)
    add = parser.add_argument
    for name in ("training", "validation", "test"):
        add(f"--{name}", type=Path, metavar="PATH", help=f"{name} data, in any form that the trainer reads")
    add(
        "--strategies",
        default="",
        metavar="LIST",
        help="beside full and rs2: a,b:setting=value,setting=value,c",
    )
    add("--fractions", type=numbers(float), default=(0.1,), metavar="LIST", help="default: 0.1")
    add("--seeds", type=numbers(int), default=(0, 1, 2), metavar="LIST", help="default: 0,1,2")
    add("--epochs", type=int, default=30, help="of the subset; full makes epochs · fraction (default: 30)")
    add("--noise", type=float, default=0.0, help="share of the training labels that become another class")
    add("--imbalance", type=float, default=1.0, help="first class's training examples over the last's")
    add(
        "--duplicates",
        type=float,
        default=0.0,
        help="share of the training examples that become near-duplicates",
    )
    add("--per-class", type=int, metavar="N", help="draw so many of each class of the training data")
    add(
        "--validation-fraction", type=float, default=0.1, help="set aside without --validation (default: 0.1)"
    )
    add("--scenario-seed", type=int, default=0, help="of the scenario's draws, the same for all runs")
    add(
        "--set",
        type=pair,
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="hyperparameters",
    )
    add(
        "--jobs",
        type=int,
        default=1,
        choices=range(1, 65),
        metavar="N",
        help="runs at a time, sharing the processors",
    )
    add("--title", help="what to call the data")
    add("--out", type=Path, default=Path("build/study"), help="default: build/study")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""The recipe of training, old and new, at equal samples seen: how much it gains on which data, and what it costs.

    python -m benchmarks.recipe --data DIR --cases cifar:model=cnn,epochs=3 digits:model=cnn,epochs=10,batch_size=32
    python -m benchmarks.recipe --data DIR --cases … --held-out fashion:model=cnn,epochs=10 --docs FILE --json FILE

A case is a folder below `--data` with `training`, `test` and perhaps `validation`, and after a colon what both recipes
are given: `epochs`; `fraction`, below 1 for random subsets, anew each epoch (`rs2`); `noise`, `imbalance`, `duplicates`
and `per_class` as `benchmarks.study` has them; and hyperparameters. Of `--held-out` cases nothing was chosen. `--old`
and `--new` name other recipes.

Each run is one of `benchmarks.study`'s: a finished one is not made again, so that the same command resumes. All cases
have their first seed before any has its second, and the recipes take turns.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import scenarios, study, study_report
from benchmarks.common import Parser, resumable, write_text
from benchmarks.gpu.stages import EARLIER_RECIPE
from benchmarks.scenarios import Scenario
from benchmarks.study import Outcome
from benchmarks.study_report import Row
from deploy.grid.here import Here
from deploy.grid.plan import Cell, Grid, plan
from subset_selection.catalogue import BASELINE
from subset_trainer.config.defaults import FRESH_IMAGE_DEFAULTS
from subset_trainer.errors import UserError

TEST = "tests/unit/test_docs.py::test_what_takes_long_or_a_network_is_understood"
"""What the page names before its command."""
SHARED = {"report": "false"}
"""What is compared is the training."""
RECIPES: dict[str, dict[str, str]] = {
    recipe: {name: str(value).lower() for name, value in own.items()}
    for recipe, own in (("old", EARLIER_RECIPE), ("new", FRESH_IMAGE_DEFAULTS))
}
Recipes = Mapping[str, Mapping[str, str]]


def add_recipes(parser: argparse.ArgumentParser) -> None:
    """Options that name other recipes."""
    for name, own in RECIPES.items():
        parser.add_argument(
            f"--{name}",
            type=study.pair,
            nargs="+",
            default=list(own.items()),
            metavar="NAME=VALUE",
            help=f"hyperparameters of the {name} recipe; default: {spoken(own)}",
        )


def recipes(options: argparse.Namespace) -> Recipes:
    """The recipes that the options name."""
    return {name: dict(getattr(options, name)) for name in RECIPES}


def spoken(settings: Mapping[str, str]) -> str:
    """The settings in one line."""
    return " ".join(f"{name}={value}" for name, value in settings.items())


@dataclass(frozen=True)
class Case:
    """Data, a scenario, and what both recipes are given."""

    text: str
    """As it was asked for."""
    data: Path
    scenario: Scenario
    epochs: str
    fraction: float
    settings: Mapping[str, str]

    @property
    def title(self) -> str:
        """The data and what is done to it."""
        changes = "" if self.scenario.sentence == Scenario().sentence else f", {self.scenario.sentence}"
        drawn = f", {self.scenario.per_class} a class" if self.scenario.per_class else ""
        return f"{self.data.name}{drawn}{changes}"


def parse_case(text: str, data: Path) -> Case:
    """Of `NAME:setting=value,setting=value`.

    Raises:
        UserError: a setting is none, the scenario cannot be, or the case has no epochs.
    """
    name, _, rest = text.partition(":")
    settings = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not (key and equals and value):
            raise UserError(f"case {text!r}: {part!r}: expected NAME=VALUE")
        settings[key.strip()] = value.strip()
    if "epochs" not in settings:
        raise UserError(f"case {text!r}: expected epochs=N among its settings")
    kinds = {"noise": float, "imbalance": float, "duplicates": float, "per_class": int}
    try:
        scenario = Scenario(
            **{key: kind(settings.pop(key)) for key, kind in kinds.items() if key in settings}
        )
        fraction = float(settings.pop("fraction", "1"))
    except ValueError as error:
        raise UserError(f"case {text!r}: {error}; expected numbers") from error
    return Case(text, data / name, scenario, settings.pop("epochs"), fraction, settings)


@dataclass
class Compared:
    """A case with its runs under each recipe."""

    case: Case
    cells: dict[str, list[Cell]] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)


def planned(case: Case, own: Mapping[str, str], seeds: Sequence[int]) -> list[Cell]:
    """The case's runs under a recipe: of all data, or of random subsets."""
    settings = {**SHARED, **own, **case.settings, "epochs": case.epochs}
    rows = {BASELINE: {"strategy": BASELINE}}
    return list(plan(Grid(rows, (case.fraction,), seeds, settings, baselines=False, tested=True)).cells)


def compare(
    cases: Sequence[Case], named: Recipes, seeds: Sequence[int], out: Path, jobs: int
) -> list[Compared]:
    """Make all runs that are not there; their rows."""
    found = [
        Compared(case, {name: planned(case, own, seeds) for name, own in named.items()}) for case in cases
    ]
    for turn, seed in enumerate(seeds):
        for place, each in enumerate(found):
            folder = _folder(each.case, out)
            channels = scenarios.prepare(folder / "channels", _sources(each.case), each.case.scenario)
            names = list(named) if (turn + place) % 2 == 0 else list(named)[::-1]
            for name in names:
                cells = [cell for cell in each.cells[name] if cell.seed == seed]
                here = Here(folder / "runs" / f"{each.case.epochs}-{name}", channels, jobs)
                made = study.run(cells, here, f"{each.case.text}, {name} recipe")
                kept = each.outcomes.setdefault(name, Outcome())
                kept.runs |= made.runs
                kept.failures |= made.failures
    for each in found:
        _rows(each, named, out, jobs)
    return found


def _folder(case: Case, out: Path) -> Path:
    drawn = f"-{case.scenario.per_class}-a-class" if case.scenario.per_class else ""
    return out / f"{case.data.name}{drawn}" / case.scenario.name


def _sources(case: Case) -> dict[str, Path]:
    channels = {name: case.data / name for name in ("training", "validation", "test")}
    return {name: path for name, path in channels.items() if name != "validation" or path.exists()}


def _rows(each: Compared, named: Recipes, out: Path, jobs: int) -> None:
    description = scenarios.read_description(_folder(each.case, out) / "channels")
    assert description is not None
    for name, own in named.items():
        cells, outcome = each.cells[name], each.outcomes[name]
        settings = {**own, **each.case.settings}
        header = study.header_line(description, outcome, cells, settings, each.case.title, jobs)
        (row,) = study.rows_of(cells, outcome, each.case.scenario.sentence, header, settings)
        each.rows[name] = replace(row, strategy=f"{name} recipe, `{row.strategy}`")


def table(found: Sequence[Compared]) -> str:
    """A line for each case, and their means: accuracies in percent, differences in points, and what it costs."""
    lines = [
        "| data | network | samples seen | old | new | difference | total time | processor |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    means: dict[str, list[float]] = {"difference": [], "time": [], "processor": []}
    for each in found:
        old, new = each.rows["old"], each.rows["new"]
        seeds = [seed for seed in old.seeds if seed in new.seeds]
        if not seeds:
            lines.append(f"| {each.case.title} | | | failed | | | | |")
            continue
        pairs = [(old.seeds.index(seed), new.seeds.index(seed)) for seed in seeds]
        points = [100 * (new.test_accuracies[to] - old.test_accuracies[of]) for of, to in pairs]
        means["difference"].append(mean(points))
        means["time"].append(mean(new.seconds) / mean(old.seconds))
        cells = [each.case.title, f"`{each.case.settings.get('model', 'auto')}`"]
        cells += [f"{mean(old.samples_visited):,.0f}", _accuracy(old), _accuracy(new)]
        cells += [_signed(mean(points)) + (f" ± {stdev(points):.1f}" if len(points) > 1 else "")]
        cells += [_ratio(mean(old.seconds), mean(new.seconds))]
        if old.processor_seconds and new.processor_seconds:
            used = mean(old.processor_seconds), mean(new.processor_seconds)
            means["processor"].append(used[1] / used[0])
            cells.append(_ratio(*used))
        lines.append("| " + " | ".join([*cells, ""][:8]) + " |")
    if len(means["difference"]) > 1:
        times = [f"{mean(means[name]):.2f}×" if means[name] else "" for name in ("time", "processor")]
        lines.append(f"| **mean** | | | | | **{_signed(mean(means['difference']))}** | {' | '.join(times)} |")
    return "\n".join(lines)


def _accuracy(row: Row) -> str:
    return f"{100 * row.accuracy:.1f}" + (f" ± {100 * row.deviation:.1f}" if len(row.seeds) > 1 else "")


def _signed(points: float) -> str:
    return f"{points:+.1f}".replace("-", "−")


def _ratio(old: float, new: float) -> str:
    return f"{old:.1f} → {new:.1f} s ({new / old:.2f}×)"


def document(chosen: Sequence[Compared], held_out: Sequence[Compared], named: Recipes, command: str) -> str:
    """The page that `--docs` writes."""
    parts = [
        "# The recipe",
        "What the defaults of training gain over those of before, at equal samples seen, and what they cost.",
        f"{study_report.TESTED.format(TEST)}\n```sh\n{command}\n```",
        "\n".join(f"- {name}: `{spoken(own)}`" for name, own in named.items()),
        "Test accuracy in percent, mean ± sample deviation over seeds; differences in points, by seed. Total time: of "
        "training, selection and evaluation. Processor: the processor's seconds of whole processes, start and reading "
        "of data included. [What the sets are](measurements.md#the-recipe); every figure is in "
        "[JSON](../measured/recipe.json).",
    ]
    if chosen:
        parts.append("## Data that the recipe was chosen on\n\n" + table(chosen))
    if held_out:
        parts.append("## Data that it was not chosen on\n\n" + table(held_out))
    parts.append("## The runs")
    for each in (*chosen, *held_out):
        runs = study_report.markdown(list(each.rows.values())).replace("### ", "#### ")
        parts.append(
            f"### {each.case.title}: {spoken(each.case.settings)} epochs={each.case.epochs}\n\n{runs}"
        )
    return "\n\n".join(part.strip() for part in parts) + "\n"


@resumable
def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print the tables, and write the files; 2 where a run failed."""
    options = _parser().parse_args(arguments)
    named = recipes(options)
    chosen, held_out = (
        [parse_case(text, options.data) for text in given] for given in (options.cases, options.held_out)
    )
    if not chosen + held_out:
        raise UserError("expected --cases or --held-out")
    found = compare(chosen + held_out, named, options.seeds, options.out, options.jobs)
    first, second = found[: len(chosen)], found[len(chosen) :]
    print("\n\n".join(table(each) for each in (first, second) if each))
    if options.json:
        rows = [
            {"data": each.case.title, "case": each.case.text, "recipe": name, "held_out": each in second}
            | row.to_json()
            for each in found
            for name, row in each.rows.items()
        ]
        write_text(options.json, "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
    if options.docs:
        write_text(options.docs, document(first, second, named, _command(options)))
    return 2 if any(row.failures for each in found for row in each.rows.values()) else 0


def _command(options: argparse.Namespace) -> str:
    words = [".venv/bin/python -m benchmarks.recipe --data …", f"--seeds {','.join(map(str, options.seeds))}"]
    other = {name: spoken(own) for name, own in recipes(options).items() if own != RECIPES[name]}
    given = {"cases": " ".join(options.cases), "held-out": " ".join(options.held_out), **other}
    words += [f"--{name} {text}" for name, text in given.items() if text]
    return " \\\n  ".join(words)


def _parser() -> argparse.ArgumentParser:
    parser = Parser("python -m benchmarks.recipe", __doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="has a folder for each set of data")
    add("--cases", nargs="+", default=[], metavar="NAME:SETTING=VALUE,…")
    add(
        "--held-out",
        nargs="+",
        default=[],
        metavar="NAME:SETTING=VALUE,…",
        help="on which nothing was chosen",
    )
    add_recipes(parser)
    add("--seeds", type=study.numbers(int), default=(0, 1, 2), metavar="LIST", help="default: 0,1,2")
    add("--jobs", type=int, default=1, metavar="N", help="runs at a time")
    add("--out", type=Path, default=Path("build/recipe"), metavar="DIR")
    add("--json", type=Path, metavar="FILE", help="write the rows there")
    add("--docs", type=Path, metavar="FILE", help="write the page there")
    return parser


if __name__ == "__main__":
    sys.exit(main())

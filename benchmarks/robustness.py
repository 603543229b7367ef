"""GLISTER's claim of robustness, tested: wrong labels, classes of unequal size and near-duplicates, at equal samples.

    python -m benchmarks.robustness --training DIR --test DIR --docs docs/explanation/robustness.md

Each trouble comes alone: 20, 40 and 60% of the labels wrong, classes from 10 and from 100 to 1, 50% near-duplicates;
and none. Validation and test stay clean and balanced. Each run is one of `benchmarks.study`, whose folder it uses: a
finished run is not made again, so that the same command resumes where it was stopped.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import study, study_report
from benchmarks.common import resumable, write_text
from benchmarks.scenarios import Scenario
from benchmarks.study_report import Row

TEST = "tests/unit/test_docs.py::test_what_takes_long_or_a_network_is_understood"
"""What the page names before its command."""
TROUBLES = {
    "label noise": {f"{share:.0%}": Scenario(noise=share) for share in (0.0, 0.2, 0.4, 0.6)},
    "imbalance": {f"{ratio:g}:1": Scenario(imbalance=ratio) for ratio in (1.0, 10.0, 100.0)},
    "near-duplicates": {f"{share:.0%}": Scenario(duplicates=share) for share in (0.0, 0.5)},
}
"""What is made worse, and by how much; the first of each is the same clean data."""
STRATEGIES = {
    "full": "all data, fewer epochs",
    "rs2": "random subsets, anew each epoch",
    "glister": "GLISTER",
    "glister:mislabelled=drop": "GLISTER without suspects",
    "rho-loss": "noise-aware: what a model of the validation set would have learnt",
    "validation-only": "random subsets of the validation set alone",
    "training-and-validation": "random subsets of both sets",
    "rs2:drop_noisy=true,drop_redundant=true": "flags, then random subsets of the rest",
    "rs2:balance=class": "random subsets, as many of each class",
}
"""Row of the study → what it is."""
COST_NOTHING = {"full": "--", "rs2": ":"}
"""What needs no selection → its line in the chart."""


def calls(seeds: str, fraction: float, given: Sequence[str]) -> list[list[str]]:
    """The argument lists of `benchmarks.study`: each scenario once, for the first seed, then with the next, so that one
    that is stopped has compared something."""
    scenarios = list(dict.fromkeys(scenario for own in TROUBLES.values() for scenario in own.values()))
    each = seeds.split(",")
    return [
        [
            *given,
            *("--seeds", ",".join(each[: count + 1]), "--fractions", f"{fraction:g}"),
            *("--strategies", ",".join(name for name in STRATEGIES if name not in study_report.BASELINES)),
            *("--noise", f"{scenario.noise:g}", "--imbalance", f"{scenario.imbalance:g}"),
            *("--duplicates", f"{scenario.duplicates:g}"),
        ]
        for count in range(len(each))
        for scenario in scenarios
    ]


def table(rows: Sequence[Row], trouble: str) -> str:
    """Test accuracy of each strategy at each level, and what the worst level costs it, in points."""
    found = {(row.scenario, row.strategy): row for row in rows if row.seeds}
    steps = TROUBLES[trouble]
    lines = [
        f"| {trouble} | " + " | ".join(steps) + " | lost |",
        "| --- |" + " ---: |" * (len(steps) + 1),
    ]
    best = {
        scenario: max(
            (found[key].accuracy for name in STRATEGIES if (key := (scenario.sentence, name)) in found),
            default=0,
        )
        for scenario in steps.values()
    }
    for name in STRATEGIES:
        own = [found.get((scenario.sentence, name)) for scenario in steps.values()]
        cells = []
        for scenario, row in zip(steps.values(), own, strict=True):
            if row is None:
                cells.append("")
                continue
            text = f"{100 * row.accuracy:.1f} ± {100 * row.deviation:.1f}"
            cells.append(f"**{text}**" if row.accuracy == best[scenario] else text)
        first, last = own[0], own[-1]
        lost = (
            ""
            if first is None or last is None
            else f"{100 * (first.accuracy - last.accuracy):.1f}".replace("-", "−")
        )
        lines.append(f"| `{name}` | " + " | ".join([*cells, lost]) + " |")
    return "\n".join(lines)


def cost_table(rows: Sequence[Row]) -> str:
    """Mean seconds and samples seen of each strategy on the clean data."""
    clean = {row.strategy: row for row in rows if row.scenario == Scenario().sentence and row.seeds}
    lines = [
        "| strategy | | total time, s | selection time, s | samples seen |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for name, meaning in STRATEGIES.items():
        if (row := clean.get(name)) is not None:
            seconds, selecting, visits = (
                mean(values) for values in (row.seconds, row.selection_seconds, row.samples_visited)
            )
            lines.append(f"| `{name}` | {meaning} | {seconds:.0f} | {selecting:.0f} | {visits:,.0f} |")
    return "\n".join(lines)


def chart(rows: Sequence[Row], path: Path, title: str) -> None:
    """A panel for each trouble: test accuracy against its level, a line for each strategy, bars of one deviation."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    found = {(row.scenario, row.strategy): row for row in rows if row.seeds}
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    widths = [len(steps) for steps in TROUBLES.values()]
    panels = figure.subplots(1, len(TROUBLES), sharey=True, width_ratios=widths)
    for axes, (trouble, steps) in zip(panels, TROUBLES.items(), strict=True):
        for number, name in enumerate(STRATEGIES):
            own = [found.get((scenario.sentence, name)) for scenario in steps.values()]
            drawn = [(place, row) for place, row in enumerate(own) if row is not None]
            if drawn:
                axes.errorbar(
                    [place for place, _ in drawn],
                    [row.accuracy for _, row in drawn],
                    yerr=[row.deviation for _, row in drawn],
                    label=name,
                    color="black" if name in COST_NOTHING else f"C{number}",
                    linestyle=COST_NOTHING.get(name, "-"),
                    marker="osD^vPX<>"[number],
                    capsize=3,
                )
        axes.set_xticks(range(len(steps)), list(steps))
        axes.set_xlabel(trouble)
        axes.set_xlim(-0.3, len(steps) - 0.7)
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    panels[0].set_ylabel("test accuracy: mean, deviation")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.suptitle(f"{title}: equal samples", fontsize=11)
    figure.savefig(path, dpi=110)


def document(rows: Sequence[Row], title: str, command: str, picture: str) -> str:
    """The page that `--docs` writes."""
    parts = [
        f"# Robustness: {title}",
        f"{study_report.TESTED.format(TEST)}\n```sh\n{command}\n```\n\nA study that was stopped resumes. "
        "Test accuracy in percent, mean ± sample deviation over seeds, at equal samples within a column (see below)."
        "\n\n"
        "`rho-loss` and `glister` use the clean validation labels. What these give by themselves, with "
        "`validation-only` and `training-and-validation`, is in "
        "[measurements](measurements.md#what-validation-labels-give-by-themselves).",
        f"![test accuracy]({picture})",
        *(table(rows, trouble) for trouble in TROUBLES),
        "## Cost\n\n" + cost_table(rows),
        "## The runs\n\n" + study_report.markdown(rows),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


@resumable
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the studies, print the tables, and write the page; the worst exit code of the studies."""
    parser = study.parser_of_several("benchmarks.robustness", __doc__, "build/robustness")
    add = parser.add_argument
    add("--per-class", type=int, default=2000, metavar="N", help="of the training data (default: 2000)")
    add("--fraction", type=float, default=0.1, help="default: 0.1")
    add("--epochs", type=int, default=30, help="default: 30")
    add("--jobs", type=int, default=1, metavar="N", help="runs at a time")
    options = parser.parse_args(arguments)
    out: Path = options.out or Path("build/robustness")
    title = options.title or options.training.name
    given = study.common_arguments(options, title, out)
    for name in ("per-class", "epochs", "jobs"):
        given += [f"--{name}", str(getattr(options, name.replace("-", "_")))]

    worst = study.run_all(calls(options.seeds, options.fraction, given))
    if worst not in (0, 2):
        return worst
    rows = study_report.read(out)
    page: Path = options.docs or out / "robustness.md"
    picture = page.with_suffix(".png")
    page.parent.mkdir(parents=True, exist_ok=True)
    command = (
        "python -m benchmarks.robustness --training …/training --test …/test "
        f"--per-class {options.per_class} --fraction {options.fraction:g} --epochs {options.epochs} "
        f"--seeds {options.seeds}"
    )
    chart(rows, picture, title)
    write_text(page, document(rows, title, command, picture.name))
    print("\n\n".join([*(table(rows, trouble) for trouble in TROUBLES), cost_table(rows), str(page)]))
    return worst


if __name__ == "__main__":
    sys.exit(main())

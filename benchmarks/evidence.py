"""The evidence: the experiment of AWS's article with fair baselines, its accuracy and its time, in one command.

    python -m benchmarks.evidence --training DIR --test DIR                    # ResNet-18, 100 epochs, 50/30/10%: a GPU
    python -m benchmarks.evidence --training DIR --test DIR --preset small     # a small network, for two CPU cores

Each run is one of `benchmarks.study`, whose folder it uses: a finished run is not made again, so that the same command
resumes where it was stopped. At every fraction stand `full` with the same number of samples seen on a compressed
schedule, and `rs2`; `full` for all the epochs is the yardstick. CORDS's own GLISTER loader chooses in the same loop at
the smallest fraction. `--docs FILE` writes the tables and, beside it, the chart.
"""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import study, study_report
from benchmarks.common import resumable
from benchmarks.study_report import Row

TEST = "tests/functional/test_study.py::test_the_evidence_is_one_command_that_goes_on_where_it_was"
"""What the page names before its command."""
TIME = (
    "Selection and evaluation included; the processor's time of whole jobs, with start and reading of data, where "
    "it is known."
)
OVERHEAD = 1.15
"""What a fraction's run may take, of the fraction times the seconds of all the data."""


@dataclass(frozen=True)
class Preset:
    """What is run."""

    settings: dict[str, str]
    epochs: int
    fractions: tuple[float, ...]
    strategies: tuple[str, ...]
    """Beside `full` and `rs2`."""
    at_the_smallest: tuple[str, ...]
    levels: tuple[float, ...]
    """Test accuracies to which the time is asked."""
    jobs: int = 1
    targets: dict[float, tuple[float, float | None]] = field(default_factory=dict)
    """Fraction → what the best strategy and `glister` should reach."""


PRESETS = {
    "grid": Preset(
        settings={"model": "resnet18"},
        epochs=100,
        fractions=(0.5, 0.3, 0.1),
        strategies=("glister", "infobatch", "gradmatch-pb"),
        at_the_smallest=("glister:select_every=1", "glister:backend=cords,select_every=20"),
        levels=(0.90, 0.93, 0.95),
        targets={1.0: (0.955, None), 0.5: (0.95, 0.94), 0.3: (0.94, 0.925), 0.1: (0.91, 0.87)},
    ),
    "small": Preset(
        settings={"model": "cnn"},
        epochs=30,
        fractions=(0.3, 0.1),
        strategies=("glister", "infobatch"),
        at_the_smallest=("glister:select_every=1", "glister:backend=cords,select_every=15"),
        levels=(0.70, 0.75, 0.80),
        jobs=2,
    ),
}


def studies(preset: Preset, seeds: str, given: Sequence[str]) -> list[list[str]]:
    """The argument lists of `benchmarks.study` that make up a preset, the yardstick last: it takes longest."""
    shared = [*given, "--epochs", str(preset.epochs), "--seeds", seeds, "--jobs", str(preset.jobs)]
    shared += ["--set", *(f"{name}={value}" for name, value in preset.settings.items())]
    smallest = min(preset.fractions)
    calls = []
    for fraction in sorted(preset.fractions):
        rows = preset.strategies + (preset.at_the_smallest if fraction == smallest else ())
        calls.append([*shared, "--fractions", f"{fraction:g}", "--strategies", ",".join(rows)])
    return [*calls, [*shared, "--fractions", "1"]]


def time_table(rows: Sequence[Row]) -> str:
    """For every fraction: the seconds of each row, and whether it keeps to its share of the whole's."""
    (whole,) = (row for row in rows if row.fraction == 1)
    seconds = whole.cost
    lines = [
        "| strategy | fraction | time, s | of full's | allowed: fraction × 1.15 | kept |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in study_report.sort(rows):
        if row is whole or not row.seeds:
            continue
        share = row.cost / seconds
        kept = "yes" if share <= OVERHEAD * row.fraction else "no"
        lines.append(
            f"| {row.strategy} | {row.fraction:g} | {row.cost:.1f} | {share:.3f} | "
            f"{OVERHEAD * row.fraction:.3f} | {kept} |"
        )
    return "\n".join(lines)


def fastest(rows: Sequence[Row], level: float) -> Row | None:
    """The row of least cost whose mean test accuracy is at least this; None where none reaches it."""
    reaching = [row for row in rows if row.seeds and row.accuracy >= level]
    return min(reaching, key=lambda row: row.cost, default=None)


def accuracy_table(rows: Sequence[Row], levels: Sequence[float]) -> str:
    """For every level the fastest run that ends at it or above, and the fastest on all of the data."""
    lines = [
        "| test accuracy | fastest | fraction | epochs | seconds | fastest `full` | epochs | seconds |",
        "| ---: | --- | ---: | ---: | ---: | --- | ---: | ---: |",
    ]
    for level in levels:
        cells = [f"{level:.0%}"]
        best = fastest(rows, level)
        full = fastest([row for row in rows if row.strategy == "full"], level)
        if best is None:
            cells += ["none of these", *[""] * 3]
        else:
            cells += [best.strategy, f"{best.fraction:g}", str(best.epochs), f"{best.cost:.1f}"]
        cells += (
            ["none of these", "", ""] if full is None else ["`full`", str(full.epochs), f"{full.cost:.1f}"]
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def target_table(rows: Sequence[Row], targets: dict[float, tuple[float, float | None]]) -> str:
    """Fraction by fraction what the best strategy and `glister` reached, beside what was asked."""
    lines = [
        "| fraction | best strategy | reached | asked | glister | asked |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for fraction, (best_asked, glister_asked) in sorted(targets.items(), reverse=True):
        own = [row for row in rows if row.fraction == fraction and row.seeds]
        if not own:
            lines.append(f"| {fraction:g} | not run | | {best_asked:.1%} | | |")
            continue
        best = max(own, key=lambda row: row.accuracy)
        glister = next((f"{row.accuracy:.2%}" for row in own if row.strategy == "glister"), "")
        asked = "" if glister_asked is None else f"{glister_asked:.1%}"
        lines.append(
            f"| {fraction:g} | {best.strategy} | {best.accuracy:.2%} | {best_asked:.1%} | {glister} | {asked} |"
        )
    return "\n".join(lines)


def document(rows: Sequence[Row], preset: Preset, title: str, command: str, picture: str) -> str:
    """The page that `--docs` writes."""
    parts = [
        f"# Evidence: {title}",
        f"{study_report.TESTED.format(TEST)}\n```sh\n{command}\n```\n\nA study that was stopped resumes.",
        f"## Accuracy\n\n{study_report.markdown(rows)}",
        f"![test accuracy]({picture})",
    ]
    if preset.targets:
        parts.append(f"### Against the targets\n\n{target_table(rows, preset.targets)}")
    if any(row.fraction == 1 and row.seeds for row in rows):
        parts.append(f"## Time\n\n{TIME}\n\n{time_table(rows)}")
    parts.append(
        "## Time to accuracy\n\nSeconds of the fastest whole run whose mean test accuracy is at least the level.\n\n"
        + accuracy_table(rows, preset.levels)
    )
    return "\n\n".join(part.strip() for part in parts) + "\n"


@resumable
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the preset, print its tables, and write the page; the worst exit code of the studies."""
    parser = study.parser_of_several("benchmarks.evidence", __doc__, "build/evidence/PRESET")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="grid", help="default: grid")
    options = parser.parse_args(arguments)
    preset: Preset = PRESETS[options.preset]
    out: Path = options.out or Path("build/evidence") / options.preset
    title = options.title or options.training.name
    worst = study.run_all(studies(preset, options.seeds, study.common_arguments(options, title, out)))
    if worst not in (0, 2):
        return worst
    rows = study_report.read(out)
    command = (
        f"python -m benchmarks.evidence --preset {options.preset} --training …/training --test …/test "
        f"--seeds {options.seeds}"
    )
    picture = f"{options.docs.stem}.png" if options.docs else "study.png"
    page = document(rows, preset, title, command, picture)
    print(page)
    if options.docs:
        options.docs.parent.mkdir(parents=True, exist_ok=True)
        options.docs.write_text(page, encoding="utf-8")
        shutil.copyfile(out / "study.png", options.docs.with_name(picture))
    return worst


if __name__ == "__main__":
    sys.exit(main())

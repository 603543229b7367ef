"""Writes the parts of the documentation that follow from the code, and the README's picture.

    make docs                      # write them
    python docs/generate.py --check    # exit code 1 where one differs from what is committed

`tests/unit/test_docs.py` holds the committed files to what this would write.
"""

import argparse
import io
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import subset_selection.catalogue
from deploy import __main__ as cli
from deploy.aws import policy
from deploy.commands import declared
from docs import library
from subset_trainer.config.hyperparameters import Hyperparameters, markdown_table
from subset_trainer.config.knobs import Knobs

ROOT = Path(__file__).resolve().parents[1]
EVIDENCE = "docs/explanation/evidence.md"
NOTE = "<!-- Written by docs/generate.py (`make docs`) from the code: change it there. -->"
PROGRAM = "subset-trainer"


def hyperparameters_page() -> str:
    # Pydantic takes the fields of the last base first.
    groups = [group for group in reversed(Hyperparameters.__bases__) if issubclass(group, Knobs)]
    assert {name for group in groups for name in group.model_fields} == set(Hyperparameters.model_fields)
    tables = "\n\n".join(
        f"## {str(group.__doc__).splitlines()[0].rstrip('.')}\n\n{markdown_table(group)}" for group in groups
    )
    return f"""# Hyperparameters

{NOTE}

Every value may arrive as text, as SageMaker sends it: `0.3`, `"0.3"`, `True` and `true` are all understood. Unknown
names and wrong values are refused before any data is read. One message names every fault.

Names that begin with `sagemaker_`, and `_tuning_objective_metric`, belong to the platform and are ignored. An empty
value, `None` and `null` mean the default. Choices are understood in any case, and with hyphens, underscores or spaces:
`GradMatch_PB` is `gradmatch-pb`. `.venv/bin/python -m subset_trainer.config` prints all of them.

{tables}
"""


def strategies_page() -> str:
    return f"""# Strategies

{NOTE}

A strategy decides which examples an epoch trains on. [Choose a strategy](../how-to/choose-a-strategy.md) says which
one to take; [How selection works](../explanation/how-selection-works.md) says what they see. All strategies take
`fraction` and `warm_fraction`. Those that see the last layer need one forward pass over their candidates for each
selection; the selection time includes it. `.venv/bin/python -m subset_selection.catalogue` prints this table.

Differences from `rs2` on CIFAR-10 are of test accuracy with `model=cnn` at 10% of the samples, means over three seeds:
45,000 JPEG images for `glister` and `infobatch`, 18,000 for the others
([measurements](../explanation/measurements.md#every-strategy-at-10)).

N is the number of examples, K of picks, M of validation examples (at most 5,000 guide GLISTER: a sample of more), C of
classes, D of features, B the `batch_size`, and n the number of examples of a class.

{subset_selection.catalogue.markdown_table()}
"""


def cli_page() -> str:
    parts = [
        f"""# Command line

{NOTE}

`make venv` installs `{PROGRAM}` in `.venv/bin`; `python -m deploy` is the same program. The exit code is 0
for success, 1 for errors that you can fix, 2 for every other error, 130 after an interruption, and 141 where
what reads the output has closed it. `{PROGRAM} COMMAND --help` ends with examples; a command without any argument
that needs some shows its help; `{PROGRAM} --install-completion` completes commands and options in your shell.
Options that take several values take them at once (`--set epochs=30 seed=1`) or repeated. With `--json`, stdout
has the answer as JSON alone, and everything else goes to stderr. Tables leave out columns that the terminal has
no room for; colours are for terminals, and `NO_COLOR` turns them off.
"""
    ]
    for command in cli.commands():
        text = textwrap.fill(command.text, 110, break_on_hyphens=False)
        parts.append(f"## {PROGRAM} {command.name}\n\n{text}\n\n{options_table(command.options)}\n")
    return "\n".join(parts)


WHOSE = {
    "launcher": "whoever builds, launches and compares",
    "job": "the training job's role (here with `--clarify` and `--mlflow SERVER`)",
    "codebuild": "CodeBuild's role",
}


def iam_page() -> str:
    names = policy.Names(
        account="ACCOUNT",
        region="REGION",
        bucket="BUCKET",
        role="subset-trainer",
        data=("DATA",),
        mlflow="SERVER",
        clarify=True,
    )
    parts = [
        f"""# IAM

{NOTE}

`{PROGRAM} policy` prints three least-privilege policies as JSON, for your account, buckets and names; `--explain`
prints each statement with its reason. The tests hold them against the calls that are really made. What a resource can
be named for is named; a few actions know no resources, and IAM grants them for `*` alone.
"""
    ]
    for whose, make in policy.POLICIES.items():
        rows = "\n".join(
            f"| {one.name} | {_cell(one.reason)} | {', '.join(f'`{action}`' for action in one.actions)} |"
            for one in make(names)
        )
        parts.append(
            f"## policy {whose}\n\nFor {WHOSE[whose]}.\n\n| statement | why | actions |\n| --- | --- | --- |\n{rows}\n"
        )
    return "\n".join(parts)


def options_table(options: type[declared.Options]) -> str:
    """What a command takes, without `--help`."""
    rows = ["| argument | default | meaning |", "| --- | --- | --- |"]
    for field, kind, option in declared.fields(options):
        if option.hidden:
            continue
        value = option.metavar or field.name.upper()
        if option.choices and not option.metavar:
            value = "{" + ",".join(option.choices) + "}"
        value = "" if declared.is_flag(kind) else f" {value}{' …' if option.many else ''}"
        shown = f"{' '.join(option.names(field))}{value}".strip()
        default = declared.default_of(field)
        given = "required" if declared.is_required(field) and not option.argument else ""
        if default and not declared.is_flag(kind):
            given = f"`{default}`"
        rows.append(f"| `{shown}` | {given} | {_cell(option.help)} |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


@dataclass(frozen=True)
class Point:
    """One strategy at one fraction: percent, its deviation over seeds, and total seconds."""

    strategy: str
    fraction: float
    accuracy: float
    deviation: float
    seconds: float


ROW = re.compile(
    r"^\| (?:\*\*)?(?P<strategy>[^ *|]+)(?:\*\*)? \| (?P<fraction>[\d.]+) \| \d+ \| (?:\*\*|≈ )?"
    r"(?P<accuracy>[\d.]+) ± (?P<deviation>[\d.]+)%(?:\*\*)? \| [\d.]+% \| .* \| (?P<seconds>[\d.]+) \|$",
    re.MULTILINE,
)


def points() -> list[Point]:
    """The rows of the accuracy table of docs/explanation/evidence.md."""
    text = (ROOT / EVIDENCE).read_text(encoding="utf-8")
    return [
        Point(
            found["strategy"],
            *(float(found[name]) for name in ("fraction", "accuracy", "deviation", "seconds")),
        )
        for found in ROW.finditer(text)
    ]


LOOKS = {
    "full": ("full data, fewer epochs", "black", "s"),
    "rs2": ("rs2: a fresh random subset each epoch", "#d55e00", "o"),
    "infobatch": ("infobatch", "#009e73", "^"),
    "glister": ("GLISTER", "#0072b2", "D"),
    "glister:backend=cords,select_every=15": ("GLISTER, CORDS's own loader", "#56b4e9", "v"),
}
"""Strategy → its name, colour and marker in the picture. The colours are told apart by colour-blind readers, too."""


def picture() -> str:
    """Test accuracy against total time, with the baselines, as SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    own: Any = {
        "svg.hashsalt": "subset-trainer",
        "svg.fonttype": "path",
        "font.size": 10,
        "path.simplify": False,
    }
    with mpl.rc_context(own):
        figure, axes = plt.subplots(figsize=(7.6, 3.9), layout="constrained")
        found = points()
        for strategy, (label, colour, marker) in LOOKS.items():
            own_points = sorted((p for p in found if p.strategy == strategy), key=lambda p: p.seconds)
            axes.errorbar(
                [p.seconds for p in own_points],
                [p.accuracy for p in own_points],
                yerr=[p.deviation for p in own_points],
                label=label,
                color=colour,
                marker=marker,
                markersize=6,
                capsize=3,
                linewidth=1.4 if strategy in ("full", "rs2") else 1.0,
                linestyle="--" if strategy == "full" else "-",
            )
        for fraction, x, y in ((0.1, 25, 73.9), (0.3, 45, 82.2), (1.0, 236, 83.8)):
            axes.annotate(
                f"{fraction:.0%} of the samples" if fraction < 1 else "all samples",
                (x, y),
                color="#444444",
                fontsize=9,
                ha="center" if fraction == 1 else "left",
            )
        axes.set_xscale("log")
        axes.set_xlim(22, 320)
        axes.set_ylim(70.5, 84.8)
        ticks = (25, 40, 60, 100, 150, 200, 300)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("processor time of the whole job, seconds (logarithmic)")
        axes.set_ylabel("test accuracy, %")
        axes.legend(loc="lower right", frameon=False, fontsize=9)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None}, facecolor="white")
        plt.close(figure)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


FILES: dict[str, Callable[[], str]] = {
    "docs/reference/hyperparameters.md": hyperparameters_page,
    "docs/reference/strategies.md": strategies_page,
    "docs/reference/cli.md": cli_page,
    "docs/reference/iam.md": iam_page,
    "docs/reference/library.md": lambda: library.page(NOTE),
    "docs/images/accuracy-and-time.svg": picture,
}
"""File → what makes its content."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; name the files that differ")
    check = parser.parse_args(arguments).check
    stale = []
    for name, make in FILES.items():
        path, text = ROOT / name, make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                path.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"{name}: {'differs; run `make docs`' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())

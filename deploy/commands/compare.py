"""`demo` and `compare`: finished runs side by side, and runs on this machine to compare."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.commands import options, planning, results
from deploy.grid import program
from deploy.grid.backend import collect
from deploy.grid.here import Here
from deploy.results import compare
from subset_trainer.errors import UserError

# Fifteen epochs of resnet18 show the whole curve in under a minute; a mirrored digit is another sign. A tenth of the
# digits are 130 images: in batches of 128 they would make thirty updates in all, too few to learn from.
DEMO_SETTINGS = {
    "model": "resnet18",
    "epochs": 15,
    "augmentation": "crop",
    "batch_size": 32,
    "learning_rate": 0.01,
}
TABLES = (".csv", ".parquet")


def add(commands: options.Commands) -> None:
    """Add the commands."""
    showing = commands.add(
        "demo", demo, "Train on scikit-learn's digits, on all of them and on fractions, and compare."
    )
    showing.add_argument(
        "--output",
        type=Path,
        default=options.BUILD / "demo",
        help="folder for the data, runs and results",
    )
    planning.add_grid(showing)
    options.add_settings(showing)

    comparison = commands.add(
        "compare",
        run,
        "Compare the Runs of a SageMaker Experiment, or finished runs in folders; or train on your own data at several "
        "fractions on this machine, and compare those.",
    )
    comparison.add_argument("experiment", nargs="?", metavar="EXPERIMENT", help="of SageMaker Experiments")
    comparison.add_argument("--training", type=Path, metavar="PATH", help="training data: a folder or file")
    comparison.add_argument(
        "--local", type=Path, nargs="+", metavar="FOLDER", help="output folders of finished runs"
    )
    for name in ("validation", "test"):
        comparison.add_argument(f"--{name}", type=Path, metavar="PATH", help=f"{name} data: a folder or file")
    planning.add_grid(comparison)
    comparison.add_argument("--output", type=Path, help="folder for runs and results (in build/)")
    comparison.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="also the data frame, as CSV or, where the name ends so, Parquet: an Experiment's as the SDK's "
        "ExperimentAnalytics gives it",
    )
    comparison.add_argument(
        "--sort-by",
        metavar="WHAT",
        help="order of an Experiment's data frame: metrics.validation:accuracy.max, parameters.fraction, "
        "CreationTime; the largest first",
    )
    comparison.add_argument("--ascending", action="store_true", help="the smallest first")
    results.add_presentation(comparison)
    options.add_region(comparison)
    options.add_settings(comparison)


def demo(given: argparse.Namespace) -> None:
    """The article's experiment on the digits."""
    # scikit-learn takes seconds to import.
    from deploy.digits import write_digits

    data = given.output / "digits"
    write_digits(data)
    channels = {"training": data / "training", "test": data / "test"}
    runs = _train(given, given.output, channels, {**DEMO_SETTINGS, **given.set})
    results.present(runs, given.output, _title(runs, "scikit-learn's digits"))


def run(given: argparse.Namespace) -> None:
    """Compare."""
    sources = [given.experiment, given.training, given.local]
    if sum(source is not None for source in sources) != 1:
        raise UserError("expected the name of an Experiment, or --local FOLDER…, or --training PATH")
    if given.sort_by is not None and given.experiment is None:
        raise UserError("--sort-by: of an Experiment's data frame")
    if given.csv is not None and given.csv.suffix not in TABLES:
        raise UserError(f"--csv: expected a name that ends in {' or '.join(TABLES)}, got {str(given.csv)!r}")
    if given.experiment is not None:
        _experiment(given)
        return
    output = given.output or options.BUILD / "compare"
    if given.local is not None:
        runs = [compare.read_run(folder) for folder in given.local]
        title = "Comparison"
    else:
        channels = {
            name: getattr(given, name) for name in options.CHANNELS if getattr(given, name) is not None
        }
        runs = _train(given, output, channels, given.set)
        title = _title(runs, str(given.training))
    if given.csv is not None:
        import pandas as pd

        _write_frame(pd.DataFrame(compare.rows(runs, given.prices)), given.csv)
    results.present(
        runs,
        output,
        title,
        prices=given.prices,
        tolerance=given.tolerance if given.local is not None else None,
        html=given.html,
    )


def _train(
    given: argparse.Namespace, output: Path, channels: Mapping[str, Path], settings: Mapping[str, Any]
) -> list[compare.Run]:
    """Plan the comparison and run it here; everything is checked before the first run starts.

    Raises UserError or AlgorithmError with the run's name when one fails; finished runs stay where they are.
    """
    program.check_channels(channels)
    cells = planning.planned(given, settings).cells
    runs, _ = collect(Here(output, channels, stop_at_failure=True, progress=True).run(cells), cells)
    return runs


def _experiment(given: argparse.Namespace) -> None:
    from deploy.aws import calls, launch
    from deploy.results import experiments

    session = launch.sagemaker_session(boto_session=calls.boto_session(given.region))
    analytics = experiments.Analytics(given.experiment, session)
    frame = analytics.frame(given.sort_by, given.ascending)
    folder = given.output or options.BUILD / "experiments" / given.experiment
    named = experiments.jobs_of(analytics)
    runs, lost = experiments.results(named, session, folder / "runs")
    if given.sort_by is not None:
        order = {
            experiments.run_name(shown, given.experiment): n for n, shown in enumerate(frame["DisplayName"])
        }
        runs.sort(key=lambda run: order[run.name])
    if given.csv is not None:
        _write_frame(frame, given.csv)
        print(f"data frame: {given.csv} ({len(frame)} rows, {len(frame.columns)} columns)")
    results.present_jobs(given, runs, lost, folder, f"Experiment {given.experiment}", given.tolerance)
    if not runs:
        # Of other trainings, perhaps, which have their metrics all the same.
        metrics = [column for column in frame.columns if column.endswith(" - Last")]
        shown = frame[["DisplayName", *metrics]] if len(frame) else "no Runs"
        print(f"\nno Run of {given.experiment} has results of this image; what was recorded:\n\n{shown}")


def _write_frame(frame: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        # A parameter may be a number in one Run and text in another; a column of Parquet is one or the other.
        mixed = [name for name in frame.columns if frame[name].dropna().map(type).nunique() > 1]
        frame.astype(dict.fromkeys(mixed, "str")).to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False)


def _title(runs: Sequence[compare.Run], data: str) -> str:
    facts: Mapping[str, Any] = runs[0].summary
    examples = facts["examples"]["training"]
    return f"{data}: {facts['model']}, {examples:,} training examples, seed {facts['seed']}"

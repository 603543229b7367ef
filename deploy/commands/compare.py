"""`demo` and `compare`: compare finished runs, or train on this machine and compare those runs."""

import argparse
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.commands import options, planning, results
from deploy.grid import comparison, program, studies
from deploy.results import compare, folders
from deploy.results.compare import Lost, Run
from subset_trainer.errors import UserError

# Each default fraction of twenty epochs is a whole number, so that full data can see equally many samples. No flips,
# because a mirrored digit is not a digit. Small batches, because a tenth of the digits is 130 images: batches of 128
# would give only forty updates, too few to learn from. A small network, so that thirty runs take minutes.
DEMO_SETTINGS = {
    "model": "cnn",
    "epochs": 20,
    "augmentation": "crop",
    "batch_size": 32,
    "learning_rate": 0.02,
}
DEMO_JOBS = 2
TABLES = (".csv", ".parquet")
EXPERIMENT = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")


def add(commands: options.Commands) -> None:
    """Add the commands."""
    showing = commands.add(
        "demo", demo, "Train on scikit-learn's digits, full and at several fractions, and compare."
    )
    showing.add_argument(
        "--output",
        type=options.folder,
        help="folder for data, runs and results (build/demo)",
    )
    planning.add_grid(showing)
    planning.add_overwrite(showing)
    planning.add_settle(showing)
    planning.add_jobs(showing, DEMO_JOBS)
    results.add_presentation(showing)
    options.add_settings(showing)

    comparison = commands.add(
        "compare",
        run,
        "Say how much of your data is enough: train on it at several fractions on this machine, and compare. Given "
        "folders of runs, or the name of a SageMaker Experiment, compare their runs.",
    )
    comparison.add_argument(
        "runs",
        nargs="*",
        metavar="DATA",
        help="a folder or file of data, such as --training names; or folders of runs or of studies; or the name of an "
        "Experiment",
    )
    # Deprecated spelling of RUN.
    comparison.add_argument("--local", nargs="+", default=[], metavar="FOLDER", help=argparse.SUPPRESS)
    for name in options.CHANNELS:
        comparison.add_argument(f"--{name}", type=Path, metavar="PATH", help=f"{name} data: a folder or file")
    planning.add_grid(comparison)
    planning.add_overwrite(comparison)
    planning.add_settle(comparison)
    planning.add_jobs(comparison)
    comparison.add_argument(
        "--output",
        type=options.folder,
        metavar="FOLDER",
        help="folder for results (of new runs: in build/compare; of finished runs: none are written)",
    )
    comparison.add_argument(
        "--csv",
        type=options.file,
        metavar="FILE",
        help="also write the data frame, as CSV or Parquet by the file's name; an Experiment's has the columns of the "
        "SDK's ExperimentAnalytics",
    )
    comparison.add_argument(
        "--sort-by",
        metavar="WHAT",
        help="order of an Experiment's data frame, such as metrics.validation:accuracy.max, parameters.fraction or "
        "CreationTime; the largest first",
    )
    comparison.add_argument("--ascending", action="store_true", help="sort the smallest first")
    results.add_presentation(comparison)
    options.add_region(comparison)
    options.add_settings(comparison)


@dataclass(frozen=True)
class Compared:
    """The runs to compare, from any source."""

    title: str
    folder: Path | None
    """Folder for the comparison's results; None writes none."""
    runs: Sequence[Run]
    lost: Sequence[Lost] = ()
    frame: Any = None
    """The data frame of an Experiment; None for other sources."""
    first_seeds: Sequence[int] | None = None
    """The seeds of the first answer, where others were added because it left something open."""
    data: Sequence[str] = ()
    """The training data of the runs, each once, where it is known; of different data no answer follows."""


def demo(given: argparse.Namespace) -> None:
    """Repeat the experiment of the AWS article on the digits."""
    # Imported here because scikit-learn takes seconds to import.
    from deploy.digits import write_digits

    output = given.output or options.BUILD / "demo"
    data = output / "digits"
    write_digits(data)
    channels = {"training": data / "training", "test": data / "test"}
    settings = {**DEMO_SETTINGS, **given.set}
    found = _train(given, output, channels, settings, "scikit-learn's digits")
    results.present(
        given, found.runs, found.lost, found.folder, found.title, given.tolerance, found.first_seeds
    )


def run(given: argparse.Namespace) -> None:
    """Compare finished runs, an Experiment's Runs, or new runs on this machine."""
    if given.csv is not None and given.csv.suffix not in TABLES:
        raise UserError(f"--csv: expected a name that ends in {' or '.join(TABLES)}, got {str(given.csv)!r}")
    found = _found(given)
    if given.csv is not None:
        _write_frame(found, given)
    one = len(found.data) < 2
    tolerance = given.tolerance if one else None
    results.present(given, found.runs, found.lost, found.folder, found.title, tolerance, found.first_seeds)
    if not one:
        print(
            f"\nHow much data is enough cannot be said: these runs are of different data: {', '.join(found.data)}"
        )
    if found.frame is not None and not found.runs:
        # The Experiment may be of other training jobs, whose metrics are shown anyway.
        metrics = [column for column in found.frame.columns if column.endswith(" - Last")]
        shown = found.frame[["DisplayName", *metrics]] if len(found.frame) else "no Runs"
        print(f"\n{found.title}: no Run has results of this image; what was recorded:\n\n{shown}")


def _found(given: argparse.Namespace) -> Compared:
    """Return the runs that the options name: new runs on data, an Experiment's Runs, or runs in folders.

    Raises:
        UserError: the options name none or several of these.
    """
    runs = [*given.runs, *given.local]
    if given.training is None and len(given.runs) == 1 and not given.local:
        path = Path(given.runs[0])
        if path.exists() and not comparison.is_of_runs(path):
            return _on_data(given, comparison.channels_of(path), str(path))
    if bool(runs) == (given.training is not None):
        raise UserError("expected data, folders of runs, or the name of an Experiment")
    experiment = (
        runs == given.runs and len(runs) == 1 and EXPERIMENT.fullmatch(runs[0]) and not Path(runs[0]).is_dir()
    )
    if given.sort_by is not None and not experiment:
        raise UserError("--sort-by only applies to an Experiment's data frame")
    if experiment:
        return _experiment(given, runs[0])
    if runs:
        places = [Path(folder) for folder in runs]
        found, lost = folders.read(places)
        first = folders.first_seeds(places)
        return Compared(
            "Comparison", given.output, found, lost, first_seeds=first, data=folders.data_of(places)
        )
    return _on_data(given, {}, str(given.training))


def _on_data(given: argparse.Namespace, channels: Mapping[str, Path], data: str) -> Compared:
    """Train on the channels, and on those that the options name."""
    named = {name: path for name in options.CHANNELS if (path := getattr(given, name)) is not None}
    output = given.output or options.BUILD / "compare"
    return _train(given, output, {**channels, **named}, given.set, data)


def _train(
    given: argparse.Namespace,
    output: Path,
    channels: Mapping[str, Path],
    settings: Mapping[str, Any],
    data: str,
) -> Compared:
    """Plan the comparison and run it on this machine. Everything is checked before the first run starts.

    Raises UserError or AlgorithmError with the run's name if a run fails; finished runs are kept.
    """
    program.check_channels(channels)
    settings = planning.tested(settings, channels)
    from deploy import understood  # the formats take a moment to import

    cells = planning.planned(given, settings, tested="test" in channels).cells
    understood.before(channels, cells[0].values)
    folder, agenda = comparison.run(
        comparison.Wanted(
            channels,
            cells,
            settings,
            output,
            below=given.output is None,
            tolerance=given.tolerance / 100,
            everything=given.all,
            overwrite=given.overwrite,
            settle=given.settle,
            jobs=given.jobs,
        )
    )
    runs, lost = agenda.results()
    facts = runs[0].summary
    title = f"{data}: {facts['model']}, {facts['examples']['training']:,} training examples"
    seeds = list(dict.fromkeys(run.summary["seed"] for run in runs))
    shown = f"{title}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    return Compared(shown, folder, runs, lost, first_seeds=studies.first_seeds(folder))


def _experiment(given: argparse.Namespace, name: str) -> Compared:
    from deploy.aws import calls, launch
    from deploy.results import experiments

    session = launch.sagemaker_session(boto_session=calls.boto_session(given.region))
    analytics = experiments.Analytics(name, session)
    frame = analytics.frame(given.sort_by, given.ascending)
    with tempfile.TemporaryDirectory(prefix="subset-trainer-") as folder:
        downloaded = given.output / "runs" if given.output else Path(folder)
        runs, lost = experiments.results(experiments.jobs_of(analytics), session, downloaded)
    if given.sort_by is not None:
        order = {experiments.run_name(shown, name): n for n, shown in enumerate(frame["DisplayName"])}
        runs.sort(key=lambda run: order[run.name])
    return Compared(f"Experiment {name}", given.output, runs, lost, frame)


def _write_frame(found: Compared, given: argparse.Namespace) -> None:
    import pandas as pd

    path: Path = given.csv
    frame = pd.DataFrame(compare.rows(found.runs, given.prices)) if found.frame is None else found.frame
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        # A parameter may be a number in one Run and text in another, but a column of Parquet has one type.
        mixed = [name for name in frame.columns if frame[name].dropna().map(type).nunique() > 1]
        frame.astype(dict.fromkeys(mixed, "str")).to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False)
    print(f"data frame: {path} ({len(frame)} rows, {len(frame.columns)} columns)")

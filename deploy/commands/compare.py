"""`demo` and `compare`: compare finished runs, or train on this machine and compare those runs."""

import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from deploy.commands import options, planning, results
from deploy.commands.declared import Answering, Command, Option, fields
from subset_trainer.errors import UserError

if TYPE_CHECKING:
    from deploy.results.compare import Lost, Run

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
OF_TRAINING = (
    *("validation", "test", "pretrained", "set", "fractions", "strategies", "seeds", "baselines"),
    *("all", "overwrite", "settle", "jobs"),
)
"""Fields of `Given` that say nothing to finished runs."""
TABLES = (".csv", ".parquet")
EXPERIMENT = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")


@dataclass(frozen=True, kw_only=True)
class Demo(results.Presentation, planning.Here, planning.Grid, options.Settings, Answering):
    """What `demo` takes."""

    output: Annotated[
        Path | None,
        Option("folder for data, runs and results (build/demo)", "FOLDER", options.folder),
    ] = None
    jobs: Annotated[int, planning.JOBS] = 2


@dataclass(frozen=True, kw_only=True)
class Given(results.Presentation, planning.Here, planning.Grid, options.Settings, options.Region, Answering):
    """What `compare` takes."""

    runs: Annotated[
        tuple[str, ...],
        Option(
            "a folder or file of data, such as --training names; or folders of runs or of studies; or the name of an "
            "Experiment",
            "DATA",
            argument=True,
            many=True,
        ),
    ] = ()
    local: Annotated[
        tuple[str, ...],
        Option("folders of runs; name them without --local", "FOLDER", many=True, hidden=True),
    ] = ()
    training: Annotated[Path | None, Option("training data: a folder or file", "PATH", Path)] = None
    validation: Annotated[Path | None, Option("validation data: a folder or file", "PATH", Path)] = None
    test: Annotated[Path | None, Option("test data: a folder or file", "PATH", Path)] = None
    pretrained: Annotated[Path | None, Option("a pretrained model: a folder or file", "PATH", Path)] = None
    output: Annotated[
        Path | None,
        Option(
            "folder for results (of new runs: in build/compare; of finished runs: none are written)",
            "FOLDER",
            options.folder,
        ),
    ] = None
    csv: Annotated[
        Path | None,
        Option(
            "also write the data frame, as CSV or Parquet by the file's name; an Experiment's has the columns of the "
            "SDK's ExperimentAnalytics",
            "FILE",
            options.file,
        ),
    ] = None
    sort_by: Annotated[
        str | None,
        Option(
            "order of an Experiment's data frame, such as metrics.validation:accuracy.max, parameters.fraction or "
            "CreationTime; the largest first",
            "WHAT",
        ),
    ] = None
    ascending: Annotated[bool, Option("sort the smallest first")] = False


@dataclass(frozen=True)
class Compared:
    """The runs to compare, from any source."""

    title: str
    folder: Path | None
    """Folder for the comparison's results; None writes none."""
    runs: "Sequence[Run]"
    lost: "Sequence[Lost]" = ()
    frame: Any = None
    """The data frame of an Experiment; None for other sources."""
    first_seeds: Sequence[int] | None = None
    """The seeds of the first answer, where others were added because it left something open."""
    data: Sequence[str] = ()
    """The training data of the runs, each once, where it is known; of different data no answer follows."""


def demo(given: Demo) -> Any:
    """Repeat the experiment of the AWS article on the digits."""
    # Imported here because scikit-learn takes seconds to import.
    from deploy.digits import write_digits

    output = given.output or options.BUILD / "demo"
    data = output / "digits"
    write_digits(data)
    channels = {"training": data / "training", "test": data / "test"}
    settings = {**DEMO_SETTINGS, **given.set}
    found = _train(given, output, channels, settings, "scikit-learn's digits")
    return results.present(
        given, found.runs, found.lost, found.folder, found.title, given.tolerance, found.first_seeds
    )


def run(given: Given) -> Any:
    """Compare finished runs, an Experiment's Runs, or new runs on this machine."""
    if given.csv is not None and given.csv.suffix not in TABLES:
        raise UserError(f"--csv: expected a name that ends in {' or '.join(TABLES)}, got {str(given.csv)!r}")
    found = _found(given)
    if given.csv is not None:
        _write_frame(found, given)
    refusal = None
    if len(found.data) > 1:
        refusal = (
            f"How much is enough cannot be said: these runs are of different data: {', '.join(found.data)}"
        )
    answer = results.present(
        given, found.runs, found.lost, found.folder, found.title, given.tolerance, found.first_seeds, refusal
    )
    if found.frame is not None and not found.runs:
        # The Experiment may be of other training jobs, whose metrics are shown anyway.
        metrics = [column for column in found.frame.columns if column.endswith(" - Last")]
        shown = found.frame[["DisplayName", *metrics]] if len(found.frame) else "no Runs"
        print(f"\n{found.title}: no Run has results of this image; what was recorded:\n\n{shown}")
    return answer


def _found(given: Given) -> Compared:
    """Return the runs that the options name: new runs on data, an Experiment's Runs, or runs in folders.

    Raises:
        UserError: the options name none or several of these.
    """
    from deploy.grid import comparison
    from deploy.results import folders

    runs = (*given.runs, *given.local)
    if given.training is None and len(given.runs) == 1 and not given.local:
        path = Path(given.runs[0])
        if path.exists() and not comparison.is_of_runs(path):
            return _on_data(given, comparison.channels_of(path), str(path))
    if runs and given.training is not None:
        raise UserError(f"{' '.join(runs)} and --training {given.training}: expected only one of the two")
    if not runs and given.training is None:
        raise UserError("expected data, folders of runs, or the name of an Experiment")
    experiment = (
        runs == given.runs and len(runs) == 1 and EXPERIMENT.fullmatch(runs[0]) and not Path(runs[0]).is_dir()
    )
    if given.sort_by is not None and not experiment:
        raise UserError("--sort-by only applies to an Experiment's data frame")
    if given.ascending and given.sort_by is None:
        raise UserError("--ascending goes with --sort-by")
    if runs:
        _refuse_what_only_training_takes(given, runs)
    if experiment:
        return _experiment(given, runs[0])
    if runs:
        places = [Path(folder) for folder in runs]
        if other := [place for place in places if place.exists() and not comparison.is_of_runs(place)]:
            raise UserError(
                f"{str(other[0])!r} holds no runs; of data, one folder or file is compared at a time, and --validation "
                "and --test name what belongs to it"
            )
        found, lost = folders.read(places)
        if given.local:
            print("--local: folders of runs are named without it now", file=sys.stderr)
        first = folders.first_seeds(places)
        return Compared(
            "Comparison", given.output, found, lost, first_seeds=first, data=folders.data_of(places)
        )
    return _on_data(given, {}, str(given.training))


def _refuse_what_only_training_takes(given: Given, runs: Sequence[str]) -> None:
    """Refuse options that say nothing to finished runs: perhaps it was data that was meant."""
    for field, _, option in fields(Given):
        default = field.default_factory() if callable(field.default_factory) else field.default
        if field.name in OF_TRAINING and getattr(given, field.name) != default:
            missing = next((place for place in runs if not Path(place).exists()), None)
            raise UserError(
                f"there is no file or folder {missing!r}"
                if missing
                else f"{option.names(field)[0]} only applies where runs are trained on data, not to finished runs"
            )


def _on_data(given: Given, channels: Mapping[str, Path], data: str) -> Compared:
    """Train on the channels, and on those that the options name."""
    named = {name: path for name in options.CHANNELS if (path := getattr(given, name)) is not None}
    output = given.output or options.BUILD / "compare"
    return _train(given, output, {**channels, **named}, given.set, data)


def _train(
    given: Demo | Given,
    output: Path,
    channels: Mapping[str, Path],
    settings: Mapping[str, Any],
    data: str,
) -> Compared:
    """Plan the comparison and run it on this machine. Everything is checked before the first run starts.

    Raises UserError or AlgorithmError with the run's name if a run fails; finished runs are kept.
    """
    from deploy import understood
    from deploy.grid import comparison, program, studies

    program.check_channels(channels)
    settings = planning.tested(settings, channels)

    plan = planning.planned(given, settings, tested="test" in channels)
    cells = plan.cells
    understood.before({n: p for n, p in channels.items() if n in options.DATA}, cells[0].values)
    for note in plan.notes:
        print(note)
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
            prices=given.prices,
        )
    )
    runs, lost = agenda.results()
    facts = runs[0].summary
    title = f"{data}: {facts['model']}, {facts['examples']['training']:,} training examples"
    seeds = list(dict.fromkeys(run.summary["seed"] for run in runs))
    shown = f"{title}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    return Compared(shown, folder, runs, lost, first_seeds=studies.first_seeds(folder))


def _experiment(given: Given, name: str) -> Compared:
    # The SDK takes seconds to import, so an error that does not need it is reported before.
    from deploy.aws import calls

    try:
        boto_session = calls.boto_session(given.region)
    except UserError as error:
        raise UserError(
            f"there is no file or folder {name!r}; for an Experiment of that name: {error}"
        ) from error
    from deploy.aws import launch
    from deploy.grid import studies
    from deploy.results import experiments

    session = launch.sagemaker_session(boto_session=boto_session)
    analytics = experiments.Analytics(name, session)
    frame = analytics.frame(given.sort_by, given.ascending)
    with tempfile.TemporaryDirectory(prefix="subset-trainer-") as folder:
        downloaded = given.output / "runs" if given.output else Path(folder)
        runs, lost = experiments.results(experiments.jobs_of(analytics), session, downloaded)
    if given.sort_by is not None:
        order = {experiments.run_name(shown, name): n for n, shown in enumerate(frame["DisplayName"])}
        runs.sort(key=lambda run: order[run.name])
    # Where the sweep was started on this machine.
    first = studies.first_seeds(options.BUILD / "sweeps" / name)
    return Compared(f"Experiment {name}", given.output, runs, lost, frame, first_seeds=first)


def _write_frame(found: Compared, given: Given) -> None:
    import pandas as pd

    from deploy.results import compare

    path = given.csv
    assert path is not None
    frame = pd.DataFrame(compare.rows(found.runs, given.prices)) if found.frame is None else found.frame
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        # A parameter may be a number in one Run and text in another, but a column of Parquet has one type.
        mixed = [name for name in frame.columns if frame[name].dropna().map(type).nunique() > 1]
        frame.astype(dict.fromkeys(mixed, "str")).to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False)
    print(f"data frame: {path} ({len(frame)} rows, {len(frame.columns)} columns)")


COMMANDS = (
    Command(
        "compare",
        run,
        Given,
        "Say how much of your data is enough: train on it at several fractions on this machine, and compare. Given "
        "folders of runs, or the name of a SageMaker Experiment, compare their runs.",
        (
            "compare photos --test photos-test",
            "compare photos --strategies rs2,glister --set epochs=30",
            "compare build/compare/photos-3f9a01bc --json",
        ),
    ),
    Command(
        "demo",
        demo,
        Demo,
        "Train on scikit-learn's digits, full and at several fractions, and compare.",
        ("demo", "demo --strategies glister --seeds 0,1,2,3,4"),
        bare=True,
    ),
)

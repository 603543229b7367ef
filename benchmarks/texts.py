"""The built-in `ngrams` beside logistic regression on TF-IDF, on real short texts: Debian's descriptions of packages.

    python benchmarks/texts.py --seeds 0,1

On Debian or Ubuntu, whose package lists (`apt-get update`) hold each package's section and a line or more about it. The
twenty largest sections; as many descriptions as ``--examples``, a fifth of them for testing.

- **ngrams**: this project's job, in this process, as `train` runs it, at its defaults but for 8 epochs: of the training
  texts a tenth is its validation set. ``full`` trains on all others in each epoch, ``rs2`` and ``glister`` 30%.
- **encoder**: with ``--pretrained DIR``, the same with the Hugging Face encoder in that folder, for 3 epochs.
- **regression**: scikit-learn's LogisticRegression (C = 30) on TF-IDF of words and pairs of words, on all training
  texts.

accuracy: on the test texts, mean ± standard deviation over the seeds. seconds: of training, in the mean.
"""

import argparse
import collections
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import Parser, command, processor
from benchmarks.tables import judged_here
from subset_trainer.config import parse

SECTIONS = 20
ENCODER_EPOCHS = 3
"""What is usual for them: they know the language already."""
SIDES: Mapping[str, Mapping[str, object]] = {
    "full": {"strategy": "full"},
    "rs2 30%": {"strategy": "rs2", "fraction": 0.3},
    "glister 30%": {"strategy": "glister", "fraction": 0.3},
}
_SECTION = re.compile(r"^Section: (?:\S+/)?(\S+)$", re.MULTILINE)
_DESCRIPTION = re.compile(r"^Description(?:-en)?: (.*(?:\n .*)*)", re.MULTILINE)


def descriptions(examples: int) -> pd.DataFrame:
    """Columns section and description, of different rows in an order that is always the same."""
    told = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=True).stdout
    found = set()
    for record in told.split("\n\n"):
        section, description = _SECTION.search(record), _DESCRIPTION.search(record)
        if section and description:
            found.add((section[1], " ".join(description[1].split())))
    largest = {name for name, _ in collections.Counter(section for section, _ in found).most_common(SECTIONS)}
    rows = pd.DataFrame(sorted(row for row in found if row[0] in largest), columns=["section", "description"])
    return rows.sample(min(examples, len(rows)), random_state=0)


def regression(training: pd.DataFrame, test: pd.DataFrame, seed: int) -> tuple[float, float]:
    """Accuracy and seconds."""
    start = time.perf_counter()
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    model = LogisticRegression(C=30, max_iter=200, random_state=seed)
    model.fit(vectorizer.fit_transform(training["description"]), training["section"])
    seconds = time.perf_counter() - start
    return float(model.score(vectorizer.transform(test["description"]), test["section"])), seconds


@command
def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    rows = descriptions(options.examples)
    found: dict[str, list[tuple[float, float]]] = collections.defaultdict(list)
    sides = dict(SIDES)
    if options.pretrained:
        usual = {"epochs": ENCODER_EPOCHS, "batch_size": 32}
        sides |= {f"encoder {side}": {**values, **usual} for side, values in SIDES.items()}
    for seed in options.seeds:
        shuffled = rows.sample(frac=1, random_state=seed)
        test, training = shuffled[: len(rows) // 5], shuffled[len(rows) // 5 :]
        found["regression"].append(regression(training, test, seed))
        for side, values in sides.items():
            with tempfile.TemporaryDirectory() as temporary:
                channels = {name: Path(temporary) / name for name in ("training", "test")}
                for folder, part in zip(channels.values(), (training, test), strict=True):
                    folder.mkdir()
                    part.to_csv(folder / "texts.csv", index=False)
                if side.startswith("encoder"):
                    channels["pretrained"] = options.pretrained
                hp = parse({"epochs": 8, **values, "seed": seed, "report": False})
                found[side].append(judged_here(channels, Path(temporary) / "job", hp))
        print(f"seed {seed}: " + ", ".join(f"{side} {100 * got[-1][0]:.1f}%" for side, got in found.items()))
    print(f"\n{len(rows):,} descriptions, a fifth for testing; seeds {options.seeds}; {processor()}\n")
    print("| side | accuracy % | seconds |\n| --- | ---: | ---: |")
    for side, got in found.items():
        accuracies, seconds = zip(*got, strict=True)
        spread = f" ± {100 * statistics.stdev(accuracies):.1f}" if len(got) > 1 else ""
        print(
            f"| {side} | {100 * statistics.mean(accuracies):.1f}{spread} | {statistics.mean(seconds):.0f} |"
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pretrained", type=Path, metavar="DIR", help="a Hugging Face encoder's folder")
    parser.add_argument("--examples", type=int, default=25_000, metavar="N")
    parser.add_argument(
        "--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0], metavar="SEED,…"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""A table with free text: the model of words and columns beside models of either, and beside logistic regression.

    python benchmarks/table_and_text.py --seeds 0,1,2

Rows are made up: two texts, a number and a category, each of which agrees with the label in 70 to 80 of 100 rows,
independently. Each seed has ``--examples`` training rows, of which the job sets a tenth aside, and 2,000 test rows.

- **job**: this project's job, in this process, as `train` runs it, at its defaults but for 15 epochs of ``full``.
- **regression**: scikit-learn's LogisticRegression on TF-IDF of each text's words and pairs of words, the scaled number
  and an input of 0 or 1 for each category, on all training rows.

accuracy: on the test rows, mean ± standard deviation over the seeds.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import reviews
from benchmarks.common import Parser, command, processor
from benchmarks.tables import judged_here
from subset_trainer.config import parse

LABEL, TEXTS, OTHERS = "outcome", ("review", "title"), ("price", "shop")
SIDES = {"texts and columns": (*TEXTS, *OTHERS), "texts": TEXTS, "columns": OTHERS}
TEST_ROWS, EPOCHS = 2_000, 15


def train(columns: Sequence[str], examples: int, seed: int, epochs: int = EPOCHS) -> float:
    """Accuracy of this project's job on these columns."""
    with tempfile.TemporaryDirectory() as temporary:
        channels = {name: Path(temporary) / name for name in ("training", "test")}
        for (name, folder), rows in zip(channels.items(), _rows(examples, seed), strict=True):
            folder.mkdir()
            reviews.write(folder / f"{name}.csv", rows, (LABEL, *columns))
        values = {"strategy": "full", "epochs": epochs, "seed": seed, "label_column": LABEL, "report": False}
        return judged_here(channels, Path(temporary) / "job", parse(values))[0]


def regression(columns: Sequence[str], examples: int, seed: int) -> float:
    """Accuracy of logistic regression on these columns."""
    training, test = (pd.DataFrame(rows) for rows in _rows(examples, seed))
    encoders = [
        *((name, TfidfVectorizer(ngram_range=(1, 2)), name) for name in TEXTS if name in columns),
        ("price", StandardScaler(), ["price"]) if "price" in columns else ("price", "drop", []),
        ("shop", OneHotEncoder(), ["shop"]) if "shop" in columns else ("shop", "drop", []),
    ]
    model = make_pipeline(ColumnTransformer(encoders), LogisticRegression(max_iter=2_000))
    return float(model.fit(training, training[LABEL]).score(test, test[LABEL]))


def _rows(examples: int, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return reviews.rows(examples, 2 * seed), reviews.rows(TEST_ROWS, 2 * seed + 1)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    print("| columns | job, accuracy % | regression, accuracy % |\n| --- | ---: | ---: |")
    for side, columns in SIDES.items():
        found = [
            [train(columns, options.examples, seed, options.epochs) for seed in options.seeds],
            [regression(columns, options.examples, seed) for seed in options.seeds],
        ]
        print(f"| {side} | {' | '.join(map(_told, found))} |", flush=True)
    print(f"\n{options.examples:,} rows, seeds {options.seeds}, {options.epochs} epochs; {processor()}")
    return 0


def _told(accuracies: Sequence[float]) -> str:
    spread = f" ± {100 * statistics.stdev(accuracies):.1f}" if len(accuracies) > 1 else ""
    return f"{100 * statistics.mean(accuracies):.1f}{spread}"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--examples", type=int, default=2_000, metavar="N")
    parser.add_argument("--epochs", type=int, default=EPOCHS, metavar="N")
    parser.add_argument(
        "--seeds",
        type=lambda text: [int(seed) for seed in text.split(",")],
        default=[0, 1, 2],
        metavar="SEED,…",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

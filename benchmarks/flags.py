"""What the report's flags are worth: labels that were made wrong, and copies that were planted, found again.

    python -m benchmarks.flags                              # seven tables, of scikit-learn and generated
    python -m benchmarks.flags --training DIR               # and images, in any form that the trainer reads

**Labels.** A share of all labels, validation's included, is replaced: by any other class (`uniform`), or each class by
the one after it (`next class`). Three ways to find them again, in the training part:

- `ours`, as in the report: one training. How many: confident learning on the validation part, within bounds from the
  early epochs. Which: the largest losses in training, each against the mean of its epoch. `–`: the model is too weak.
  With `--strategy rs2 --fraction 0.3`, as in a job of the defaults, each epoch trains on a part of the examples.
- `cleanlab`, alone: `--folds` models of the same settings, each trained without a part; its probabilities of that part,
  which are out of sample, to `find_label_issues` and `get_label_quality_scores` as they are by default.
- `mean loss`: the plain mean over the epochs of the one training, cut where it flags as many as are truly wrong, which
  nobody knows in practice: the best that any cut with equal precision and recall can do.

AUROC judges the ranking alone. Values are means over the seeds.

**Copies.** Each of some images is planted again, changed a little. `found`: share of the changed copies that are in the
group of their original. `others`: share of the unchanged images that are said to be copies of another; some truly are.
By small images, as the report compares, and by the last layer's features of a model trained on them.
"""

import io
import json
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's habit
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_digits, load_wine, make_classification
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import subset_selection
from benchmarks.common import Parser, command, processor, write_text
from benchmarks.scenarios import CHANGES as NEAR
from benchmarks.scenarios import MEMORY, draw_per_class, replace_labels
from subset_selection import Subset
from subset_trainer import models
from subset_trainer.config import Hyperparameters, parse
from subset_trainer.config.resolved import as_trained
from subset_trainer.data import ImageKind, MemoryDataset, load_splits
from subset_trainer.data.splits import stratified_split
from subset_trainer.insight import duplicates, labels
from subset_trainer.training import loop, rounds
from subset_trainer.training.devices import Machine
from subset_trainer.training.evaluation import Judgement, judge, look_at
from subset_trainer.training.place import Place
from subset_trainer.training.plan import Plan
from subset_trainer.training.record import Record
from subset_trainer.training.trainee import Trainee
from subset_trainer.training.whitening import whiten

PLACE = Place(Machine(torch.device("cpu"), torch.float32))
VALIDATION = 0.1
IMAGES = {"model": "cnn"}
TABLES = {"model": "mlp", "batch_size": 32, "learning_rate": 0.02, "augmentation": "none"}
SIMILARITIES = (0.95, 0.96, 0.97, 0.98, 0.99)
PLANTED = 1_000


@dataclass(frozen=True)
class Data:
    """Inputs as the trainer's network takes them; labels [N] int64."""

    name: str
    inputs: Tensor
    labels: np.ndarray
    settings: Mapping[str, Any]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1

    def hyperparameters(self, **own: Any) -> Hyperparameters:
        """As a job of these settings has them, with the defaults of the network."""
        hp = parse({name: str(value) for name, value in {**self.settings, **own}.items()})
        return as_trained(hp, "table" if self.mean is None else "image", hp.model)


class Watched(Record):
    """Keeps the plain means beside what the report uses."""

    def __init__(self, examples: int) -> None:
        super().__init__(examples)
        self.sums_N = torch.zeros(examples)

    def observe(self, visited: Subset, losses_K: Tensor) -> None:
        super().observe(visited, losses_K)
        self.sums_N[visited.indices] += losses_K


def clusters(
    examples: int, features: int, classes: int, apart: float, weights: Sequence[float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A table of Gaussian clusters, two for each class; `apart`: half the side of the cube that they lie on."""
    made: tuple[np.ndarray, np.ndarray] = make_classification(
        examples,
        features,
        n_informative=features // 2,
        n_redundant=features // 4,
        n_classes=classes,
        n_clusters_per_class=2,
        class_sep=apart,
        weights=weights,
        flip_y=0,
        random_state=0,
    )
    return made


def rings(examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Three rings around one centre, and four columns of noise."""
    draw = np.random.default_rng(0)
    given, angle = draw.integers(3, size=examples), draw.uniform(0, 2 * np.pi, examples)
    radius = 1 + given + draw.normal(0, 0.2, examples)
    plane = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    return np.hstack([plane, draw.normal(size=(examples, 4))]), given


TABLES_OF: Mapping[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "digits": lambda: load_digits(return_X_y=True),
    "breast cancer": lambda: load_breast_cancer(return_X_y=True),
    "wine": lambda: load_wine(return_X_y=True),
    "clusters": lambda: clusters(2_000, 20, 5, 2.0),
    "near clusters": lambda: clusters(2_000, 16, 3, 1.0),
    "uneven clusters": lambda: clusters(3_000, 20, 4, 1.5, [0.6, 0.2, 0.15, 0.05]),
    "rings": lambda: rings(1_500),
}
"""Scikit-learn's tables, and generated ones."""


def tables(names: Sequence[str] = tuple(TABLES_OF)) -> list[Data]:
    found = []
    for name in names:
        inputs, given = TABLES_OF[name]()
        scale = inputs.std(0)
        scaled = (inputs - inputs.mean(0)) / np.where(scale > 0, scale, 1)
        settings = {**TABLES, "epochs": 30}
        found.append(
            Data(name, torch.from_numpy(scaled.astype(np.float32)), given.astype(np.int64), settings)
        )
    return found


def images(directory: Path, per_class: int, epochs: int) -> Data:
    splits = load_splits({"training": directory}, memory_limit=MEMORY)
    parts = [part for part in (splits.train, splits.validation) if isinstance(part, MemoryDataset)]
    given = torch.cat([part.labels for part in parts]).numpy()
    rows = draw_per_class(given, [per_class] * len(splits.preprocessing.classes), np.random.default_rng(0))
    inputs = torch.cat([part.inputs for part in parts])[rows]
    settings = {**IMAGES, "epochs": epochs}
    learned = splits.preprocessing
    assert isinstance(learned, ImageKind)
    return Data("images", inputs, given[rows], settings, learned.mean, learned.std)


def train(
    data: Data, training: MemoryDataset, validation: MemoryDataset, hp: Hyperparameters
) -> tuple[models.Classifier, Watched]:
    torch.manual_seed(hp.seed)
    classifier = models.build(hp.model, tuple(data.inputs.shape[1:]), data.classes, data.mean, data.std)
    if hp.whitening:
        whiten(classifier, training, PLACE.ranks)
    record = Watched(len(training))
    plan, seen = Plan.of(hp, len(training)), rounds.Data(training, validation)
    selector = rounds.NativeSelector(
        subset_selection.create(hp.strategy), classifier, seen, plan.budget, PLACE
    )
    loop.train(Trainee(classifier, hp, plan, PLACE, record=record), seen, selector, plan)
    return classifier, record


def changed(given: np.ndarray, kind: str, share: float, classes: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    if kind == "uniform":
        return replace_labels(given, share, classes, generator)
    rows = generator.permutation(len(given))[: round(share * len(given))]
    after = given.copy()
    after[rows] = (given[rows] + 1) % classes
    return after


def find_labels(
    data: Data, kind: str, share: float, seed: int, folds: int, own: Mapping[str, str]
) -> list[dict[str, Any]]:
    """A row a method."""
    noisy = changed(data.labels, kind, share, data.classes, seed)
    rows, aside = stratified_split(noisy, VALIDATION, seed)
    training, validation = (
        MemoryDataset(data.inputs[part], torch.from_numpy(noisy[part])) for part in (rows, aside)
    )
    wrong = (noisy != data.labels)[rows]
    hp = data.hyperparameters(**own, seed=seed)
    start = time.perf_counter()
    classifier, record = train(data, training, validation, hp)
    once = time.perf_counter() - start
    judged = judge(classifier, training, PLACE)
    validated = judge(classifier, validation, PLACE, keep_probabilities=True)
    excess = labels.excess(record.excess_losses(), -judged.own.clamp(min=1e-12).log())
    verdict = labels.judge(
        excess,
        record.early_hit_rates(),
        record.surest_missed(),
        judged.margins >= 0,
        validation.labels,
        validated.probabilities,
    )
    plain = (record.sums_N / record.visits_N).nan_to_num(-torch.inf)
    methods: dict[str, tuple[np.ndarray, np.ndarray, float]] = {
        "ours": (verdict.suspect.numpy(), excess.numpy(), once),
        "mean loss": (labels.suspects(plain, float(wrong.mean())).numpy(), plain.numpy(), once),
    }
    if folds:
        start = time.perf_counter()
        flags, quality = cleanlab_alone(data, training, validation, hp, folds)
        methods["cleanlab"] = flags, -quality, time.perf_counter() - start
    shared = {
        "data": data.name,
        "examples": len(rows),
        "wrong": kind,
        "share": share,
        "seed": seed,
        "validation_accuracy": accuracy(validated, validation),
        **own,
    }
    return [
        {
            **shared,
            "method": name,
            "known": verdict.known or name != "ours",
            "flagged": float(flagged.mean()) if verdict.known or name != "ours" else None,
            "precision": float(wrong[flagged].mean()) if flagged.any() else None,
            "recall": float(flagged[wrong].mean())
            if wrong.any() and (verdict.known or name != "ours")
            else None,
            "auroc": float(roc_auc_score(wrong, np.nan_to_num(score))) if wrong.any() else None,
            "seconds": seconds,
        }
        for name, (flagged, score, seconds) in methods.items()
    ]


def cleanlab_alone(
    data: Data, training: MemoryDataset, validation: MemoryDataset, hp: Hyperparameters, folds: int
) -> tuple[np.ndarray, np.ndarray]:
    """[N] bool: which labels cleanlab takes for wrong, and the quality of each."""
    given = training.labels.numpy()
    probabilities = np.zeros((len(given), data.classes))
    for fold, (kept, left) in enumerate(
        StratifiedKFold(folds, shuffle=True, random_state=hp.seed).split(given, given)
    ):
        part, held = (training.subset(torch.from_numpy(at)) for at in (kept, left))
        other, _ = train(data, part, validation, hp.model_copy(update={"seed": hp.seed + 1_000 + fold}))
        probabilities[left] = judge(other, held, PLACE, keep_probabilities=True).probabilities.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = find_label_issues(given, probabilities, n_jobs=1)
    return found, get_label_quality_scores(given, probabilities)


def accuracy(judged: Judgement, dataset: MemoryDataset) -> float:
    return float((judged.predicted(dataset.labels) == dataset.labels).double().mean())


def compressed(images_BCHW: Tensor, quality: int) -> Tensor:
    copies = []
    for image in images_BCHW:
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
        copies.append(torch.from_numpy(np.asarray(Image.open(file)).copy()).permute(2, 0, 1))
    return torch.stack(copies)


def as_tensors(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tensor], Tensor]:
    return lambda images_BCHW: torch.from_numpy(change(images_BCHW.numpy()))


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "JPEG 75": lambda images_BCHW: compressed(images_BCHW, 75),
    "JPEG 40": lambda images_BCHW: compressed(images_BCHW, 40),
    **{name: as_tensors(NEAR[name]) for name in ("20% brighter", "20% darker", "1 pixel aside")},
}


def find_copies(data: Data) -> list[dict[str, Any]]:
    """A row a way to compare and similarity."""
    training = MemoryDataset(data.inputs, torch.from_numpy(data.labels))
    hp = data.hyperparameters()
    classifier, _ = train(data, training, training, hp)

    def features(inputs: Tensor) -> Tensor:
        pool, _ = look_at(
            classifier, MemoryDataset(inputs, torch.zeros(len(inputs), dtype=torch.int64)), PLACE
        )
        assert pool.features is not None
        return F.normalize(pool.features, dim=1)

    originals = data.inputs[
        torch.randperm(len(data.inputs), generator=torch.Generator().manual_seed(0))[:PLANTED]
    ]
    copies = {name: change(originals) for name, change in CHANGES.items()}
    rows = []
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "small images": lambda inputs: duplicates.fingerprint(inputs).float(),
        "last layer": features,
    }
    for way, make in ways.items():
        everything, base = make(data.inputs), make(originals)
        similar = everything @ everything.T
        nearest = similar.fill_diagonal_(-1).max(1).values
        cosines = {name: (make(copy) * base).sum(1) for name, copy in copies.items()}
        for least in SIMILARITIES:
            found = {name: float((cosine >= least).double().mean()) for name, cosine in cosines.items()}
            others = float((nearest >= least).double().mean())
            rows.append({"by": way, "similarity": least, "found": found, "others": others})
    return rows


def label_table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| data | wrong labels | share | validation accuracy "
        "| method | flagged | precision | recall | AUROC | seconds |",
        "| --- | --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["data"], row["wrong"], row["share"], row["method"]), []).append(row)
    for (name, kind, share, method), own in groups.items():

        def cell(column: str, form: str, own: list[Mapping[str, Any]] = own) -> str:
            values = [row[column] for row in own if row[column] is not None]
            return format(mean(values), form) if values else "–"

        lines.append(
            f"| {name} | {kind} | {share:.0%} | {cell('validation_accuracy', '.1%')} | {method} | "
            f"{cell('flagged', '.1%')} | {cell('precision', '.2f')} | {cell('recall', '.2f')} | "
            f"{cell('auroc', '.3f')} | {cell('seconds', '.0f')} |"
        )
    return "\n".join(lines)


def copy_table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        f"| compared by | cosine | {' | '.join(f'found: {name}' for name in CHANGES)} | others |",
        "| --- | ---: |" + " ---: |" * (len(CHANGES) + 1),
    ]
    for row in rows:
        cells = [row["by"], f"{row['similarity']:g}", *(f"{share:.1%}" for share in row["found"].values())]
        lines.append(f"| {' | '.join([*cells, format(row['others'], '.2%')])} |")
    return "\n".join(lines)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser("python -m benchmarks.flags", __doc__)
    add = parser.add_argument
    add("--training", type=Path, metavar="PATH", help="images, in any form that the trainer reads")
    add("--per-class", type=int, default=300, metavar="N", help="images that are used; default: 300")
    add("--epochs", type=int, default=15, help="of images; default: 15")
    add("--shares", default="0,0.05,0.1,0.2", metavar="LIST", help="of wrong labels; default: 0,0.05,0.1,0.2")
    add("--kinds", default="uniform,next class", metavar="LIST")
    add("--seeds", default="0,1,2", metavar="LIST", help="default: 0,1,2")
    add("--folds", type=int, default=3, help="of cleanlab's; default: 3; 0: without cleanlab")
    add("--strategy", default="full", help="that trains; default: full")
    add("--fraction", default="1", help="default: 1")
    add("--json", type=Path, metavar="FILE", help="write the rows there")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(f"{processor()}, 1 thread", flush=True)
    sets = [images(options.training, options.per_class, options.epochs)] if options.training else tables()
    found: list[dict[str, Any]] = []
    for data in sets:
        for kind in options.kinds.split(","):
            for share in map(float, options.shares.split(",")):
                if not share and kind != "uniform":
                    continue
                for seed in map(int, options.seeds.split(",")):
                    own = {"strategy": options.strategy, "fraction": options.fraction}
                    found += find_labels(data, kind, share, seed, options.folds, own)
                methods = 3 if options.folds else 2
                print(label_table(found[-methods * len(options.seeds.split(",")) :]), flush=True)
    copies = find_copies(sets[0]) if options.training else []
    print(f"\n{label_table(found)}")
    if copies:
        print(f"\n{copy_table(copies)}")
    if options.json:
        write_text(options.json, json.dumps({"labels": found, "copies": copies}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

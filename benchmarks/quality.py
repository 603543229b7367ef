"""The report's findings beside wrong labels, next to cleanvision's and Datalab's, on troubles that were planted.

    python -m pip install cleanvision "cleanlab[datalab]"   # no other benchmark needs them, nor does the image
    python -m benchmarks.quality                            # generated images, and a table
    python -m benchmarks.quality --training DIR             # images instead, a folder for each class

**Images.** Some are made dark, bright or blurry, cropped to a narrow band or scaled several times (`odd size`), copied
with a change (`near-duplicate`: JPEG 40, 20% brighter or darker, a pixel aside, or none), or replaced by noise, a
drawing or a blank (`outlier`); 2% of all for each, 0.5% for outliers. Each side reads the files by itself.
cleanvision's `light` counts as bright, its odd aspect ratios and exact duplicates as odd sizes and near-duplicates.
Datalab finds outliers in the last layer's features of a small network; we do in the same, and in colours and detail.

**Table.** Rows far from all others (`outlier`), a class of few examples (`rare class`), and a value of a category or a
cluster in which half of the labels are drawn at random (`weak category`, `weak cluster`). Datalab is given validation's
probabilities, and the category as its clusters.

Recall: share of the planted that are found; of copies, that are in one group with their original. Precision: share of
what is found that was planted as this trouble. An image may truly be dark or odd without it, so compare the sides.
Seconds are of one thread, and include no training.
"""

import contextlib
import io
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import flags
from benchmarks.common import Parser, command, processor, write_text
from subset_trainer.config import parse
from subset_trainer.data import Column, Dataset, ImageKind, MemoryDataset, TableKind, load_splits
from subset_trainer.data.splits import stratified_split
from subset_trainer.errors import UserError
from subset_trainer.insight import duplicates, issues
from subset_trainer.training.evaluation import judge, look_at

CPU = torch.device("cpu")
EACH = 0.02
"""Share of the images that each trouble is planted in, but for outliers: a quarter of it, as of a dozen that are alike
each would have near neighbours."""
KINDS = ("dark", "bright", "blurry", "odd size", "near-duplicate", "outlier")
OF_CLEANVISION: Mapping[str, tuple[str, ...]] = {
    "dark": ("dark",),
    "bright": ("light",),
    "blurry": ("blurry",),
    "odd size": ("odd_size", "odd_aspect_ratio"),
    "near-duplicate": ("near_duplicates", "exact_duplicates"),
}


@dataclass
class Planted:
    """What was planted, by name of file, or row."""

    of: dict[str, set[Any]] = field(default_factory=dict)
    original: dict[Any, Any] = field(default_factory=dict)
    """Copy → its original."""

    def add(self, kind: str, name: Any) -> None:
        self.of.setdefault(kind, set()).add(name)


@dataclass(frozen=True)
class Found:
    """What a side found."""

    of: Mapping[str, set[Any]]
    seconds: Mapping[str, float]
    """By kind, or `images`: of reading all files and of all kinds that need no model."""
    groups: Sequence[set[Any]] = ()


# Images


def textures(count: int, seed: int) -> Iterator[np.ndarray]:
    """Images uint8 [H, W, 3] of 48 to 128 pixels, lying and upright, with the spectrum of photographs (1/f)."""
    draw = np.random.default_rng(seed)
    for number in range(count):
        long = int(draw.integers(64, 129))
        shape = (long * 3 // 4, long) if draw.random() < 0.6 else (long, long * 3 // 4)
        frequency = np.hypot(*np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij"))
        frequency[0, 0] = 1
        noise = np.fft.fft2(draw.normal(size=(3, *shape))) / frequency**1.1
        noise[:, 0, 0] = 0
        layers = np.fft.ifft2(noise).real
        layers /= layers.std()
        # Channels of photographs have much in common; the class tints them.
        tint = 0.5 * np.eye(3)[number % 5 % 3] + 0.3 * (number % 5 > 2)
        mixed = 0.8 * layers[:1] + 0.4 * layers + tint[:, None, None]
        yield np.clip(120 + 50 * mixed, 0, 255).astype(np.uint8).transpose(1, 2, 0)


def of_folder(folder: Path, per_class: int, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Class and pixels of some images of each class's folder."""
    draw = np.random.default_rng(seed)
    for own in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(own.iterdir())
        for at in sorted(draw.permutation(len(files))[:per_class].tolist()):
            yield own.name, np.asarray(Image.open(files[at]).convert("RGB"))


def spoilt(pixels: np.ndarray, kind: str, draw: np.random.Generator) -> np.ndarray:
    height, width = pixels.shape[:2]
    if kind == "dark":
        return (pixels * draw.uniform(0.1, 0.4)).astype(np.uint8)
    if kind == "bright":
        return (255 - (255 - pixels.astype(float)) * draw.uniform(0.02, 0.1)).astype(np.uint8)
    image = Image.fromarray(pixels)
    if kind == "blurry":
        radius = draw.uniform(0.04, 0.08) * max(height, width)
        return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)))
    if kind == "outlier":
        return stranger(height, width, draw)
    if draw.random() < 0.5:
        times = draw.uniform(4, 6) ** draw.choice([-1, 1])
        return np.asarray(image.resize((max(4, round(width * times)), max(4, round(height * times)))))
    band = max(2, round(max(height, width) / draw.uniform(4, 8)))
    return pixels[:band] if width >= height else pixels[:, :band]


def stranger(height: int, width: int, draw: np.random.Generator) -> np.ndarray:
    """Noise of some grain, strokes on a plain ground, or one colour."""
    kind = draw.integers(3)
    if kind == 0:
        grain = int(draw.choice([1, 2, 4]))
        coarse = draw.integers(0, 256, (-(-height // grain), -(-width // grain), 3), dtype=np.uint8)
        return coarse.repeat(grain, 0).repeat(grain, 1)[:height, :width]
    drawing = np.full((height, width, 3), draw.integers(40, 216, 3), np.uint8)
    if kind == 1:
        for _ in range(4):
            top, left = draw.integers(height), draw.integers(width)
            drawing[top : top + max(1, height // 12), left : left + width // 2] = draw.integers(0, 256, 3)
    return drawing


def copied(pixels: np.ndarray, number: int) -> np.ndarray:
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
    changes = [lambda same: same, *(flags.CHANGES[name] for name in flags.CHANGES if name != "JPEG 75")]
    changed: Tensor = changes[number % len(changes)](image)
    return changed[0].permute(1, 2, 0).numpy()


def plant(images: Sequence[tuple[str, np.ndarray]], folder: Path, seed: int, each: float = EACH) -> Planted:
    """Write the images to `folder/<class>/`, with troubles."""
    draw = np.random.default_rng(seed)
    order, kind_of = draw.permutation(len(images)).tolist(), {}
    for kind in KINDS:
        for _ in range(round(each * len(images) / (4 if kind == "outlier" else 1))):
            kind_of[order.pop()] = kind
    planted = Planted()
    for row, (label, pixels) in enumerate(images):
        (folder / label).mkdir(parents=True, exist_ok=True)
        trouble, name = kind_of.get(row), f"{label}/{row:05}.png"
        if trouble == "near-duplicate":
            copy = f"{label}/{row:05}-copy.png"
            Image.fromarray(copied(pixels, len(planted.original))).save(folder / copy)
            planted.original[copy] = name
            planted.add(trouble, copy)
            planted.add(trouble, name)
        elif trouble is not None:
            pixels = spoilt(pixels, trouble, draw)
            planted.add(trouble, name)
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / name)
    return planted


def ours_of_images(folder: Path) -> Found:
    """As the report does, without its pass through the model."""
    start = time.perf_counter()
    splits = load_splits({"training": folder, "validation": folder}, num_workers=0, memory_limit=1 << 62)
    # The report reads the training channel once, and not for this.
    start += (time.perf_counter() - start) / 2
    names = list(splits.train_ids)
    prints, observed = [], []
    order = list(torch.arange(len(names)).split(256))
    for rows, inputs in zip(order, splits.train.batches(order, CPU), strict=True):
        prints.append(duplicates.fingerprint(inputs))
        observed.append(issues.observe(inputs, torch.zeros(len(rows), 1), splits.train.original_sizes(rows)))
    _, traits, _, sizes = torch.cat(observed).split([1, issues.TRAITS, issues.LOOK, issues.SIZES], 1)
    marked, (odd, _) = issues.image_issues(traits), issues.odd_sizes(sizes)
    groups = duplicates.groups(torch.cat(prints), splits.train.labels, CPU).numpy()
    seconds = time.perf_counter() - start
    several = [{names[row] for row in np.flatnonzero(groups == one)} for one in range(groups.max() + 1)]
    found = {
        **{
            kind: {names[row] for row in np.flatnonzero(marked == kind)}
            for kind in ("dark", "bright", "blurry")
        },
        "odd size": {names[row] for row in odd.tolist()},
        "near-duplicate": set().union(*several),
    }
    return Found(found, {"images": seconds}, several)


def cleanvision_of(folder: Path) -> Found:
    Imagelab = of_library("cleanvision", "Imagelab")
    start = time.perf_counter()
    with quiet():
        lab = Imagelab(data_path=str(folder))
        lab.find_issues(
            {name: {} for some in OF_CLEANVISION.values() for name in some}, n_jobs=1, verbose=False
        )
    seconds = time.perf_counter() - start

    def name(path: str) -> str:
        return Path(path).relative_to(folder.resolve()).as_posix()

    found = {
        kind: {name(path) for one in some for path in lab.issues.index[lab.issues[f"is_{one}_issue"]]}
        for kind, some in OF_CLEANVISION.items()
    }
    groups = [
        set(map(name, one)) for some in OF_CLEANVISION["near-duplicate"] for one in lab.info[some]["sets"]
    ]
    return Found(found, {"images": seconds}, groups)


def outliers_of_images(folder: Path, epochs: int) -> tuple[Found, Found]:
    """Ours and Datalab's, by one model."""
    splits = load_splits({"training": folder, "validation": folder}, num_workers=0, memory_limit=1 << 62)
    kind, training = splits.preprocessing, splits.train
    assert isinstance(training, MemoryDataset)
    assert isinstance(kind, ImageKind)
    settings = {**flags.IMAGES, "epochs": epochs}
    data = flags.Data("images", training.inputs, training.labels.numpy(), settings, kind.mean, kind.std)
    hp = parse({name: str(value) for name, value in settings.items()})
    classifier, _ = flags.train(data, training, training, hp)
    return outliers(features_of(classifier, training), list(splits.train_ids), training.inputs)


def features_of(classifier: Any, dataset: Dataset) -> Tensor:
    pool, _ = look_at(classifier, dataset, flags.PLACE)
    assert pool.features is not None
    return pool.features.float()


def outliers(features_ND: Tensor, names: Sequence[Any], images: Tensor | None = None) -> tuple[Found, Found]:
    start = time.perf_counter()
    far_N = issues.remoteness(issues.narrow(features_ND), CPU)
    if images is not None:
        look = torch.cat([issues.look(some, issues.brightness(some)) for some in images.split(256)])
        far_N = far_N.maximum(issues.remoteness(issues.standardised(look), CPU))
    seconds = time.perf_counter() - start
    ours = Found(
        {"outlier": {names[row] for row in np.flatnonzero(far_N > 1).tolist()}}, {"outlier": seconds}
    )
    Datalab = of_library("cleanlab", "Datalab")
    start = time.perf_counter()
    with quiet():
        lab = Datalab({"row": list(range(len(names)))})
        lab.find_issues(features=features_ND.numpy(), issue_types={"outlier": {}})
    theirs = np.flatnonzero(lab.get_issues("outlier")["is_outlier_issue"]).tolist()
    return ours, Found({"outlier": {names[row] for row in theirs}}, {"outlier": time.perf_counter() - start})


# Tables


@dataclass(frozen=True)
class Rows:
    """A table with troubles, and where they are."""

    kind: TableKind
    training: MemoryDataset
    validation: MemoryDataset
    own: Planted
    held: Planted
    """Those of the validation rows."""
    town: np.ndarray
    """[M] int64: the category's value of each validation row."""


def table(seed: int, count: int = 4_000) -> Rows:
    """Clusters of five classes, one of them rare, and a category of five values."""
    draw = np.random.default_rng(seed)
    inputs, given = flags.clusters(count, 20, 5, 2.0, [0.249, 0.249, 0.249, 0.239, 0.014])
    town = draw.integers(5, size=count)
    centre = inputs[draw.integers(count)]
    near = np.argsort(((inputs - centre) ** 2).sum(1))[: count // 8]
    weak = {"weak category": np.flatnonzero(town == 2), "weak cluster": near}
    given = given.copy()
    for rows in weak.values():
        some = rows[draw.random(len(rows)) < 0.5]
        given[some] = draw.integers(4, size=len(some))  # the rare class stays rare
    outlying = draw.permutation(count)[: round(0.01 * count)]
    inputs = inputs.copy()
    inputs[outlying] = (
        draw.choice([-1, 1], (len(outlying), 20)) * draw.uniform(2, 4, (len(outlying), 20)) * inputs.std(0)
    )
    scaled = np.hstack([(inputs - inputs.mean(0)) / inputs.std(0), np.eye(5)[town]]).astype(np.float32)
    columns = [
        *(Column(f"n{at}", "numeric") for at in range(20)),
        Column("town", "categorical", categories=tuple("ABCDE")),
    ]
    troubles = {**weak, "outlier": outlying, "rare class": np.flatnonzero(given == 4)}
    own, aside = stratified_split(given, 0.25, seed)

    def part(rows: np.ndarray) -> MemoryDataset:
        return MemoryDataset(torch.from_numpy(scaled[rows]), torch.from_numpy(given[rows]))

    def within(rows: np.ndarray) -> Planted:
        return Planted(
            {name: set(np.flatnonzero(np.isin(rows, at)).tolist()) for name, at in troubles.items()}
        )

    kind = TableKind(tuple("abcde"), columns=tuple(columns))
    return Rows(kind, part(own), part(aside), within(own), within(aside), town[aside])


def of_table(rows: Rows) -> tuple[Found, Found]:
    """Ours, of the training rows, and Datalab's: of validation's, where it needs probabilities of unseen rows."""
    data = flags.Data(
        "table", rows.training.inputs, rows.training.labels.numpy(), {**flags.TABLES, "epochs": 30}
    )
    hp = parse({name: str(value) for name, value in data.settings.items()})
    classifier, _ = flags.train(data, rows.training, rows.validation, hp)
    features, held = (features_of(classifier, part) for part in (rows.training, rows.validation))
    validated = judge(classifier, rows.validation, flags.PLACE, keep_probabilities=True)
    ours, theirs = outliers(features, list(range(len(features))))
    start = time.perf_counter()
    groups = issues.weak_groups(
        rows.training,
        rows.validation,
        rows.kind,
        issues.narrow(features),
        issues.narrow(held),
        (validated.margins >= 0).numpy(),
    )
    weak = time.perf_counter() - start
    start = time.perf_counter()
    rare = issues.rare_classes(rows.training.labels.numpy(), rows.kind.classes)
    seconds = {
        **ours.seconds,
        "weak cluster": weak,
        "weak category": weak,
        "rare class": time.perf_counter() - start,
    }
    found = {
        **ours.of,
        "weak category": rows_of(groups, "town = "),
        "weak cluster": rows_of(groups, "cluster "),
        "rare class": {row for issue in rare for row in issue.rows.tolist()},
    }
    return Found(found, seconds), datalab(rows, validated.probabilities, held, theirs)


def rows_of(groups: Sequence[issues.WeakGroup], beginning: str) -> set[Any]:
    return {row for group in groups if group.name.startswith(beginning) for row in group.rows.tolist()}


def datalab(rows: Rows, probabilities_MC: Tensor, held_MD: Tensor, known: Found) -> Found:
    Datalab = of_library("cleanlab", "Datalab")
    found, seconds = dict(known.of), dict(known.seconds)
    wide = np.zeros((len(held_MD), 5))
    wide[:, : probabilities_MC.shape[1]] = probabilities_MC
    tasks: dict[str, tuple[str, Tensor, dict[str, Any], dict[str, Any]]] = {
        "weak cluster": ("underperforming_group", rows.validation.labels, {"features": held_MD.numpy()}, {}),
        "weak category": ("underperforming_group", rows.validation.labels, {}, {"cluster_ids": rows.town}),
        "rare class": ("class_imbalance", rows.training.labels, {}, {}),
    }
    for kind, (name, labels, inputs, settings) in tasks.items():
        start = time.perf_counter()
        with quiet():
            lab = Datalab({"label": labels.tolist()}, label_name="label")
            given = {"pred_probs": wide} if name == "underperforming_group" else {}
            lab.find_issues(**given, **inputs, issue_types={name: settings})
        seconds[kind] = time.perf_counter() - start
        found[kind] = set(np.flatnonzero(lab.get_issues(name)[f"is_{name}_issue"]).tolist())
    return Found(found, seconds)


# Both


def of_library(module: str, name: str) -> Any:
    try:
        found = getattr(__import__(module), name)
        if name == "Datalab":
            __import__("datasets")
        return found
    except ImportError as error:
        raise UserError(f'{error}; expected: pip install cleanvision "cleanlab[datalab]"') from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what the libraries print, and without their bars of progress."""
    said = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        warnings.simplefilter("ignore")
        yield


def row(data: str, kind: str, side: str, found: Found, planted: Planted, total: int) -> dict[str, Any]:
    """One side's recall, precision and seconds on one kind of trouble."""
    own, truth = found.of.get(kind, set()), planted.of[kind]
    hits = own & truth
    recall = len(hits) / len(truth)
    if kind == "near-duplicate":
        pairs = planted.original.items()
        recall = mean(any({copy, one} <= group for group in found.groups) for copy, one in pairs)
    seconds = found.seconds.get(kind, found.seconds.get("images"))
    return {
        "data": data,
        "kind": kind,
        "side": side,
        "planted": len(truth),
        "of": total,
        "found": len(own),
        "recall": recall,
        "precision": len(hits) / len(own) if own else None,
        "seconds": seconds,
    }


def compare_images(
    images: Sequence[tuple[str, np.ndarray]], name: str, seed: int, epochs: int
) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        planted = plant(images, folder, seed)
        sides = {"ours": ours_of_images(folder), "cleanvision": cleanvision_of(folder)}
        far = dict(zip(("ours", "datalab"), outliers_of_images(folder, epochs), strict=True))
        total = len(images) + len(planted.original)
        for kind in KINDS:
            for side, found in (far if kind == "outlier" else sides).items():
                rows.append(row(name, kind, side, found, planted, total))
    return rows


def compare_tables(seed: int) -> list[dict[str, Any]]:
    made = table(seed)
    ours, theirs = of_table(made)
    rows = []
    for kind in made.own.of:
        held = kind.startswith("weak")
        rows.append(row("table", kind, "ours", ours, made.own, len(made.training)))
        side = made.held if held else made.own
        rows.append(
            row("table", kind, "datalab", theirs, side, len(made.validation if held else made.training))
        )
    return rows


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| data | trouble | side | found of planted | recall | precision | seconds | ours / theirs |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    groups: dict[tuple[str, str], dict[str, list[Mapping[str, Any]]]] = {}
    for one in rows:
        groups.setdefault((one["data"], one["kind"]), {}).setdefault(one["side"], []).append(one)
    for (data, kind), sides in groups.items():
        means = {
            side: {
                name: mean(values)
                if (values := [one[name] for one in own if one[name] is not None])
                else None
                for name in ("planted", "found", "recall", "precision", "seconds")
            }
            for side, own in sides.items()
        }
        other = next(side for side in means if side != "ours")
        ratio = means["ours"]["seconds"] / means[other]["seconds"]  # type: ignore[operator]
        for side, own_means in means.items():
            cells = [data, kind, side, f"{own_means['found']:.0f} of {own_means['planted']:.0f}"]
            cells += [
                "–" if own_means[name] is None else f"{own_means[name]:.2f}"
                for name in ("recall", "precision")
            ]
            cells += [f"{own_means['seconds']:.2g}", f"{ratio:.2f}" if side == "ours" else ""]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser("python -m benchmarks.quality", __doc__)
    add = parser.add_argument
    add("--training", type=Path, metavar="DIR", help="a folder of images for each class")
    add("--images", type=int, default=2_000, metavar="N", help="generated, or of the folder; default: 2000")
    add("--epochs", type=int, default=5, help="of the network on images; default: 5")
    add("--seeds", default="0,1", metavar="LIST", help="default: 0,1")
    add("--json", type=Path, metavar="FILE", help="write the rows there")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    os.environ["TQDM_DISABLE"] = "1"
    logging.disable(logging.WARNING)
    print(f"{processor()}, 1 thread", flush=True)
    rows: list[dict[str, Any]] = []
    for seed in map(int, options.seeds.split(",")):
        images: list[tuple[str, np.ndarray]]
        if options.training:
            classes = sum(path.is_dir() for path in options.training.iterdir())
            images = list(of_folder(options.training, options.images // max(1, classes), seed))
        else:
            images = [(f"class {at % 5}", pixels) for at, pixels in enumerate(textures(options.images, seed))]
        rows += compare_images(images, "images" if options.training else "textures", seed, options.epochs)
        if not options.training:
            rows += compare_tables(seed)
    print(as_table(rows))
    if options.json:
        write_text(options.json, json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

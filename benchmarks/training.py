"""How fast training is: this project's loop beside the article's and beside a bare one, in one process.

    python benchmarks/training.py --fractions 1,0.1 --json build/training.json

- **Ours**: ``loop.train`` on data in memory, with the optimizer and augmentation of a job of the defaults; strategy
  ``rs2``, or ``full`` at fraction 1. ``seconds_per_epoch`` is its own ``training_seconds``; ``selection_seconds`` is
  one GLISTER round on the trained model: a look at training and validation examples, and the choice. Null at fraction
  1, where nothing is chosen.
- **The article's loop** is what one writes with the AWS article and CORDS (``examples/article``): PIL images,
  torchvision's transforms, a DataLoader, float32 in the default memory format, ``torch.optim.SGD``, ``.item()`` of
  the loss in each step, and below fraction 1 CORDS's ``GLISTERDataLoader`` (its first subsets are random; the selection
  is asked for at the end and timed apart as ``article_selection_seconds``). Both GLISTERs are the article's:
  supervised, stochastic. The loaders have no worker processes on a machine of up to two processors, else two.
  Measured once. All of its values are null with ``--skip-article``, ``ratio_article`` too;
  ``article_selection_seconds`` also at fraction 1, and beyond ``MOST_ARTICLE_PICKS`` picks, where CORDS takes minutes.
- **The bare loop** is the limit: all of the epoch's images on the device as one tensor, normalised, in our arithmetic
  and memory format; forward, cross entropy, backward, fused SGD. No augmentation, no sums, no evaluation.

All three train the same network on the same synthetic images: 32 × 32 pixels, ten classes. Seconds are medians over
``--repeats`` times ``--epochs``; ours and the bare loop take turns. Before that every side warms up: on a GPU ours and
the bare loop for an epoch, in which cuDNN chooses its kernels; otherwise for ``WARM_UP_STEPS`` steps.

``input_seconds`` (gather, augment, normalise), ``forward_backward_seconds`` and ``optimizer_seconds`` come from a
separate pass of a few steps through the same building blocks, scaled to an epoch: they need not add up to
``seconds_per_epoch``. ``evaluation_seconds`` is the loop's own, of the validation examples. ``peak_share`` is
``images_per_second · flops_per_image`` (forward and backward, counted by torch) as a share of ``peak_flops``, the best
of a few products of large square matrices in the same arithmetic.

The rows are written as they come; ``--resume`` keeps those that the file has of the same settings.
"""

import argparse
import json
import logging
import os
import platform
import random
import statistics
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's habit
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import subset_selection
from benchmarks.common import Parser, command, processor, synchronise, write_text
from subset_trainer import models
from subset_trainer.config import Hyperparameters
from subset_trainer.config.resolved import as_trained
from subset_trainer.data import MemoryDataset
from subset_trainer.data.machine import cpu_count
from subset_trainer.models import Classifier
from subset_trainer.training import devices, loop, optimizer, plan, rounds
from subset_trainer.training.augmentation import Augmentation
from subset_trainer.training.cords_backend import CordsProtocolModel
from subset_trainer.training.devices import Machine, Stopwatch
from subset_trainer.training.place import Place
from subset_trainer.training.plan import Plan
from subset_trainer.training.reports import EpochReport
from subset_trainer.training.rounds import NativeSelector
from subset_trainer.training.trainee import Trainee

CLASSES, SIZE = 10, 32
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
LEARNING_RATE, WEIGHT_DECAY = 0.05, 5e-4
"""Of CORDS's experiments, and our defaults."""
WARM_UP_STEPS = 2
PHASE_STEPS = {"cpu": 2, "cuda": 20}
MATRIX_SIZE = {"cpu": 2_048, "cuda": 4_096}
MOST_ARTICLE_PICKS = 5_000
COUNTED_IMAGES = 16
"""Of the batch whose operations are counted."""

Row = dict[str, Any]
"""One line of the table, as JSON."""


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    model: str = "resnet18"
    fractions: tuple[float, ...] = (1.0, 0.5, 0.3, 0.1)
    images: int = 2_000
    validation: int = 200
    batch_size: int = 128
    epochs: int = 1
    repeats: int = 1
    seed: int = 0
    workers: int = 0
    """Processes of each of the article's loaders."""
    skip_article: bool = False


@dataclass(frozen=True)
class Target:
    """What a row of ResNet-18 should reach."""

    key: str
    fraction: float
    bound: float
    at_least: bool = False
    images: int | None = None
    """The number of training images it is set for; None: any."""

    def verdict(self, rows: Iterable[Row]) -> str | None:
        """A line for reading; None where no row is of this kind."""
        for row in rows:
            if row["fraction"] != self.fraction or self.images not in (None, row["images"]):
                continue
            goal = f"{self.key} at fraction {self.fraction:g} {'≥' if self.at_least else '≤'} {self.bound:g}"
            value = row[self.key]
            if value is None:
                return f"{goal}: not measured"
            met = value >= self.bound if self.at_least else value <= self.bound
            return f"{goal}: {value:.3g}, {'met' if met else 'NOT met'}"
        return None


TARGETS = {
    "cpu": (Target("ratio_article", 0.1, 1.5, at_least=True), Target("ratio_bare", 0.1, 1.1)),
    "cuda": (
        Target("seconds_per_epoch", 1.0, 1.0, images=50_000),
        Target("seconds_per_epoch", 0.1, 0.12, images=50_000),
        *(Target("ratio_article", fraction, 15, at_least=True) for fraction in (1.0, 0.1)),
        *(Target("ratio_bare", fraction, 1.15) for fraction in (1.0, 0.1)),
    ),
}


@dataclass(frozen=True)
class Data:
    train: MemoryDataset
    validation: MemoryDataset


def synthesise(settings: Settings) -> Data:
    """Noise: the time of a step does not depend on what is in the images."""
    draw = torch.Generator().manual_seed(settings.seed)

    def side(examples: int) -> MemoryDataset:
        images = torch.randint(256, (examples, 3, SIZE, SIZE), dtype=torch.uint8, generator=draw)
        return MemoryDataset(images, torch.randperm(examples, generator=draw) % CLASSES)

    return Data(side(settings.images), side(settings.validation))


def _classifier(settings: Settings, machine: Machine) -> Classifier:
    """A fresh network as the job builds and places it."""
    torch.manual_seed(settings.seed)
    classifier = models.build(settings.model, (3, SIZE, SIZE), CLASSES, MEAN, STD)
    classifier.place(machine.device, machine.memory_format((SIZE, SIZE)))
    return classifier


class PilImages(TorchDataset[tuple[Any, int]]):
    """Arrays that become PIL images when they are asked for, as in torchvision's CIFAR10."""

    def __init__(self, data: MemoryDataset, transform: transforms.Compose) -> None:
        self.arrays = data.inputs.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels: list[int] = data.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.arrays[index])), self.labels[index]


class ArticleLoop:
    """``examples/article/train.py`` without its files, with this project's network in the place of CORDS's."""

    def __init__(self, data: Data, budget: int, settings: Settings, device: torch.device) -> None:
        to_tensor = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        random_changes = [transforms.RandomCrop(SIZE, padding=4), transforms.RandomHorizontalFlip()]
        training = PilImages(data.train, transforms.Compose([*random_changes, *to_tensor]))
        validation = PilImages(data.validation, transforms.Compose(to_tensor))
        common: dict[str, Any] = {
            "batch_size": settings.batch_size,
            "num_workers": settings.workers,
            "pin_memory": device.type == "cuda",
        }
        torch.manual_seed(settings.seed)
        # Without mean and deviation: the transforms normalise.
        self.classifier = models.build(settings.model, (3, SIZE, SIZE), CLASSES).to(device)
        self.device = device
        self.loss = nn.CrossEntropyLoss(reduction="none")
        self.optimizer = torch.optim.SGD(
            self.classifier.parameters(),
            lr=LEARNING_RATE,
            momentum=0.9,
            weight_decay=WEIGHT_DECAY,
            nesterov=True,
        )
        self.loader: Any
        if budget == len(data.train):
            self.loader = DataLoader(training, shuffle=True, **common)
            return
        errors = np.geterr()
        from cords.utils.data.dataloader.SL.adaptive import GLISTERDataLoader
        from dotmap import DotMap

        np.seterr(**errors)  # importing CORDS makes every warning of numpy an exception
        arguments = DotMap(
            model=CordsProtocolModel(self.classifier),
            loss=self.loss,
            eta=LEARNING_RATE,
            num_classes=CLASSES,
            num_epochs=1,
            device=str(device),
            fraction=budget / len(data.train),
            select_every=1_000_000,
            kappa=0,
            linear_layer=True,
            selection_type="Supervised",
            greedy="Stochastic",
        )
        sequential = (DataLoader(training, **common), DataLoader(validation, **common))
        self.loader = GLISTERDataLoader(
            *sequential, arguments, logging.getLogger("cords"), shuffle=True, **common
        )
        # As in the example: CORDS would select in training mode.
        self.loader.strategy.model.eval()

    def epoch(self, steps: int | None = None) -> float:
        """Seconds of one pass, or of its first steps."""
        start = time.perf_counter()
        self.classifier.train()
        for inputs, labels, *weights in islice(iter(self.loader), steps):
            inputs, labels = inputs.to(self.device), labels.to(self.device)
            weight = weights[0].to(self.device) if weights else torch.ones(len(labels), device=self.device)
            losses = self.loss(self.classifier(inputs), labels)
            loss = torch.dot(losses, weight / weight.sum())
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            loss.item()
        return time.perf_counter() - start

    def select(self) -> float:
        """Seconds of CORDS's selection, which is what making an iterator does when one is due."""
        self.loader.select_every = self.loader.cur_epoch - 1
        start = time.perf_counter()
        iter(self.loader)
        return time.perf_counter() - start


class BareLoop:
    """Nothing but what a step cannot do without."""

    def __init__(self, data: Data, budget: int, settings: Settings, machine: Machine) -> None:
        self.machine, self.batch_size = machine, settings.batch_size
        self.classifier = _classifier(settings, machine)
        self.optimizer = optimizer.make(self.classifier, Hyperparameters(), LEARNING_RATE)
        with torch.no_grad():
            prepared = self.classifier.prepare(data.train.inputs[:budget].to(machine.device))
        last = prepared.is_contiguous(memory_format=torch.channels_last)
        self.memory_format = torch.channels_last if last else torch.contiguous_format
        self.images = prepared.to(machine.dtype)
        self.labels = data.train.labels[:budget].to(machine.device)

    def epoch(self, steps: int | None = None) -> float:
        """Seconds of one pass, or of its first steps."""
        synchronise(self.machine.device)
        start = time.perf_counter()
        self.classifier.train()
        order = torch.randperm(len(self.labels)).to(self.machine.device)
        images = self.images.index_select(0, order).contiguous(memory_format=self.memory_format)
        count = plan.batch_count(len(order), self.batch_size)
        batches = zip(images.tensor_split(count), self.labels[order].tensor_split(count), strict=True)
        for batch, labels in islice(batches, steps):
            with self.machine.autocast():
                logits = self.classifier.network(batch)
            self.optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(logits.float(), labels).backward()
            self.optimizer.step()
        synchronise(self.machine.device)
        return time.perf_counter() - start


class OurLoop:
    """What the image's ``train`` program does with data in memory."""

    def __init__(self, data: Data, budget: int, settings: Settings, machine: Machine) -> None:
        self.data, self.budget, self.settings, self.machine = data, budget, settings, machine
        self.classifier = _classifier(settings, machine)

    def _defaults(self, **given: Any) -> Hyperparameters:
        return as_trained(Hyperparameters(**given), "image", self.settings.model)

    def train(self, train: MemoryDataset, budget: int, epochs: int) -> list[EpochReport]:
        everything = budget == len(train)
        hp = self._defaults(
            strategy="full" if everything else "rs2",
            fraction=budget / len(train),
            epochs=epochs,
            batch_size=self.settings.batch_size,
            seed=self.settings.seed,
        )
        strategy = subset_selection.create(hp.strategy)
        data, made, place = (
            rounds.Data(train, self.data.validation),
            Plan.of(hp, len(train)),
            Place(self.machine),
        )
        selector = NativeSelector(strategy, self.classifier, data, made.budget, place)
        reports: list[EpochReport] = []
        loop.train(Trainee(self.classifier, hp, made, place), data, selector, made, reports.append)
        return reports

    def warm_up(self) -> None:
        """Where no whole epoch does."""
        examples = min(self.budget, WARM_UP_STEPS * self.settings.batch_size)
        self.train(self.data.train.subset(torch.arange(examples)), examples, epochs=1)

    def epochs(self) -> list[EpochReport]:
        left_out = 1 if self.machine.device.type == "cuda" else 0
        return self.train(self.data.train, self.budget, self.settings.epochs + left_out)[left_out:]

    def select(self) -> float:
        """Seconds of one round of GLISTER."""
        strategy = subset_selection.create(
            "glister", subset_selection.Settings(scope="supervised", eta=LEARNING_RATE)
        )
        data = rounds.Data(self.data.train, self.data.validation)
        selector = NativeSelector(strategy, self.classifier, data, self.budget, Place(self.machine))
        generator = torch.Generator().manual_seed(self.settings.seed)
        synchronise(self.machine.device)
        start = time.perf_counter()
        selector.select(generator)
        synchronise(self.machine.device)
        return time.perf_counter() - start

    def phases(self) -> Row:
        """Seconds an epoch of the parts of a step."""
        device = self.machine.device
        watches = [Stopwatch(device) for _ in range(3)]
        updates = optimizer.make(self.classifier, self._defaults(), LEARNING_RATE)
        generator = torch.Generator().manual_seed(self.settings.seed)
        picks = torch.randperm(len(self.data.train), generator=generator)[: self.budget]
        steps = plan.batch_count(self.budget, self.settings.batch_size)
        order = list(picks.tensor_split(steps))[: PHASE_STEPS[device.type]]
        batches = self.data.train.batches(order, device)
        self.classifier.train()
        for indices in order:
            with watches[0].running():
                labels = self.data.train.labels[indices].to(device, non_blocking=True)
                batch = self.classifier.prepare(_augmented(next(batches), generator))
            with watches[1].running():
                with self.machine.autocast():
                    logits = self.classifier.network(batch)
                F.cross_entropy(logits.float(), labels).backward()
            with watches[2].running():
                updates.step()
                updates.zero_grad(set_to_none=True)
        scale = self.budget / sum(len(indices) for indices in order)
        names = ("input_seconds", "forward_backward_seconds", "optimizer_seconds")
        return {name: watch.seconds() * scale for name, watch in zip(names, watches, strict=True)}


def _augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    augmentation = Augmentation("flip-crop")
    chances = augmentation.draw(len(images), generator).to(images.device, non_blocking=True)
    return augmentation.apply(images, chances)


def flops_per_image(settings: Settings, machine: Machine) -> float:
    """Operations of a forward and a backward pass."""
    classifier = _classifier(settings, machine).train()
    images = torch.zeros(COUNTED_IMAGES, 3, SIZE, SIZE, dtype=torch.uint8, device=machine.device)
    with FlopCounterMode(display=False) as counter:
        with machine.autocast():
            logits = classifier(images)
        logits.float().sum().backward()
    return counter.get_total_flops() / COUNTED_IMAGES


def peak_flops(machine: Machine) -> float:
    """Operations a second, at best, of a product of matrices."""
    size = MATRIX_SIZE[machine.device.type]
    matrix = torch.randn(size, size, device=machine.device).to(machine.dtype)
    seconds = []
    for _ in range(6):
        synchronise(machine.device)
        start = time.perf_counter()
        matrix @ matrix
        synchronise(machine.device)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def measure(fraction: float, data: Data, settings: Settings, machine: Machine) -> Row:
    """The times of one fraction, all sides."""
    budget = plan.budget(len(data.train), fraction)
    bare = BareLoop(data, budget, settings, machine)
    ours = OurLoop(data, budget, settings, machine)
    article_epochs: list[float] = []
    article_selection: float | None = None
    if not settings.skip_article:
        article = ArticleLoop(data, budget, settings, machine.device)
        article.epoch(WARM_UP_STEPS)
        article_epochs = [article.epoch() for _ in range(settings.epochs)]
        if budget < len(data.train) and budget <= MOST_ARTICLE_PICKS:
            article_selection = article.select()
        del article
    on_gpu = machine.device.type == "cuda"
    bare.epoch(None if on_gpu else WARM_UP_STEPS)
    if not on_gpu:
        ours.warm_up()
    bare_epochs: list[float] = []
    reports: list[EpochReport] = []
    selections: list[float] = []
    for _ in range(settings.repeats):
        bare_epochs += [bare.epoch() for _ in range(settings.epochs)]
        reports += ours.epochs()
        if budget < len(data.train):
            selections.append(ours.select())
    return {
        "seconds_per_epoch": statistics.median(report.training_seconds for report in reports),
        "article_seconds_per_epoch": statistics.median(article_epochs) if article_epochs else None,
        "bare_seconds_per_epoch": statistics.median(bare_epochs),
        "selection_seconds": statistics.median(selections) if selections else None,
        "article_selection_seconds": article_selection,
        **ours.phases(),
        "evaluation_seconds": statistics.median(report.evaluation_seconds for report in reports),
    }


def derived(row: Row) -> Row:
    """The row with what follows from its times."""
    ours, article = row["seconds_per_epoch"], row["article_seconds_per_epoch"]
    speed = round(row["fraction"] * row["images"]) / ours
    return row | {
        "images_per_second": speed,
        "ratio_article": None if article is None else article / ours,
        "ratio_bare": ours / row["bare_seconds_per_epoch"],
        "peak_share": speed * row["flops_per_image"] / row["peak_flops"],
    }


COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("device", "device", ""),
    ("model", "model", ""),
    ("fraction", "fraction", "g"),
    ("epoch, s", "seconds_per_epoch", ".3f"),
    ("article's, s", "article_seconds_per_epoch", ".3f"),
    ("article's / ours", "ratio_article", ".2f"),
    ("bare, s", "bare_seconds_per_epoch", ".3f"),
    ("ours / bare", "ratio_bare", ".2f"),
    ("selection, s", "selection_seconds", ".3f"),
    ("article's selection, s", "article_selection_seconds", ".3f"),
    ("images/s", "images_per_second", ",.0f"),
    ("input, s", "input_seconds", ".3f"),
    ("forward and backward, s", "forward_backward_seconds", ".3f"),
    ("optimizer, s", "optimizer_seconds", ".3f"),
    ("evaluation, s", "evaluation_seconds", ".3f"),
    ("of peak", "peak_share", ".0%"),
)
"""Heading, key of the row, format."""


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown; a dash where nothing was measured."""
    rule = ["---" if not form else "---:" for *_, form in COLUMNS]
    cells = [
        ["–" if row[key] is None else format(row[key], form) for _, key, form in COLUMNS] for row in rows
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in ([name for name, *_ in COLUMNS], rule, *cells))


def header(settings: Settings, machine: Machine) -> str:
    """What the figures hold for."""
    return (
        f"{machine.describe()}, {processor()}, {torch.get_num_threads()} threads, "
        f"load average {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, torch {torch.__version__}; "
        f"{settings.images:,} training and {settings.validation:,} validation images, batches of "
        f"{settings.batch_size}, medians of {settings.repeats} × {settings.epochs} epochs, seed {settings.seed}; "
        f"the article's loaders have {settings.workers} worker processes"
    )


def parser() -> argparse.ArgumentParser:
    """The command line; what has no default here depends on the device."""
    line = Parser(description=__doc__)
    line.add_argument("--model", choices=("resnet18", "cnn"), default=Settings.model)
    line.add_argument("--fractions", type=_fractions, default=Settings.fractions, help="1,0.5,0.3,0.1")
    line.add_argument("--images", type=_positive, help="training images (50000 on a GPU, else 2000)")
    line.add_argument("--validation", type=_positive, help="validation images (a tenth of --images)")
    line.add_argument("--batch-size", type=_positive, help="(512 on a GPU, else 128)")
    line.add_argument("--epochs", type=_positive, help="timed, after the warm-up (3 on a GPU, else 1)")
    line.add_argument("--repeats", type=_positive, help="of ours and of the bare loop (3 on a GPU, else 1)")
    line.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    line.add_argument(
        "--precision", choices=("auto", *devices.DTYPES), default="auto", help="ours and the bare loop's"
    )
    line.add_argument("--seed", type=int, default=Settings.seed)
    line.add_argument("--skip-article", action="store_true", help="leave the article's loop out")
    line.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    line.add_argument("--resume", action="store_true", help="keep what --json's file has of these settings")
    return line


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return value


def _fractions(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(0 < value <= 1 for value in values):
        raise argparse.ArgumentTypeError(
            f"expected numbers above 0 and at most 1, with commas between, got {text!r}"
        )
    return values


def plan_settings(options: argparse.Namespace, on_gpu: bool) -> Settings:
    """The options, completed by what suits the device.

    Raises UserError where a fraction leaves too few images."""
    images = options.images or (50_000 if on_gpu else 2_000)
    for fraction in options.fractions:
        plan.budget(images, fraction)
    return Settings(
        model=options.model,
        fractions=options.fractions,
        images=images,
        validation=options.validation or max(1, images // 10),
        batch_size=options.batch_size or (512 if on_gpu else 128),
        epochs=options.epochs or (3 if on_gpu else 1),
        repeats=options.repeats or (3 if on_gpu else 1),
        seed=options.seed,
        workers=0 if cpu_count() <= 2 else 2,
        skip_article=options.skip_article,
    )


def known_rows(path: Path, common: Row) -> dict[float, Row]:
    """Fraction → the file's row of these settings."""
    if not path.exists():
        return {}
    rows: list[Row] = json.loads(path.read_text())
    return {row["fraction"]: row for row in rows if common.items() <= row.items()}


def run(
    settings: Settings, machine: Machine, precision: str, path: Path | None, resume: bool = False
) -> list[Row]:
    """Measure every fraction; prints a line when one is done, and writes what is measured so far."""
    random.seed(settings.seed)  # CORDS draws from the global generators
    np.random.seed(settings.seed % 2**32)
    data = synthesise(settings)
    common: Row = {
        "device": machine.describe(),
        "model": settings.model,
        "images": settings.images,
        "validation": settings.validation,
        "batch_size": settings.batch_size,
        "epochs": settings.epochs,
        "repeats": settings.repeats,
        "precision": precision,
        "seed": settings.seed,
        "threads": torch.get_num_threads(),
        "article_workers": settings.workers,
        "torch": torch.__version__,
        "article": not settings.skip_article,
    }
    known = known_rows(path, common) if path and resume else {}
    measured: Row = {
        "peak_flops": peak_flops(machine),
        "flops_per_image": flops_per_image(settings, machine),
    }
    rows: list[Row] = []
    for fraction in settings.fractions:
        if fraction in known:
            rows.append(known[fraction])
        else:
            times = measure(fraction, data, settings, machine)
            rows.append(derived(common | measured | {"fraction": fraction} | times))
        print(f"fraction {fraction:g}: {rows[-1]['seconds_per_epoch']:.3f} s an epoch", flush=True)
        if path:
            write_text(path, json.dumps(rows, indent=1) + "\n")
    return rows


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 1 for options that cannot be served."""
    options = parser().parse_args(arguments)
    machine = devices.prepare(options.device, options.precision, images=True)
    settings = plan_settings(options, machine.device.type == "cuda")
    print(header(settings, machine), flush=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CORDS's, about pinned memory and its own copies
        rows = run(settings, machine, str(machine.dtype).removeprefix("torch."), options.json, options.resume)
    print(f"\n{table(rows)}\n")
    if settings.model == "resnet18":
        verdicts = [target.verdict(rows) for target in TARGETS[machine.device.type]]
        print(*(verdict for verdict in verdicts if verdict), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

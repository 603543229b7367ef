"""A script with CORDS's loader, and the same script with its one import changed to ours, side by side in one run.

    python -m benchmarks.article --data DIR    # class folders of images, of which --images are used

**Whole script.** ``examples/article/train.py`` as it stands, and with ``subset_selection.cords`` in the place of CORDS,
each in a process of its own: seconds from the start of Python to the saved model, training, evaluation and the imports
included. CORDS's ResNet-18, random changes, a selection in each epoch but the first. ``same``: the subsets of all
epochs, index for index.

**Epoch.** GLISTER over 512 features with 10 and 100 classes: the same network of two layers, the same batches and
steps, one epoch that begins with a selection, in one process. ``selecting``: the part of it until the first batch.
``same``: the picks of both, index for index.

Sides take turns, medians of ``--repeats``, one thread unless ``--threads`` says otherwise. ``processor``: the ratio of
the processor's time, to read where other programs disturb the clock.
"""

import json
import logging
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import Parser, processor, write_text
from benchmarks.selection import Case, Data, synthesise
from subset_trainer.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "examples/article/train.py"
THEIRS = "from cords.utils.data.dataloader.SL.adaptive import GLISTERDataLoader\n"
OURS = "from subset_selection.cords import GLISTERDataLoader\n"
RATE = 0.05
Row = dict[str, Any]
Seconds = dict[str, list[tuple[float, float]]]
"""Of each side and run: on the clock, and of the processor."""


RECORDING = """
import json, sys
from pathlib import Path

class Recording(GLISTERDataLoader):
    def __iter__(self):
        batches = super().__iter__()
        with Path(sys.argv[sys.argv.index("--model_dir") + 1] + ".json").open("a") as file:
            print(json.dumps([int(at) for at in self.subset_indices]), file=file)
        return batches

GLISTERDataLoader = Recording
"""
"""Writes the subset of each epoch beside the folder of the model."""


def with_ours(script: str) -> str:
    """The script with its one import changed."""
    assert script.count(THEIRS) == 1
    return script.replace(THEIRS, OURS)


def recording(script: str) -> str:
    """The script, which also writes the subset of each epoch to MODEL_DIR.json."""
    return script.replace("\nIMAGE_SIZE = ", f"\n{RECORDING}\nIMAGE_SIZE = ", 1)


@dataclass(frozen=True)
class Options:
    """How it is measured."""

    data: Path | None
    images: int
    epochs: int
    fractions: tuple[float, ...]
    examples: int
    classes: tuple[int, ...]
    repeats: int
    threads: int


def laid_out(source: Path, images: int, folder: Path) -> None:
    """A folder with the first images of each class of another, by links."""
    classes = sorted(path for path in source.iterdir() if path.is_dir())
    if not classes:
        raise UserError(f"--data {source}: expected a folder of images for each class")
    for each in classes:
        (folder / each.name).mkdir(parents=True)
        for file in sorted(each.iterdir())[: images // len(classes)]:
            (folder / each.name / file.name).symlink_to(file.resolve())


def whole_script(options: Options, fraction: float, training: Path, work: Path) -> Row:
    """Seconds of both scripts at a fraction."""
    text = SCRIPT.read_text(encoding="utf-8")
    scripts = {"cords": work / "theirs.py", "ours": work / "ours.py"}
    scripts["cords"].write_text(recording(text), encoding="utf-8")
    scripts["ours"].write_text(recording(with_ours(text)), encoding="utf-8")
    settings = {"fraction": fraction, "epochs": options.epochs, "select_every": 1, "training": training}
    flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    seconds: Seconds = {side: [] for side in scripts}
    chosen: dict[str, list[str]] = {}
    for _ in range(options.repeats):
        for side, script in scripts.items():
            start, used = time.perf_counter(), _of_children()
            ran = subprocess.run(
                [sys.executable, str(script), *flags, "--model_dir", str(work / side)],
                env=os.environ | {"OMP_NUM_THREADS": str(options.threads)},
                capture_output=True,
                text=True,
                check=False,
            )
            seconds[side].append((time.perf_counter() - start, _of_children() - used))
            if ran.returncode:
                raise RuntimeError(f"{script.name} failed:\n{ran.stderr[-2000:]}")
            subsets = (work / f"{side}.json").read_text(encoding="utf-8").splitlines()
            chosen[side] = subsets[-options.epochs :]
    return {"what": "whole script", "fraction": fraction} | _summary(
        seconds, chosen["cords"] == chosen["ours"]
    )


class Network(nn.Module):
    """Two layers behind CORDS's protocol."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(features, features), nn.Linear(features, classes)

    def get_embedding_dim(self) -> int:
        return self.head.in_features

    def forward(self, inputs: Tensor, last: bool = False, freeze: bool = False) -> Any:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not freeze):
            hidden = self.body(inputs).relu()
        logits = self.head(hidden)
        return (logits, hidden) if last else logits


def epoch(
    kind: Callable[..., Any], data: Data, classes: int, fraction: float
) -> tuple[tuple[float, float], float, list[int]]:
    """Seconds and the processor's of an epoch that begins with a selection, seconds of its part until the first batch,
    and the picks."""
    from dotmap import DotMap

    for seeded in (random.seed, np.random.seed, torch.manual_seed):
        seeded(0)
    network = Network(data.train.features.shape[1], classes)
    loss = nn.CrossEntropyLoss(reduction="none")
    arguments = DotMap(
        model=network, loss=loss, eta=RATE, num_classes=classes, device="cpu", fraction=fraction
    )
    arguments |= DotMap(select_every=1, kappa=0, linear_layer=True)
    arguments |= DotMap(selection_type="Supervised", greedy="Stochastic")
    loaders = (data.train.loader(128), data.validation.loader(128))
    loader = kind(*loaders, DotMap(arguments), logging.getLogger("cords"), batch_size=128, shuffle=True)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=0.9)
    for _ in range(2):  # the first epoch has a random subset
        start, used = time.perf_counter(), time.process_time()
        batches = iter(loader)
        selected = time.perf_counter()
        for inputs, labels, weights in batches:
            optimizer.zero_grad()
            torch.dot(loss(network(inputs), labels), weights / weights.sum()).backward()
            optimizer.step()
    taken = (time.perf_counter() - start, time.process_time() - used)
    return taken, selected - start, [int(at) for at in loader.subset_indices]


def epochs(options: Options, classes: int, fraction: float = 0.1) -> Row:
    """Seconds of an epoch with each side's loader."""
    from cords.utils.data.dataloader.SL import adaptive as cords

    from subset_selection import cords as ours

    data = synthesise(Case(n=options.examples, classes=classes, fraction=fraction), seed=0)
    sides = {"cords": cords.GLISTERDataLoader, "ours": ours.GLISTERDataLoader}
    seconds: Seconds = {side: [] for side in sides}
    selecting: dict[str, list[float]] = {side: [] for side in sides}
    picks: dict[str, list[int]] = {}
    for _ in range(options.repeats):
        for side, kind in sides.items():
            whole, part, picks[side] = epoch(kind, data, classes, fraction)
            seconds[side].append(whole)
            selecting[side].append(part)
    row = {"what": f"epoch, {classes} classes", "fraction": fraction, "examples": options.examples}
    row |= {f"{side}_selecting": median(selecting[side]) for side in sides}
    return row | _summary(seconds, picks["cords"] == picks["ours"])


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _summary(seconds: Seconds, same: bool) -> Row:
    clock, processors = (
        {side: median(run[at] for run in runs) for side, runs in seconds.items()} for at in (0, 1)
    )
    return {
        "cords_seconds": clock["cords"],
        "ours_seconds": clock["ours"],
        "ratio": clock["cords"] / clock["ours"],
        "ratio_processor": processors["cords"] / processors["ours"],
        "runs": seconds,
        "same": same,
    }


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| what | share | CORDS, s | ours, s | ratio | processor | same subsets |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['what']} | {row['fraction']:g} | {row['cords_seconds']:.2f} | {row['ours_seconds']:.2f} | "
        f"{row['ratio']:.1f} | {row['ratio_processor']:.1f} | {'yes' if row['same'] else 'no'} |"
        for row in rows
    ]
    return "\n".join(lines)


def parsed(arguments: Sequence[str] | None) -> tuple[Options, Path | None]:
    parser = Parser(description=__doc__)
    parser.add_argument("--data", type=Path, help="class folders; without it the whole script is not run")
    parser.add_argument("--images", type=int, default=600, help="images of --data that are used")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of the script")
    parser.add_argument("--fractions", type=float, nargs="*", default=[0.1, 0.3, 0.5])
    parser.add_argument("--examples", type=int, default=2_000, help="examples of the epoch over features")
    parser.add_argument("--classes", type=int, nargs="*", default=[10, 100])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON of all rows")
    given = vars(parser.parse_args(arguments))
    output = given.pop("output")
    given["fractions"], given["classes"] = tuple(given["fractions"]), tuple(given["classes"])
    return Options(**given), output


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table and write the rows."""
    options, output = parsed(arguments)
    torch.set_num_threads(options.threads)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        if options.data is not None:
            laid_out(options.data, options.images, Path(folder) / "training")
            for fraction in options.fractions:
                rows.append(whole_script(options, fraction, Path(folder) / "training", Path(folder)))
                print(table(rows[-1:]).splitlines()[-1], flush=True)
    for classes in options.classes:
        rows.append(epochs(options, classes))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(f"\n{table(rows)}\n\n{processor()}, torch {torch.__version__}, {options.threads} thread(s)")
    if output is not None:
        write_text(output, json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""The data of a study: channels made once from a folder, with wrong labels or a long tail in training alone.

In this order: a part of each class is drawn, validation is set aside, training is thinned to the long tail, some of its
examples are replaced by near-duplicates of others, and some of its labels by other labels. Validation and test stay
as they are: clean, and balanced as far as the folder is. Texts are studied as they are alone: their channels are the
sources, of which each run sets its own validation part aside.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from subset_trainer.data import Dataset, MemoryDataset, load_splits
from subset_trainer.data.splits import Splits, stratified_split
from subset_trainer.errors import UserError

DESCRIPTION = "scenario.json"
MEMORY = 1 << 62
"""Bytes: the study's data is always decoded as a whole, never streamed."""
Parts = dict[str, tuple[np.ndarray, np.ndarray]]
"""Channel → inputs and labels."""


@dataclass(frozen=True)
class Scenario:
    """What is done to the training examples."""

    noise: float = 0.0
    """Share of the training labels that are replaced, each by a class drawn uniformly from the *other* classes: exactly
    this share is wrong (where the folder's own labels are right)."""
    imbalance: float = 1.0
    """How many times more of its training examples the first class keeps than the last. In between the share falls
    exponentially in the class's position: imbalance^(−k/(C − 1)) for k = 0…C − 1."""
    duplicates: float = 0.0
    """Share of the training examples, by class, that are replaced by a near-duplicate of one of its class that stays:
    20% brighter or darker, or a pixel aside; of tables, moved by 1% of each column's deviation."""
    per_class: int | None = None
    """Examples of each class that are drawn from the training folder, before validation is set aside."""
    validation_fraction: float = 0.1
    """Share of them set aside, by class, where there is no validation folder."""
    seed: int = 0
    """Of every draw here. The same for all runs, whose own seeds are others."""

    def __post_init__(self) -> None:
        """Raises UserError on a value out of range."""
        if not 0 <= self.noise < 1:
            raise UserError(f"--noise {self.noise:g}: expected at least 0 and less than 1")
        if not 1 <= self.imbalance < float("inf"):
            raise UserError(f"--imbalance {self.imbalance:g}: expected at least 1")
        if not 0 <= self.duplicates < 1:
            raise UserError(f"--duplicates {self.duplicates:g}: expected at least 0 and less than 1")
        if self.per_class is not None and self.per_class < 2:
            raise UserError(f"--per-class {self.per_class}: expected at least 2")
        if not 0 < self.validation_fraction < 1:
            raise UserError(
                f"--validation-fraction {self.validation_fraction:g}: expected more than 0 and less than 1"
            )

    @property
    def name(self) -> str:
        """`clean`, `noise-0.4`, `imbalance-10`, `duplicates-0.5` or `imbalance-10-noise-0.4`."""
        parts = [f"imbalance-{self.imbalance:g}"] if self.imbalance > 1 else []
        parts += [f"duplicates-{self.duplicates:g}"] if self.duplicates else []
        parts += [f"noise-{self.noise:g}"] if self.noise else []
        return "-".join(parts) or "clean"

    @property
    def sentence(self) -> str:
        """The same for people."""
        parts = []
        if self.imbalance > 1:
            parts.append(f"classes in training from {self.imbalance:g} to 1 (exponential)")
        if self.duplicates:
            parts.append(f"{self.duplicates:.0%} of the training examples near-duplicates of others")
        if self.noise:
            parts.append(f"{self.noise:.0%} of the training labels replaced by another class, at random")
        return ", ".join(parts) or "clean"


def prepare(directory: Path, sources: Mapping[str, Path], scenario: Scenario) -> dict[str, Path]:
    """Write `directory/<channel>/data.npz` (x, y) for training, validation and test, unless they are there.

    Args:
        directory: of this scenario alone.
        sources: `training`, perhaps `validation`, `test`: folders or files in any form that the trainer reads.
        scenario: what is done to them.

    Returns:
        The channels.

    Raises:
        UserError: the directory was made from other sources or for another scenario, the data cannot be read, or it
            is of texts and the scenario is not the clean one.
    """
    channels = {name: directory / name for name in ("training", "validation", "test")}
    described = {
        **asdict(scenario),
        "sources": {name: str(path.resolve()) for name, path in sources.items()},
    }
    known = read_description(directory)
    if known is not None:
        differing = [name for name, value in described.items() if known.get(name) != value]
        if differing:
            raise UserError(
                f"{str(directory)!r} was made with another {', '.join(differing)}; name another --out"
            )
        return dict(sources) if known.get("as_they_are") else channels
    if "test" not in sources:
        raise UserError("a study is judged by test examples; give --test")

    directory.mkdir(parents=True, exist_ok=True)
    splits = _read(sources, scenario)
    as_they_are = splits.preprocessing.name not in ("image", "table")
    arrays = _parts(splits) if as_they_are else change(splits, scenario, "validation" in sources)
    if as_they_are and scenario != Scenario(
        validation_fraction=scenario.validation_fraction, seed=scenario.seed
    ):
        raise UserError(
            "texts are studied as they are; expected none of --noise, --imbalance, --duplicates and --per-class"
        )
    fingerprint = hashlib.sha256()
    for name, (inputs, labels) in arrays.items():
        fingerprint.update(np.ascontiguousarray(inputs).data)
        fingerprint.update(labels.astype(np.int64).data)
        if as_they_are:
            continue
        channels[name].mkdir(exist_ok=True)
        # Written whole or not at all: the description is written last, so its presence shows that all files exist.
        with tempfile.NamedTemporaryFile(dir=directory, suffix=".npz", delete=False) as file:
            np.savez(file, x=inputs, y=labels)
        Path(file.name).replace(channels[name] / "data.npz")
    described |= {
        "examples": {name: len(labels) for name, (_, labels) in arrays.items()},
        "training_classes": np.bincount(arrays["training"][1]).tolist(),
        "sha256": fingerprint.hexdigest(),
        "as_they_are": as_they_are,
    }
    (directory / DESCRIPTION).write_text(json.dumps(described, indent=2) + "\n")
    return dict(sources) if as_they_are else channels


def read_description(directory: Path) -> dict[str, Any] | None:
    """What `prepare` wrote about its channels; None where it has not finished."""
    path = directory / DESCRIPTION
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def load(sources: Mapping[str, Path], scenario: Scenario) -> Parts:
    """The scenario's channels, of images or tables; see :func:`change`."""
    return change(_read(sources, scenario), scenario, "validation" in sources)


def _read(sources: Mapping[str, Path], scenario: Scenario) -> Splits:
    return load_splits(
        sources,
        validation_fraction=scenario.validation_fraction,
        seed=scenario.seed,
        memory_limit=MEMORY,
    )


def _parts(splits: Splits) -> Parts:
    assert splits.test is not None
    parts = {"training": splits.train, "validation": splits.validation, "test": splits.test}
    return {name: _arrays(part) for name, part in parts.items()}


def change(splits: Splits, scenario: Scenario, validated: bool) -> Parts:
    """A scenario's channels: images [N, 3, H, W] uint8 or tables [N, D] float32, and labels [N] int64.

    validated: whether the validation part is one that was given, which stays as it is.
    """
    generator = np.random.default_rng(scenario.seed)
    training, validation, test = _parts(splits).values()
    classes = len(splits.preprocessing.classes)
    if not validated:
        # Split anew below: the part of each class is drawn from all of them.
        training = np.concatenate((training[0], validation[0])), np.concatenate((training[1], validation[1]))
    inputs, labels = training
    rows = np.arange(len(labels))
    if scenario.per_class is not None:
        rows = draw_per_class(labels, [scenario.per_class] * classes, generator)
    if not validated:
        kept, aside = stratified_split(labels[rows], scenario.validation_fraction, scenario.seed)
        validation = inputs[rows[aside]], labels[rows[aside]]
        rows = rows[kept]
    if scenario.imbalance > 1:
        counts = long_tail(np.bincount(labels[rows], minlength=classes), scenario.imbalance)
        rows = rows[draw_per_class(labels[rows], counts, generator)]
    inputs, labels = inputs[rows], labels[rows]
    if scenario.duplicates:
        inputs = replace_by_copies(inputs, labels, scenario.duplicates, generator)
    noisy = replace_labels(labels, scenario.noise, classes, generator)
    return {"training": (inputs, noisy), "validation": validation, "test": test}


def draw_per_class(labels: np.ndarray, counts: list[int], generator: np.random.Generator) -> np.ndarray:
    """Positions, ascending, of `counts[c]` examples of each class c, drawn without replacement; all where it has fewer.

    Args:
        labels: [N], 0…C − 1.
        counts: of length C.
    """
    drawn = [
        generator.permutation(np.flatnonzero(labels == label))[:count] for label, count in enumerate(counts)
    ]
    return np.sort(np.concatenate(drawn))


def long_tail(counts: np.ndarray, imbalance: float) -> list[int]:
    """How many of `counts[k]` examples class k keeps: `imbalance`^(−k/(C − 1)) of them, rounded, at least 1."""
    exponents = np.arange(len(counts)) / max(1, len(counts) - 1)
    return [max(1, round(float(kept))) for kept in counts * imbalance**-exponents]


def replace_by_copies(
    inputs: np.ndarray, labels: np.ndarray, share: float, generator: np.random.Generator
) -> np.ndarray:
    """Inputs of which round(share · n), of each class's n but at most n − 1, are near-duplicates of one that stays.

    Args:
        inputs: [N, …], uint8 images [N, 3, H, W] or float32 rows.
        labels: [N], 0…C − 1.
    """
    changed, changes = inputs.copy(), list(CHANGES.values())
    deviations = inputs.std(0) if inputs.dtype != np.uint8 else None
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        count = min(round(share * len(rows)), len(rows) - 1)
        for place, row in enumerate(rows[:count]):
            original = inputs[rows[count + place % (len(rows) - count)]]
            if deviations is not None:
                changed[row] = original + 0.01 * deviations * generator.standard_normal(len(original))
            else:
                changed[row] = changes[generator.integers(len(changes))](original)
    return changed


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "20% darker": lambda images: (images * 0.8).astype(np.uint8),
    "20% brighter": lambda images: np.minimum(images * 1.2, 255).astype(np.uint8),
    "1 pixel aside": lambda images: np.concatenate((images[..., :1], images[..., :-1]), axis=-1),
}
"""What makes near-duplicates of images, uint8 […, H, W]."""


def replace_labels(
    labels: np.ndarray, share: float, classes: int, generator: np.random.Generator
) -> np.ndarray:
    """Labels [N] of which round(share · N) are another class than before, each other class equally likely."""
    changed = labels.copy()
    rows = generator.permutation(len(labels))[: round(share * len(labels))]
    changed[rows] = (labels[rows] + generator.integers(1, classes, size=len(rows))) % classes
    return changed


def _arrays(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    assert isinstance(dataset, MemoryDataset)
    return dataset.inputs.numpy(), dataset.labels.numpy()

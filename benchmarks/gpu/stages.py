"""What the proof measures, in the order of its worth, and what is asked of the figures.

Each part has the sizes of a large GPU and, for the rehearsal on a CPU, tiny ones. Nothing here imports torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu.runner import Part, Stage, Values, measured_values

BATCHES = (512, 128)
FRACTIONS = (1.0, 0.1)
FULL: dict[str, Any] = {"model": "resnet18", "images": 50_000, "validation": 5_000}
EARLIER_RECIPE: dict[str, Any] = {
    **{"optimizer": "sgd", "whitening": False, "augmentation_reach": 0.125, "flip": "random"},
}
"""What image models without pretrained weights were trained with by default, earlier."""
WAYS = ("eager", "graph", "compiled", "compiled with graphs")
TINY: dict[str, Any] = {"model": "cnn", "images": 48, "validation": 8, "batch_size": 8}


def _epochs() -> tuple[Part, ...]:
    measured = [
        Part(
            f"batch {batch}, fraction {fraction:g}",
            "benchmarks.gpu.loop:epochs",
            60,
            FULL | {"batch_size": batch, "fraction": fraction, "epochs": 2, "repeats": 2},
            TINY | {"epochs": 1, "repeats": 1} if batch == BATCHES[0] else None,
        )
        for batch in BATCHES
        for fraction in FRACTIONS
    ]
    article = [
        Part(
            f"article's loop, batch {batch}, fraction {fraction:g}",
            "benchmarks.gpu.loop:article",
            45,
            FULL | {"batch_size": batch, "fraction": fraction, "workers": 2, "steps": 10, "repeats": 3},
            TINY | {"workers": 0, "steps": 1, "repeats": 1} if batch == BATCHES[0] else None,
        )
        for batch in BATCHES
        for fraction in FRACTIONS
    ]
    waits = [
        Part(
            f"synchronisations, batch {batch}",
            "benchmarks.gpu.loop:waits",
            30,
            FULL | {"batch_size": batch, "epochs": 3},
            TINY | {"epochs": 2} if batch == BATCHES[0] else None,
        )
        for batch in BATCHES
    ]
    return (*measured, waits[0], *article, *waits[1:])


def _ways() -> tuple[Part, ...]:
    return tuple(
        Part(
            f"batch {batch}, {way}",
            "benchmarks.gpu.step:measure",
            90 if way.startswith("compiled") else 30,
            {"model": "resnet18", "batch_size": batch, "way": way, "times": 100, "repeats": 5},
            {"model": "cnn", "batch_size": 8, "times": 1, "repeats": 2} if batch == 128 else None,
        )
        for way in WAYS
        for batch in (128, 512)
    )


def _choices() -> tuple[Part, ...]:
    cases: dict[str, dict[str, Any]] = {
        "glister, 10 classes": {"strategy": "glister", "scope": "supervised", "classes": 10},
        "glister, 100 classes": {"strategy": "glister", "scope": "supervised", "classes": 100},
        "gradmatch, 10 classes": {"strategy": "gradmatch", "classes": 10},
        "facility-location, 10 classes": {"strategy": "facility-location", "classes": 10},
    }
    tiny = {"n": 60, "features": 8, "repeats": 1}
    embedding = Part(
        "embedding 50,000 images",
        "benchmarks.gpu.choosing:embedding",
        40,
        {"model": "resnet18", "images": 50_000, "repeats": 3},
        {"model": "cnn", "images": 48, "repeats": 1},
    )
    return (
        embedding,
        *(
            Part(
                name,
                "benchmarks.gpu.choosing:choice",
                40,
                {**case, "n": 50_000, "features": 512, "repeats": 3},
                tiny | ({"classes": 4} if case["classes"] == 10 else {"classes": 10}),
            )
            for name, case in cases.items()
        ),
    )


def _runs() -> tuple[Part, ...]:
    """The cheap run with a target first, then the yardstick; each fraction's rivals after it."""
    order: tuple[tuple[str, float, int], ...] = (
        ("rs2", 0.3, 100),
        ("full", 1, 50),
        ("full", 1, 100),
        ("glister", 0.3, 100),
        ("full", 1, 30),
        ("rs2", 0.1, 100),
        ("glister", 0.1, 100),
        ("full", 1, 10),
    )
    dry: dict[str, Any] = {"model": "cnn", "epochs": 2, "batch_size": 16, "select_every": 1}
    parts = []
    for place, (strategy, fraction, epochs) in enumerate(order):
        values: dict[str, Any] = {"model": "resnet18", "strategy": strategy, "epochs": epochs, "seed": 0}
        if strategy != "full":
            values["fraction"] = fraction
        name = f"{strategy}, {epochs} epochs" if strategy == "full" else f"{strategy} at {fraction:.0%}"
        parts.append(Part(name, "benchmarks.gpu.jobs:article", 260, values, dry if place < 4 else None))
    earlier = {"model": "resnet18", "strategy": "full", "epochs": 100, "seed": 0, **EARLIER_RECIPE}
    return (
        *parts,
        Part("full, 100 epochs, earlier recipe", "benchmarks.gpu.jobs:article", 260, earlier, None),
    )


NOISE: dict[str, Any] = {
    "model": "resnet18",
    "strategy": "rs2",
    "fraction": 0.5,
    "batch_size": 128,
    "seed": 1,
}
TINY_NOISE: dict[str, Any] = {"model": "cnn", "images": 60, "batch_size": 8}
MINILM = {
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
}
"""The shape of MiniLM-L6."""
TINY_BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}
ENCODER: dict[str, Any] = {
    "rows": 4_096,
    "words": 30_522,
    "shape": MINILM,
    "strategy": "full",
    "fine_tune": "all",
    "epochs": 3,
    "batch_size": 32,
    "max_tokens": 128,
}

STAGES: tuple[Stage, ...] = (
    Stage(
        "machine",
        "The machine",
        75,
        (
            # The first one loads torch from a cold disk.
            Part("identity", "benchmarks.gpu.machine:identity", 60),
            Part(
                "matrix",
                "benchmarks.gpu.machine:matrix",
                20,
                {"size": 8_192, "times": 10, "repeats": 5},
                {"size": 64, "times": 1, "repeats": 2},
            ),
            Part(
                "copy",
                "benchmarks.gpu.machine:copy",
                20,
                {"mib": 4_096, "times": 10, "repeats": 5},
                {"mib": 1, "times": 1, "repeats": 2},
            ),
            Part(
                "launches",
                "benchmarks.gpu.machine:launches",
                20,
                {"times": 2_000, "repeats": 5},
                {"times": 10, "repeats": 2},
            ),
        ),
    ),
    Stage(
        "tests", "The tests that need a GPU", 100, (Part("pytest -m gpu", "benchmarks.gpu.tests:run", 100),)
    ),
    Stage("loop", "The loop", 150, _epochs()),
    Stage("step", "What is worth building", 110, _ways()),
    Stage("selection", "Selection", 75, _choices()),
    Stage("experiment", "The article's experiment, one seed", 300, _runs()),
    Stage(
        "exactness",
        "Exactness",
        75,
        (
            Part(
                "killed and resumed",
                "benchmarks.gpu.jobs:resumed",
                60,
                NOISE | {"images": 4_000, "epochs": 6},
                TINY_NOISE | {"epochs": 3},
            ),
            Part(
                "out of memory",
                "benchmarks.gpu.jobs:memory",
                40,
                NOISE
                | {
                    "strategy": "full",
                    "fraction": 1,
                    "images": 6_000,
                    "batch_size": 4_096,
                    "epochs": 1,
                    "gib": 4.0,
                },
                TINY_NOISE | {"epochs": 1},
            ),
            Part(
                "no code for the GPU", "benchmarks.gpu.jobs:no_code", 30, NOISE | {"images": 60, "epochs": 1}
            ),
        ),
    ),
    Stage(
        "encoder",
        "An encoder of MiniLM's shape",
        60,
        tuple(
            Part(
                precision,
                "benchmarks.gpu.jobs:encoder",
                40,
                ENCODER | {"precision": precision},
                {"rows": 40, "words": 60, "shape": TINY_BERT, "epochs": 1, "batch_size": 8, "max_tokens": 16}
                if precision == "bfloat16"
                else None,
            )
            for precision in ("bfloat16", "float32")
        ),
    ),
)


@dataclass(frozen=True)
class Target:
    """What one figure should reach. `value`: what is measured so far → the figure; None: not measured."""

    name: str
    bound: float
    value: Callable[[dict[str, dict[str, Values]]], float | None]
    at_least: bool = False
    unit: str = ""

    def judged(self, known: dict[str, dict[str, Values]]) -> Values:
        value = self.value(known)
        verdict = "not measured"
        if value is not None:
            met = value >= self.bound if self.at_least else value <= self.bound
            verdict = "met" if met else "not met"
        return {
            "name": self.name,
            "bound": self.bound,
            "at_least": self.at_least,
            "unit": self.unit,
            "value": value,
            "verdict": verdict,
        }


def _get(stage: str, part: str, name: str) -> Callable[[dict[str, dict[str, Values]]], float | None]:
    return lambda known: known.get(stage, {}).get(part, {}).get(name)


def better_batch(known: dict[str, dict[str, Values]], fraction: float) -> tuple[int, Values] | None:
    """The batch size at which an epoch takes least, and its figures."""
    found = [
        (batch, known["loop"][part])
        for batch in BATCHES
        if (part := f"batch {batch}, fraction {fraction:g}") in known.get("loop", {})
    ]
    return min(found, key=lambda pair: float(pair[1]["seconds_per_epoch"]), default=None)


def article_ratio(known: dict[str, dict[str, Values]], batch: int, fraction: float) -> float | None:
    """How many times as long as ours an epoch of the article's loop takes."""
    loop = known.get("loop", {})
    ours = loop.get(f"batch {batch}, fraction {fraction:g}")
    article = loop.get(f"article's loop, batch {batch}, fraction {fraction:g}")
    if not ours or not article:
        return None
    return float(article["article_seconds_per_epoch"]) / float(ours["seconds_per_epoch"])


def _of_better(
    fraction: float, take: Callable[[dict[str, dict[str, Values]], int, Values], float | None]
) -> Callable[[dict[str, dict[str, Values]]], float | None]:
    def value(known: dict[str, dict[str, Values]]) -> float | None:
        best = better_batch(known, fraction)
        return None if best is None else take(known, *best)

    return value


def _seconds(known: object, batch: int, row: Values) -> float:
    return float(row["seconds_per_epoch"])


def _bare(known: object, batch: int, row: Values) -> float:
    return float(row["ratio_bare"])


TARGETS = (
    Target("an epoch of all the data, at the better batch size", 1.0, _of_better(1.0, _seconds), unit="s"),
    Target("an epoch of 10%, at the better batch size", 0.12, _of_better(0.1, _seconds), unit="s"),
    *(
        Target(
            f"times as fast as the article's loop, fraction {fraction:g}",
            15,
            _of_better(fraction, lambda known, batch, row, part=fraction: article_ratio(known, batch, part)),  # type: ignore[misc]
            at_least=True,
            unit="×",
        )
        for fraction in FRACTIONS
    ),
    *(
        Target(
            f"times as long as the bare loop, fraction {fraction:g}",
            1.15,
            _of_better(fraction, _bare),
            unit="×",
        )
        for fraction in FRACTIONS
    ),
    Target(
        "synchronisations within an epoch but for reads of the loss",
        0,
        _get("loop", "synchronisations, batch 512", "others_within"),
    ),
    Target(
        "GLISTER's choice among 50,000 examples of 10 classes",
        0.5,
        _get("selection", "glister, 10 classes", "seconds"),
        unit="s",
    ),
    Target("embedding 50,000 images", 0.3, _get("selection", "embedding 50,000 images", "seconds"), unit="s"),
    Target(
        "test accuracy of full, 50 epochs",
        0.95,
        _get("experiment", "full, 50 epochs", "test_accuracy"),
        at_least=True,
        unit="share",
    ),
    Target(
        "test accuracy of full, 100 epochs",
        0.95,
        _get("experiment", "full, 100 epochs", "test_accuracy"),
        at_least=True,
        unit="share",
    ),
    Target(
        "test accuracy of rs2 at 30%, 100 epochs",
        0.94,
        _get("experiment", "rs2 at 30%", "test_accuracy"),
        at_least=True,
        unit="share",
    ),
)


def judge(stages: Values) -> list[Values]:
    """The targets beside what is measured."""
    known = measured_values(stages)
    return [target.judged(known) for target in TARGETS]

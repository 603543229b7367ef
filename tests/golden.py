"""Small runs of every shape of strategy, whose results commit f7d9a11 has left in ``tests/files/f7d9a11``.

``run`` trains in this process. The network has few weights, so that a history takes a fraction of a second and a
checkpoint a few kilobytes.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FILES = Path(__file__).parent / "files" / "f7d9a11"
WIDTH = 8
"""Of mlp's hidden layers here."""
_USUAL = {"epochs": 4, "batch_size": 16, "device": "cpu", "precision": "float32", "report": False}
THEN = {"optimizer": "sgd", "whitening": False, "augmentation_reach": 0.125, "flip": "random"}
"""Hyperparameters that had no name then, or other defaults."""
_IMAGES = {"data": "images", "model": "cnn", "epochs": 2, "cutout": 0.3, **THEN}
CASES: dict[str, dict[str, Any]] = {
    "full": {"strategy": "full", "microbatch_size": 5},
    "random": {"strategy": "random", "fraction": 0.4, "ema_decay": 0.9},
    "adaptive-random": {"strategy": "adaptive-random", "fraction": 0.4, "select_every": 2},
    "rs2": {"strategy": "rs2", "fraction": 0.3, "balance": "class"},
    "rs2-trusted": {"strategy": "rs2", "fraction": 0.3, "mislabelled": "drop", "select_every": 2},
    "rs2-cleaned": {"strategy": "rs2", "fraction": 0.3, "drop_noisy": True, "drop_redundant": True},
    "glister": {"strategy": "glister", "fraction": 0.3, "select_every": 2, "candidates_per_pick": 2},
    "gradmatch": {"strategy": "gradmatch", "fraction": 0.4, "select_every": 2, "warm_fraction": 0.5},
    "forgetting": {"strategy": "forgetting", "fraction": 0.4, "select_every": 2, "mislabelled": "drop"},
    "infobatch": {"strategy": "infobatch", "final_share": 0.25},
    "loss-filter": {"strategy": "loss-filter", "fraction": 0.3},
    "rho-loss": {"strategy": "rho-loss", "fraction": 0.3, "validation_fraction": 0.3, "warm_fraction": 0.5},
    "rs2 of images": {**_IMAGES, "strategy": "rs2", "fraction": 0.4, "test_time_flip": True},
    "loss-filter of images": {**_IMAGES, "strategy": "loss-filter", "fraction": 0.4},
    "rs2 of texts": {"data": "texts", "strategy": "rs2", "fraction": 0.4, "learning_rate": 0.05},
}
RESUMED = ("glister", "infobatch", "rho-loss")
"""Of these there is a checkpoint from within an epoch."""


def channels(base: Path, data: str) -> None:
    """Write the channels into a base directory."""
    training = base / "input" / "data" / "training"
    training.mkdir(parents=True)
    draw = np.random.default_rng(0)
    if data == "table":
        (training / "table.csv").write_bytes((FILES / "table.csv").read_bytes())
    elif data == "texts":
        words = [["rain", "sun", "wind"], ["bread", "soup", "salt"]]
        rows = [(kind, words[kind][n % 3], n) for kind in (0, 1) for n in range(30)]
        lines = ["label,text", *(f"{kind},today {word} and then {n} more" for kind, word, n in rows)]
        (training / "texts.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        for number in range(60):
            pixels = draw.integers(128, size=(8, 8, 3)) + 60 * (number % 3)
            path = training / str(number % 3) / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)


def run(base: Path, case: str, train: Callable[[Any, Any], None], **more: Any) -> dict[str, Any]:
    """Train, and return what must stay the same.

    Args:
        base: an empty base directory; channels and checkpoints that are there are used.
        train: the job, from the contract and the hyperparameters on.
        more: further hyperparameters.
    """
    from subset_trainer import contract
    from subset_trainer.config import parse

    values: dict[str, Any] = {**_USUAL, **CASES[case], **more}
    data = values.pop("data", "table")
    if not (base / "input").exists():
        channels(base, data)
    names = sorted(path.name for path in (base / "input" / "data").iterdir())
    (base / "input" / "config").mkdir(exist_ok=True)
    for name, content in {
        "hyperparameters": {name: str(value) for name, value in values.items()},
        "inputdataconfig": {name: {"TrainingInputMode": "File"} for name in names},
        "resourceconfig": {"current_host": "localhost", "hosts": ["localhost"]},
    }.items():
        (base / "input" / "config" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    job = contract.read()
    train(job, parse(job.hyperparameters))
    return results(base)


def results(base: Path) -> dict[str, Any]:
    output = base / "output" / "data"
    lines = (output / "history.jsonl").read_text(encoding="utf-8").splitlines()
    subsets = {}
    for path in sorted((output / "subsets").glob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            subsets[path.stem] = file["indices"].tolist()
    return {"history": [_without_seconds(json.loads(line)) for line in lines], "subsets": subsets}


def _without_seconds(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if "seconds" not in name}

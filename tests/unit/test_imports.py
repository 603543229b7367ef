"""Imports run one way; and since they are most of the time to a job's first step, a job imports what it uses."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import subset_trainer

STEP = """
import sys
import torch
from subset_trainer import models
from subset_trainer.config import Hyperparameters
from subset_trainer import job
from subset_trainer.training import devices, loop, optimizer
machine = devices.prepare("cpu", "float32", images=True)
classifier = models.build(sys.argv[1], (3, 8, 8), 3, (0.5,) * 3, (0.25,) * 3)
updates = optimizer.make(classifier, Hyperparameters(), 0.1)
classifier(torch.zeros(4, 3, 8, 8, dtype=torch.uint8)).sum().backward()
updates.step()
print(sorted(set(sys.argv[2:]) & set(sys.modules)))
"""
SERVED = """
import sys
import numpy as np
import torch
import uvicorn
from subset_trainer.data import ImageKind
from subset_trainer.models import build
from subset_trainer.serving import app, predictor, requests, server, settings
from subset_trainer.artifacts import TrainedModel
like = ImageKind(("a", "b"), (8, 8), (0.5,) * 3, (0.25,) * 3)
model = TrainedModel(build("cnn", (3, 8, 8), 2, like.mean, like.std).eval(), like, {})
ready = predictor.Predictor(model, torch.device("cpu"))
app.application(ready, settings.Settings())
ready.probabilities([np.zeros((1, 3, 8, 8), np.uint8)])
print(sorted(set(sys.argv[1:]) & set(sys.modules)))
"""
HEAVY = (
    *("pandas", "sklearn", "scipy", "matplotlib", "sympy", "numba", "cords", "boto3", "sagemaker_training"),
    *("torchvision", "torch._dynamo", "torch._inductor", "triton", "torch.utils.tensorboard"),
    *(
        "tensorboard",
        "mlflow",
        "pyarrow",
        "cleanlab",
        "captum",
        "skimage",
        "transformers",
        "tokenizers",
        "jinja2",
    ),
)
SERVER = ("starlette", "uvicorn", "anyio")


@pytest.mark.parametrize("model", ["cnn", "resnet18"])
def test_a_first_step_takes_nothing_heavy_but_torch(model: str) -> None:
    output = subprocess.run(
        [sys.executable, "-c", STEP, model, *HEAVY, *SERVER],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert output.stdout.strip() == "[]"


def test_a_first_answer_takes_nothing_heavy_but_torch() -> None:
    output = subprocess.run(
        [sys.executable, "-c", SERVED, *HEAVY], capture_output=True, text=True, check=True, timeout=120
    )
    assert output.stdout.strip() == "[]"


LAYERS = (
    *("errors", "contract", "config", "objectives", "data", "models", "artifacts", "pretrained"),
    *("training", "insight", "job"),
)
"""Packages and modules of the trainer, the lower ones first; tracking and pages stand beside them."""


def imports(path: Path) -> set[str]:
    """What a module imports of the trainer when it is loaded, by package."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(name.split(".")[1] for name in names if name.startswith("subset_trainer."))
        if not isinstance(node, ast.FunctionDef):
            waiting.extend(ast.iter_child_nodes(node))
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_run_one_way(layer: str) -> None:
    place = Path(subset_trainer.__file__).parent / layer
    modules = list(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    assert modules
    above = set(LAYERS[LAYERS.index(layer) + 1 :]) | {"entrypoint", "worker", "serving"}
    assert {path.name: upward for path in modules if (upward := imports(path) & above)} == {}

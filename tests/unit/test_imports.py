"""Importing is most of the time to a job's first step: what a job does not use, it does not import."""

import subprocess
import sys

import pytest

STEP = """
import sys
import torch
from subset_trainer import models
from subset_trainer.hyperparameters import Hyperparameters
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

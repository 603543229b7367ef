"""What commit f7d9a11 wrote is read, and what it computed is computed still.

The folder ``tests/files/f7d9a11`` was written by that commit, with the runs of ``tests/golden.py``.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
import torch

from deploy.results import compare
from subset_trainer import job, models
from subset_trainer.serving.app import application
from subset_trainer.serving.predictor import Predictor
from subset_trainer.serving.settings import Settings
from subset_trainer.training.parallel.ranks import Ranks
from tests import golden

HISTORIES: dict[str, Any] = json.loads((golden.FILES / "histories.json").read_text(encoding="utf-8"))
BLIND = ("full", "random", "adaptive-random", "rs2", "rs2 of images", "rs2 of texts")
"""Their strategies do not look at the model."""
RELATIVE = 1e-4


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    monkeypatch.setattr(models, "MLP_WIDTH", golden.WIDTH)
    threads, processors = torch.get_num_threads(), os.sched_getaffinity(0)
    # A run takes as many threads as there are processors, which so small ones only make slower.
    os.sched_setaffinity(0, {min(processors)})
    yield tmp_path
    os.sched_setaffinity(0, processors)
    torch.set_num_threads(threads)


def run(base: Path, case: str, **more: Any) -> dict[str, Any]:
    return golden.run(base, case, lambda contract, hp: job.run(contract, hp, Ranks()), **more)


def check(case: str, found: dict[str, Any]) -> None:
    """Losses nearly, since another processor adds in another order; what was chosen exactly, where no loss decides."""
    expected = HISTORIES[case]
    assert len(found["history"]) == len(expected["history"])
    for ours, theirs in zip(found["history"], expected["history"], strict=True):
        assert theirs.keys() <= ours.keys()
        for name, value in theirs.items():
            exact = name in ("epoch", "samples:visited", "subset_size")
            assert ours[name] == (value if exact else pytest.approx(value, rel=RELATIVE)), name
    chosen = {name: len(indices) for name, indices in expected["subsets"].items()}
    assert {name: len(indices) for name, indices in found["subsets"].items()} == chosen
    if case in BLIND:
        assert found["subsets"] == expected["subsets"]


@pytest.mark.parametrize("case", golden.CASES)
def test_a_run_of_every_shape_has_the_history_that_it_had(case: str, base: Path) -> None:
    check(case, run(base, case))


@pytest.mark.parametrize("case", golden.RESUMED)
def test_a_checkpoint_from_within_an_epoch_is_resumed_to_its_end(
    case: str, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(golden.FILES / "checkpoints" / case, base / "checkpoints")
    with caplog.at_level("INFO"):
        found = run(base, case)
    assert "2 of 4 epochs are done (epoch 3, step " in caplog.text or "2 of 3 epochs" in caplog.text
    check(case, found)


def test_a_model_answers_as_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MLP_WIDTH", golden.WIDTH)
    headers = [(b"content-type", b"text/csv"), (b"accept", b"application/json")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/invocations",
        "headers": headers,
        "query_string": b"",
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"0.1,0.2,0.3,0.4\n2.5,2.2,2.9,1.9\n1.0,1.4,,1.1\n"}

    async def send(message: Any) -> None:
        sent.append(message)

    anyio.run(application(Predictor.load(golden.FILES / "model"), Settings.read({})), scope, receive, send)
    assert sent[0]["status"] == 200
    answers = [one["probabilities"] for one in json.loads(sent[1]["body"])["predictions"]]
    expected = [
        [0.3717153, 0.34132, 0.2869647],
        [0.411795, 0.2752509, 0.3129542],
        [0.3832801, 0.3052933, 0.3114266],
    ]
    np.testing.assert_allclose(answers, expected, rtol=RELATIVE)


def test_a_folder_of_results_is_compared() -> None:
    (row,) = compare.rows([compare.read_run(golden.FILES)])
    assert (row.strategy, row.epochs, row.samples_visited) == ("rs2", 4, 104)
    assert row.validation_accuracy == pytest.approx(HISTORIES["rs2"]["history"][-1]["validation:accuracy"])

"""A script of one's own with the library's loader, killed again and again, ends as if it had not been."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import json, os, sys, time
from pathlib import Path
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset
from subset_selection import SubsetLoader

folder, strategy = Path(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
torch.manual_seed(0)
labels = torch.arange(300) % 3
inputs = torch.randn(300, 6) + labels[:, None]
model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
options = {} if strategy == "infobatch" else {"fraction": 0.4, "select_every": 3}
loader = SubsetLoader(
    TensorDataset(inputs, labels), model, validation=TensorDataset(inputs[:60], labels[:60]), strategy=strategy,
    batch_size=16, **options,
)
parts = {"model": model, "optimizer": optimizer, "loader": loader}
seen = []
if (folder / "saved.pt").exists():
    saved = torch.load(folder / "saved.pt", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    seen = saved["seen"]
while loader.epoch < 12:
    for rows, classes, weights in loader:
        model.train()
        losses = cross_entropy(model(rows), classes, reduction="none")
        optimizer.zero_grad()
        (losses @ weights / weights.sum()).backward()
        optimizer.step()
        loader.observe(losses)
        seen.append([rows[:, 0].tolist(), weights.tolist()])
        torch.save({"seen": seen, **{name: part.state_dict() for name, part in parts.items()}}, folder / "new.pt")
        os.replace(folder / "new.pt", folder / "saved.pt")
        print(len(seen), flush=True)
        time.sleep(0.01)
weights = {name: value.tolist() for name, value in model.state_dict().items()}
(folder / "end.json").write_text(json.dumps([seen, weights]))
"""
KILLS = 30 if "SOAK_MINUTES" in os.environ else 3


def run(folder: Path, strategy: str, kills: int) -> str:
    folder.mkdir()
    draw = random.Random(strategy)
    for killed in range(kills + 1):
        command = [sys.executable, "-c", SCRIPT, str(folder), strategy]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            if killed < kills and process.stdout.readline():  # it has begun to train
                time.sleep(draw.uniform(0, 0.3))
                process.send_signal(signal.SIGKILL)
            for _ in process.stdout:
                pass
            if process.wait() == 0:
                break
            assert process.returncode == -signal.SIGKILL
    return (folder / "end.json").read_text()


@pytest.mark.parametrize("strategy", ["glister", "infobatch"])
def test_a_script_that_is_killed_goes_on_with_the_same_subsets(strategy: str, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", strategy, 0)
    assert run(tmp_path / "killed", strategy, KILLS) == whole

"""The example of the library's README as a script that runs."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "container_src/subset_selection"
DATA = """
import torch
from torch.utils.data import TensorDataset
labels = torch.randint(5, (2_400,), generator=torch.Generator().manual_seed(0))
inputs = torch.randn(2_400, 8, generator=torch.Generator().manual_seed(1))
inputs += 3 * torch.nn.functional.one_hot(labels, 8)
torch.manual_seed(0)
train_set = TensorDataset(inputs[:2_000], labels[:2_000])
validation_set = TensorDataset(inputs[2_000:], labels[2_000:])
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 5))
"""
ANSWER = """
held_out, classes = validation_set.tensors
right = (model(held_out).argmax(1) == classes).float().mean()
print(loader.last_selection.epoch, bool(right > 0.9), len(subset.indices), "numpy" in sys.modules)
"""


def readme_script() -> str:
    """It prints the epoch of the last selection, whether the model has learned, the size of a subset that was selected
    by hand, and whether NumPy was imported."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    loop, below = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return f"import sys\n{DATA}\n{loop}\n{below}\n{ANSWER}"

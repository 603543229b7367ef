"""The selection library stands alone: what it imports, and that its README's example runs."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

from subset_selection import Subset

PROJECT = Path(__file__).parents[2] / "container_src/subset_selection"
SOURCES = sorted((PROJECT / "subset_selection").rglob("*.py"))
EXTRAS = {
    "cords": {"numpy"},
    "hf": {"accelerate", "transformers"},
    "lightning": {"lightning"},
}
"""Modules and packages that an extra of the same name installs something for."""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_it_imports_torch_and_nothing_else_but_what_an_extra_installs(path: Path) -> None:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level and node.module
            modules.add(node.module.partition(".")[0])
    place = path.relative_to(PROJECT / "subset_selection").parts[0].removesuffix(".py")
    allowed = {"torch", "subset_selection"} | EXTRAS.get(place, set())
    assert modules - sys.stdlib_module_names <= allowed


def test_the_extras_install_what_their_modules_import() -> None:
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {
        extra: {re.split(r"\W", requirement)[0] for requirement in requirements}
        for extra, requirements in declared["optional-dependencies"].items()
    }
    assert extras == EXTRAS
    assert [re.split(r"\W", requirement)[0] for requirement in declared["dependencies"]] == ["torch"]


def test_it_imports_fast() -> None:
    """Beyond torch's own time, which it does not add to."""
    code = (
        "import time, torch, torch.utils.data; begun = time.process_time(); import subset_selection as ss; "
        "ss.SubsetLoader, ss.SubsetSampler, ss.embed, ss.create; print(time.process_time() - begun)"
    )
    seconds = []
    for _ in range(3):
        output = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
        )
        seconds.append(float(output.stdout))
    assert min(seconds) <= 0.2


def test_the_catalogue_is_read_without_torch() -> None:
    code = "import sys, subset_selection; subset_selection.CATALOGUE; print('torch' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert output.stdout.strip() == "False"


def test_the_readme_s_examples_run_and_learn() -> None:
    loop, below = re.findall(
        r"```python\n(.*?)```", (PROJECT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (2_400,), generator=draw)
    inputs = torch.randn(2_400, 8, generator=draw) + 3 * torch.nn.functional.one_hot(labels, 8)
    torch.manual_seed(0)
    names: dict[str, Any] = {
        "train_set": TensorDataset(inputs[:2_000], labels[:2_000]),
        "validation_set": TensorDataset(inputs[2_000:], labels[2_000:]),
        "model": torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 5)),
    }
    exec(loop, names)
    assert names["loader"].last_selection.epoch == 26 and len(names["loader"]) == 5
    right = names["model"](inputs[2_000:]).argmax(1) == labels[2_000:]
    assert right.float().mean() > 0.9
    exec(below, names)
    assert len(list(names["own_loader"])) == 2
    subset = names["subset"]
    assert isinstance(subset, Subset)
    assert subset.indices.shape == subset.weights.shape == (1_000,)
    assert subset.indices.dtype == torch.int64 and subset.weights.dtype == torch.float32

"""The selection library stands alone: what it imports, and that its README's example runs."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from subset_selection import Subset
from tests.unit.reference import pool

PROJECT = Path(__file__).parents[2] / "container_src/subset_selection"
SOURCES = sorted((PROJECT / "subset_selection").rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_it_imports_torch_and_nothing_else(path: Path) -> None:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level and node.module
            modules.add(node.module.partition(".")[0])
    assert modules - sys.stdlib_module_names <= {"torch", "subset_selection"}


def test_the_catalogue_is_read_without_torch() -> None:
    code = "import sys, subset_selection; subset_selection.CATALOGUE; print('torch' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert output.stdout.strip() == "False"


def test_the_readme_s_example_runs() -> None:
    (code,) = re.findall(
        r"```python\n(.*?)```", (PROJECT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    train, validation = pool(2_000, 5, 8), pool(200, 5, 8, seed=1)
    names: dict[str, Any] = {"labels": train.labels, "logits": train.logits, "features": train.features}
    names |= {
        "val_labels": validation.labels,
        "val_logits": validation.logits,
        "val_features": validation.features,
    }
    exec(code, names)
    subset = names["subset"]
    assert isinstance(subset, Subset)
    assert subset.indices.shape == subset.weights.shape == (1_000,)
    assert subset.indices.dtype == torch.int64 and subset.weights.dtype == torch.float32

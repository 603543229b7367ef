"""The selection library stands alone: what it imports, and what its extras install."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

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


def test_the_catalogue_is_read_without_torch() -> None:
    code = "import sys, subset_selection; subset_selection.CATALOGUE; print('torch' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert output.stdout.strip() == "False"

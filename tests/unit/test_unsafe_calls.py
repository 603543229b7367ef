"""No code of a user's file runs: whatever could run it is called in its restricted form only, or not at all."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for folder in ("subset_selection/subset_selection", "subset_trainer")
    for path in (ROOT / "container_src" / folder).rglob("*.py")
)
REQUIRED = {
    # call → the keyword that makes it safe, with its only safe value
    "torch.load": ("weights_only", True),
    "numpy.load": ("allow_pickle", False),
}
REFUSED = (
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "_pickle", "dill", "cloudpickle", "joblib"),
    *("marshal", "shelve", "yaml", "runpy", "shutil.unpack_archive", "xml"),
    *(
        "torch.hub",
        "torch.jit.load",
        "torch.package",
        "torch.serialization.load",
        "torch.utils.cpp_extension",
    ),
    *("pandas.read_pickle", "pandas.eval", "numpy.lib.format.read_array"),
)
METHODS = ("extract", "extractall")
"""Refused on whatever object: of an archive they write where its members say."""
UNPICKLER = "container_src/subset_trainer/data/formats/cifar.py"
"""Where the one subclass of an unpickler is, which knows arrays, texts and numbers only."""


def faults(source: str, file: str = "") -> list[str]:
    """What a module names that it must not, line by line."""
    tree = ast.parse(source)
    names: dict[str, str] = {}  # as it is called here → what it is
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {
                (a.asname or a.name.split(".")[0]): (a.name if a.asname else a.name.split(".")[0])
                for a in node.names
            }
        elif isinstance(node, ast.ImportFrom):
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            dotted = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Name | ast.Attribute) and (name := _dotted(node, names)):
            dotted = [name]
        else:
            continue
        call = called.get(id(node))
        if call is not None and _has(call, "shell", True):
            found.append(f"line {node.lineno}: shell=True")
        for name in dotted:
            if name in REQUIRED:
                if call is not None and not _has(call, *REQUIRED[name]):
                    found.append(f"line {node.lineno}: {name} without {'='.join(map(str, REQUIRED[name]))}")
                elif call is None and not isinstance(node, ast.Import | ast.ImportFrom):
                    found.append(f"line {node.lineno}: {name} handed on")
            elif name == "pickle._Unpickler":
                if not file.endswith(UNPICKLER) or call is not None:
                    found.append(f"line {node.lineno}: {name}")
            elif any(name == refused or name.startswith(f"{refused}.") for refused in REFUSED):
                found.append(f"line {node.lineno}: {name}")
            elif isinstance(node, ast.Attribute) and call is not None and node.attr in METHODS:
                found.append(f"line {node.lineno}: .{node.attr}()")
    return found


def _dotted(node: ast.expr, names: dict[str, str]) -> str | None:
    """What a name or attribute stands for, imports resolved; built-in names stand for themselves."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        owner = _dotted(node.value, names)
        return f"{owner}.{node.attr}" if owner else f"?.{node.attr}"
    return None


def _has(call: ast.Call, keyword: str, value: bool) -> bool:
    given = [argument.value for argument in call.keywords if argument.arg == keyword]
    return len(given) == 1 and isinstance(given[0], ast.Constant) and given[0].value is value


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_nothing_that_could_run_a_users_code_is_called(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8"), str(path)) == []


def test_the_restricted_forms_are_there_to_be_found() -> None:
    """Else the test above would look at the wrong files."""
    text = "".join(path.read_text(encoding="utf-8") for path in SOURCES)
    for call in ("torch.load(", "np.load(", "pickle._Unpickler", "load_file("):
        assert call in text


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "import torch\ntorch.load(path, weights_only=flag)",
        "import torch as t\nt.load(path)",
        "from torch import load\nload(path)",
        "from torch import load as read\nread(path)",
        "import torch\nread = torch.load\nread(path)",
        "import torch\nmap(torch.load, paths)",
        "import numpy as np\nnp.load(path)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import pickle\npickle.load(file)",
        "import pickle\npickle.loads(data)",
        "from pickle import loads",
        "import pickle\npickle.Unpickler(file).load()",
        "import pickle\npickle._Unpickler(file).load()",
        "import joblib",
        "from joblib import load",
        "import yaml\nyaml.load(text)",
        "import yaml",
        "eval(text)",
        "exec(text)",
        "import os\nos.system(text)",
        "import subprocess\nsubprocess.Popen(text, shell=True)",
        "import pandas as pd\npd.read_pickle(path)",
        "import tarfile\ntarfile.open(path).extractall()",
        "def f():\n    import torch\n    return torch.hub.load(name)",
    ],
)
def test_the_look_finds_it(source: str) -> None:
    assert faults(source)


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(path, weights_only=True)",
        "import numpy as np\nnp.load(path, allow_pickle=False)",
        "classifier.eval()",
        "import torch\nclassifier.load_state_dict(state)",
    ],
)
def test_the_look_lets_the_restricted_forms_pass(source: str) -> None:
    assert faults(source) == []

"""The pages' Python about the library, run as it stands."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

from tests.documentation import ROOT, blocks_of

HERE = "tests/unit/test_docs_python.py"


def shuffled_digits() -> tuple[torch.Tensor, torch.Tensor]:
    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
    return torch.tensor(digits.data).float()[order] / 16, torch.tensor(digits.target)[order]


def test_the_readmes_loop() -> None:
    (block,) = blocks_of(f"{HERE}::test_the_readmes_loop", "python")
    drawn = torch.Generator().manual_seed(1)
    inputs, labels = torch.randn(600, 4, generator=drawn), torch.arange(600) % 3
    seen: list[int] = []
    scope: dict[str, Any] = {
        "train_set": TensorDataset(inputs, labels),
        "validation_set": TensorDataset(inputs[:60], labels[:60]),
        "model": torch.nn.Linear(4, 3),
        "train_step": lambda inputs, labels, weights: seen.append(len(weights)),
    }
    exec(block.text, scope)
    assert sum(seen) == 30 * 180 and scope["loader"].last_selection.epoch == 26


def test_the_tutorial_s_loop_learns() -> None:
    (block,) = blocks_of(f"{HERE}::test_the_tutorial_s_loop_learns", "python")
    scope: dict[str, Any] = {}
    exec(block.text, scope)
    inputs, labels = shuffled_digits()
    body, head = scope["train"](inputs[:1200], labels[:1200], inputs[1200:1400], labels[1200:1400])
    with torch.no_grad():
        right = head(body(inputs[1400:])).argmax(1) == labels[1400:]
    assert right.float().mean() > 0.9


def test_the_plain_loop_learns_and_resumes(tmp_path: Path) -> None:
    (block,) = blocks_of(f"{HERE}::test_the_plain_loop_learns_and_resumes", "python")
    scope: dict[str, Any] = {}
    exec(block.text, scope)
    inputs, labels = shuffled_digits()
    sets = [TensorDataset(inputs[part], labels[part]) for part in (slice(1200), slice(1200, 1400))]

    def model() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))

    whole, stopped = model(), model()
    scope["train"](whole, *sets, 30, None, tmp_path / "whole.pt")
    scope["train"](stopped, *sets, 12, None, tmp_path / "stopped.pt")
    state = torch.load(tmp_path / "stopped.pt", weights_only=True)
    scope["train"](stopped := model(), *sets, 30, state, tmp_path / "resumed.pt")
    right = whole(inputs[1400:]).argmax(1) == labels[1400:]
    assert right.float().mean() > 0.9
    for one, other in zip(whole.state_dict().values(), stopped.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_the_lightning_page_s_module_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightning")
    (block,) = blocks_of(f"{HERE}::test_the_lightning_page_s_module_learns", "python")
    inputs, labels = shuffled_digits()
    sets = [TensorDataset(inputs[part], labels[part]) for part in (slice(1200), slice(1200, 1400))]
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    scope: dict[str, Any] = {"train_set": sets[0], "validation_set": sets[1], "network": network}
    monkeypatch.chdir(tmp_path)
    exec(block.text, scope)
    assert (network(inputs[1400:]).argmax(1) == labels[1400:]).float().mean() > 0.9
    assert scope["trainer"].callback_metrics["selection_seconds"] > 0
    assert scope["trainer"].callback_metrics["validation:accuracy"] > 0.9


def test_the_example_of_a_plain_loop_learns_and_resumes(tmp_path: Path) -> None:
    source = (ROOT / "examples/plain_loop.py").read_text()
    assert len(source.splitlines()) <= 40
    (tmp_path / "stopped.py").write_text(source.replace("loader.epoch, 10)", "loader.epoch, 3)"))
    (tmp_path / "whole.py").write_text(source)

    def run(script: str, saved: str) -> str:
        command = [sys.executable, script, saved]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120)
        return done.stdout

    whole = run("whole.py", "whole.pt")
    run("stopped.py", "stopped.pt")
    assert run("whole.py", "stopped.pt") == whole
    assert float(whole.removeprefix("accuracy on 1000 test examples: ").strip("%\n")) > 60
    states = [torch.load(tmp_path / name, weights_only=True)["model"] for name in ("whole.pt", "stopped.pt")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_library_installs_alone(tmp_path: Path) -> None:
    """As the tutorial says, from a copy of the checkout; its one dependency is there already."""
    (block,) = blocks_of(f"{HERE}::test_the_library_installs_alone")
    command = block.text.split()
    assert command[:2] == ["pip", "install"]
    source = tmp_path / command[2]
    shutil.copytree(
        ROOT / command[2], source, ignore=shutil.ignore_patterns("*.egg-info", "build", "__pycache__")
    )
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*pip, "--target", str(tmp_path / "site"), command[2]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "No module named pip" in done.stderr:
        pytest.skip("this environment has no pip")
    assert done.returncode == 0, done.stderr
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import subset_selection as ss; "
        "print(ss.__file__); print(any(name.startswith('subset_trainer') for name in sys.modules))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    file, trainer = output.stdout.split()
    assert file.startswith(str(tmp_path)) and trainer == "False"

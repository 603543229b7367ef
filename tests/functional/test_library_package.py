"""The library as others get it: what `make release` builds, installed where there is torch and nothing else of ours."""

import email
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.library import PROJECT, ROOT, readme_script

TOOLS = Path(sys.executable).parent
VERSION = re.findall(r'^version = "(.*)"$', (PROJECT / "pyproject.toml").read_text(encoding="utf-8"), re.M)[0]
TYPED = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from subset_selection import CATALOGUE, Pool, Selection, SubsetLoader, SubsetSampler, create, embed
from subset_selection.types import Strategy

data = TensorDataset(torch.randn(64, 3), torch.arange(64) % 4)
model = nn.Linear(3, 4)


def trained(strategy: str) -> tuple[int, float]:
    loader = SubsetLoader(data, model, strategy=strategy, fraction=0.5, validation=data, eta=0.1, num_workers=0)
    total = 0.0
    for inputs, labels, weights in loader:
        losses = nn.functional.cross_entropy(model(inputs), labels, reduction="none")
        loader.observe(losses)
        total += float(losses @ weights)
    selection: Selection | None = loader.last_selection
    return (0 if selection is None else len(selection.subset.indices)), total


def chosen(strategy: str, budget: int) -> torch.Tensor:
    pool: Pool = embed(model, DataLoader(data, batch_size=32))
    made: Strategy = create(strategy, eta=0.1)
    return made.select(pool, pool, budget, torch.Generator().manual_seed(0)).indices


sampler = SubsetSampler(data, strategy="rs2", fraction=0.25)
assert len(list(sampler)) == 16 and sampler.weights.shape == (64,)
assert trained("glister")[0] == 32 and chosen("glister", 5).shape == (5,) and "glister" in CATALOGUE
"""
WRONG = {
    "SubsetLoader(data, fraktion=0.3)": 'Unexpected keyword argument "fraktion"',
    'SubsetSampler(data, fraction="0.3")': 'has incompatible type "str"; expected "float"',
    'create("glister").select(1, 2, 3, 4)': '"select" of "Strategy" has incompatible type "int"; expected "Pool"',
    "SubsetLoader(data).last_selection.seconds": 'of "Selection | None" has no attribute "seconds"',
}
"""Line of a user's script → what mypy says of it, if it knows the package's types."""


def run(command: list[str | Path], cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        command,
        cwd=cwd,
        env={**variables, **environment},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def output(command: list[str | Path], cwd: Path) -> str:
    done = run(command, cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Repository:
    """One that holds a copy of the library as it is, committed."""

    root: Path

    @property
    def project(self) -> Path:
        return self.root / PROJECT.relative_to(ROOT)

    def git(self, *arguments: str) -> None:
        own = ["-c", "user.name=Tests", "-c", "user.email=tests@example.com", "-c", "commit.gpgsign=false"]
        output(["git", *own, *arguments], self.root)

    def release(self) -> "subprocess.CompletedProcess[str]":
        return run([self.project / "release.sh", TOOLS], self.root)


def repository(folder: Path) -> Repository:
    made = Repository(folder)
    ignored = shutil.ignore_patterns("build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(PROJECT, made.project, ignore=ignored)
    (folder / ".gitignore").write_text("dist/\n")
    made.git("init", "--quiet")
    made.git("add", ".")
    made.git("commit", "--quiet", "--message", "All")
    return made


@dataclass(frozen=True)
class Released:
    said: str
    wheel: Path
    source: Path


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    made = repository(tmp_path_factory.mktemp("released"))
    done = made.release()
    assert done.returncode == 0, done.stdout + done.stderr
    built = made.project / "dist"
    assert {path.name for path in built.iterdir()} == {
        f"subset_selection-{VERSION}-py3-none-any.whl",
        f"subset_selection-{VERSION}.tar.gz",
    }
    return Released(done.stdout, next(built.glob("*.whl")), next(built.glob("*.tar.gz")))


def test_a_release_says_what_it_built_and_how_to_upload_it(released: Released) -> None:
    assert released.said.count(": PASSED") == 2
    assert "nothing was uploaded" in released.said
    assert f"twine upload {released.wheel} {released.source}" in released.said
    assert f"git tag subset-selection-{VERSION}" in released.said


def test_the_wheel_is_small_and_holds_the_package_alone(released: Released) -> None:
    assert released.wheel.stat().st_size <= 200_000
    package = PROJECT / "subset_selection"
    with zipfile.ZipFile(released.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        about = {name.partition("/")[2] for name in wheel.namelist()} - {
            name.partition("/")[2] for name in names
        }
        metadata = email.message_from_string(
            wheel.read(f"subset_selection-{VERSION}.dist-info/METADATA").decode()
        )
        licence = wheel.read(f"subset_selection-{VERSION}.dist-info/licenses/LICENSE")
    assert names == {
        f"subset_selection/{path.relative_to(package)}" for path in package.rglob("*") if is_source(path)
    }
    assert "subset_selection/py.typed" in names
    assert about == {"METADATA", "RECORD", "WHEEL", "licenses/LICENSE", "top_level.txt"}
    assert licence == (ROOT / "LICENSE").read_bytes()
    needed = [text for text in metadata.get_all("Requires-Dist", []) if "extra ==" not in text]
    assert needed == ["torch>=2.4"] and metadata["Requires-Python"] == ">=3.11"
    assert metadata.get_payload() == (PROJECT / "README.md").read_text(encoding="utf-8")


def is_source(path: Path) -> bool:
    return path.is_file() and path.suffix in (".py", ".typed")


def test_the_source_distribution_has_what_the_wheel_is_built_from(released: Released) -> None:
    with tarfile.open(released.source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml", "subset_selection/py.typed"} <= names
    assert not any(name.startswith(("tests", "dist", "build")) for name in names)


@pytest.mark.parametrize("why", ["changed", "untracked", "tagged", "changelog"])
def test_a_release_of_what_is_not_settled_is_refused(why: str, tmp_path: Path) -> None:
    made = repository(tmp_path)
    project, changelog = made.project, made.project / "CHANGELOG.md"
    if why == "changed":
        (project / "README.md").write_text("Else")
        says = "1 files differ from the last commit, the first is container_src/subset_selection/README.md"
    elif why == "untracked":
        (project / "subset_selection/forgotten.py").write_text("")
        says = "the first is container_src/subset_selection/subset_selection/forgotten.py"
    elif why == "tagged":
        made.git("tag", f"subset-selection-{VERSION}")
        says = f"version {VERSION} has been released, as there is a tag subset-selection-{VERSION}: raise"
    else:
        changelog.write_text(changelog.read_text(encoding="utf-8").replace(f"## {VERSION}", "## 99.0", 1))
        made.git("commit", "--quiet", "--all", "--message", "Newer")
        says = f"CHANGELOG.md begins with 99.0, and the version in pyproject.toml is {VERSION}"
    done = made.release()
    assert done.returncode == 1
    assert says in done.stderr and done.stderr.count("\n") == 1
    assert not (project / "dist").exists()


def requirements(package: str) -> Iterator[importlib.metadata.Distribution]:
    """An installed package and all that it requires."""
    waiting, seen = [(package, "")], set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        found = importlib.metadata.distribution(name)
        yield found
        for text in found.requires or []:
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                waiting += [(wanted.name, each) for each in ("", *wanted.extras)]


@pytest.fixture(scope="module")
def clean(released: Released, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel and torch: its packages are links to those of the tests, and its
    metadata copies, as installers do not read links."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    for package in requirements("torch"):
        for entry in {file.parts[0] for file in package.files or []} - {"..", "__pycache__"}:
            there = Path(str(package.locate_file(entry)))
            if entry.endswith(".dist-info"):
                shutil.copytree(there, site / entry, dirs_exist_ok=True)
            elif not (site / entry).exists():
                (site / entry).symlink_to(there.resolve())
    python = folder / "bin/python"
    uv = TOOLS / "uv"
    output([uv, "pip", "install", "--offline", "--no-index", "--python", python, released.wheel], folder)
    output([uv, "pip", "check", "--python", python], folder)
    return python


def test_in_a_clean_environment_the_readme_s_example_trains(clean: Path, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(f"import sys\nassert sys.prefix == {str(clean.parents[1])!r}\n{readme_script()}")
    assert output([clean, script], tmp_path).split() == ["26", "True", "1000", "False"]


def test_beyond_torch_an_import_loads_the_package_alone(clean: Path, tmp_path: Path) -> None:
    """The names are public ones of every module but the extras'; what is imported is most of the time that it takes."""
    code = (
        "import sys, torch, torch.utils.data; before = set(sys.modules); import subset_selection as ss; "
        "[getattr(ss, name) for name in ss.__all__]; print(*sorted(set(sys.modules) - before))"
    )
    loaded = output([clean, "-c", code], tmp_path).split()
    assert "subset_selection.loader" in loaded
    foreign = [name for name in loaded if name.partition(".")[0] != "subset_selection"]
    assert [name for name in foreign if name.partition(".")[0] not in sys.stdlib_module_names] == []


def test_a_typed_script_passes_mypy_strict_and_a_wrong_one_does_not(clean: Path, tmp_path: Path) -> None:
    script, wrong = tmp_path / "typed.py", tmp_path / "wrong.py"
    script.write_text(TYPED)
    # Each in a function of its own, so that none is called.
    wrong.write_text(TYPED + "".join(f"\ndef f{n}() -> None:\n    {line}\n" for n, line in enumerate(WRONG)))
    assert output([clean, script], tmp_path) == ""
    done = run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", clean, "typed.py", "wrong.py"],
        tmp_path,
    )
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert len(errors) >= len(WRONG), done.stdout + done.stderr
    assert [line for line in errors if not line.startswith("wrong.py")] == []
    for line, message in WRONG.items():
        assert any(message in error for error in errors), (line, done.stdout)

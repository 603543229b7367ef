"""Nothing is installed from an index but what a lock names by hash, in the image and in its tools."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [
    *(
        ROOT / name
        for name in ("Dockerfile", "examples/consolidation/Dockerfile", "Makefile", "buildspec.yml")
    ),
    *sorted((ROOT / "docker").glob("*.sh")),
    ROOT / "docker/requirements/compile.sh",
    ROOT / "docker/cords/install.py",
]
LOCKS = sorted((ROOT / "docker/requirements").glob("*.txt"))
INSTALLS = re.compile(
    r"""(\bpip[0-9]?['"]?,?\s|\buv\b.*\bpip\s|-m['"]?,?\s+['"]?pip['"]?,?\s).*\b(install|wheel|download)\b"""
    r"""|^\s*install\s|\buvx\b|\buv\s+(tool|run|sync|add)\b|\bpipx\b|\beasy_install\b|\bnpm\b|\bconda\b"""
)
FETCHES = re.compile(r"\b(curl|wget)\b|^\s*ADD\s+https?:|git\s+clone|urlretrieve|urlopen")


def commands(text: str) -> list[str]:
    """Lines, continued ones joined; a call of Python's in one; comments left out."""
    text = re.sub(r"--mount=\S+", "", re.sub(r"\\\n", " ", text))
    text = re.sub(r"\[sys\.executable.*?\]", lambda match: " ".join(match[0].split()), text, flags=re.DOTALL)
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]


def unlocked(text: str) -> list[str]:
    """The commands that may install what no hash stands for."""
    bad = []
    for line in commands(text):
        for command in re.split(r"&&|;|\|\|", line):
            if FETCHES.search(command) and "apt-get install" not in command:
                # What comes from elsewhere has its digest checked by the same script.
                if "sha256sum --check" not in text:
                    bad.append(command.strip())
            elif INSTALLS.search(command) and '"$@"' not in command and "install()" not in command:
                local = "--no-index" in command or (
                    "--no-deps" in command and "--editable container_src" in command
                )
                if "--require-hashes" not in command and not local:
                    bad.append(command.strip())
    return bad


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_install_requires_hashes_or_asks_no_index(path: Path) -> None:
    prose = '"""'  # a docstring is no command
    parts = path.read_text(encoding="utf-8").split(prose)
    assert unlocked("".join(parts[::2]) if path.suffix == ".py" else prose.join(parts)) == []


@pytest.mark.parametrize(
    "command",
    [
        "RUN pip install torch",
        "RUN /opt/venv/bin/pip install \\\n    --no-cache-dir -r requirements.txt",
        "install --quiet pip-audit",
        "uv pip install torch",
        "uvx ruff",
        "uv tool run pip-audit",
        "RUN true && python -m pip install --no-deps cords",
        'subprocess.run(\n    [sys.executable, "-m", "pip", "install", "--no-deps", "cords"],\n)',
        "RUN curl https://example.org/x | sh",
        "ADD https://example.org/x /x",
        "curl --output x https://example.org/x; sh x",
    ],
)
def test_the_look_finds_what_no_hash_stands_for(command: str) -> None:
    assert unlocked(command)


def test_the_look_sees_the_installs_there_are() -> None:
    seen = {path.name for path in SCRIPTS if INSTALLS.search("\n".join(commands(path.read_text())))}
    lines = [line for path in SCRIPTS for line in commands(path.read_text()) if INSTALLS.search(line)]
    assert {"Dockerfile", "venv.sh", "install.py"} <= seen
    assert len([line for line in lines if "--require-hashes" in line]) >= 6


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_requirement_of_a_lock_has_its_version_and_hashes(lock: Path) -> None:
    text = re.sub(r"\\\n", " ", lock.read_text(encoding="utf-8"))
    requirements = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert requirements
    for line in requirements:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z0-9,-]+\])?==\S+ ", line), line
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", line), line
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", text)

"""Lays out the wheels that lie beside this file, on a machine without a package index, and checks that all is there.

    python3 FOLDER/lay_out.py SITE && . SITE/environment

It runs in the project's root, by the Python that has torch, and needs nothing else. Wheels are unpacked into SITE; the
environment puts them and the project before what the machine has, and names the commit.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

NEEDED = (
    *(
        "numpy",
        "pandas",
        "PIL",
        "pydantic",
        "safetensors",
        "pyarrow",
        "torchvision",
        "transformers",
        "tokenizers",
    ),
    *("pytest", "pytest_timeout", "hypothesis", "subset_selection", "subset_trainer.entrypoint"),
)
CORDS = ("cords_shim", "cords.utils.data.dataloader.SL.adaptive")
"""Without these some rows are not measured: what CORDS imports is too large to carry."""
TRY = """
import importlib, json, sys
why = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        why[name] = repr(error)
print(json.dumps(why))
"""
TRAIN = """#!{python}
import sys

from subset_trainer.entrypoint import main

main()
"""


def main(arguments: list[str]) -> int:
    """The exit code: 1 where a package is missing."""
    here, root = Path(__file__).resolve().parent, Path.cwd()
    site = Path(arguments[0]).resolve()
    for wheel in sorted(here.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    # Which CORDS's wheel drops there by mistake.
    shutil.rmtree(site / "examples", ignore_errors=True)
    if (here / "cords_shim.py").exists():
        shutil.copy(here / "cords_shim.py", site)
    program = site / "bin/train"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(TRAIN.format(python=sys.executable))
    program.chmod(0o755)
    paths = [site, root / "container_src", root / "container_src/subset_selection", root]
    commit = (here / "commit").read_text().strip()
    variables = {
        "PYTHONPATH": ":".join(map(str, paths)),
        "PATH": f"{program.parent}:$PATH",
        "GPU_PROOF_COMMIT": commit,
        "HF_HUB_OFFLINE": "1",
    }
    lines = [
        f"export {name}={value if '$' in value else shlex.quote(value)}" for name, value in variables.items()
    ]
    (site / "environment").write_text("\n".join(lines) + "\n")
    missing = _missing((*NEEDED, *CORDS), site)
    for name, why in missing.items():
        print(f"{name} cannot be imported: {why}")
    return 1 if missing.keys() & set(NEEDED) else 0


def _missing(names: tuple[str, ...], site: Path) -> dict[str, str]:
    """Name → why it cannot be imported in the environment."""
    environment, python = shlex.quote(str(site / "environment")), shlex.quote(sys.executable)
    program = f'. {environment}; exec {python} -c "$TRY" {" ".join(names)}'
    done = subprocess.run(
        ["/bin/sh", "-c", program],
        env={**os.environ, "TRY": TRY},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`examples/model_trainer.py`, run by the second environment's Python."""

import os
import subprocess
from pathlib import Path

from tests.mlflow_server import SDK3, skip_without_sdk3

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "model_trainer.py"
SECONDS = 300


def run_example(*arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Its working directory is an empty one; stdout and stderr are one."""
    skip_without_sdk3()
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        [str(SDK3 / "bin" / "python"), str(EXAMPLE), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": "", "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )

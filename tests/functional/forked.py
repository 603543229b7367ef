"""Runs a function of a test module in forked processes.

A fork that has not yet computed a gradient saves each process the imports. The processes have the environment that
``torchrun`` gives.
"""

import os
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]


def in_processes(module: str, function: str, folder: Path, size: int = 1) -> None:
    """Call ``function(folder)`` in this many processes that know each other. Where one fails, its error is raised."""
    command = [sys.executable, "-m", "tests.functional.forked", module, function, str(folder), str(size)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]


def _main(module: str, function: str, folder: str, size: str) -> int:
    work = getattr(import_module(module), function)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(int(size)):
        child = os.fork()
        if not child:
            known = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
            if size != "1":
                os.environ |= {name: str(value) for name, value in known.items()}
                os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            work(Path(folder))
            sys.stdout.flush()
            os._exit(0)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return max(0, *codes)


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))

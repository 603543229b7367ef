"""docker/audit.sh with stand-ins for pip-audit and docker: what it says, and its exit code."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLEAN = "exit 0"
FOUND = """while [ $# -gt 0 ]; do if [ "$1" = --output ]; then echo "torch 2.0 CVE-1" >"$2"; fi; shift; done; exit 1"""
DOWN = "echo Traceback >&2; echo 'ConnectionError: no route' >&2; exit 1"
CURRENT = "echo '0 upgraded, 0 newly installed'"
WAITING = "echo 'Inst openssl [3.0.1] (3.0.2 Debian-Security)'; echo 'Inst new (1.0 Debian)'"
OFFLINE = "echo 'E: Failed to fetch' >&2; exit 100"
ABSENT = None


@pytest.mark.parametrize(
    ("packages", "system", "code", "says"),
    [
        (CLEAN, CURRENT, 0, ["build.txt: no known vulnerabilities", "packages: none waits for an update"]),
        (FOUND, CURRENT, 1, ["build.txt: known vulnerabilities\ntorch 2.0 CVE-1"]),
        (CLEAN, WAITING, 1, ["packages: 1 wait for an update", "openssl [3.0.1] (3.0.2 Debian-Security)"]),
        (DOWN, CURRENT, 2, ["not looked at, because OSV did not answer: ConnectionError: no route"]),
        (
            CLEAN,
            OFFLINE,
            2,
            ["not looked at, because its package lists cannot be fetched: E: Failed to fetch"],
        ),
        (CLEAN, ABSENT, 2, ["not looked at, because there is no image trainer here"]),
        (DOWN, WAITING, 1, ["OSV did not answer", "1 wait for an update"]),
    ],
    ids=["clean", "packages", "system", "no OSV", "no package lists", "no image", "both"],
)
def test_what_is_found_and_what_cannot_be_looked_at(
    tmp_path: Path, packages: str, system: str | None, code: int, says: list[str]
) -> None:
    inspect = "exit 1" if system is None else "exit 0"
    programs = {
        "pip-audit": packages,
        "docker": f'if [ "$1" = image ]; then {inspect}; fi\n{system}',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "TAG": "trainer"}
    done = subprocess.run(
        [ROOT / "docker/audit.sh", tmp_path / "pip-audit", "build"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert [text for text in says if text not in done.stdout] == []

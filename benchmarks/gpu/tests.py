"""The tests that need a GPU, by their mark."""

import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from benchmarks.gpu.runner import ROOT, Context, Values, last_lines

MARK = re.compile(r"\bmark\.gpu\b")


def marked_files() -> list[Path]:
    """Those that have such tests: other files may import what a bare machine does not have."""
    return sorted(
        path for path in (ROOT / "tests").rglob("test_*.py") if MARK.search(path.read_text(encoding="utf-8"))
    )


def run(context: Context) -> Values:
    """How many passed, and what is said of those that did not."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # No conftest: what those files offer the marked tests do not need, and a bare machine cannot import it.
        options = [
            "-m",
            "gpu",
            "--noconftest",
            "-p",
            "tests.gpu",
            "-p",
            "no:cacheprovider",
            "-q",
            f"--junitxml={report}",
        ]
        files = [str(path.relative_to(ROOT)) for path in marked_files()]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *files],
            cwd=ROOT,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if not report.exists():
            raise RuntimeError("pytest left no report: " + " / ".join(last_lines(done.stdout + done.stderr)))
        cases = ElementTree.parse(report).getroot().findall(".//testcase")  # noqa: S314 - pytest has just written it
    failed = {
        f"{case.get('classname')}::{case.get('name')}": (problem.get("message") or "")[:300]
        for case in cases
        if (problem := case.find("failure")) is not None or (problem := case.find("error")) is not None
    }
    skipped = sum(case.find("skipped") is not None for case in cases)
    return {
        "tests": len(cases),
        "passed": len(cases) - skipped - len(failed),
        "skipped": skipped,
        "failed": failed,
        "exit_code": done.returncode,
    }

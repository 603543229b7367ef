"""The GPU proof: one command that measures on a GPU, in minutes, what cannot be measured on a CPU.

    python -m benchmarks.gpu_proof --data cifar10.tar.xz --json build/gpu.json       # on a machine with a GPU
    python -m benchmarks.gpu_proof --data … --json build/gpu.json --resume build/gpu.json   # go on with what is left
    python -m benchmarks.gpu_proof --dry                                             # the rehearsal, on a CPU

Its stages, in the order of their worth: the machine's ceilings; the tests that need a GPU; the loop beside the bare
and the article's; the step under CUDA graphs and compiled; selection; the article's experiment; exactness; an encoder.
`--data` is a folder, or an archive that is read as it is, with `train/<class>/<image>` and `test/<class>/<image>`: the
article's experiment needs it. Each stage runs in a process of its own and has a limit, each of its parts too. What is
found is written after every part, errors included. `--resume` takes over what a file of the same sources has settled
on the same machine. `benchmarks/gpu_tables.py` makes the tables of docs/explanation/gpu.md from a file.

For a bare machine that has Python 3.12 and torch 2.11 but no package index, `--wheels FOLDER` downloads what it needs
besides into a folder, with the data, and prints the command to run there; `--has` names packages that it has already.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.gpu import wheels
from benchmarks.gpu.runner import ROOT, Book, Plan, Values, run
from benchmarks.gpu.stages import STAGES, judge

FORMAT = 1
DRY_SLACK = 8.0
"""Other work on the processors slows a rehearsal down, and nothing in it is timed."""
COMMIT = "GPU_PROOF_COMMIT"
"""The environment variable that names the commit where there is no repository."""


def head(dry: bool) -> Values:
    """What the file records about the whole proof."""
    return {
        "format": FORMAT,
        "dry": dry,
        "commit": commit(),
        "sources": sources(),
        "written": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def commit() -> str:
    """The commit that is measured, with a plus where files differ from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get(COMMIT, "unknown")


def sources() -> str:
    """A digest of all the code that the figures depend on: a commit that changes none of it settles nothing anew."""
    digest = hashlib.sha256()
    for folder in ("container_src", "benchmarks", "deploy", "tests/unit"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    line = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_proof",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = line.add_argument
    names = [stage.name for stage in STAGES]
    add("--json", type=Path, default=Path("build/gpu.json"), metavar="FILE", help="default: build/gpu.json")
    add("--resume", type=Path, metavar="FILE", help="take over what this file has settled")
    add("--minutes", type=float, default=9.0, help="for all of it (default: 9)")
    add("--data", type=Path, metavar="PATH", help="real images, as a folder or an archive")
    add("--stages", nargs="+", choices=names, default=names, metavar="NAME", help=f"of {', '.join(names)}")
    add("--dry", action="store_true", help="the rehearsal: tiny sizes, on the CPU")
    add(
        "--wheels", type=Path, metavar="FOLDER", help="prepare what a bare machine needs, and measure nothing"
    )
    add(
        "--has", nargs="*", default=[], metavar="PACKAGE", help="with --wheels: what that machine has already"
    )
    return line


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 1 where there is no GPU to use."""
    options = parser().parse_args(arguments)
    if options.wheels:
        return wheels.prepare(options.wheels, options.has, options.data, commit())
    if options.data and not options.data.exists():
        print(f"error: --data {options.data}: there is no such file or folder", file=sys.stderr)
        return 1
    book = Book(options.json, head(options.dry), judge)
    if options.resume and options.resume.exists():
        print(book.adopt(json.loads(options.resume.read_text())), flush=True)
    # The machine is always looked at: it decides whether what is known holds.
    stages = tuple(stage for stage in STAGES if stage.name in ("machine", *options.stages))
    plan = Plan("benchmarks.gpu.stages", stages, options.minutes, options.dry, options.data)
    if options.dry:
        plan = replace(plan, slack=DRY_SLACK, jobs=2)
    usable = run(plan, book, say=lambda text: print(text, flush=True))
    for target in judge(book.stages):
        value = "" if target["value"] is None else f"{target['value']:.4g}, "
        sign = "≥" if target["at_least"] else "≤"
        print(f"{target['name']} {sign} {target['bound']:g}: {value}{target['verdict']}")
    print(f"written to {options.json}")
    if not usable:
        reason = book.stages["machine"]["parts"]["identity"].get("reason", "")
        print(f"error: {reason}; `--dry` rehearses on a CPU", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How much memory the reading of a channel takes at its peak: the figures of subset_trainer/data/room.py.

    python -m benchmarks.reading_memory FOLDER…

Each folder is a training channel. Each is read in a process of its own, whose memory before is subtracted. Linux only.
"""

import subprocess
import sys
from pathlib import Path

READ = """
import pathlib, sys
import pyarrow.csv, pyarrow.parquet, scipy.sparse, sklearn.datasets, torch
from subset_trainer.data import load_splits

def resident(which):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(which))

torch.zeros(10).sum()
pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
before = resident("VmRSS:")
found = load_splits({"training": pathlib.Path(sys.argv[1])}, memory_limit=1 << 50)
print(resident("VmHWM:") - before, len(found.train) + len(found.validation))
"""


def main() -> None:
    """Print a line for each folder."""
    print(
        "| folder | MB of files | rows | MB at the peak | bytes for each row |\n| --- | ---: | ---: | ---: | ---: |"
    )
    for folder in map(Path, sys.argv[1:]):
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        done = subprocess.run(
            [sys.executable, "-c", READ, str(folder)], stdout=subprocess.PIPE, text=True, check=True
        )
        peak, rows = map(int, done.stdout.split())
        print(f"| {folder.name} | {size / 1e6:,.1f} | {rows:,} | {peak / 1e6:,.0f} | {peak / rows:,.0f} |")


if __name__ == "__main__":
    main()

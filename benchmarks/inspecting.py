"""Seconds until `subset-trainer inspect` prints its first answer: `python -m benchmarks.inspecting FOLDER`.

FOLDER receives a CSV file of 100 MB, and 100,000 small texts and images in ten class folders.
"""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROWS, FILES, CLASSES = 20_000, 100_000, 10


def write(folder: Path) -> list[Path]:
    """Write the data unless it is there; return the three channels."""
    draw = np.random.default_rng(0)
    table = folder / "table" / "train.csv"
    if not table.exists():
        table.parent.mkdir(parents=True)
        with table.open("w", encoding="utf-8") as file:
            file.write(f"city,{','.join(f'x{n}' for n in range(8))},target\n")
            while file.tell() < 100_000_000:
                for row in draw.normal(size=(ROWS, 8)).tolist():
                    values = ",".join(f"{value:.5f}" for value in row)
                    file.write(f"{('Rome', 'Oslo', 'Bern')[int(row[0] > 0)]},{values},{int(row[1] > 0)}\n")
    for name, suffix, content in (("texts", "txt", "some words"), ("images", "png", "\x89PNG")):
        for number in range(0 if (folder / name).exists() else FILES):
            path = folder / name / f"class{number % CLASSES}" / f"{number}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content} {number}", encoding="latin-1")
    return [folder / "table", folder / "texts", folder / "images"]


def main() -> None:
    """Measure each channel from the start of the program."""
    for channel in write(Path(sys.argv[1])):
        start = time.monotonic()
        command = [sys.executable, "-m", "deploy", "inspect", str(channel)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            print(f"{channel.name}: {time.monotonic() - start:.2f} s", flush=True)
            process.terminate()


if __name__ == "__main__":
    main()

"""Time of an epoch and of a selection against the number of processes, with the same effective batch.

Runs the real `train` over generated images of CIFAR-10's size, with 1, 2, … processes on this machine. On a CPU each
process has the same number of processors for its own, so that two processes have twice the machine of one; on GPUs
each has one. Efficiency is the speedup over one process, divided by the number of processes.

With `--exchange` it measures, for a selection of generated outputs in 4 gloo processes, what they exchange and what it
takes of their memory, beside a collection of all columns on the first process; see `benchmarks/exchange.py`.

    make benchmark-scaling OPTIONS="[--processes 1,2] [--images 4000] [--model resnet18] [--repeats 3] [--json FILE]"
    make benchmark-scaling OPTIONS="--exchange 20000 [--processes 4]"
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import exchange
from benchmarks.common import Parser, processor, write_text
from deploy.grid import program
from subset_trainer.data.machine import cpu_count
from subset_trainer.errors import TrainingError, UserError

EPOCHS = 3
"""Of which the first is left out: it warms up."""


def make_images(folder: Path, count: int) -> None:
    """Random pixels in CIFAR-10's binary form, in five batches: what they show does not change how long it takes."""
    draw = np.random.default_rng(0)
    for batch in range(1, 6):
        rows = draw.integers(256, size=(count // 5, 1 + 3 * 32 * 32), dtype=np.uint8)
        rows[:, 0] %= 10
        (folder / f"data_batch_{batch}.bin").write_bytes(rows.tobytes())


def measure(folder: Path, options: argparse.Namespace, processes: int, most: int) -> dict[str, float]:
    """Seconds of an epoch, of a selection and of an evaluation, medians over the run's epochs but the first."""
    values = {
        "strategy": options.strategy,
        "fraction": options.fraction,
        "select_every": 1,
        "model": options.model,
        "epochs": EPOCHS,
        "batch_size": max(2, options.batch_size // processes),
        "learning_rate_scaling": "none",
        "processes_per_host": processes,
    }
    base = folder / f"run-{processes}"
    program.prepare(base, {"training": folder / "images"}, values)
    environment = {**os.environ, "SAGEMAKER_BASE_DIR": str(base)}
    processors = sorted(os.sched_getaffinity(0))
    each = max(1, cpu_count() // most)
    done = subprocess.run(
        [program.train_program()],
        env=environment,
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, processors[: each * processes]),
    )
    if done.returncode:
        raise UserError(f"the run with {processes} processes failed: {done.stdout.strip().splitlines()[-1]}")
    rows = [json.loads(line) for line in (base / "output/data/history.jsonl").read_text().splitlines()][1:]
    return {
        name: statistics.median(row[f"{name}:seconds"] for row in rows)
        for name in ("epoch", "selection", "evaluation")
    }


def parser() -> argparse.ArgumentParser:
    line = Parser(description=__doc__)
    line.add_argument("--processes", default=None, help="1,2,… (default: 1, 2 and as many as there are GPUs)")
    line.add_argument("--images", type=int, default=4000)
    line.add_argument("--batch-size", type=int, default=128, help="effective, of all processes together")
    line.add_argument("--model", default="resnet18")
    line.add_argument("--strategy", default="glister")
    line.add_argument("--fraction", type=float, default=0.3)
    line.add_argument("--repeats", type=int, default=3)
    line.add_argument("--json", type=Path, metavar="FILE")
    line.add_argument("--exchange", type=int, metavar="EXAMPLES", help="measure what a selection exchanges")
    return line


def main() -> None:
    options = parser().parse_args()
    if options.exchange:
        processes = int(options.processes or 4)
        print(
            f"{processor()}, {cpu_count()} processors; torch {torch.__version__}; {processes} gloo processes"
        )
        print(f"{options.exchange:,} examples, {exchange.CLASSES} classes, {exchange.FEATURES} features\n")
        print("\n".join(exchange.table(options.exchange, processes)))
        return
    gpus = torch.cuda.device_count()
    counts = sorted({1, 2, gpus} if gpus > 1 else {1, 2}) if options.processes is None else None
    counts = counts or sorted(int(count) for count in options.processes.split(","))
    if not gpus and counts[-1] > cpu_count():
        raise UserError(f"--processes {counts[-1]}: this machine has {cpu_count()} processors")
    samples: dict[int, list[dict[str, float]]] = {count: [] for count in counts}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        make_images(folder / "images", options.images)
        # In turns, so that what else the machine does falls on all of them.
        for repeat in range(options.repeats):
            for count in counts:
                samples[count].append(measure(folder, options, count, counts[-1]))
                print(
                    f"repeat {repeat + 1}, {count} processes: {samples[count][-1]}",
                    file=sys.stderr,
                    flush=True,
                )
    rows: list[dict[str, Any]] = []
    for count in counts:
        row: dict[str, Any] = {"processes": count}
        for what in ("epoch", "selection", "evaluation"):
            seconds = statistics.median(sample[what] for sample in samples[count])
            base = statistics.median(sample[what] for sample in samples[counts[0]])
            row |= {f"{what}_seconds": seconds, f"{what}_efficiency": base * counts[0] / (seconds * count)}
        rows.append(row)
    where = f"{gpus} × {torch.cuda.get_device_name()}" if gpus else f"{processor()}, {cpu_count()} processors"
    print(
        f"{where}; torch {torch.__version__}; {options.model}, {options.images} images, {options.strategy} at "
        f"{options.fraction:g}, effective batch {options.batch_size}; medians of {options.repeats}\n"
    )
    print("| processes | epoch s | efficiency | selection s | efficiency | evaluation s | efficiency |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        cells = [
            f"{row[f'{what}_seconds']:.2f} | {row[f'{what}_efficiency']:.0%}"
            for what in ("epoch", "selection", "evaluation")
        ]
        print(f"| {row['processes']} | {' | '.join(cells)} |")
    if options.json:
        write_text(options.json, json.dumps({"machine": where, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except TrainingError as error:
        sys.exit(f"error: {error}")

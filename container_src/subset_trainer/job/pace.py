"""Measures the first steps of a job without training it: `python -m subset_trainer.job.pace`.

It reads what the `train` program reads, below SAGEMAKER_BASE_DIR, and prints one line of JSON. On a CPU it takes steps
with one thread and with all of them in turn: on a busy machine, threads that wait for each other are many times slower
than one. With OMP_NUM_THREADS it keeps to that number. It writes no results.
"""

import itertools
import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator

import torch

from subset_trainer import contract
from subset_trainer.config import parse
from subset_trainer.data.machine import cpu_count
from subset_trainer.errors import TrainingError
from subset_trainer.job import build, check, embed, read
from subset_trainer.training.batches import Batch, Batches
from subset_trainer.training.interruption import Interruption
from subset_trainer.training.parallel.ranks import Ranks
from subset_trainer.training.plan import Plan
from subset_trainer.training.rounds import Choice, everything
from subset_trainer.training.trainee import Trainee

SECONDS = 0.7
"""Of a block of steps with one number of threads."""
BLOCKS = 2
"""Blocks for each number of threads, in turn: what else the machine does changes from second to second."""


def main() -> int:
    """Print the measurement; return the exit code."""
    logging.disable(logging.WARNING)
    began = time.perf_counter()
    job = contract.read()
    ranks = Ranks(Interruption())
    hp = parse(job.hyperparameters)
    check.check(job, hp, ranks)
    data = read.read(job, hp, ranks)
    built = build.build(data, ranks)
    if built.classifier.is_frozen:
        data, built = embed.embed(data, built)
    reading = time.perf_counter() - began
    plan = Plan.of(data.config, len(data.splits.train), 1)
    trainee = Trainee(built.classifier, data.config, plan, built.place, built.average)
    evaluation = _timed(lambda: trainee.evaluate(data.read.validation))
    choice = Choice(everything(plan.examples))

    def batches() -> Iterator[Batch]:
        while True:
            yield from Batches(
                choice,
                data.training,
                plan,
                built.place,
                plan.generators(),
                trainee.augmentation,
                trainee.record.visits_N,
            ).after(0)

    def step(batch: Batch) -> None:
        trainee.step(batch.augmented(trainee.augmentation), 0.0)

    trainee.classifier.train()
    chosen = "OMP_NUM_THREADS" in os.environ or built.place.device.type != "cpu"
    threads = [torch.get_num_threads()] if chosen else sorted({1, cpu_count()})
    stepping = time.perf_counter()
    seconds = _each(batches(), step, threads)
    found = {
        "reading": reading,
        "evaluation": evaluation,
        "steps": time.perf_counter() - stepping,
        "epoch": {count: own * math.ceil(plan.examples / plan.batch_size) for count, own in seconds.items()},
        "device": built.place.device.type,
        "model": data.model,
    }
    print(json.dumps(found), flush=True)
    return 0


def _each(batches: Iterator[Batch], step: Callable[[Batch], None], threads: list[int]) -> dict[int, float]:
    """Return number of threads → seconds of a step, by the faster of the blocks."""
    found: dict[int, list[float]] = {count: [] for count in threads}
    for count in itertools.chain.from_iterable([threads] * BLOCKS):
        torch.set_num_threads(count)
        step(next(batches))  # starts threads and workers, and chooses kernels
        began, steps = time.perf_counter(), 0
        while time.perf_counter() - began < SECONDS or not steps:
            step(next(batches))
            steps += 1
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        found[count].append((time.perf_counter() - began) / steps)
    return {count: min(blocks) for count, blocks in found.items()}


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TrainingError as failure:
        print(failure, file=sys.stderr)
        sys.exit(failure.exit_code)

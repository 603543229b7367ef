"""Two things timed beside each other, and the loop that loaders are compared in.

It imports torch and `subset_selection` alone, because it runs in the environment of other packages, too.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, RandomSampler

from subset_selection import SubsetLoader

RATE = 0.01


@dataclass(frozen=True)
class Taken:
    """What a run of one side took."""

    wall: float
    """Seconds on the clock."""
    cpu: float
    """Seconds of all threads of the process."""
    samples: int = 1
    """What the seconds are divided by."""


def timed(run: Callable[[], int]) -> Taken:
    """Run it once; it returns its number of samples."""
    wall, cpu = time.perf_counter(), time.process_time()
    samples = run()
    return Taken(time.perf_counter() - wall, time.process_time() - cpu, samples)


def alternating(
    one: Callable[[], Taken], other: Callable[[], Taken], pairs: int
) -> list[tuple[Taken, Taken]]:
    """Run both in turn; which is first alternates, so that a drift of the machine meets both alike."""
    found = []
    for pair in range(pairs):
        if pair % 2:
            second = other()
            found.append((one(), second))
        else:
            first = one()
            found.append((first, other()))
    return found


def summary(pairs: Sequence[tuple[Taken, Taken]]) -> dict[str, float]:
    """Medians: milliseconds per 1,000 samples of both sides, and the ratios of the first to the second in a pair, with
    the quartiles of the ratio of CPU time.

    Raises:
        ValueError: there is no pair.
    """
    if not pairs:
        raise ValueError("no pair was timed")

    def ratio(name: str) -> list[float]:
        return sorted(
            getattr(one, name) / one.samples / (getattr(other, name) / other.samples) for one, other in pairs
        )

    cpu = ratio("cpu")
    low, _, high = statistics.quantiles(cpu, n=4, method="inclusive") if len(cpu) > 1 else (cpu[0],) * 3
    return {
        "ms": statistics.median(1e6 * one.cpu / one.samples for one, _ in pairs),
        "other_ms": statistics.median(1e6 * other.cpu / other.samples for _, other in pairs),
        "wall_ratio": statistics.median(ratio("wall")),
        "ratio": statistics.median(cpu),
        "low": low,
        "high": high,
    }


class Training:
    """A small convolutional network that learns from images [B, 3, 32, 32]."""

    def __init__(self, classes: int) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 8 * 8, classes),
        )
        self._optimizer = torch.optim.SGD(self.model.parameters(), lr=RATE, momentum=0.9)

    def losses(self, inputs: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(self.model(inputs), labels, reduction="none")

    def learn(self, loss: Tensor) -> None:
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()


class Loading:
    """In the place of :class:`Training`, where loading alone is timed: the losses are random numbers."""

    def __init__(self) -> None:
        self._losses = torch.rand(1 << 14, generator=torch.Generator().manual_seed(0))
        self._at = 0

    def losses(self, inputs: Tensor, labels: Tensor) -> Tensor:
        self._at = (self._at + len(labels)) % (len(self._losses) // 2)
        return self._losses[self._at : self._at + len(labels)]


Loop = Training | Loading


def ours(loader: SubsetLoader, loop: Loop) -> int:
    """An epoch as the library's README writes it."""
    samples = 0
    for inputs, labels, _ in loader:
        losses = loop.losses(inputs, labels)
        if isinstance(loop, Training):
            loop.learn(loader.mean(losses))
        else:
            loader.observe(losses)
        samples += len(labels)
    return samples


def plain(loader: "DataLoader[Any]", loop: Loop) -> int:
    """An epoch of a loop that has no weights."""
    samples = 0
    for inputs, labels in loader:
        if isinstance(loop, Training):
            loop.learn(loop.losses(inputs, labels).mean())
        samples += len(labels)
    return samples


def shuffled(dataset: Any, count: int, batch_size: int) -> "DataLoader[Any]":
    """A plain loader of ``count`` of the data set's examples in random order, others in each epoch."""
    return DataLoader(dataset, batch_size=batch_size, sampler=RandomSampler(dataset, num_samples=count))

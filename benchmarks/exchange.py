"""What several processes exchange for a selection, and what it takes of their memory.

Beside it, in the same run, the same with a collection of all columns on the first process. The logits and features are
generated, the processes communicate by gloo. Part of `benchmarks/scaling.py`.
"""

import ctypes
import gc
import io
import pickle
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor

from subset_selection import Pool, Strategy, Subset, create
from subset_selection.distributed import select
from subset_selection.processes import Processes

STRATEGIES = ("el2n", "forgetting", "moderate", "ccs", "gradmatch", "glister", "facility-location", "herding")
CLASSES, FEATURES, FRACTION, VALIDATION = 20, 512, 0.1, 0.1
WAYS = ("collected", "now")
Result = dict[str, list[float]]
"""For each process: bytes received, bytes of memory at the peak above those before, seconds."""


class Collected:
    """A strategy as any other: its columns are collected on the first process."""

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self.needs_last_layer, self.needs_validation = strategy.needs_last_layer, strategy.needs_validation
        self.refresh = strategy.refresh

    def select(self, train: Pool, validation: Pool, budget: int, generator: torch.Generator) -> Subset:
        return self._strategy.select(train, validation, budget, generator)


def table(examples: int, processes: int) -> list[str]:
    """Measure all strategies, and return a table's rows."""
    found = measure(examples, processes)
    titles = (
        *("strategy", "received by the first, MB", "by any other"),
        *("peak memory of the first, MB", "of any other", "seconds"),
    )
    lines = [f"| {' | '.join(row)} |" for row in (titles, ["---"] * len(titles))]
    for name in STRATEGIES:
        before, now = (found[name, way] for way in WAYS)

        def pair(what: str, of: Callable[[list[float]], float], unit: float = 1e6, form: str = ".1f") -> str:
            return " → ".join(f"{of(one[what]) / unit:{form}}" for one in (before, now))  # noqa: B023

        cells = [
            f"`{name}`",
            pair("received", lambda of_all: of_all[0]),
            pair("received", lambda of_all: max(of_all[1:])),
            pair("memory", lambda of_all: of_all[0], form=".0f"),
            pair("memory", lambda of_all: max(of_all[1:]), form=".0f"),
            pair("seconds", max, unit=1, form=".2f"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def measure(examples: int, processes: int) -> dict[tuple[str, str], Result]:
    """A selection of each strategy in each way."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_work, (processes, folder, examples), nprocs=processes)
        ranks = [torch.load(Path(folder) / f"{rank}.pt") for rank in range(processes)]
    results: dict[tuple[str, str], Result] = {}
    for name in STRATEGIES:
        subsets = [rank[name, way].pop("subset") for rank in ranks for way in WAYS]
        if not all(subset == subsets[0] for subset in subsets):
            raise RuntimeError(f"{name}: the processes, or the two ways, chose different subsets")
        for way in WAYS:
            results[name, way] = {
                what: [rank[name, way][what] for rank in ranks] for what in ranks[0][name, way]
            }
    return results


def _work(rank: int, size: int, folder: str, examples: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size)
    processes = Processes.current()
    own = torch.arange(examples)[processes.share(examples)]
    guides = torch.arange(round(VALIDATION * examples))[processes.share(round(VALIDATION * examples))]
    train, guide = (_pool(own, 0), own), _pool(guides, 1)
    counter = Counter(processes)
    budget = round(FRACTION * examples)
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for name in STRATEGIES:
        for way in WAYS:
            strategy = create(name)
            validation = (guide if strategy.needs_validation else Pool(guide.labels)), guides
            given: Strategy = Collected(strategy) if way == "collected" else strategy
            gc.collect()
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            processes.everyones(None)
            counter.received = 0.0
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
            before, begun = _resident("VmRSS"), time.monotonic()
            subset = select(processes, given, train, validation, budget, torch.Generator().manual_seed(0))
            seconds = time.monotonic() - begun
            memory = _resident("VmHWM") - before
            chosen = subset.indices.tolist(), subset.weights.tolist()
            found[name, way] = {
                **{"received": counter.received, "memory": memory, "seconds": seconds},
                "subset": chosen,
            }
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def _pool(indices: Tensor, seed: int) -> Pool:
    labels = indices % CLASSES
    draw = torch.Generator().manual_seed(int(indices[0]) + seed)
    logits = torch.randn(len(indices), CLASSES, generator=draw)
    features = torch.randn(len(indices), FEATURES, generator=draw) + labels[:, None] / CLASSES
    return Pool(labels, logits, features)


def _resident(what: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(what))


class Counter:
    """Counts the bytes that this process receives from others, by wrapping torch's collectives."""

    def __init__(self, processes: Processes) -> None:
        self.received = 0.0
        self._others, self._rank = processes.size - 1, processes.rank

        def of(values: Any) -> float:
            return float(sum(value.nbytes for value in values or ()))

        self._wrap("gather", lambda values, room=None, *_: of(room) * self._others / (self._others + 1))
        self._wrap("all_gather", lambda room, *_: of(room) * self._others / (self._others + 1))
        # A ring: each process receives nearly every number twice.
        self._wrap("all_reduce", lambda values, *_: 2 * of([values]) * self._others / (self._others + 1))
        self._wrap(
            "all_to_all_single",
            lambda room, rows, coming, going: of([room]) * (1 - coming[self._rank] / max(1, sum(coming))),
        )
        self._wrap("all_gather_object", lambda answers, own, **_: _size(own) * self._others)
        self._wrap(
            "broadcast_object_list", lambda answer, *_, **__: _size(answer) * (self._rank > 0), after=True
        )

    def _wrap(self, name: str, received: Callable[..., float], after: bool = False) -> None:
        collective = getattr(dist, name)

        def counted(*values: Any, **named: Any) -> Any:
            if not after:
                self.received += received(*values, **named)
            answer = collective(*values, **named)
            if after:
                self.received += received(*values, **named)
            return answer

        setattr(dist, name, counted)


def _size(value: Any) -> float:
    with io.BytesIO() as file:
        pickle.dump(value, file)
        return float(file.tell())

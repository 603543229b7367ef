"""How long a selection takes and how much memory, beside CORDS on the same tensors.

``python benchmarks/selection.py`` without a case measures the project's targets. What each number holds:

- ``native_seconds``: from logits and features to the subset: the check for NaN, residuals, search. No forward pass.
  Each run gets a pool of its own, so that nothing is remembered. Median of ``--repeats`` after an untimed warm-up; a
  run of more than ``LONG`` seconds is not repeated (``native_runs``).
- ``cords_seconds``: one call of ``select`` of CORDS's own strategy, in eval mode, through sequential loaders, with
  ``linear_layer=True``. The model is a bare linear head over the same features, but CORDS passes over the loaders
  itself: once, where it searches everything, and once more for the labels where it searches class by class. No
  warm-up; a long run is not repeated (``cords_runs``). CORDS runs on the CPU whatever ``--device`` is.
- ``forward_seconds``: one pass over both loaders and through that head, without gradients: what of ``cords_seconds``
  is not selection.
- ``ratio``: ``cords_seconds / native_seconds``. ``ratio_without_forward``: the same with ``forward_seconds`` taken
  off CORDS's time. A target is met only by the second, which is the smaller. ``ratio_cpu``: the same as ``ratio``, of
  the processor time of all threads (``native_cpu_seconds``, ``cords_cpu_seconds``): what to read where other processes
  disturb the clock; with ``--threads 1``, so that threads that wait for each other are not counted.
- ``overlap``: share of our picks that are CORDS's too. For stochastic GLISTER from an extra, untimed run of CORDS
  that is given our candidates, where that is cheap; null where both draw their own, and per batch, where CORDS's
  batches follow the data's order and ours a random one. CRAIG is not expected to agree, because CORDS's indices
  are wrong there; nor is GRAD-MATCH, as far as CORDS stops early and fills up at random (``cords_random_picks``).
- ``peak_rss_mib``: the highest resident memory of a process that runs the native side alone, measured by the kernel
  (VmHWM, which unlike the address space counts only what was touched, and unlike ru_maxrss nothing of the parent
  process). Interpreter, torch and the tensors are in it; those alone are ``rss_before_mib``. The making of the
  tensors is not in it, unless the kernel refuses to set the mark back.

GRAD-MATCH runs with λ = 0, which is what CORDS solves on the CPU whatever its settings are.
"""

import argparse
import json
import logging
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, get_args
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import processor, synchronise, write_text
from subset_selection import CATALOGUE, Pool, Settings, create, names
from subset_selection.glister import candidate_positions
from subset_selection.settings import Greedy, Scope

LONG = 60.0
"""Seconds after which one run is enough."""
CHEAP_EXAMPLES, CHEAP_CLASSES = 5_000, 10
"""Up to here an extra run of CORDS for ``overlap`` takes seconds; of more validation examples ours draws a sample."""
ETA = 0.05
LATENT = 32
"""Dimensions in which the classes of the synthetic features lie."""
SPREAD = 0.6
"""Distance of class centres from the origin, per latent dimension, in standard deviations within a class."""
ROWS = 8_192
"""Rows of synthetic features that are made at a time."""
FIT_EXAMPLES, FIT_STEPS, FIT_RATE = 5_000, 30, 0.2

Result = TypeVar("Result")
Row = dict[str, Any]
"""One line of the table, as JSON."""
CORDS_SCOPES: dict[str | None, str] = {
    "supervised": "Supervised",
    "per-class": "PerClass",
    "per-class-per-gradient": "PerClassPerGradient",
    "per-batch": "PerBatch",
}
CORDS_GREEDY = {"stochastic": "Stochastic", "naive": "Naive", "rgreedy": "RGreedy"}
CORDS_ROUNDS = 15
ALL_SCOPES = {name: spec.choices["scope"] for name, spec in CATALOGUE.items() if "scope" in spec.choices}
GREEDIES: dict[str, tuple[Greedy, ...]] = {
    "glister": ("stochastic", "naive", "rgreedy"),
    "craig": ("auto", "stochastic", "naive"),
    "facility-location": ("auto", "stochastic", "naive"),
}
"""Whose search can be chosen."""


@dataclass(frozen=True)
class Case:
    """What is measured."""

    strategy: str = "glister"
    greedy: Greedy = "auto"
    scope: Scope | None = None
    n: int = 5_000
    classes: int = 10
    features: int = 512
    fraction: float = 0.1
    validation: int = 0
    """Validation examples; 0: n/10."""
    one_class: bool = False
    """Whether all training examples have the label 0."""

    def __post_init__(self) -> None:
        if self.scope is None:
            object.__setattr__(self, "scope", ALL_SCOPES.get(self.strategy, (None,))[0])
        if self.strategy == "glister" and self.greedy == "auto":
            object.__setattr__(self, "greedy", "stochastic")
        if not self.validation:
            object.__setattr__(self, "validation", max(1, self.n // 10))

    @property
    def budget(self) -> int:
        return max(1, round(self.fraction * self.n))


@dataclass(frozen=True)
class Target:
    """A case and what it should reach; what is None is not asked for."""

    case: Case
    ratio: float | None = None
    """``ratio_without_forward``, at least."""
    seconds: float | None = None
    """``native_seconds``, at most."""
    mib: float | None = None
    """``peak_rss_mib``, at most."""

    def judged(self, row: Row) -> Row:
        """The row with what was asked for and, where all of it was measured, whether it was met."""
        pairs = [
            (self.ratio, row["ratio_without_forward"], 1),
            (self.seconds, row["native_seconds"], -1),
            (self.mib, row["peak_rss_mib"], -1),
        ]
        asked = [(goal, value, sign) for goal, value, sign in pairs if goal is not None]
        met = None
        if asked and all(value is not None for _, value, _ in asked):
            met = all(sign * (value - goal) >= 0 for goal, value, sign in asked)
        wanted = {"target_ratio": self.ratio, "target_seconds": self.seconds, "target_mib": self.mib}
        return row | wanted | {"met": met}


TARGETS = (
    Target(Case(scope="supervised"), ratio=15),
    Target(Case(scope="supervised", classes=100), ratio=100),
    Target(Case(scope="supervised", greedy="rgreedy", n=10_000), ratio=50),
    Target(Case(scope="supervised", greedy="naive"), ratio=40),
    Target(Case("gradmatch", scope="per-class"), ratio=15),
    Target(Case("gradmatch", scope="per-class-per-gradient"), ratio=5),
    Target(Case("gradmatch-pb"), ratio=5),
    Target(Case("craig", n=2_000), ratio=100),
)
GPU_TARGETS = (
    Target(Case(scope="supervised", n=50_000), seconds=0.5),
    Target(Case("gradmatch", n=50_000), seconds=1),
    Target(Case("craig", n=50_000), seconds=1),
)
CURVE = tuple(
    Target(Case(scope="supervised", n=n, classes=1_000, validation=1_000), mib=16 * 1024)
    for n in (10_000, 100_000, 1_000_000)
)
LARGE = tuple(
    Target(Case(strategy, n=100_000, one_class=True), mib=8 * 1024)
    for strategy in ("craig", "facility-location")
)


@dataclass(frozen=True)
class Timing:
    """Seconds that one run took."""

    seconds: float
    """On the clock."""
    processor: float
    """Of all of the process's threads together."""


@dataclass(frozen=True)
class Side:
    """One of the two pools: features [N, D] of the chosen precision, labels [N] int64, logits [N, C] float32."""

    features: Tensor
    labels: Tensor
    logits: Tensor

    def pool(self) -> Pool:
        return Pool(self.labels, self.logits, self.features)

    def to(self, device: torch.device) -> "Side":
        return Side(self.features.to(device), self.labels.to(device), self.logits.to(device))

    def loader(self, batch_size: int) -> "DataLoader[tuple[Tensor, ...]]":
        """Sequential: CORDS takes positions in the loader for indices."""
        return DataLoader(TensorDataset(self.features.float(), self.labels), batch_size=batch_size)


@dataclass(frozen=True)
class Data:
    train: Side
    validation: Side
    head: "Head"


class Head(nn.Module):
    """The last layer alone, behind CORDS's protocol: features in, logits out."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, classes)

    def get_embedding_dim(self) -> int:
        return self.linear.in_features

    def forward(self, inputs: Tensor, last: bool = False, freeze: bool = False) -> Any:
        logits = self.linear(inputs)
        return (logits, inputs) if last else logits


def synthesise(case: Case, seed: int, dtype: torch.dtype = torch.float32, batch_size: int = 128) -> Data:
    """Features like those behind a network's last ReLU, and a head that has learnt a little.

    Classes are clusters that overlap, in a latent space of few dimensions; features are its rectified projections. The
    head is fitted to a sample of its own for a few steps, so that most examples have small residuals, and some large
    ones. Every class has the same number of examples, up to one.

    Args:
        case: how many of what.
        seed: the same tensors each time.
        dtype: of the features; they are rounded before logits are made of them.
        batch_size: rows for which logits are made together: the same numbers come from CORDS's forward pass.
    """
    draw = torch.Generator().manual_seed(seed)
    latent = min(LATENT, case.features)
    centres_CL = torch.randn(case.classes, latent, generator=draw) * SPREAD
    projection_LD = torch.randn(latent, case.features, generator=draw) / latent**0.5

    def features_of(labels_N: Tensor) -> Tensor:
        features_ND = torch.empty(len(labels_N), case.features, dtype=dtype)
        for start in range(0, len(labels_N), ROWS):
            labels_R = labels_N[start : start + ROWS]
            inner_RL = centres_CL[labels_R] + torch.randn(len(labels_R), latent, generator=draw)
            noise_RD = torch.randn(len(labels_R), case.features, generator=draw)
            features_ND[start : start + ROWS] = (inner_RL @ projection_LD + 0.3 * noise_RD).relu_()
        return features_ND

    def labels_of(examples: int) -> Tensor:
        return torch.randperm(examples, generator=draw) % case.classes

    head = Head(case.features, case.classes).eval()
    fit_labels = labels_of(FIT_EXAMPLES)
    _fit(head, features_of(fit_labels).float(), fit_labels)

    def side(labels_N: Tensor) -> Side:
        features_ND = features_of(labels_N)
        logits_NC = torch.empty(len(labels_N), case.classes)
        with torch.no_grad():
            for start in range(0, len(labels_N), batch_size):
                part = slice(start, start + batch_size)
                logits_NC[part] = head(features_ND[part].float())
        return Side(features_ND, labels_N, logits_NC)

    train_labels = torch.zeros(case.n, dtype=torch.int64) if case.one_class else labels_of(case.n)
    return Data(side(train_labels), side(labels_of(case.validation)), head)


def _fit(head: Head, features_ND: Tensor, labels_N: Tensor) -> None:
    """Gradient descent on all of a sample, with momentum. By hand: torch.optim brings the compiler's 100 MiB into a
    process whose memory is measured."""
    velocities = [torch.zeros_like(parameter) for parameter in head.parameters()]
    rate = FIT_RATE * head.linear.out_features / float(features_ND.square().sum(1).mean())
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    for _ in range(FIT_STEPS):
        loss = nn.functional.cross_entropy(head(features_ND), labels_N)
        gradients = torch.autograd.grad(loss, list(head.parameters()))
        with torch.no_grad():
            for parameter, velocity, gradient in zip(head.parameters(), velocities, gradients, strict=True):
                parameter.sub_(velocity.mul_(0.9).add_(gradient), alpha=rate)


def measure_native(case: Case, data: Data, repeats: int, seed: int, device: str, batch_size: int) -> Row:
    """Times and memory of our strategy; ``indices`` beside them."""
    where = torch.device(device)
    train, validation = data.train.to(where), data.validation.to(where)
    settings = Settings(scope=case.scope, greedy=case.greedy, eta=ETA, lam=0.0, batch_size=batch_size)

    def run() -> list[int]:
        strategy = create(case.strategy, settings)
        generator = torch.Generator().manual_seed(seed)
        subset = strategy.select(train.pool(), validation.pool(), case.budget, generator)
        return subset.indices.tolist()

    before = resident_mib()
    reset_peak()
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)
    timings, indices = timed(run, repeats, where, warm_up=True)
    return _medians(timings, "native") | {
        "peak_rss_mib": peak_mib(),
        "rss_before_mib": before,
        "peak_device_mib": torch.cuda.max_memory_allocated(where) / 2**20 if where.type == "cuda" else None,
        "indices": indices,
    }


def measure_cords(case: Case, data: Data, repeats: int, seed: int, batch_size: int) -> Row:
    """Times of CORDS's strategy; ``indices`` beside them. Null if it cannot run, with the reason in ``cords_note``."""
    empty = _not_run() | {"indices": None}
    if case.strategy not in ("glister", "gradmatch", "gradmatch-pb", "craig", "craig-pb"):
        return empty | {"cords_note": "CORDS has no such strategy"}
    if case.greedy == "rgreedy" and _least_picks(case, data, batch_size) < CORDS_ROUNDS:
        return empty | {"cords_note": "CORDS would not return: fewer picks than rounds"}
    forward, _ = timed(lambda: _forward(data, batch_size), repeats, warm_up=True)
    added = _RandomPicks()
    try:
        strategy = cords_strategy(case, data, batch_size, added.logger)
        parameters = data.head.state_dict()

        def run() -> list[int]:
            indices, _ = strategy.select(case.budget, parameters)
            return [int(index) for index in indices]

        with _seeded(seed):
            timings, indices = timed(run, repeats)
    except Exception as error:  # whatever CORDS trips over is a finding, and the other rows are wanted
        return empty | {"cords_note": f"CORDS failed: {type(error).__name__}: {error}"}
    return _medians(timings, "cords") | {
        "cords_note": "",
        "cords_random_picks": added.count,
        "forward_seconds": statistics.median(timing.seconds for timing in forward),
        "indices": indices,
    }


def _not_run() -> Row:
    row: Row = {"cords_seconds": None, "cords_cpu_seconds": None, "cords_runs": 0, "cords_note": ""}
    return row | {"cords_random_picks": None, "forward_seconds": None}


def _least_picks(case: Case, data: Data, batch_size: int) -> int:
    """The fewest picks of a search of CORDS's."""
    if case.scope == "per-batch":
        return -(-case.budget // batch_size)
    if case.scope == "per-class":
        sizes = torch.bincount(data.train.labels, minlength=case.classes)
        return int((sizes * case.budget / case.n).ceil().min())
    return case.budget


def _forward(data: Data, batch_size: int) -> None:
    with torch.no_grad():
        for side in (data.train, data.validation):
            for inputs, _ in side.loader(batch_size):
                data.head(inputs, last=True, freeze=True)


def cords_strategy(case: Case, data: Data, batch_size: int, logger: logging.Logger) -> Any:
    """CORDS's own strategy object for a case, on the CPU."""
    numpy_errors = np.geterr()
    from cords.selectionstrategies.SL import CRAIGStrategy, GLISTERStrategy, GradMatchStrategy

    np.seterr(
        **numpy_errors
    )  # importing CORDS makes every warning of numpy an exception, for the whole process
    loaders = (data.train.loader(batch_size), data.validation.loader(batch_size))
    common = (*loaders, data.head, nn.CrossEntropyLoss(reduction="none"))
    kind = CORDS_SCOPES[case.scope]
    if case.strategy == "glister":
        greedy = CORDS_GREEDY[case.greedy]
        return GLISTERStrategy(*common, ETA, "cpu", case.classes, True, kind, greedy, logger, r=CORDS_ROUNDS)
    if case.strategy.startswith("gradmatch"):
        return GradMatchStrategy(*common, ETA, "cpu", case.classes, True, kind, logger, lam=0, eps=1e-4)
    optimizer = "lazy" if case.greedy == "auto" else case.greedy
    return CRAIGStrategy(*common, "cpu", case.classes, True, False, kind, logger, optimizer=optimizer)


class _RandomPicks(logging.Handler):
    """Reads from CORDS's log how many picks GRAD-MATCH filled up at random in its last run."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.count: int | None = None
        self.logger = logging.Logger("cords", logging.DEBUG)  # unknown to the root: it prints nothing
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg.startswith("Random points added"):
            self.count = max(0, int(record.getMessage().split()[-1]))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """CORDS draws from the global generators, and warns about pinned memory where there is no GPU."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class SameCandidates:
    """Stands in for ``random.sample``: gives CORDS's stochastic greedy the candidates that ours draws.

    Ours draws positions among the examples that remain, and puts the last of those in the place of the picked one. What
    CORDS picked shows only in the population of its next draw, where it is missing.
    """

    def __init__(self, positions_KS: Tensor, examples: int) -> None:
        self._positions = iter(positions_KS.tolist())
        self._remaining = list(range(examples))
        self._drawn: dict[int, int] = {}

    def __call__(self, population: Sequence[int], k: int) -> list[int]:
        for index, position in self._drawn.items():
            place = bisect_left(population, index)  # CORDS keeps its population in order
            if place == len(population) or population[place] != index:
                last = self._remaining.pop()
                if position < len(self._remaining):
                    self._remaining[position] = last
                break
        self._drawn = {self._remaining[position]: position for position in next(self._positions)}
        return list(self._drawn)


def overlap(
    case: Case, data: Data, ours: Sequence[int], theirs: Sequence[int] | None, seed: int, batch_size: int
) -> float | None:
    """Share of our picks that are CORDS's too; None where a comparison would be meaningless."""
    if theirs is None or case.scope == "per-batch":
        return None
    if case.greedy == "stochastic":
        cheap = max(case.n, case.validation) <= CHEAP_EXAMPLES and case.classes <= CHEAP_CLASSES
        if case.strategy != "glister" or case.scope != "supervised" or not cheap:
            return None
        draws_KS = candidate_positions(case.n, case.budget, torch.Generator().manual_seed(seed))
        strategy = cords_strategy(case, data, batch_size, _RandomPicks().logger)
        with _seeded(seed), mock.patch.object(random, "sample", SameCandidates(draws_KS, case.n)):
            theirs, _ = strategy.select(case.budget, data.head.state_dict())
    return len(set(ours) & set(theirs)) / len(ours)


def timed(
    run: Callable[[], Result], repeats: int, device: torch.device | None = None, warm_up: bool = False
) -> tuple[list[Timing], Result]:
    """The seconds of each run, and the last run's result; a run of more than ``LONG`` seconds is not repeated."""
    timings: list[Timing] = []
    while True:
        synchronise(device)
        start, start_processor = time.perf_counter(), time.process_time()
        result = run()
        synchronise(device)
        timing = Timing(time.perf_counter() - start, time.process_time() - start_processor)
        if timing.seconds > LONG:
            return [timing], result
        if warm_up:
            warm_up = False
            continue
        timings.append(timing)
        if len(timings) == repeats:
            return timings, result


def _medians(timings: Sequence[Timing], side: str) -> Row:
    return {
        f"{side}_seconds": statistics.median(timing.seconds for timing in timings),
        f"{side}_cpu_seconds": statistics.median(timing.processor for timing in timings),
        f"{side}_runs": len(timings),
    }


def reset_peak() -> None:
    """Set the kernel's mark of the highest resident memory back to the present, where it lets us."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def resident_mib() -> float | None:
    return _status_mib("VmRSS")


def peak_mib() -> float:
    peak = _status_mib("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 if peak is None else peak


def _status_mib(name: str) -> float | None:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) / 1024
    return None


@dataclass(frozen=True)
class Options:
    """How cases are measured."""

    repeats: int = 3
    batch_size: int = 128
    seed: int = 0
    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 0
    """Of torch; 0: as it chooses."""


def measure(case: Case, options: Options, native_only: bool, here: bool) -> Row:
    """One row.

    Args:
        case: what.
        options: how.
        native_only: leave CORDS out.
        here: the native side alone runs in this process; otherwise in one of its own, for its memory.
    """
    row: Row = {field.name: getattr(case, field.name) for field in fields(case)}
    row |= {"device": options.device, "dtype": options.dtype, "threads": torch.get_num_threads()}
    cords = _not_run()
    shared: float | None = None
    if native_only and not here:
        native = _in_own_process(case, options)
    else:
        dtype = getattr(torch, options.dtype)
        data = synthesise(case, options.seed, dtype, options.batch_size)
        row["head_accuracy"] = float((data.train.logits.argmax(1) == data.train.labels).float().mean())
        native = measure_native(case, data, options.repeats, options.seed, options.device, options.batch_size)
        if not native_only:
            cords = measure_cords(case, data, options.repeats, options.seed, options.batch_size)
            shared = overlap(
                case, data, native["indices"], cords.pop("indices"), options.seed, options.batch_size
            )
            own = _in_own_process(case, replace(options, repeats=1))
            native |= {key: own[key] for key in ("peak_rss_mib", "rss_before_mib", "peak_device_mib")}
    row |= {key: value for key, value in native.items() if key != "indices"}
    row |= cords | {"ratio": None, "ratio_without_forward": None, "ratio_cpu": None, "overlap": shared}
    if row["cords_seconds"] is not None:
        row["ratio"] = row["cords_seconds"] / row["native_seconds"]
        row["ratio_without_forward"] = (row["cords_seconds"] - row["forward_seconds"]) / row["native_seconds"]
        row["ratio_cpu"] = row["cords_cpu_seconds"] / row["native_cpu_seconds"]
    return row


def _in_own_process(case: Case, options: Options) -> Row:
    """The row of the native side, measured by a fresh process."""
    arguments = ["--native-only", *_flags(case), *_flags(options)]
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "rows.json"
        command = [sys.executable, str(Path(__file__).resolve()), *arguments, "--json", str(answer)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
        row: Row = json.loads(answer.read_text())[0]
    return row


def _flags(values: Case | Options) -> list[str]:
    """The equivalent command-line options."""
    flags: list[str] = []
    for field in fields(values):
        value, name = getattr(values, field.name), "--" + field.name.replace("_", "-")
        if value is True:
            flags.append(name)
        elif value is not None and value is not False:
            flags += [name, str(value)]
    return flags


def parser() -> argparse.ArgumentParser:
    """The command line. Options of the case have no default here, which shows whether all of them are left out."""
    line = argparse.ArgumentParser(description="Selection: this project's strategies beside CORDS's")
    case = line.add_argument_group("the case; without any of these the project's targets are measured")
    case.add_argument("--strategy", choices=sorted(names("everything", "subset")))
    case.add_argument("--greedy", choices=get_args(Greedy))
    case.add_argument("--scope", choices=get_args(Scope))
    case.add_argument("--n", type=_positive, help="training examples (5000)")
    case.add_argument("--classes", type=_positive, help="(10)")
    case.add_argument("--features", type=_positive, help="(512)")
    case.add_argument("--fraction", type=_fraction, help="(0.1)")
    case.add_argument("--validation", type=_positive, help="validation examples (n/10)")
    case.add_argument("--one-class", action="store_true", default=None, help="all examples have one label")
    several = line.add_mutually_exclusive_group()
    several.add_argument(
        "--curve", action="store_true", help="GLISTER, native only, up to a million examples"
    )
    several.add_argument("--large", action="store_true", help="100,000 examples in one class, native only")
    line.add_argument("--native-only", action="store_true", help="leave CORDS out")
    line.add_argument("--repeats", type=_positive, default=Options.repeats)
    line.add_argument("--batch-size", type=_positive, default=Options.batch_size)
    line.add_argument("--seed", type=int, default=Options.seed)
    line.add_argument("--device", default=Options.device, help="where the native side runs")
    line.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="of the features")
    line.add_argument("--threads", type=int, default=Options.threads, help="of torch; 0: as it chooses")
    line.add_argument("--json", type=Path, help="write the rows there")
    return line


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return value


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"expected more than 0 and at most 1, got {text}")
    return value


def plan(arguments: argparse.Namespace) -> tuple[list[Target], Options, bool]:
    """What the command line selects: the cases, how, and whether CORDS is left out."""
    given = {
        field.name: value for field in fields(Case) if (value := getattr(arguments, field.name)) is not None
    }
    native_only, dtype = arguments.native_only, arguments.dtype or "float32"
    if given and (arguments.curve or arguments.large):
        raise SystemExit("--curve and --large have cases of their own; leave out --" + ", --".join(given))
    if given:
        case = Case(**given)
        scopes = ALL_SCOPES.get(case.strategy, (None,))
        if case.scope not in scopes:
            raise SystemExit(f"--scope {case.scope}: {case.strategy} has {', '.join(map(str, scopes))}")
        searches = GREEDIES.get(case.strategy, ("auto",))
        if case.greedy not in searches:
            raise SystemExit(f"--greedy {case.greedy}: {case.strategy} has {', '.join(searches)}")
        targets = [Target(case)]
    elif arguments.curve:
        targets, native_only, dtype = list(CURVE), True, arguments.dtype or "float16"
    elif arguments.large:
        targets, native_only = list(LARGE), True
    elif torch.device(arguments.device).type == "cuda":
        targets, native_only = list(GPU_TARGETS), True
    else:
        targets = list(TARGETS)
    names = {field.name: getattr(arguments, field.name) for field in fields(Options)}
    return targets, Options(**names | {"dtype": dtype}), native_only


COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("strategy", "strategy", ""),
    ("greedy", "greedy", ""),
    ("scope", "scope", ""),
    ("n", "n", ",d"),
    ("C", "classes", ",d"),
    ("D", "features", ",d"),
    ("fraction", "fraction", "g"),
    ("native s", "native_seconds", ".3f"),
    ("CORDS s", "cords_seconds", ".3f"),
    ("forward s", "forward_seconds", ".3f"),
    ("ratio", "ratio", ".1f"),
    ("less forward", "ratio_without_forward", ".1f"),
    ("of CPU time", "ratio_cpu", ".1f"),
    ("overlap", "overlap", ".3f"),
    ("peak MiB", "peak_rss_mib", ",.0f"),
    ("target", "target", ""),
    ("", "met", ""),
)
"""Heading, key of the row, format."""


def table(rows: Sequence[Row]) -> str:
    """The rows for reading; a dash where nothing was measured. Columns that are empty throughout are left out."""
    lines = [
        [heading for heading, _, _ in COLUMNS],
        *([_cell(row, *column[1:]) for column in COLUMNS] for row in rows),
    ]
    columns = [
        cells for cells in zip(*lines, strict=True) if any(cell not in ("–", "") for cell in cells[1:])
    ]
    widths = [max(map(len, cells)) for cells in columns]
    left = [not cells[1].replace(",", "").replace(".", "").isdigit() and cells[1] != "–" for cells in columns]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if to_left else cell.rjust(width)
            for cell, width, to_left in zip(cells, widths, left, strict=True)
        ).rstrip()
        for cells in zip(*columns, strict=True)
    )


def _cell(row: Row, key: str, form: str) -> str:
    if key == "target":
        parts = [("target_ratio", "≥ {:g}×"), ("target_seconds", "≤ {:g} s"), ("target_mib", "≤ {:,.0f} MiB")]
        return ", ".join(text.format(row[name]) for name, text in parts if row.get(name) is not None)
    value = row.get(key)
    if key == "met":
        return {True: "met", False: "missed", None: ""}[value]
    return "–" if value is None else format(value, form)


def notes(rows: Sequence[Row], repeats: int) -> list[str]:
    """What a table cannot show."""
    lines = []
    for row in rows:
        name = f"{row['strategy']} {row['scope'] or ''} {row['greedy']}, n {row['n']:,}, C {row['classes']:,}"
        if row["cords_note"]:
            lines.append(f"{name}: {row['cords_note']}")
        if row["cords_random_picks"]:
            budget = max(1, round(row["fraction"] * row["n"]))
            lines.append(f"{name}: CORDS filled {row['cords_random_picks']} of {budget} picks up at random")
        for side in ("native", "cords"):
            if 0 < row[f"{side}_runs"] < repeats:
                lines.append(f"{name}: {side.replace('cords', 'CORDS')}: one run, which took long")
    return lines


def growth(rows: Sequence[Row]) -> list[str]:
    """How the time grows with n, from one row to the next."""
    return [
        f"n {before['n']:,} → {after['n']:,}: {after['n'] / before['n']:g}× the examples, "
        f"{after['native_seconds'] / before['native_seconds']:.1f}× the time"
        for before, after in pairwise(rows)
    ]


def machine(options: Options) -> str:
    """What the figures hold for."""
    device = processor()
    if torch.device(options.device).type == "cuda":
        device = f"{torch.cuda.get_device_name(options.device)}, {device}"
    return (
        f"{device}, {len(os.sched_getaffinity(0))} CPU cores, {torch.get_num_threads()} threads, "
        f"load average {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, torch {torch.__version__}; "
        f"seed {options.seed}, median of {options.repeats}, batches of {options.batch_size}, "
        f"features in {options.dtype}"
    )


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Measure what the command line selects; prints a line when a case is done, then the table."""
    parsed = parser().parse_args(arguments)
    targets, options, native_only = plan(parsed)
    if options.threads:
        torch.set_num_threads(options.threads)
    print(machine(options), flush=True)
    rows: list[Row] = []
    for number, target in enumerate(targets, start=1):
        row = target.judged(measure(target.case, options, native_only, here=len(targets) == 1))
        rows.append(row)
        if parsed.json:
            # After each: what is measured is not lost.
            write_text(parsed.json, json.dumps(rows, indent=1) + "\n")
        if len(targets) > 1:
            print(
                f"{number} of {len(targets)}: {row['strategy']} {row['scope'] or ''}: {row['native_seconds']:.3f} s",
                flush=True,
            )
    print(table(rows), *notes(rows, options.repeats), sep="\n")
    if parsed.curve:
        print(*growth(rows), sep="\n")
    return rows


if __name__ == "__main__":
    main()

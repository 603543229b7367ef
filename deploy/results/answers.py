"""Gathers runs as rows, and judges how small a share is enough for a tolerated loss.

Two questions are answered, each by the strategies that bear on it: *train less* is about samples seen, *label or keep
less* about distinct examples. `judging` judges all candidates of both together.

The loss is one of the measure that the runs' hyperparameter `metric` names: accuracy, macro-F1, balanced accuracy or
AUC. It is one of the test set if every run has one, because some strategies choose by the validation set.
"""

import json
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean
from typing import Any

from deploy.results import judging, predictions
from deploy.results.compare import Run, reference
from deploy.results.judging import LEVEL, Candidate, Judged, State
from subset_selection.catalogue import CATALOGUE, REFERENCE, Question

QUESTIONS: Mapping[Question, tuple[str, str]] = {
    "train": ("Train less", "the samples seen"),
    "label": ("Label or keep less", "the examples"),
}
"""Question → its name, and of what a share is."""


@dataclass(frozen=True)
class Row:
    """Runs that differ in the seed alone, beside the full runs of the same seeds."""

    name: str
    """The strategy, with the hyperparameters that tell it from others of the comparison."""
    chain: str
    """What runs of all shares have in common."""
    share: float
    """Of the samples that the full runs see, or for `label`, of the distinct examples."""
    runs: Mapping[int, Run]
    """Seed → run, for the seeds of the full runs."""
    full: Mapping[int, Run]
    """Seed → full run."""

    @property
    def first(self) -> Run:
        return next(iter(self.runs.values()))

    @property
    def strategy(self) -> str:
        return str(self.first.summary["strategy"])

    @property
    def question(self) -> Question:
        spec = CATALOGUE.get(self.strategy)
        return spec.question if spec else "train"

    @property
    def time(self) -> float:
        """Total time divided by the full runs' total time, over the shared seeds."""
        whole = sum(self.full[seed].seconds for seed in self.runs)
        return sum(run.seconds for run in self.runs.values()) / whole if whole else math.nan

    def __str__(self) -> str:
        if self.strategy == REFERENCE:
            return f"`{self.name}` for {spoken_share(self.share)} of the epochs"
        spec = CATALOGUE.get(self.strategy)
        return (
            f"`{self.name}`"
            if spec and not spec.takes_fraction
            else f"`{self.name}` at {spoken_share(self.share)}"
        )


@dataclass(frozen=True)
class Answer:
    """The judged rows of a comparison."""

    metric: str
    tolerance: float
    """A share: 0.01 is a point."""
    rows: Sequence[Row]
    judged: Sequence[Judged]
    """For each row."""
    full: Mapping[int, Run]
    """Seed → full run."""
    tested: bool
    """Whether the measure is of the test set, else of the validation set."""

    def of(self, question: Question) -> list[tuple[Row, Judged]]:
        """Return the rows that bear on a question."""
        pairs = zip(self.rows, self.judged, strict=True)
        return [(row, judged) for row, judged in pairs if row.question == question]

    def values(self, runs: Mapping[int, Run]) -> dict[int, float]:
        """Return the measure of runs, a share, by their seeds."""
        return _values(runs, self.metric, self.tested)

    def best(self, question: Question) -> tuple[Row, Judged] | None:
        """Return the row that is recommended: the one of the smallest share that is enough, then of the least time."""
        good = [pair for pair in self.of(question) if pair[1].state == State.ENOUGH]
        return min(good, key=lambda pair: (pair[0].share, pair[0].time), default=None)

    def to_json(self) -> dict[str, Any]:
        """Return a form that JSON can hold. Losses are shares: 0.01 is a point."""
        return {
            "metric": self.metric,
            "tolerance": self.tolerance,
            "level": LEVEL,
            "tested": self.tested,
            "examples": self.examples,
            "candidates": [
                {
                    "question": row.question,
                    "row": row.name,
                    "strategy": row.strategy,
                    "share": row.share,
                    "seeds": sorted(row.runs),
                    "state": judged.state.value,
                    "loss": -judged.mean,
                    "loses_at_least": _number(judged.loses_at_least),
                    "loses_at_most": _number(judged.loses_at_most),
                    "time": _number(row.time),
                }
                for row, judged in zip(self.rows, self.judged, strict=True)
            ],
            "enough": {
                question: self.rows.index(best[0]) for question in QUESTIONS if (best := self.best(question))
            },
        }

    @cached_property
    def examples(self) -> int | None:
        """Number of test (or validation) examples; None if the runs do not say."""
        part = "test" if self.tested else "validation"
        found: int | None = next(iter(self.full.values())).summary.get("examples", {}).get(part)
        return found

    @property
    def seeds(self) -> tuple[int, int]:
        """The smallest and the largest number of seeds of a row."""
        counts = [judged.seeds for judged in self.judged]
        return min(counts), max(counts)


def answer(runs: Sequence[Run], tolerance: float, first_seeds: Collection[int] | None = None) -> Answer | str:
    """Judge the completed runs; return a sentence that says why if they allow no answer.

    Args:
        runs: runs with results; only completed ones are used.
        tolerance: tolerated loss, a share.
        first_seeds: the seeds of the first answer, where others were added because it left something open; see
            `judging.judge`.
    """
    # A search chose its fraction by what it saw, so it is no candidate: `verdict` quotes its own answer.
    finished = [run for run in runs if run.summary["status"] == "completed" and run.searched is None]
    data = {run.data: run.name for run in reversed(finished) if json.loads(run.data) != [None, None]}
    if len(data) > 1:
        second, first = list(data.values())[-2:]
        return (
            f"How much is enough cannot be said: the runs are of different data, first `{first}` and `{second}`, which "
            "differ in their classes or their number of test examples."
        )
    base = reference(finished)
    if base is None:
        return (
            "How much is enough cannot be said: there is no finished run on all of the data to compare with."
        )
    tested = all(run.summary.get("test") for run in finished)
    if not tested:
        finished = [run for run in finished if not run.trained_on_validation]
    metric = common_metric(finished, tested)
    if metric is None:
        named = ", ".join(sorted({run.metric for run in finished}))
        return f"How much is enough cannot be said: the runs do not share a measure (metric: {named})."
    full, rows = _rows(finished, base)
    if not rows:
        others = any(not run.is_full or run.planned_epochs != base.planned_epochs for run in finished)
        return "How much is enough cannot be said: " + (
            "no other run shares its seed with a run on all of the data."
            if others
            else "all finished runs are on all of the data."
        )
    candidates = [_candidate(row, metric, tested) for row in rows]
    judged = judging.judge(_values(full, metric, tested), candidates, tolerance, first_seeds)
    return Answer(metric, tolerance, rows, judged, full, tested)


def common_metric(runs: Sequence[Run], tested: bool) -> str | None:
    """Return the measure that all runs name and have; None if there is no such measure."""
    named = {run.metric for run in runs}
    metric = named.pop()
    return None if named or any(run.measure(metric, tested) is None for run in runs) else metric


def _rows(finished: Sequence[Run], base: Run) -> tuple[dict[int, Run], list[Row]]:
    """Return the full runs, which are those on all data that saw the most samples, and a row for each other setting of
    the hyperparameters that shares a seed with them. Shorter runs on all data are rows like any other."""
    groups: dict[str, dict[int, Run]] = defaultdict(dict)
    for run in finished:
        groups[settings_key(run)][int(run.summary.get("seed", 0))] = run
    full = groups.pop(settings_key(base))
    names = chain_names([next(iter(group.values())) for group in groups.values()])
    rows = []
    for group in groups.values():
        shared = {seed: group[seed] for seed in sorted(group.keys() & full.keys())}
        if shared:
            first = next(iter(shared.values()))
            share = _share_of(shared, full)
            rows.append(Row(names[chain_key(first)], chain_key(first), share, shared, full))
    return full, rows


def _share_of(runs: Mapping[int, Run], full: Mapping[int, Run]) -> float:
    first = next(iter(runs.values())).summary
    spec = CATALOGUE.get(first["strategy"])
    if spec and spec.question == "label":
        return float(first["fraction"])
    return mean(
        run.summary["samples_visited"] / full[seed].summary["samples_visited"] for seed, run in runs.items()
    )


def _given(run: Run) -> dict[str, Any]:
    given = {**run.hyperparameters, "strategy": run.summary["strategy"]}
    given.setdefault("epochs", run.summary["epochs"])
    given.setdefault("fraction", run.summary["fraction"])
    return {name: value for name, value in given.items() if name != "seed"}


def settings_key(run: Run) -> str:
    """Return a key of the hyperparameters without the seed."""
    given = _given(run)
    spec = CATALOGUE.get(run.summary["strategy"])
    if spec and not spec.takes_fraction:
        # Full runs ignore it. Soft pruning's own share differs from seed to seed, and is not a hyperparameter.
        del given["fraction"]
    return json.dumps(given, sort_keys=True)


def chain_key(run: Run) -> str:
    """Return a key of the hyperparameters without those that make the share."""
    given = _given(run)
    del given["fraction"]
    spec = CATALOGUE.get(run.summary["strategy"])
    if spec and not spec.takes_fraction:
        del given["epochs"]
    return json.dumps(given, sort_keys=True)


def chain_names(firsts: Sequence[Run]) -> dict[str, str]:
    """Return chain → the strategy, with the hyperparameters in which chains of the same strategy differ."""
    by_strategy: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for run in firsts:
        chain = chain_key(run)
        by_strategy[run.summary["strategy"]][chain] = json.loads(chain)
    names = {}
    for strategy, chains in by_strategy.items():
        knobs = sorted(set().union(*chains.values()))
        differing = [k for k in knobs if len({str(given.get(k)) for given in chains.values()}) > 1]
        for chain, given in chains.items():
            own = ",".join(f"{knob}={given.get(knob)}" for knob in differing)
            names[chain] = f"{strategy}:{own}" if own else strategy
    return names


def _values(runs: Mapping[int, Run], metric: str, tested: bool) -> dict[int, float]:
    return {seed: run.measure(metric, tested) or 0.0 for seed, run in runs.items()}


def _candidate(row: Row, metric: str, tested: bool) -> Candidate:
    values = _values(row.runs, metric, tested)
    own = [run.predictions for run in row.runs.values()]
    full = [row.full[seed].predictions for seed in row.runs]
    of_test = None
    if tested and None not in (*own, *full):
        of_test = predictions.of_test(metric, [p for p in own if p], [p for p in full if p])
    if of_test is not None:
        return Candidate(row.chain, row.share, values, of_test.shared, of_test.alone)
    # Without predictions the examples cannot be paired. Independent outcomes are on the safe side.
    count = row.first.summary.get("examples", {}).get("test" if tested else "validation")
    levels = (mean(values.values()), mean(_values(row.full, metric, tested).values()))
    floor = sum((level * (1 - level) + 1 / (count + 1)) / count for level in levels) if count else 0.0
    return Candidate(row.chain, row.share, values, floor=floor)


def spoken_share(share: float) -> str:
    """Say a share in percent: `30%`, `2.5%`, `0.04%`."""
    return f"{share:.0%}" if share >= 0.1 else f"{100 * share:.2g}%"


def spoken_points(tolerance: float) -> str:
    """Say an accepted loss, a share, in points: `1 point`, `2.5 points`."""
    return f"{100 * tolerance:g} point{'' if tolerance == 0.01 else 's'}"


def _number(value: float) -> float | None:
    """JSON has no infinite numbers."""
    return value if math.isfinite(value) else None

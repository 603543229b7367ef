"""Says what would settle what an answer leaves open: further seeds of a row, and about how long they take."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any

from deploy.results.answers import QUESTIONS, Answer, Row
from deploy.results.compare import Run
from deploy.results.judging import LEAST_SEEDS, Judged, State, critical_value
from subset_selection.catalogue import Question
from subset_trainer.tracking.metrics import spoken_time

MOST_SEEDS = 30
"""Seeds beyond which another tolerance, or another test set, is the better proposal."""
QUANTILE = 0.8416
"""Of the normal distribution at the power: the proposed seeds settle it in four of five cases, if the mean holds."""


@dataclass(frozen=True)
class Wanted:
    """A training run that would help. A planner can run it: on the same data, in the same place."""

    like: str
    """Name of a run that differs in the seed alone."""
    values: Mapping[str, Any]
    """Hyperparameters, `seed` included; those of the run that it is like, as that run resolved them."""
    seed: int
    seconds: float
    """Expected total time, by the runs that it is like."""


@dataclass(frozen=True)
class Settling:
    """What would settle one question: further seeds, or else a larger test set, or else another tolerance."""

    question: Question
    row: str
    """Name of the row, as in sentences."""
    share: float
    more_seeds: int
    """Further seeds that the row needs; 0 if seeds cannot settle it."""
    test_examples: int | None
    """Test examples that it takes, where more seeds cannot settle it; None if these cannot either."""
    runs: tuple[Wanted, ...]

    @property
    def seconds(self) -> float:
        """Expected total time of the runs, one after the other."""
        return sum(run.seconds for run in self.runs)

    def to_json(self) -> dict[str, Any]:
        """Return a form that JSON can hold."""
        return {**asdict(self), "runs": [asdict(run) for run in self.runs], "seconds": self.seconds}

    def __str__(self) -> str:
        if self.more_seeds:
            number = "One more seed" if self.more_seeds == 1 else f"{_number(self.more_seeds)} more seeds"
            full = ", with full runs of these seeds" if len(self.runs) > self.more_seeds else ""
            return (
                f"{number} of {self.row}{full} (about {spoken_time(self.seconds)}), would probably settle it."
            )
        if self.test_examples:
            return f"It would take about {self.test_examples:,} test examples to settle it, not more seeds."
        return (
            f"Neither {MOST_SEEDS} seeds nor a far larger test set would settle it; another --tolerance may."
        )


def settling(found: Answer) -> list[Settling]:
    """Return for each question that is open what would settle it at the least cost; questions in their order.

    A question is open if some strategy's next share could be enough, and it is smaller than what is known to be.
    """
    proposals = []
    for question in QUESTIONS:
        best = found.best(question)
        frontier = [
            (row, judged)
            for row, judged in next_in_chains(found, question)
            if judged.state == State.OPEN and (best is None or row.share < best[0].share)
        ]
        made = [_settling(found, row, judged) for row, judged in frontier]
        if made:
            proposals.append(min(made, key=_cost))
    return proposals


def runs(proposals: Iterable[Settling]) -> list[Wanted]:
    """Return the runs of all proposals, each once, by their seeds."""
    every = {json.dumps(run.values, sort_keys=True): run for one in proposals for run in one.runs}
    return sorted(every.values(), key=lambda run: run.seed)


def next_in_chains(found: Answer, question: Question) -> list[tuple[Row, Judged]]:
    """Return of each strategy that bears on the question the largest share that is not known to be enough."""
    first: dict[str, tuple[Row, Judged]] = {}
    for row, judged in sorted(found.of(question), key=lambda pair: -pair[0].share):
        if judged.state != State.ENOUGH:
            first.setdefault(row.chain, (row, judged))
    return list(first.values())


def _cost(one: Settling) -> tuple[bool, bool, float, float]:
    """What is preferred comes first: further seeds, of the least time; then the smallest test set."""
    return not one.more_seeds, one.test_examples is None, one.seconds, float(one.test_examples or 0)


def _settling(found: Answer, row: Row, judged: Judged) -> Settling:
    gap = abs(judged.mean + found.tolerance)
    wanted = _seeds(judged, gap)
    name = str(row)
    if wanted is None:
        return Settling(row.question, name, row.share, 0, _test_examples(found, judged, gap), ())
    more = wanted - judged.seeds
    # Full runs that are there are paired first.
    unpaired = [seed for seed in sorted(found.full) if seed not in row.runs]
    taken = {*found.full, *row.runs}
    new = [seed for seed in range(len(taken) + more) if seed not in taken]
    seeds = [*unpaired, *new][:more]
    planned = []
    for seed in seeds:
        planned.append(_like(list(row.runs.values()), seed))
        if seed not in found.full:
            planned.append(_like(list(found.full.values()), seed))
    return Settling(row.question, name, row.share, more, None, tuple(planned))


def _seeds(judged: Judged, gap: float) -> int | None:
    """Return the smallest number of seeds that settles it in four of five cases; None if it is above the limit."""
    if judged.seeds < LEAST_SEEDS:
        return LEAST_SEEDS
    for count in range(judged.seeds + 1, MOST_SEEDS + 1):
        expected = judged.with_seeds(count)
        if gap >= (expected.critical + QUANTILE) * expected.error:
            return count
    return None


def _test_examples(found: Answer, judged: Judged, gap: float) -> int | None:
    """Return the number of test examples that would settle it, with as many seeds; None if none would."""
    of_test = max(judged.candidate.test_variance, judged.candidate.floor)
    if not found.examples or not of_test:
        return None
    allowed = (gap / (critical_value(judged.comparisons, math.inf, judged.level) + QUANTILE)) ** 2
    # Half of the variance is left to the seeds.
    needed = found.examples * of_test / (allowed / 2) if allowed else math.inf
    if needed > 100 * found.examples:
        return None
    unit = 10 ** max(0, int(math.log10(needed)) - 1)
    return math.ceil(needed / unit) * unit


def _like(others: Sequence[Run], seed: int) -> Wanted:
    first = others[0]
    resolved = first.summary.get("hyperparameters") or {
        name: first.summary[name] for name in ("strategy", "fraction", "epochs")
    }
    values = {name: value for name, value in resolved.items() if value is not None}
    return Wanted(first.name, {**values, "seed": seed}, seed, mean(run.seconds for run in others))


def _number(count: int) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return (words[count] if count < len(words) else str(count)).capitalize()

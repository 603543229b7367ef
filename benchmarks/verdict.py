"""How often is an answer wrong, and how often is there one? Simulates comparisons whose truth is known.

    python -m benchmarks.verdict --json docs/measured/verdict.json

A study has full runs and, for each of some strategies, `SHARES`, over seeds that all have in common. The value of a run
is its truth, plus what its seed makes of it, plus what the test examples do to its strategy and share, plus what they
do to this run alone. The truth is that of further examples and seeds, so a test set of 500 is an error of its own.

Rules: `new` is `deploy.results.judging` with paired test examples, over the runs that the planner
(`deploy.grid.agenda`) takes, in its order. `settled` begins with three seeds, adds the others to what is open, as
`--settle` does, and goes on. `all` judges all runs (`--all`), and `unpaired` the same without predictions of the test
examples. `step` is the step down with a shared level and one deviation over all candidates, which knows no test set.
`each` is Student's t for each candidate alone, and `bonferroni` the same with the level divided by the number of
candidates.
"""

import itertools
import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.common import Parser, command, processor, write_text
from deploy.grid.agenda import Agenda
from deploy.grid.plan import Cell
from deploy.results.compare import Run
from deploy.results.judging import LEAST_SEEDS, LEVEL, Candidate, Judged, State, judge
from subset_selection.catalogue import REFERENCE

SHARES = (0.7, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05)
TOLERANCE = 1.0
"""In points, as everything here."""
ACCURACY = 0.9
ALONE = 0.03
"""Variance of an example's outcome between two runs that differ only in the seed: as of a network that is 90% right
and whose runs disagree on 6% of the test examples."""
COMMON = 0.0075
"""Variance over the test examples of a strategy's own probability to be right, beside what all strategies share."""
RULES = ("new", "settled", "all", "unpaired", "step", "each", "bonferroni")


@dataclass(frozen=True)
class Setting:
    """What is true in a study."""

    name: str
    losses: tuple[float, ...]
    """Of each share, in points."""
    growing: float = 0.0
    """The deviation between seeds is proportional to share ** -growing."""
    heavy: bool = False
    """Whether seeds' errors have the tails of Student's t with three degrees of freedom."""


SETTINGS = (
    Setting("just beyond the tolerance", tuple(TOLERANCE * 1.001 for _ in SHARES)),
    Setting("falling smoothly", tuple(0.1 * (0.7 / share) ** 1.5 for share in SHARES)),
    Setting("falling, deviation growing", tuple(0.1 * (0.7 / share) ** 1.5 for share in SHARES), growing=0.5),
    Setting("just beyond, deviation growing", tuple(TOLERANCE * 1.001 for _ in SHARES), growing=0.5),
    Setting("just beyond, heavy tails", tuple(TOLERANCE * 1.001 for _ in SHARES), heavy=True),
    Setting("falling, heavy tails", tuple(0.1 * (0.7 / share) ** 1.5 for share in SHARES), heavy=True),
)


@dataclass(frozen=True)
class Study:
    """A simulated study: values in points, and the variances that predictions of the test examples would show."""

    shares: np.ndarray
    """[J]"""
    truth: np.ndarray
    """[J] true losses."""
    full: np.ndarray
    """[S]"""
    values: np.ndarray
    """[J, S]"""
    of_test: np.ndarray
    """[J] estimates of the variance that more seeds do not reduce."""
    alone: np.ndarray
    """[J] estimates of the variance of the mean that the test examples cause in each run alone."""
    test_examples: int


def simulate(
    setting: Setting,
    strategies: int,
    seeds: int,
    deviation: float,
    examples: int,
    random: np.random.Generator,
) -> Study:
    """Draw one study.

    Args:
        deviation: of a run's value between seeds, in points, on an infinite test set and all data.
        examples: number of test examples.
    """
    shares = np.tile(SHARES, strategies)
    truth = np.tile(setting.losses, strategies)
    runs = (1 + len(shares), seeds)
    noise = random.standard_t(3, runs) / np.sqrt(3) if setting.heavy else random.standard_normal(runs)
    noise *= deviation * np.concatenate([[1.0], shares**-setting.growing])[:, None]
    alone = 100 * np.sqrt(ALONE / examples) * random.standard_normal(runs)
    common = 100 * np.sqrt(COMMON / examples) * random.standard_normal((runs[0], 1))
    values = 100 * ACCURACY - np.concatenate([[0.0], truth])[:, None] + noise + alone + common
    # Estimated from the examples on which two runs differ.
    discordant = max(2.0, 2 * ALONE * examples)

    def estimated(variance: float) -> np.ndarray:
        return 1e4 * variance / examples * random.chisquare(discordant, len(shares)) / discordant

    residual = estimated(2 * ALONE)
    whole = estimated(2 * COMMON + 2 * ALONE / seeds)
    return Study(
        shares,
        truth,
        values[0],
        values[1:],
        np.maximum(0.0, whole - residual / seeds),
        residual / seeds,
        examples,
    )


def smallest(rule: str, study: Study) -> int | None:
    """Return the candidate that a rule recommends: the one of the smallest share that it finds to be enough."""
    if rule in ("new", "settled"):
        good = _of_planner(study, settle=rule == "settled")
    elif rule in ("all", "unpaired"):
        good = _of_judging(study, paired=rule == "all")
    else:
        good = _of_students(rule, study)
    return min(good, key=lambda place: study.shares[place], default=None)


def _of_planner(study: Study, settle: bool) -> list[int]:
    planner = Planner(study, LEAST_SEEDS if settle else study.full.size)
    if settle:
        planner.settle()
    return [place for place, one in planner.judged().items() if one.state == State.ENOUGH]


def _of_judging(study: Study, paired: bool) -> list[int]:
    unpaired = 2 * 1e4 * ACCURACY * (1 - ACCURACY) / study.test_examples
    candidates = [
        Candidate(
            str(place // len(SHARES)),
            float(study.shares[place]),
            dict(enumerate(study.values[place])),
            *((study.of_test[place], study.alone[place]) if paired else (0.0, 0.0, unpaired)),
        )
        for place in range(len(study.shares))
    ]
    found = judge(dict(enumerate(study.full)), candidates, TOLERANCE)
    return [place for place, one in enumerate(found) if one.state == State.ENOUGH]


@cache
def _cells(strategies: int, seeds: int) -> dict[tuple[int, int], Cell]:
    """Return (place of the candidate, or -1 for the full runs; seed) → its cell, in the order of a plan."""
    places = [-1, *sorted(range(strategies * len(SHARES)), key=lambda place: place % len(SHARES))]
    return {
        (place, seed): Cell(
            f"{place}-seed-{seed}",
            REFERENCE if place < 0 else str(place // len(SHARES)),
            1.0 if place < 0 else SHARES[place % len(SHARES)],
            seed,
            {},
        )
        for seed in range(seeds)
        for place in places
    }


class Planner:
    """A study whose runs are those that the real planner takes, in its order.

    Args:
        study: all values.
        first: number of seeds that are planned at first.
    """

    def __init__(self, study: Study, first: int) -> None:
        self.study = study
        self.cells = _cells(len(study.shares) // len(SHARES), study.full.size)
        self.places = {cell.name: key for key, cell in self.cells.items()}
        self._first_seeds = range(first)
        begun = [cell for (_, seed), cell in self.cells.items() if seed < first]
        self.agenda = Agenda(begun, self._enough)
        self._work()

    def settle(self) -> None:
        """Add the further seeds of the largest share of each strategy that is open, as `--settle` does, and go on."""
        judged = self.judged()
        chains = {place // len(SHARES) for place in judged}
        opened = [
            min(
                (p for p, one in judged.items() if p // len(SHARES) == chain and one.state != State.ENOUGH),
                default=None,
            )
            for chain in chains
        ]
        places = [-1, *(p for p in opened if p is not None and judged[p].state == State.OPEN)]
        if len(places) > 1:
            more = range(len(self._first_seeds), self.study.full.size)
            self.agenda.extend([self.cells[place, seed] for seed in more for place in places])
            self._work()

    def judged(self) -> dict[int, Judged]:
        """Return candidate → how it is judged by the runs so far."""
        return self._judged([run.name for run in self.agenda.results()[0]])

    def _work(self) -> None:
        while (cell := self.agenda.take()) is not None:
            self.agenda.record(cell, Run(cell.name, {}, []))

    def _enough(self, runs: Sequence[Run]) -> set[str]:
        names = [run.name for run in runs]
        found = self._judged(names)
        return {
            name for name in names if (one := found.get(self.places[name][0])) and one.state == State.ENOUGH
        }

    def _judged(self, names: Sequence[str]) -> dict[int, Judged]:
        seeds: dict[int, list[int]] = {}
        for name in names:
            place, seed = self.places[name]
            seeds.setdefault(place, []).append(seed)
        full = {seed: float(self.study.full[seed]) for seed in seeds.pop(-1, ())}
        counted = {place: own for place, own in seeds.items() if full.keys() & set(own)}
        # The planner looks at a share once all of its seeds have ended.
        if not any(len(own) >= LEAST_SEEDS for own in counted.values()):
            return {}
        candidates = [
            Candidate(
                str(place // len(SHARES)),
                float(self.study.shares[place]),
                {seed: float(self.study.values[place, seed]) for seed in own},
                float(self.study.of_test[place]),
                float(self.study.alone[place]) * self.study.full.size / len(own),
            )
            for place, own in counted.items()
        ]
        return dict(zip(counted, judge(full, candidates, TOLERANCE, self._first_seeds), strict=True))


def _of_students(rule: str, study: Study) -> list[int]:
    from scipy.stats import t

    differences = study.values - study.full
    count, seeds = differences.shape
    strategies = count // len(SHARES)
    level = {"each": LEVEL, "bonferroni": LEVEL / count, "step": LEVEL / strategies}[rule]
    deviation, freedom = differences.std(1, ddof=1), seeds - 1
    if rule == "step":
        every = np.concatenate([study.full[None], study.values])
        residual = every - every.mean(0) - every.mean(1)[:, None] + every.mean()
        freedom = count * (seeds - 1)
        deviation = np.full(count, np.sqrt(2 * (residual**2).sum() / freedom))
    good = differences.mean(1) - t.ppf(1 - level, freedom) * deviation / np.sqrt(seeds) >= -TOLERANCE
    if rule != "step":
        return list(np.flatnonzero(good))
    chains = good.reshape(strategies, -1)
    return list(np.flatnonzero(np.logical_and.accumulate(chains, axis=1)))


def rates(
    setting: Setting, strategies: int, seeds: int, deviation: float, examples: int, studies: int, seed: int
) -> dict[str, dict[str, float]]:
    """Return for each rule how often its recommendation is wrong, how often there is a right one, and where there is,
    the mean share of right ones."""
    random = np.random.default_rng(seed)
    drawn = [simulate(setting, strategies, seeds, deviation, examples, random) for _ in range(studies)]
    found: dict[str, dict[str, float]] = {}
    for rule in RULES:
        chosen = [(study, place) for study in drawn if (place := smallest(rule, study)) is not None]
        right = [float(study.shares[place]) for study, place in chosen if study.truth[place] <= TOLERANCE]
        found[rule] = {
            "wrong": (len(chosen) - len(right)) / studies,
            "power": len(right) / studies,
        } | ({"share": mean(right)} if right else {})
    return found


GRID = {"strategies": (1, 3, 9), "seeds": (3, 5), "deviation": (0.3, 0.5, 1.0), "examples": (500, 10_000)}


def measured(studies: int, seed: int, processes: int, strategies: Sequence[int]) -> list[dict[str, Any]]:
    """Simulate every setting at the points of `GRID` with these numbers of strategies; return one row for each."""
    grid = {**GRID, "strategies": strategies}
    points = [(setting, point) for setting in SETTINGS for point in itertools.product(*grid.values())]
    with ProcessPoolExecutor(processes) as pool:
        found = pool.map(_rates, points, itertools.repeat(studies), range(seed, seed + len(points)))
        rows = []
        for (setting, point), of_rules in zip(points, found, strict=True):
            rows.append({"setting": setting.name, **dict(zip(GRID, point, strict=True)), "rules": of_rules})
            print(f"[{len(rows)}/{len(points)}] {setting.name}", file=sys.stderr, flush=True)
    return rows


def _rates(point: tuple[Setting, tuple[Any, ...]], studies: int, seed: int) -> dict[str, dict[str, float]]:
    setting, (strategies, seeds, deviation, examples) = point
    return rates(setting, strategies, seeds, deviation, examples, studies, seed)


def wrong_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return as Markdown how many answers are wrong, in percent, where no share is enough: the mean over all points of
    the grid, and the largest."""
    return _table(
        "wrong answers, %",
        [row for row in rows if _is_beyond(row)],
        ("setting", "examples"),
        lambda rates: f"{mean(rates):.1f} ({max(rates):.1f})",
        "wrong",
    )


def power_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return as Markdown how many studies find a right share, in percent, at each deviation, for three strategies."""
    return _table(
        f"right answers, %, at deviations of {', '.join(map(str, GRID['deviation']))}",
        [row for row in rows if not _is_beyond(row) and row["strategies"] == 3],
        ("setting", "examples", "seeds"),
        lambda rates: " / ".join(f"{rate:.0f}" for rate in rates),
        "power",
    )


def _is_beyond(row: Mapping[str, Any]) -> bool:
    (losses,) = [setting.losses for setting in SETTINGS if setting.name == row["setting"]]
    return min(losses) > TOLERANCE


def _table(
    title: str,
    rows: Sequence[dict[str, Any]],
    keys: Sequence[str],
    shown: Callable[[list[float]], str],
    rate: str,
) -> str:
    lines = [
        f"| {title} | " + " | ".join(f"`{rule}`" for rule in RULES) + " |",
        "| --- |" + " ---: |" * len(RULES),
    ]
    for point in dict.fromkeys(tuple(row[key] for key in keys) for row in rows):
        own = [row for row in rows if tuple(row[key] for key in keys) == point]
        setting, examples, *seeds = point
        name = f"{setting}, {examples:,} test examples" + "".join(f", {count} seeds" for count in seeds)
        cells = [shown([100 * row["rules"][rule][rate] for row in own]) for rule in RULES]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = Parser("python -m benchmarks.verdict", __doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all rates, with the versions")
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies for each row (1000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first row; each has its own (0)")
    parser.add_argument(
        "--strategies", type=int, nargs="+", default=GRID["strategies"], help="numbers of strategies (1 3 9)"
    )
    parser.add_argument("--processes", type=int, default=2, help="rows that are simulated at a time (2)")
    given = parser.parse_args(arguments)
    rows = measured(given.studies, given.seed, given.processes, given.strategies)
    print(f"{wrong_table(rows)}\n\n{power_table(rows)}")
    if given.json is not None:
        facts = {
            "command": f"python -m benchmarks.verdict --studies {given.studies} --seed {given.seed} "
            f"--strategies {' '.join(map(str, given.strategies))}",
            "processor": processor(),
            "versions": {"python": platform.python_version(), "numpy": np.__version__},
            "level": LEVEL,
            "tolerance": TOLERANCE,
            "shares": SHARES,
            "rows": rows,
        }
        write_text(given.json, json.dumps(facts, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

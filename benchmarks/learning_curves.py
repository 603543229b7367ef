"""What the forecast and the decision of `fraction=auto` are worth, on public learning curves.

    pip download lcdb==0.1.0 --no-deps --no-binary :all: && tar xzf lcdb-0.1.0.tar.gz
    python -m benchmarks.learning_curves --lcdb lcdb-0.1.0/lcdb            # judge the constants, on one half
    python -m benchmarks.learning_curves --lcdb lcdb-0.1.0/lcdb --fit      # fit them anew, on the other half

LCDB (Mohr et al., "LCDB 1.0", ECML PKDD 2022; MIT licence) holds the accuracy of scikit-learn's classifiers at growing
numbers of training examples, with repeats. A study here is one table, one learner and one test set: its runs are drawn
as `fraction=auto` draws them, three to seven runs on 1/32 to 1/4 of the examples first. The truth is the mean over all
repeats and test sets. Tables of fewer than 1,000 training examples are left out.

- `coverage`: of the 90% interval for all examples, over all studies and steps.
- `found`: where a share of the plan is truly within the tolerance, how often one is declared enough.
- `a quarter`: where half is declared enough or a quarter in its place, and a quarter is truly enough, how often the
  answer is a quarter.
- `wrong`: how often a share that was declared enough truly loses more than the tolerance.
- `said not enough`: where no share of the plan is within the tolerance, how often the search ends with 'probably not'.
- `cost`: in trainings on all examples, the mean over all studies.

Tables of odd rank, in the order of their numbers, fit the constants; tables of even rank judge them. `--fit` also
prints the mean over six random halves.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
from numpy.typing import NDArray

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import Parser, write_text
from subset_trainer.insight import enough, learning_curve, learning_curve_constants
from subset_trainer.insight.learning_curve import Curve, Point

LEARNERS = {
    "sklearn.neural_network.MLPClassifier": "neural network",
    "sklearn.linear_model.LogisticRegression": "logistic regression",
    "sklearn.ensemble.RandomForestClassifier": "random forest",
    "sklearn.ensemble.ExtraTreesClassifier": "extra trees",
    "sklearn.ensemble.GradientBoostingClassifier": "gradient boosting",
    "sklearn.neighbors.KNeighborsClassifier": "nearest neighbours",
    "SVC_rbf": "SVC, RBF",
}
NOISY = {"sklearn.linear_model.SGDClassifier": "SGD"}
"""Judged apart: its accuracy jumps from run to run by several points, at any number of examples."""
LEAST_EXAMPLES, LEAST_REPEATS, TEST_SETS = 1000, 5, 3
MANY = 1000
"""Test examples from which on studies are judged apart."""
TOLERANCES = (0.005, 0.01, 0.02)
CONSTANTS = Path(learning_curve_constants.__file__)
SHARES = sorted({share for step in enough.STEPS for share, _ in step})
Array = NDArray[np.float64]


@dataclass
class Study:
    table: int
    learner: str
    examples: int
    counts: Array
    """[S] the numbers of examples nearest to the shares."""
    truth: Array
    """[S] the mean accuracy at each."""
    tested: int
    """Number of test examples."""
    full: float
    """The mean accuracy with all examples."""
    full_here: float
    """The same, on this study's test set."""
    half_here: float
    curves: list[Curve]
    """After each step."""
    costs: list[float]

    @cached_property
    def features(self) -> dict[tuple[int, int, float], Array]:
        """Step, point (the last, or the one before it) and tolerance → the features."""
        return {
            (step, point, tolerance): learning_curve.features(
                curve, self.examples, tolerance, self.tested, point
            )
            for step, curve in enumerate(self.curves)
            for point in ((-1, -2) if step else (-1,))
            for tolerance in TOLERANCES
        }

    @cached_property
    def residuals(self) -> list[float]:
        """The full score against its forecast after each step, in the forecast's deviations."""
        found = []
        for curve in self.curves:
            mean, deviation = curve.score(self.examples)
            found.append((self.full_here - mean) / deviation)
        return found

    @cached_property
    def gain_residual(self) -> float:
        """What the second half brings, against the forecast of a curve that ends at a quarter."""
        mean, deviation = self.curves[0].gain(self.counts[-1], self.examples)
        return (self.full_here - self.half_here - mean) / deviation

    def loses(self, step: int, tolerance: float, point: int = -1) -> bool:
        """Whether the step's largest share, or the one before it, truly loses more than the tolerance."""
        place = int(np.flatnonzero(self.counts == self.curves[step].examples[point])[0])
        return bool(self.full - self.truth[place] > tolerance)


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    studies = [
        study
        for table, learner, curve in read(options.lcdb / "database-accuracy.csv")
        for study in studies_of(table, learner, curve)
    ]
    known = [study for study in studies if study.learner in LEARNERS.values()]
    noisy = [study for study in studies if study.learner in NOISY.values()]
    tables = sorted({study.table for study in studies})
    fitting = set(tables[::2])
    fit_on = [study for study in known if study.table in fitting]
    judged = [study for study in known if study.table not in fitting]
    if options.fit:
        write_constants(fit_constants(fit_on))
        print(f"wrote {CONSTANTS.name}")
    shipped = {
        "SCORE_DEVIATIONS": learning_curve_constants.SCORE_DEVIATIONS,
        "GAIN_DEVIATIONS": learning_curve_constants.GAIN_DEVIATIONS,
        "RISK": learning_curve_constants.RISK,
        "RISK_BEFORE": learning_curve_constants.RISK_BEFORE,
    }
    if options.fit:
        shipped = fit_constants(fit_on)
    rows = []
    for name, some in (("judged", judged), ("fitted on", fit_on), ("SGD", noisy)):
        if name == "SGD":
            some = [study for study in some if study.table not in fitting]
        for tolerance in TOLERANCES:
            rows.append({"studies": name, **judge(some, shipped, tolerance)})
    if options.fit:
        halves = of_halves(known, tables)
        rows += [{"studies": f"six halves{which}", **row} for which, row in halves.items()]
    print(markdown(rows))
    if options.json:
        facts = {"tables": len(tables), "learners": [*LEARNERS.values()], "rows": rows}
        write_text(options.json, json.dumps(facts, indent=1) + "\n")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--lcdb", type=Path, required=True, metavar="DIR", help="folder of database-accuracy.csv"
    )
    parser.add_argument(
        "--fit", action="store_true", help="fit the constants and write them into the trainer"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the table as JSON")
    return parser.parse_args(arguments)


def read(file: Path) -> Iterator[tuple[int, str, "Scores"]]:
    """The curves of each table and learner."""
    columns = ["openmlid", "learner", "size_test", "size_train", "outer_seed", "inner_seed", "score_test"]
    convert = pyarrow.csv.ConvertOptions(include_columns=columns)
    found = pyarrow.csv.read_csv(file, convert_options=convert)
    names = {**LEARNERS, **NOISY}
    learners = np.array([names.get(name, "") for name in found["learner"].to_pylist()])
    tables = found["openmlid"].to_numpy()
    scores = np.stack([found[name].to_numpy().astype(np.float64) for name in columns[2:]], axis=1)
    wanted = (learners != "") & ~np.isnan(scores[:, -1])
    order = np.lexsort((learners[wanted], tables[wanted]))
    tables, learners, scores = tables[wanted][order], learners[wanted][order], scores[wanted][order]
    starts = np.flatnonzero((tables[1:] != tables[:-1]) | (learners[1:] != learners[:-1])) + 1
    for first, last in zip([0, *starts], [*starts, len(tables)], strict=True):
        yield int(tables[first]), str(learners[first]), Scores(scores[first:last])


class Scores:
    """The accuracies [M] of one curve, by number of examples, test set and repeat."""

    def __init__(self, rows_M5: Array) -> None:
        tested, self.sizes, self.tests, self.repeats, self.accuracies = rows_M5.T
        self.tested = int(np.median(tested))
        self.counts = np.unique(self.sizes)
        self._by_key = {(int(a), int(b), int(c)): float(score) for _, a, b, c, score in rows_M5}

    def mean(self, size: float, test: int | None = None) -> float:
        own = self.sizes == size
        return float(self.accuracies[own if test is None else own & (self.tests == test)].mean())

    def of(self, size: float, test: int, repeat: int) -> float | None:
        return self._by_key.get((int(size), test, repeat))


def studies_of(table: int, learner: str, curve: Scores) -> Iterator[Study]:
    full = int(curve.counts[-1])
    if full < LEAST_EXAMPLES or (curve.sizes == full).sum() < LEAST_REPEATS:
        return
    nearest = [
        float(curve.counts[np.argmin(abs(np.log(curve.counts[:-1] / full / share)))]) for share in SHARES
    ]
    if len({*nearest}) < len(nearest):
        return
    counts = dict(zip(SHARES, nearest, strict=True))
    generator = np.random.default_rng([table, *learner.encode()])
    truth = np.array([curve.mean(count) for count in nearest])
    for test in [int(test) for test in np.unique(curve.tests)[:TEST_SETS]]:
        repeats = [
            int(each) for each in np.unique(curve.repeats[(curve.sizes == full) & (curve.tests == test)])
        ]
        repeats = [
            each for each in repeats if all(curve.of(count, test, each) is not None for count in nearest)
        ]
        if len(repeats) < 3:
            continue
        order = generator.permutation(repeats)
        done: dict[enough.Trial, float] = {}
        curves, costs = [], []
        for step in enough.STEPS:
            done |= {(share, n): curve.of(counts[share], test, int(order[n])) or 0.0 for share, n in step}
            shares = sorted({share for share, _ in done})
            runs = [tuple(score for (own, _), score in done.items() if own == share) for share in shares]
            curves.append(Curve([Point(int(counts[s]), own) for s, own in zip(shares, runs, strict=True)]))
            costs.append(sum(counts[share] for share, _ in done) / full)
        yield Study(
            table=table,
            learner=learner,
            examples=full,
            counts=np.array(nearest),
            truth=truth,
            tested=curve.tested,
            full=curve.mean(full),
            full_here=curve.mean(full, test),
            half_here=curve.mean(nearest[-1], test),
            curves=curves,
            costs=costs,
        )


def fit_constants(studies: Sequence[Study]) -> dict[str, Any]:
    """The constants that these studies give."""
    residuals = [abs(z) for study in studies for z in study.residuals]
    gains = [abs(study.gain_residual) for study in studies]
    return {
        "SCORE_DEVIATIONS": float(np.quantile(residuals, 0.9)),
        "GAIN_DEVIATIONS": float(np.quantile(gains, 0.9)),
        "RISK": tuple(fit_risk(studies, step) for step in range(len(enough.STEPS))),
        "RISK_BEFORE": tuple(fit_risk(studies, step, -2) for step in range(1, len(enough.STEPS))),
    }


def fit_risk(studies: Sequence[Study], step: int, point: int = -1) -> tuple[float, ...]:
    """The offset and the weights of a logistic regression on the features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    asked = [(study, tolerance) for study in studies for tolerance in TOLERANCES]
    features = [study.features[step, point, tolerance] for study, tolerance in asked]
    lost = [study.loses(step, tolerance, point) for study, tolerance in asked]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=1000)).fit(features, lost)
    scaler, logistic = model[0], model[1]
    weights = logistic.coef_[0] / scaler.scale_
    return (float(logistic.intercept_[0] - weights @ scaler.mean_), *map(float, weights))


def judge(studies: Sequence[Study], constants: dict[str, Any], tolerance: float) -> dict[str, Any]:
    declared = wrong = far = found = sufficient = refused = refused_wrongly = 0
    costs, shares, quarters, stepped = [], [], [], []
    for study in studies:
        there = bool((study.full - study.truth <= tolerance).any())
        sufficient += there
        for step, curve in enumerate(study.curves):
            risk = learning_curve.probability(constants["RISK"][step], study.features[step, -1, tolerance])
            if risk <= enough.ACCEPTED[step]:
                point = -1
                if step:
                    before = study.features[step, -2, tolerance]
                    smaller = learning_curve.probability(constants["RISK_BEFORE"][step - 1], before)
                    point = -2 if smaller <= enough.SMALLER else -1
                    loses = study.loses(step, tolerance, -2)
                    quarters += [] if loses else [point == -2]
                    stepped += [loses] if point == -2 else []
                declared += 1
                wrong += study.loses(step, tolerance, point)
                far += study.loses(step, 1.5 * tolerance, point)
                found += there
                shares.append(curve.examples[point] / study.examples)
                break
        else:
            if risk >= enough.REFUSED:
                refused += 1
                refused_wrongly += not study.loses(step, tolerance)
        costs.append(study.costs[step])
    inside = [abs(z) <= constants["SCORE_DEVIATIONS"] for study in studies for z in study.residuals]
    gains = [abs(study.gain_residual) <= constants["GAIN_DEVIATIONS"] for study in studies]
    return {
        "count": len(studies),
        "tolerance": tolerance,
        "coverage": float(np.mean(inside)),
        "coverage of gains": float(np.mean(gains)),
        "sufficient": sufficient / len(studies),
        "found": found / max(1, sufficient),
        "a quarter": float(np.mean(quarters)) if quarters else float("nan"),
        "stepped down": len(stepped),
        "of these, wrong": float(np.mean(stepped)) if stepped else float("nan"),
        "wrong": wrong / max(1, declared),
        "wrong by half more": far / max(1, declared),
        "lacking": refused / max(1, len(studies) - sufficient),
        "wrongly lacking": refused_wrongly / max(1, refused),
        "share": float(np.mean(shares)) if shares else float("nan"),
        "cost": float(np.mean(costs)),
    }


def of_halves(studies: Sequence[Study], tables: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Means over six random halves, each fitted on the rest: of all studies, and by the number of test examples."""
    found: dict[str, list[dict[str, Any]]] = {"": [], f", tested on {MANY:,} or more": [], ", on fewer": []}
    for seed in range(3):
        half = {*np.random.default_rng(seed).permutation(tables)[: len(tables) // 2].tolist()}
        for swapped in (False, True):
            fit_on = [study for study in studies if (study.table in half) != swapped]
            judged = [study for study in studies if (study.table in half) == swapped]
            constants = fit_constants(fit_on)
            many, few = ([s for s in judged if (s.tested >= MANY) == wanted] for wanted in (True, False))
            for rows, some in zip(found.values(), (judged, many, few), strict=True):
                rows.append(judge(some, constants, 0.01))
    return {
        which: {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        for which, rows in found.items()
    }


def write_constants(constants: dict[str, Any]) -> None:
    def number(value: float) -> str:
        return f"{value:.4g}"

    risk, before = (
        "".join(f"    ({', '.join(map(number, step))}),\n" for step in constants[name])
        for name in ("RISK", "RISK_BEFORE")
    )
    write_text(
        CONSTANTS,
        '"""Made by ``python -m benchmarks.learning_curves --fit``, on half of the tables of LCDB; not by hand."""\n\n'
        f"SCORE_DEVIATIONS = {number(constants['SCORE_DEVIATIONS'])}\n"
        '"""Half the width of a 90% interval for a score, in deviations of the curve."""\n'
        f"GAIN_DEVIATIONS = {number(constants['GAIN_DEVIATIONS'])}\n"
        '"""The same for the difference of two scores."""\n'
        f"RISK: tuple[tuple[float, ...], ...] = (\n{risk})\n"
        '"""Of each step of the plan, the offset and the weights of the nine features in the logit of the risk."""\n'
        f"RISK_BEFORE: tuple[tuple[float, ...], ...] = (\n{before})\n"
        '"""The same of the point before the last, from the second step."""\n',
    )


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| studies | number | tolerance | coverage | coverage of gains | truly sufficient | found | a quarter | "
        "wrong | wrong by half more | said not enough | of these, wrong | mean share | mean cost |",
        "| --- " + "| ---: " * 13 + "|",
    ]
    for row in rows:
        shares = (
            "coverage",
            "coverage of gains",
            "sufficient",
            "found",
            "a quarter",
            "wrong",
            "wrong by half more",
            "lacking",
            "wrongly lacking",
            "share",
        )
        cells = [row["studies"], f"{row['count']:.0f}", f"{100 * row['tolerance']:g}"]
        cells += [f"{row[name]:.1%}" for name in shares]
        lines.append(f"| {' | '.join(cells)} | {row['cost']:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

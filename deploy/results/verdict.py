"""Answers in one sentence how small a fraction of the data is enough for a tolerated loss of accuracy.

"Accuracy" is what the runs' hyperparameter `metric` names: accuracy, macro-F1, balanced accuracy or AUC.
"""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from deploy.results.compare import Run, reference
from subset_selection.catalogue import REFERENCE
from subset_trainer.tracking.metrics import SPOKEN

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Loss:
    """The loss of accuracy of a strategy at a fraction, compared with full data. Accuracies are shares 0..1."""

    strategy: str
    fraction: float
    differences: tuple[float, ...]
    """For each seed, the accuracy minus that of the full run with the same seed."""
    time: float
    """Total time divided by the full runs' total time, over the shared seeds."""

    @property
    def at_most(self) -> float | None:
        """Upper bound on the loss of accuracy, with a confidence of 95%.

        It is the one-sided bound of Student's t on the mean of the paired differences. None for a single seed, which
        gives no estimate of the variance.
        """
        count = len(self.differences)
        if count < 2:
            return None
        # Imported here because it takes half a second, and only comparisons of several seeds need it.
        from scipy.stats import t

        error = stdev(self.differences) / math.sqrt(count)
        return -(mean(self.differences) - float(t.ppf(CONFIDENCE, count - 1)) * error)


def common_metric(runs: Sequence[Run], tested: bool) -> str | None:
    """Return the measure that all runs name and have; None if there is no such measure."""
    named = {run.metric for run in runs}
    metric = named.pop()
    return None if named or any(run.measure(metric, tested) is None for run in runs) else metric


def losses(runs: Sequence[Run]) -> list[Loss]:
    """Return a loss for each setting of the hyperparameters, over the seeds that it shares with the full runs.

    The full runs are those on all data that saw the most samples. Shorter runs on all data are compared like any other
    strategy. Test accuracy is used if every run has it, because some strategies choose by the validation set.
    Otherwise validation accuracy is used. Runs that name no common `metric` have no losses.
    """
    finished = [run for run in runs if run.summary["status"] == "completed"]
    base = reference(finished)
    if base is None:
        return []
    tested = _tested(finished)
    metric = common_metric(finished, tested)
    if metric is None:
        return []
    groups: dict[str, dict[int, Run]] = defaultdict(dict)
    for run in finished:
        groups[_settings(run)][int(run.summary.get("seed", 0))] = run
    full = groups.pop(_settings(base))
    found = []
    for by_seed in groups.values():
        shared = sorted(by_seed.keys() & full.keys())
        if shared:
            own, whole = ([side[seed] for seed in shared] for side in (by_seed, full))
            first = own[0].summary
            fraction = float(first["fraction"])
            if own[0].is_full:
                fraction = first["samples_visited"] / whole[0].summary["samples_visited"]
            found.append(
                Loss(
                    str(first["strategy"]),
                    fraction,
                    tuple(
                        (a.measure(metric, tested) or 0.0) - (b.measure(metric, tested) or 0.0)
                        for a, b in zip(own, whole, strict=True)
                    ),
                    sum(run.seconds for run in own) / sum(run.seconds for run in whole),
                )
            )
    return found


def _settings(run: Run) -> str:
    """Return a key of the hyperparameters without the seed."""
    given = {**run.summary.get("hyperparameters", {}), "strategy": run.summary["strategy"]}
    given |= {"epochs": run.summary["epochs"]}
    # The share of samples that soft pruning sees differs a little from seed to seed.
    given |= {} if "hyperparameters" in run.summary else {"fraction": run.summary["fraction"]}
    return json.dumps({name: value for name, value in given.items() if name != "seed"}, sort_keys=True)


def _tested(finished: Sequence[Run]) -> bool:
    return all(run.summary.get("test") for run in finished)


def sentence(runs: Sequence[Run], tolerance: float) -> str:
    """Return the answer in one sentence.

    It names the smallest fraction whose loss is within the tolerance with a confidence of 95%, or says that there is
    none, or that the runs do not allow an answer.

    Args:
        runs: runs with results; only completed ones are used.
        tolerance: tolerated loss of accuracy, a share.
    """
    known = losses(runs)
    finished = [run for run in runs if run.summary["status"] == "completed"]
    metric = common_metric(finished, _tested(finished)) if finished else "accuracy"
    if metric is None:
        named = ", ".join(sorted({run.metric for run in finished}))
        return f"How much data is enough cannot be said: the runs do not share a measure (metric: {named})."
    limit = f"{100 * tolerance:g} point{'' if tolerance == 0.01 else 's'} of {SPOKEN[metric]}"
    if not known and reference(finished) is not None:
        return "How much data is enough cannot be said: no other run has the seed of one on all of the data."
    if not known:
        return "How much data is enough cannot be said: there is no finished run on all of the data to compare with."
    bounds = [(loss, loss.at_most) for loss in known]
    judged = [(loss, bound) for loss, bound in bounds if bound is not None]
    if not judged:
        return (
            f"Whether less data costs more than {limit} cannot be known from one seed: run at least three "
            "(--seeds 0,1,2), and compare them together."
        )
    good = [(loss, bound) for loss, bound in judged if bound <= tolerance]
    if not good:
        nearest, bound = min(judged, key=lambda pair: pair[1])
        return (
            f"None of these keeps within {limit} of the full data with a confidence of 95%; the nearest is "
            f"{_name(nearest)}, which loses {100 * -mean(nearest.differences):.1f} on average and at most "
            f"{100 * bound:.1f} over {len(nearest.differences)} seeds."
        )
    best, bound = min(good, key=lambda pair: (pair[0].fraction, pair[0].time))
    lost = -100 * mean(best.differences)
    change = f"loses {lost:.1f} points" if lost > 0 else f"gains {-lost:.1f} points"
    return (
        f"{best.fraction:.0%} is enough: {_name(best)} {change} on average, and at most {100 * bound:.1f} with a "
        f"confidence of 95% over {len(best.differences)} seeds (tolerated: {100 * tolerance:g}), in "
        f"{best.time:.0%} of the time of the full data."
    )


def _name(loss: Loss) -> str:
    if loss.strategy == REFERENCE:
        return f"`{REFERENCE}` for {loss.fraction:.0%} of the epochs"
    return f"`{loss.strategy}` at {loss.fraction:.0%}"

"""The question in words: what share of my data can I use and still be good?"""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from deploy.results.compare import Run, reference
from subset_selection.catalogue import REFERENCE

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Loss:
    """What a strategy at a fraction loses against full data: accuracies are shares, one pair a seed."""

    strategy: str
    fraction: float
    differences: tuple[float, ...]
    """Accuracy minus that of the full run of the same seed."""
    time: float
    """Its mean seconds over the full runs'."""

    @property
    def at_most(self) -> float | None:
        """With a confidence of 95%, no more accuracy than this is lost.

        The one-sided bound of Student's t on the mean of the paired differences. None of one seed, which says nothing
        about the next.
        """
        count = len(self.differences)
        if count < 2:
            return None
        # It takes half a second to import, and only a study of several seeds needs it.
        from scipy.stats import t

        error = stdev(self.differences) / math.sqrt(count)
        return -(mean(self.differences) - float(t.ppf(CONFIDENCE, count - 1)) * error)


def losses(runs: Sequence[Run]) -> list[Loss]:
    """One for each setting of the hyperparameters, over the seeds that it shares with the full runs.

    The full runs are those on all data that saw the most samples; shorter ones are strategies like others. Test
    accuracy counts where every run has it, else validation accuracy, which some strategies choose by.
    """
    finished = [run for run in runs if run.summary["status"] == "completed"]
    base = reference(finished)
    if base is None:
        return []
    tested = all(run.summary.get("test") for run in finished)
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
                    tuple(accuracy(a, tested) - accuracy(b, tested) for a, b in zip(own, whole, strict=True)),
                    sum(run.seconds for run in own) / sum(run.seconds for run in whole),
                )
            )
    return found


def _settings(run: Run) -> str:
    """What runs of different seeds have in common."""
    given = {**run.summary.get("hyperparameters", {}), "strategy": run.summary["strategy"]}
    given |= {"epochs": run.summary["epochs"]}
    # The share of samples that soft pruning sees differs a little from seed to seed.
    given |= {} if "hyperparameters" in run.summary else {"fraction": run.summary["fraction"]}
    return json.dumps({name: value for name, value in given.items() if name != "seed"}, sort_keys=True)


def accuracy(run: Run, tested: bool) -> float:
    """A share, on the test examples or on validation's."""
    part: Mapping[str, float] = run.summary["test" if tested else "validation"]
    return part["accuracy"]


def sentence(runs: Sequence[Run], tolerance: float) -> str:
    """The answer for a tolerated loss of accuracy, a share: the smallest fraction that keeps to it with a confidence of
    95%, or that there is none, or that it cannot be known."""
    known = losses(runs)
    limit = f"{100 * tolerance:g} point{'' if tolerance == 0.01 else 's'} of accuracy"
    if not known and reference([run for run in runs if run.summary["status"] == "completed"]) is not None:
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

"""What will happen, decided before the first step: which epochs see what, how many updates, at which learning rate."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from subset_trainer.errors import UserError


@dataclass(frozen=True)
class Epoch:
    """One pass."""

    number: int
    """From 1."""
    everything: bool
    """Whether it visits all examples: an epoch of the warm start."""
    first_on_subset: bool
    selection_due: bool
    """Whether a periodically refreshed subset is chosen anew before it."""


def budget(examples: int, fraction: float) -> int:
    """round(fraction · N): how many examples an epoch visits.

    Raises:
        UserError: fewer than the two that batch normalisation needs.
    """
    size = round(fraction * examples)
    if size < 2:
        needed = 2 / examples
        raise UserError(
            f"hyperparameter fraction={fraction:g} of {examples} training examples rounds to {size}; "
            f"expected at least 2 examples, so a fraction of at least {needed:.2g}"
        )
    return size


def epochs(
    count: int, fraction: float, select_every: int, warm_fraction: float, final_share: float = 0.0
) -> list[Epoch]:
    """The run's epochs: those of the warm start on all data, then those on the subset.

    The warm start takes the place of ``warm_fraction · count`` subset epochs and makes about as many visits in fewer
    passes over everything (Killamsetty et al., "GRAD-MATCH", ICML 2021, section 4), so that it costs nothing.
    The last ``final_share · count`` epochs visit everything again, for a strategy that asks for it.
    """
    replaced = int(warm_fraction * count)
    warm = math.ceil(replaced * fraction)
    final = round(final_share * count)
    plan = [Epoch(number, True, False, False) for number in range(1, warm + 1)]
    for position in range(count - replaced):
        at_end = position >= count - replaced - final
        plan.append(
            Epoch(
                warm + position + 1,
                everything=at_end,
                first_on_subset=position == 0 and not at_end,
                selection_due=position % select_every == 0 and not at_end,
            )
        )
    return plan


def batch_count(visits: int, batch_size: int, processes: int = 1) -> int:
    """Steps of an epoch. Batches are of equal size but for one example, and never of a single one in a process, which
    batch normalisation could not take.

    Args:
        visits: examples of the epoch, over all processes.
        batch_size: of each process.
        processes: that share a batch.

    Raises:
        UserError: fewer than two for each process.
    """
    if processes > 1 and visits < 2 * processes:
        raise UserError(
            f"an epoch of {visits} examples does not give each of {processes} processes 2 of them: use a larger "
            "fraction, or fewer instances or processes_per_host"
        )
    return max(1, min(math.ceil(visits / (batch_size * processes)), visits // (2 * processes)))


def spread_evenly(owners: Tensor) -> Tensor:
    """An order, [K] int64, in which every stretch has of each owner's examples as many as is its share of all, but for
    one or two; each owner's keep their order among themselves.

    Args:
        owners: [K] integers.
    """
    at = torch.empty(len(owners), dtype=torch.float64)
    for owner in owners.unique():
        own = (owners == owner).nonzero().flatten()
        at[own] = (torch.arange(len(own), dtype=torch.float64) + 0.5) / len(own)
    return at.argsort(stable=True)


def scaled_learning_rate(learning_rate: float, processes: int, rule: str) -> float:
    """The learning rate for a batch of so many processes' batches.

    Args:
        learning_rate: for one process's batch.
        processes: that share a batch.
        rule: ``linear``: n times as high (Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 2.1); ``sqrt``:
            √n times (Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014, section 5);
            ``none``.
    """
    return learning_rate * {"linear": processes, "sqrt": math.sqrt(processes), "none": 1}[rule]


def learning_rate_factor(step: float, steps: int, warmup_ratio: float) -> float:
    """The learning rate at an update, as a share of its peak: a linear rise, then half a cosine that would
    reach zero right after the last update.

    Args:
        step: from 0; a fraction of one where an epoch makes fewer updates than planned.
        steps: updates of the whole run.
        warmup_ratio: share of them over which it rises.
    """
    rising = round(warmup_ratio * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

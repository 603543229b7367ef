"""The plan of a run, made before its first step: the examples, updates and learning rates of each epoch.

This module does not import torch, because the launcher uses it to plan comparisons.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

from subset_selection import schedule
from subset_selection.schedule import Epoch as Epoch
from subset_selection.schedule import epochs as epochs
from subset_trainer.config import Hyperparameters
from subset_trainer.errors import UserError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Plan:
    """The epochs of a run, and the values that its hyperparameters take for this number of examples and processes."""

    examples: int
    """N, the number of training examples."""
    budget: int
    """K, the number of examples that an epoch on the subset uses."""
    epochs: tuple[Epoch, ...]
    batch_size: int
    """Batch size of each process."""
    processes: int
    """Number of processes that share a batch."""
    learning_rate: float
    """Peak of the schedule, scaled for the effective batch size."""
    warmup_ratio: float
    seed: int

    @classmethod
    def of(cls, hp: Hyperparameters, examples: int, processes: int = 1, given: int | None = None) -> "Plan":
        """Make the plan for N training examples.

        Args:
            hp: the run's hyperparameters.
            examples: N, the number of examples to train on.
            processes: number of processes that share a batch.
            given: number of examples before some were left out, which ``fraction`` refers to; default: N. For a
                strategy that trains on the validation set, that of the training set.

        Raises:
            UserError: an epoch would have too few examples.
        """
        share = 0.0 if "final_share" not in hp.spec.knobs else hp.final_share
        if not hp.spec.takes_fraction:
            return cls._of(hp, examples, examples, processes, hp.warm_fraction, share)
        wanted = budget(examples if given is None else given, hp.share)
        if hp.spec.trains_on != "training":
            # As many samples as of the training set, if need be in more epochs, each on fewer examples.
            passes = math.ceil(wanted / examples)
            size = round(wanted / passes)
            longer = hp.model_copy(update={"epochs": hp.epochs * passes, "fraction": size / examples})
            return cls._of(longer, examples, size, processes, 0.0, share)
        return cls._of(hp, examples, min(examples, wanted), processes, hp.warm_fraction, share)

    @classmethod
    def full(cls, hp: Hyperparameters, examples: int, processes: int = 1) -> "Plan":
        """Make the plan of a training that uses all N examples in every epoch, whatever the strategy."""
        return cls._of(hp, examples, examples, processes, warm_fraction=0.0, final_share=0.0)

    @classmethod
    def _of(
        cls,
        hp: Hyperparameters,
        examples: int,
        size: int,
        processes: int,
        warm_fraction: float,
        final_share: float,
    ) -> "Plan":
        fraction = 1.0 if size == examples else hp.share
        plain = epochs(hp.epochs, fraction, hp.select_every, warm_fraction, final_share)
        seen = (examples if epoch.everything else size for epoch in plain)
        steps = [batch_count(samples, hp.batch_size, processes) for samples in seen]
        first = [0, *accumulate(steps)]
        return cls(
            examples=examples,
            budget=size,
            epochs=tuple(
                replace(epoch, first_step=before, steps=own)
                for epoch, before, own in zip(plain, first, steps, strict=False)
            ),
            batch_size=hp.batch_size,
            processes=processes,
            learning_rate=scaled_learning_rate(hp.learning_rate, processes, hp.learning_rate_scaling),
            warmup_ratio=hp.warmup_ratio,
            seed=hp.seed,
        )

    @cached_property
    def steps(self) -> int:
        """Number of updates planned for the whole run."""
        return sum(epoch.steps for epoch in self.epochs)

    @property
    def effective_batch_size(self) -> int:
        """Number of examples per step over all processes."""
        return self.batch_size * self.processes

    def steps_for(self, samples: int) -> int:
        """Number of updates of an epoch with this many samples."""
        return batch_count(samples, self.batch_size, self.processes)

    def rate(self, epoch: Epoch, step: int, steps: int) -> float:
        """The learning rate of update ``step`` of the ``steps`` updates of an epoch.

        An epoch that makes fewer updates than planned still covers its whole part of the schedule.

        Args:
            epoch: the epoch.
            step: the update, from 0; ``steps`` stands for the end of the epoch.
            steps: number of updates that the epoch makes.
        """
        at = epoch.first_step + step * epoch.steps / steps
        return self.learning_rate * learning_rate_factor(at, self.steps, self.warmup_ratio)

    def generators(self) -> "dict[str, torch.Generator]":
        """One generator for each of :data:`subset_selection.schedule.PURPOSES`."""
        return schedule.generators(self.seed)


def budget(examples: int, fraction: float) -> int:
    """The number of examples of an epoch, round(fraction · N).

    Raises:
        UserError: the result is below 2, the least that batch normalisation needs.
    """
    size = round(fraction * examples)
    if size < 2:
        needed = 2 / examples
        raise UserError(
            f"hyperparameter fraction={fraction:g} of {examples} training examples rounds to {size}; "
            f"expected at least 2 examples, so a fraction of at least {needed:.2g}"
        )
    return size


def batch_count(samples: int, batch_size: int, processes: int = 1) -> int:
    """The number of steps of an epoch.

    The sizes of its batches differ by at most one example. No process gets a batch of a single example, which batch
    normalisation does not accept.

    Args:
        samples: number of samples of the epoch, over all processes.
        batch_size: batch size of each process.
        processes: number of processes that share a batch.

    Raises:
        UserError: there are fewer than two samples for each process.
    """
    if processes > 1 and samples < 2 * processes:
        raise UserError(
            f"an epoch of {samples} examples does not give each of {processes} processes 2 of them: use a larger "
            "fraction, or fewer instances or processes_per_host"
        )
    return schedule.batch_count(samples, batch_size, processes)


def scaled_learning_rate(learning_rate: float, processes: int, rule: str) -> float:
    """The learning rate for a batch that n processes share.

    Args:
        learning_rate: the learning rate for the batch of one process.
        processes: n.
        rule: ``linear``: times n (Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 2.1); ``sqrt``: times √n
            (Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014, section 5); ``none``:
            unchanged.
    """
    return learning_rate * {"linear": processes, "sqrt": math.sqrt(processes), "none": 1}[rule]


def learning_rate_factor(step: float, steps: int, warmup_ratio: float) -> float:
    """The learning rate at an update, as a fraction of its peak.

    It rises linearly, then falls along half a cosine that would reach zero right after the last update.

    Args:
        step: the update, from 0; not always an integer, if an epoch makes fewer updates than planned.
        steps: number of updates of the whole run.
        warmup_ratio: fraction of the updates over which the learning rate rises.
    """
    rising = round(warmup_ratio * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

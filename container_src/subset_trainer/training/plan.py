"""What a run will do, decided before its first step: what each epoch sees, in how many updates, at which rates.

Importing it loads no torch: what plans comparisons on a launcher counts epochs by it.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

from subset_selection.catalogue import Refresh
from subset_trainer.config import Hyperparameters
from subset_trainer.errors import UserError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Epoch:
    """One pass."""

    number: int
    """From 1."""
    count: int
    """Epochs of the run."""
    everything: bool
    """Whether it sees all examples: an epoch of the warm start, or one of the last of a strategy that ends so."""
    first_on_subset: bool = False
    selection_due: bool = False
    """Whether a periodically refreshed subset is chosen anew before it."""
    first_step: int = 0
    """Updates planned before it."""
    steps: int = 0
    """Updates planned for it. A strategy that sets the epoch's size by itself may make fewer."""

    def __str__(self) -> str:
        return f"epoch {self.number} of {self.count}"

    def is_due(self, refresh: Refresh) -> bool:
        """Whether a subset that is refreshed so is chosen anew before it."""
        if refresh == "every epoch":
            return True
        return self.first_on_subset or (refresh == "periodically" and self.selection_due)


@dataclass(frozen=True)
class Plan:
    """The epochs of a run, and what its hyperparameters come to for this many examples and processes."""

    examples: int
    """N."""
    budget: int
    """K: how many examples an epoch on the subset sees."""
    epochs: tuple[Epoch, ...]
    batch_size: int
    """Of each process."""
    processes: int
    """That share a batch."""
    learning_rate: float
    """The schedule's peak, for a batch of all processes."""
    warmup_ratio: float
    seed: int

    @classmethod
    def of(cls, hp: Hyperparameters, examples: int, processes: int = 1, given: int | None = None) -> "Plan":
        """The plan for N training examples.

        Args:
            hp: the run's hyperparameters.
            examples: N, those that are trained on.
            processes: that share a batch.
            given: how many examples there were before some were left out, of which ``fraction`` is a share; default: N.

        Raises:
            UserError: an epoch would have too few examples.
        """
        share = 0.0 if "final_share" not in hp.spec.knobs else hp.final_share
        if not hp.spec.takes_fraction:
            return cls._of(hp, examples, examples, processes, hp.warm_fraction, share)
        wanted = budget(examples if given is None else given, hp.fraction)
        return cls._of(hp, examples, min(examples, wanted), processes, hp.warm_fraction, share)

    @classmethod
    def full(cls, hp: Hyperparameters, examples: int, processes: int = 1) -> "Plan":
        """The plan of a training on all of N examples in every epoch, whatever the strategy."""
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
        fraction = 1.0 if size == examples else hp.fraction
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
        """Updates planned for the whole run."""
        return sum(epoch.steps for epoch in self.epochs)

    @property
    def effective_batch_size(self) -> int:
        """Examples in a step of all processes."""
        return self.batch_size * self.processes

    def steps_for(self, samples: int) -> int:
        """Updates of an epoch that sees so many samples."""
        return batch_count(samples, self.batch_size, self.processes)

    def rate(self, epoch: Epoch, step: int, steps: int) -> float:
        """The learning rate of an epoch's update ``step``, from 0, of ``steps``; at ``steps`` the one at its end.

        An epoch that makes fewer updates than planned passes over its part of the schedule all the same.
        """
        at = epoch.first_step + step * epoch.steps / steps
        return self.learning_rate * learning_rate_factor(at, self.steps, self.warmup_ratio)

    def generators(self) -> "dict[str, torch.Generator]":
        """One for each purpose: a strategy that draws more numbers does not change the order of examples."""
        import torch

        purposes = ("selection", "order", "augmentation")
        return {
            purpose: torch.Generator().manual_seed(self.seed * 3 + number)
            for number, purpose in enumerate(purposes)
        }


def budget(examples: int, fraction: float) -> int:
    """round(fraction · N): how many examples an epoch sees.

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

    The warm start takes the place of ``warm_fraction · count`` subset epochs and sees about as many samples in fewer
    passes over everything (Killamsetty et al., "GRAD-MATCH", ICML 2021, section 4), so that it costs nothing.
    The last ``final_share · count`` epochs see everything again, for a strategy that asks for it.
    """
    replaced = int(warm_fraction * count)
    warm = math.ceil(replaced * fraction)
    final = round(final_share * count)
    total = warm + count - replaced
    plan = [Epoch(number, total, everything=True) for number in range(1, warm + 1)]
    for position in range(count - replaced):
        at_end = position >= count - replaced - final
        plan.append(
            Epoch(
                warm + position + 1,
                total,
                everything=at_end,
                first_on_subset=position == 0 and not at_end,
                selection_due=position % select_every == 0 and not at_end,
            )
        )
    return plan


def batch_count(samples: int, batch_size: int, processes: int = 1) -> int:
    """Steps of an epoch. Batches are of equal size but for one example, and never of a single one in a process, which
    batch normalisation could not take.

    Args:
        samples: that the epoch sees, over all processes.
        batch_size: of each process.
        processes: that share a batch.

    Raises:
        UserError: fewer than two for each process.
    """
    if processes > 1 and samples < 2 * processes:
        raise UserError(
            f"an epoch of {samples} examples does not give each of {processes} processes 2 of them: use a larger "
            "fraction, or fewer instances or processes_per_host"
        )
    return max(1, min(math.ceil(samples / (batch_size * processes)), samples // (2 * processes)))


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

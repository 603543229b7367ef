"""The schedule of a run: which epochs use all examples, before which a subset is selected, and how many steps each has.

This module imports torch only to make generators, because launchers plan runs without it.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from subset_selection.catalogue import Refresh

if TYPE_CHECKING:
    import torch

PURPOSES = ("selection", "order", "augmentation")
"""What a run draws random numbers for. Each purpose has its own generator, so that a strategy that draws more numbers
does not change the order of examples."""


@dataclass(frozen=True)
class Epoch:
    """The plan of one epoch."""

    number: int
    """The epoch's number, from 1."""
    count: int
    """Number of epochs of the run; 0: not known."""
    everything: bool
    """Whether it uses all examples: in the warm start, or at the end of a strategy with ``final_share``."""
    first_on_subset: bool = False
    """Whether it is the first epoch on a subset."""
    selection_due: bool = False
    """Whether a periodically refreshed subset is selected again before this epoch."""
    first_step: int = 0
    """Number of updates planned before this epoch."""
    steps: int = 0
    """Number of updates planned for this epoch. A strategy that sets its own size may make fewer."""

    def __str__(self) -> str:
        return f"epoch {self.number} of {self.count}" if self.count else f"epoch {self.number}"

    def is_due(self, refresh: Refresh) -> bool:
        """Whether a subset with this refresh rule is selected again before this epoch."""
        if refresh == "every epoch":
            return True
        return self.first_on_subset or (refresh == "periodically" and self.selection_due)


def epochs(
    count: int, fraction: float, select_every: int, warm_fraction: float, final_share: float = 0.0
) -> list[Epoch]:
    """The run's epochs: those of the warm start on all data, then those on the subset.

    The warm start replaces ``warm_fraction · count`` epochs on the subset by fewer epochs on all data with about as
    many samples in total (Killamsetty et al., "GRAD-MATCH", ICML 2021, section 4), so that it adds no cost. The last
    ``final_share · count`` epochs use all data again, for strategies with this setting.
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


def open_ended(number: int, select_every: int) -> Epoch:
    """Epoch ``number``, from 1, of a run whose length is not known: it has neither a warm start nor a last part."""
    return Epoch(
        number,
        0,
        everything=False,
        first_on_subset=number == 1,
        selection_due=(number - 1) % select_every == 0,
    )


def batch_count(samples: int, batch_size: int, processes: int = 1) -> int:
    """The number of steps of an epoch.

    The sizes of its batches differ by at most one example. No process gets a batch of a single example, which batch
    normalisation does not accept, if the epoch has at least two for each.

    Args:
        samples: number of samples of the epoch, over all processes.
        batch_size: batch size of each process.
        processes: number of processes that share a batch.
    """
    return max(1, min(math.ceil(samples / (batch_size * processes)), samples // (2 * processes)))


def generators(seed: int) -> "dict[str, torch.Generator]":
    """One generator on the CPU for each of the :data:`PURPOSES`."""
    import torch

    return {
        purpose: torch.Generator().manual_seed(seed * len(PURPOSES) + number)
        for number, purpose in enumerate(PURPOSES)
    }

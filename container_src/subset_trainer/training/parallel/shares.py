"""One process's share of a batch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from subset_trainer.data import Dataset
from subset_trainer.errors import UserError
from subset_trainer.training.parallel.ranks import Ranks

LEAST = 2
"""Examples that a process passes through the network at once: batch normalisation needs two."""


@dataclass(frozen=True)
class Share:
    """indices [B + filled] int64: the examples that this process reads; places: which of the batch's these are, without
    the last ``filled``, which count nothing.

    A batch of a sharded channel may have no example of this process. It takes part all the same, because the others
    wait for its gradients: it passes examples of its own through the network, with a weight of 0.
    """

    indices: Tensor
    places: slice | Tensor
    filled: int = 0

    @classmethod
    def of(cls, batch: Tensor, dataset: Dataset, ranks: Ranks) -> "Share":
        """Of the batch of these examples, [B] int64.

        Raises:
            UserError: this process has none of the data set's examples.
        """
        if dataset.owners is None:
            places = ranks.places(len(batch))
            return cls(batch[places], places)
        places = ranks.places(len(batch), dataset.owners[batch])
        indices = batch[places]
        filled = max(0, LEAST - len(indices)) if ranks.size > 1 else 0
        if filled:
            own = (dataset.owners == ranks.rank).nonzero().flatten()
            if not len(own):
                raise UserError(
                    f"process {ranks.rank} has none of the {len(dataset):,} examples of a sharded channel "
                    "(S3DistributionType=ShardedByS3Key); expected some for each: more files, fewer instances or fewer "
                    "processes_per_host"
                )
            indices = torch.cat([indices, own[:1].expand(filled)])
        return cls(indices, places, filled)

    def on(self, device: torch.device) -> slice | Tensor:
        """The places, to index with what is on the device."""
        return self.places if isinstance(self.places, slice) else self.places.to(device, non_blocking=True)

    def filled_up(self, values: Tensor) -> Tensor:
        """[B, …] of the examples that count → of all that are read, with zeros."""
        if not self.filled:
            return values
        return torch.cat([values, values.new_zeros(self.filled, *values.shape[1:])])

    def counted(self, values: Tensor) -> Tensor:
        """[B, …] of all that are read → of those that count."""
        return values[: len(values) - self.filled] if self.filled else values

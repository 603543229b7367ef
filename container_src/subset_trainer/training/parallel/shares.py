"""One process's share of a batch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from subset_trainer.data import Dataset
from subset_trainer.errors import UserError
from subset_trainer.training.parallel.ranks import Ranks

LEAST = 2
"""The minimum number of examples per forward pass, because batch normalisation needs two."""


@dataclass(frozen=True)
class Share:
    """The examples of a batch that this process reads.

    A batch of a sharded channel may contain none or too few of this process's examples. The process still takes part,
    because the others wait for its gradients: it fills up its share with an example of its own, with a weight of 0.

    Args:
        indices: [B + filled] int64, the examples that this process reads.
        places: the places of the first B of them in the batch.
        filled: the number of filler examples at the end.
    """

    indices: Tensor
    places: slice | Tensor
    filled: int = 0

    @classmethod
    def of(cls, batch: Tensor, dataset: Dataset, ranks: Ranks) -> "Share":
        """This process's share of a batch.

        Args:
            batch: int64, the indices of the whole batch's examples.
            dataset: the data set of the batch.
            ranks: the processes.

        Raises:
            UserError: the share needs filler, and this process holds no example of the data set.
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
        """The places, for indexing tensors on `device`."""
        return self.places if isinstance(self.places, slice) else self.places.to(device, non_blocking=True)

    def filled_up(self, values: Tensor) -> Tensor:
        """Extend values [B, …] with zeros for the filler examples: [B + filled, …]."""
        if not self.filled:
            return values
        return torch.cat([values, values.new_zeros(self.filled, *values.shape[1:])])

    def counted(self, values: Tensor) -> Tensor:
        """Remove the filler examples from values [B + filled, …]: [B, …]."""
        return values[: len(values) - self.filled] if self.filled else values

"""Selection over the ranks of a process group, each of which has looked at a shard of the data."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from subset_trainer.selection.types import Pool, Strategy, Subset


def select(
    strategy: Strategy,
    train: Pool,
    train_indices: Tensor,
    validation: Pool,
    validation_indices: Tensor,
    budget: int,
    generator: torch.Generator,
    from_first: Callable[[Callable[[], Any]], Any],
    group: dist.ProcessGroup | None = None,
) -> Subset:
    """The subset that one process with all of the data would choose; the same on every rank.

    The ranks share the passes over the data, which is where selection's time goes; residuals' and features' sources
    (N·(C + D) numbers) are gathered on the first rank, which chooses and tells the others. A strategy that remembers
    earlier rounds does so there.

    Args:
        strategy: the same on every rank.
        train, validation: this rank's shards, possibly empty; on the device that the group communicates from.
        train_indices, validation_indices: which examples of the whole these are, int64; the ranks' shards together
            are 0…N − 1 without repeats.
        budget: K of the whole.
        generator: in the same state on every rank, before and after.
        from_first: gives every rank what the function returns, or raises, on the first.
        group: default: all ranks.

    Raises:
        what the strategy raises, on every rank.
    """
    whole = gather(train, train_indices, group)
    whole_validation = gather(validation, validation_indices, group)

    def choose() -> tuple[Subset, Tensor]:
        assert whole is not None
        assert whole_validation is not None
        subset = strategy.select(Pool(*whole), Pool(*whole_validation), budget, generator)
        return subset, generator.get_state()

    subset, state = from_first(choose)
    generator.set_state(state)
    return Subset(subset.indices, subset.weights, subset.note)


Columns = tuple[Tensor, Tensor | None, Tensor | None]
"""Labels, logits and features."""


def gather(shard: Pool, indices: Tensor, group: dist.ProcessGroup | None = None) -> Columns | None:
    """The whole pool's columns in data order on the group's first rank, None on the others."""
    sizes: list[int] = [0] * dist.get_world_size(group)
    dist.all_gather_object(sizes, len(shard), group=group)
    order = _gathered(indices.to(shard.device), sizes, group)
    labels = _gathered(shard.labels, sizes, group)
    logits = None if shard.logits is None else _gathered(shard.logits, sizes, group)
    features = None if shard.features is None else _gathered(shard.features, sizes, group)
    if order is None or labels is None:
        return None
    if torch.equal(order, torch.arange(len(order), device=order.device)):
        return labels, logits, features  # shards that follow one another need no copy of it all
    position = order.argsort()
    return (
        labels[position],
        None if logits is None else logits[position],
        None if features is None else features[position],
    )


def _gathered(rows: Tensor, sizes: list[int], group: dist.ProcessGroup | None) -> Tensor | None:
    """Rows of all ranks one after another. Collectives want equal shapes: shorter shards are padded on the way."""
    padded = rows.new_zeros(max(sizes), *rows.shape[1:])
    padded[: len(rows)] = rows
    first = dist.get_rank(group) == 0
    received = [torch.empty_like(padded) for _ in sizes] if first else None
    dist.gather(padded, received, group=group, group_dst=0)
    if received is None:
        return None
    return torch.cat([part[:size] for part, size in zip(received, sizes, strict=True)])

"""Selection in a process group in which each rank has embedded a shard of the data."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from subset_selection.types import Pool, Strategy, Subset

FromFirst = Callable[[Callable[[], Any]], Any]
"""Runs a function on the first rank, and returns its result, or raises its exception, on every rank."""
Allocate = Callable[[int, Sequence[tuple[int, torch.dtype]], torch.device], list[Tensor]]
"""(rows, width and type of each column, preferred device) → empty tensors for the columns, all on one device."""
SENT = 1 << 24
"""Number of bytes that a rank sends at a time."""


def select(
    strategy: Strategy,
    train: Pool,
    train_indices: Tensor,
    validation: Pool,
    validation_indices: Tensor,
    budget: int,
    generator: torch.Generator,
    from_first: FromFirst,
    allocate: Allocate | None = None,
    group: dist.ProcessGroup | None = None,
) -> Subset:
    """Select the subset that one process with all of the data would select. Every rank returns the same subset.

    The ranks share the forward passes over the data, which take most of the time of a selection. Logits and features
    (N·(C + D) numbers) are gathered on the first rank, which selects and sends the result to the others. Only the first
    rank's strategy holds state.

    Args:
        strategy: the same on every rank.
        train, validation: this rank's shards, possibly empty, on the device that the group communicates from.
        train_indices, validation_indices: indices of the shard's examples in the whole data, int64. Together the
            ranks' shards contain 0…N − 1, each once.
        budget: K, for the whole data.
        generator: in the same state on every rank, before and after.
        from_first: runs a function on the first rank and sends its result to every rank.
        allocate: allocates memory for the gathered columns on the first rank; default: on the shards' device.
        group: the process group; default: all ranks.

    Raises:
        Exception: whatever the strategy or ``allocate`` raises, on every rank.
    """
    room = allocate or _on_the_device
    whole = gather(train, train_indices, from_first, room, group)
    whole_validation = gather(validation, validation_indices, from_first, room, group)

    def choose() -> tuple[Subset, Tensor]:
        assert whole is not None
        assert whole_validation is not None
        pools = (
            Pool(*whole, keep=train.keep, loss=train.loss),
            Pool(*whole_validation, keep=validation.keep, loss=validation.loss),
        )
        return strategy.select(*pools, budget, generator), generator.get_state()

    subset, state = from_first(choose)
    generator.set_state(state)
    return Subset(subset.indices, subset.weights, subset.note)


Columns = tuple[Tensor, Tensor | None, Tensor | None]
"""Labels, logits and features."""


def gather(
    shard: Pool,
    indices: Tensor,
    from_first: FromFirst,
    allocate: Allocate,
    group: dist.ProcessGroup | None = None,
) -> Columns | None:
    """Gather the whole pool's columns in data order on the group's first rank; the other ranks return None.

    The rows are sent in parts and written to their final positions, so that no second copy of the whole is made.
    """
    columns = [column for column in (shard.logits, shard.features) if column is not None]
    everyones: list[Any] = [None] * dist.get_world_size(group)
    own = (len(shard), shard.device.type, [column.dtype for column in columns])
    dist.all_gather_object(everyones, own, group=group)
    sizes = [size for size, _, _ in everyones]
    # If one rank's shard did not fit on its GPU, or did not fit into float16's range, the whole does not either.
    device = torch.device("cpu") if any(kind == "cpu" for _, kind, _ in everyones) else shard.device
    dtypes = [
        max((of_rank[position] for _, _, of_rank in everyones), key=lambda dtype: dtype.itemsize)
        for position in range(len(columns))
    ]
    rooms: list[Tensor] = []

    def make_room() -> None:
        widths = [column.shape[1] for column in columns]
        rooms.extend(allocate(sum(sizes), list(zip(widths, dtypes, strict=True)), device))

    from_first(make_room)  # every rank has to raise if the allocation fails
    first = dist.get_rank(group) == 0
    kept_on = rooms[0].device if rooms else shard.device
    labels = torch.empty(sum(sizes) if first else 0, dtype=torch.int64, device=kept_on)
    places = [torch.empty(size if first else 0, dtype=torch.int64) for size in sizes]
    for start, parts in _parts(indices, sizes, device, torch.int64, group):
        for place, part in zip(places, parts, strict=bool(parts)):
            place[start : start + len(part)] = part
    for column, dtype, room in zip(
        [shard.labels, *columns], [torch.int64, *dtypes], [labels, *(rooms or columns)], strict=True
    ):
        for start, parts in _parts(column, sizes, device, dtype, group):
            for place, part in zip(places, parts, strict=bool(parts)):
                room[place[start : start + len(part)].to(room.device)] = part.to(room.device)
    if not first:
        return None
    return labels, None if shard.logits is None else rooms[0], None if shard.features is None else rooms[-1]


def _parts(
    column: Tensor,
    sizes: list[int],
    device: torch.device,
    dtype: torch.dtype,
    group: dist.ProcessGroup | None,
) -> Iterator[tuple[int, list[Tensor]]]:
    """Gather a column in parts. Yields the position of each part in the shards and, on the first rank, the rows of
    every rank.

    Collective operations require equal shapes, so shorter shards are padded for sending.
    """
    longest = max(sizes)
    step = max(1, SENT // (dtype.itemsize * (column.shape[1] if column.ndim > 1 else 1)))
    for start in range(0, longest, step):
        rows = column[start : start + step].to(device, dtype)
        padded = rows.new_zeros(min(step, longest - start), *column.shape[1:])
        padded[: len(rows)] = rows
        received = [torch.empty_like(padded) for _ in sizes] if dist.get_rank(group) == 0 else []
        # By its rank among all: that within the group (`group_dst`) is known from torch 2.6 on.
        dist.gather(padded, received or None, 0 if group is None else dist.get_global_rank(group, 0), group)
        yield (
            start,
            [part[: max(0, size - start)] for part, size in zip(received, sizes, strict=bool(received))],
        )


def _on_the_device(
    rows: int, columns: Sequence[tuple[int, torch.dtype]], device: torch.device
) -> list[Tensor]:
    return [torch.empty(rows, width, dtype=dtype, device=device) for width, dtype in columns]

"""Selection over the ranks of a process group, each of which has embedded a shard of the data."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from subset_selection.types import Pool, Strategy, Subset

FromFirst = Callable[[Callable[[], Any]], Any]
"""What a function returns, or raises, on the first rank → the same on every rank."""
Allocate = Callable[[int, Sequence[tuple[int, torch.dtype]], torch.device], list[Tensor]]
"""(rows, each column's width and type, the device that is preferred) → room for the columns, all in one place."""
SENT = 1 << 24
"""Bytes that a rank sends at a time."""


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
    """The subset that one process with all of the data would choose; the same on every rank.

    The ranks share the passes over the data, where selection spends its time. Logits and features (N·(C + D) numbers)
    are gathered on the first rank, which chooses and sends the choice to the others. A strategy keeps its state
    there.

    Args:
        strategy: the same on every rank.
        train, validation: this rank's shards, possibly empty; on the device that the group communicates from.
        train_indices, validation_indices: which examples of the whole these are, int64; the ranks' shards together
            are 0…N − 1 without repeats.
        budget: K of the whole.
        generator: in the same state on every rank, before and after.
        from_first: tells every rank what comes of a function on the first.
        allocate: where the first rank keeps what it gathers; default: on the shards' device.
        group: default: all ranks.

    Raises:
        what the strategy and ``allocate`` raise, on every rank.
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
    """The whole pool's columns in data order on the group's first rank, None on the others. They travel a part at a
    time, each to its place there: no second copy of the whole is made."""
    columns = [column for column in (shard.logits, shard.features) if column is not None]
    everyones: list[Any] = [None] * dist.get_world_size(group)
    own = (len(shard), shard.device.type, [column.dtype for column in columns])
    dist.all_gather_object(everyones, own, group=group)
    sizes = [size for size, _, _ in everyones]
    # Where one rank's numbers found no room on its GPU, or none in float16, the whole's find none either.
    device = torch.device("cpu") if any(kind == "cpu" for _, kind, _ in everyones) else shard.device
    dtypes = [
        max((of_rank[position] for _, _, of_rank in everyones), key=lambda dtype: dtype.itemsize)
        for position in range(len(columns))
    ]
    rooms: list[Tensor] = []

    def make_room() -> None:
        widths = [column.shape[1] for column in columns]
        rooms.extend(allocate(sum(sizes), list(zip(widths, dtypes, strict=True)), device))

    from_first(make_room)  # every rank has to know where there is none
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
    """Where a part begins in every shard, and on the first rank each rank's rows of it, as far as its shard goes.
    Collectives want equal shapes: shorter shards are padded on the way."""
    longest = max(sizes)
    step = max(1, SENT // (dtype.itemsize * (column.shape[1] if column.ndim > 1 else 1)))
    for start in range(0, longest, step):
        rows = column[start : start + step].to(device, dtype)
        padded = rows.new_zeros(min(step, longest - start), *column.shape[1:])
        padded[: len(rows)] = rows
        received = [torch.empty_like(padded) for _ in sizes] if dist.get_rank(group) == 0 else []
        dist.gather(padded, received or None, group=group, group_dst=0)
        yield (
            start,
            [part[: max(0, size - start)] for part, size in zip(received, sizes, strict=bool(received))],
        )


def _on_the_device(
    rows: int, columns: Sequence[tuple[int, torch.dtype]], device: torch.device
) -> list[Tensor]:
    return [torch.empty(rows, width, dtype=dtype, device=device) for width, dtype in columns]

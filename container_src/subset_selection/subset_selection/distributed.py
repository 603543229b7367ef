"""Selection by several processes, each of which has evaluated the model on a shard of the data."""

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor

from subset_selection.processes import Processes
from subset_selection.selectors import Shard
from subset_selection.types import Excluding, Pool, Scoring, Strategy, Subset

SENT = 1 << 24
"""Number of bytes that a process sends at a time."""
COLUMNS = ("logits", "features", "scores")
"""The columns of a pool that are exchanged where they are there, beside the labels."""


def select(
    processes: Processes,
    strategy: Strategy,
    train: Shard,
    validation: Shard,
    budget: int,
    generator: torch.Generator,
    part_of: Tensor | None = None,
) -> Subset:
    """Select the subset that one process with all of the data would select. Every process returns the same subset.

    The processes share the passes over the data, which take most of the time of a selection. A :class:`Scoring
    <subset_selection.types.Scoring>` strategy's numbers are gathered on the first process, which selects and sends the
    result to the others; of other strategies logits and features, N·(C + D) numbers. Only the first process's strategy
    holds state.

    Args:
        processes: the processes.
        strategy: the same on every process.
        train, validation: this process's shards, possibly empty, on the device that it communicates from. Together the
            shards of all processes contain the indices 0…N − 1, each once.
        budget: K, for the whole data.
        generator: in the same state on every process, before and after.
        part_of: [N] int64, for shards that are a part of the run's examples: their indices among all examples.

    Raises:
        Exception: whatever the strategy or the allocation of memory raises, on every process.
    """
    if processes.size == 1:
        return strategy.select(train[0], validation[0], budget, generator)
    if isinstance(strategy, Excluding):
        return _among_trusted(processes, strategy, train, validation, budget, generator)
    if isinstance(strategy, Scoring) and train[0].logits is not None:
        pool = _on_one_device(processes, train[0])
        scored = Pool(pool.labels, scores=strategy.scores(pool, processes))
        train, validation = (scored, train[1]), (Pool(validation[0].labels), validation[1])
    whole = gather(processes, train, part_of)
    whole_validation = gather(processes, validation)

    def choose() -> tuple[Subset, Tensor]:
        assert whole is not None
        assert whole_validation is not None
        # Here, so that outputs that are not finite are everybody's error.
        pools = replace(whole, _checked=False), replace(whole_validation, _checked=False)
        return strategy.select(*pools, budget, generator), generator.get_state()

    subset, state = processes.from_first(choose)
    generator.set_state(state)
    return Subset(subset.indices, subset.weights, subset.note)


def _among_trusted(
    processes: Processes,
    strategy: Excluding,
    train: Shard,
    validation: Shard,
    budget: int,
    generator: torch.Generator,
) -> Subset:
    """Leave out examples by the losses of all processes, then select from the rest."""
    (pool, indices), examples = train, sum(processes.everyones(len(train[0])))
    judged = pool.logits is not None
    losses, guides = (
        gather(processes, (Pool(part.labels, scores=part.losses()[:, None]), places)) if judged else None
        for part, places in (train, validation)
    )

    def judge() -> Tensor:
        if losses is not None and guides is not None:
            assert losses.scores is not None
            assert guides.scores is not None
            strategy.judge(losses.scores[:, 0], guides.scores[:, 0])
        remaining_N = torch.zeros(examples, dtype=torch.bool)
        remaining_N[strategy.trusted(examples, budget).cpu()] = True
        return remaining_N

    remaining_N = processes.from_first(judge)
    trusted = remaining_N.nonzero().flatten()
    own = remaining_N[indices]
    places = (remaining_N.cumsum(0) - 1)[indices[own]]
    rest = pool.at(own.nonzero().flatten().to(pool.device)), places
    subset = select(processes, strategy.strategy, rest, validation, budget, generator, trusted)
    return strategy.reported(subset, trusted, examples)


def _on_one_device(processes: Processes, pool: Pool) -> Pool:
    """The pool, in main memory if that of one process is there, because its GPU has no room for it."""
    if len({*processes.everyones(pool.device.type)}) == 1:
        return pool
    columns = {name: column.cpu() for name in COLUMNS if (column := getattr(pool, name)) is not None}
    return replace(pool, labels=pool.labels.cpu(), _checked=True, **columns)


def gather(processes: Processes, shard: Shard, part_of: Tensor | None = None) -> Pool | None:
    """Gather a pool's columns in data order on the first process; the others return None.

    The rows are sent in parts and written to their final positions, so that no second copy of the whole is made.

    Raises:
        Exception: what the allocation raises on the first process, on every process.
    """
    pool, indices = shard
    columns = {name: column for name in COLUMNS if (column := getattr(pool, name)) is not None}
    own = (pool.device.type, [column.dtype for column in columns.values()], _places(indices))
    kinds, dtypes, places = zip(*processes.everyones(own), strict=True)
    sizes = [len(of_process) for of_process in places]
    # If one process's shard did not fit on its GPU, or did not fit into float16's range, the whole does not either.
    device = torch.device("cpu") if "cpu" in kinds else pool.device
    widest = [max(of_column, key=lambda dtype: dtype.itemsize) for of_column in zip(*dtypes, strict=True)]
    rooms: list[Tensor] = []

    def make_room() -> None:
        widths = [column.shape[1] for column in columns.values()]
        rooms.extend(processes.allocate(sum(sizes), list(zip(widths, widest, strict=True)), device))

    processes.from_first(make_room)  # every process has to raise if the allocation fails
    kept_on = rooms[0].device if rooms else pool.device
    labels = torch.empty(sum(sizes) if processes.first else 0, dtype=torch.int64, device=kept_on)
    sent = [pool.labels, *columns.values()]
    for column, dtype, room in zip(sent, [torch.int32, *widest], [labels, *(rooms or sent[1:])], strict=True):
        for start, parts in _received(column, sizes, device, dtype):
            for place, part in zip(places, parts, strict=bool(parts)):
                _write(room, place[start : start + len(part)], part)
    if not processes.first:
        return None
    named = dict(zip(columns, rooms, strict=True))
    return Pool(labels, part_of=part_of, keep=pool.keep, loss=pool.loss, _checked=True, **named)


Places = range | Tensor
"""The indices of some examples in the whole data: a range, or [B] int64 on the CPU."""


def _places(indices: Tensor) -> Places:
    indices = indices.cpu()
    first = int(indices[0]) if len(indices) else 0
    span = range(first, first + len(indices))
    return span if torch.equal(indices, torch.arange(span.start, span.stop)) else indices


def _write(room: Tensor, places: Places, rows: Tensor) -> None:
    at = slice(places.start, places.stop) if isinstance(places, range) else places.to(room.device)
    room[at] = rows.to(room.device, room.dtype)


def _received(
    column: Tensor, sizes: list[int], device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[int, list[Tensor]]]:
    """Gather a column in parts. Yields the position of each part in the shards and, on the first process, the rows of
    every process.

    Collective operations require equal shapes, so shorter shards are padded for sending.
    """
    longest = max(sizes)
    step = max(1, SENT // (dtype.itemsize * (column.shape[1] if column.ndim > 1 else 1)))
    for start in range(0, longest, step):
        rows = column[start : start + step].to(device, dtype)
        padded = rows.new_zeros(min(step, longest - start), *column.shape[1:])
        padded[: len(rows)] = rows
        received = [torch.empty_like(padded) for _ in sizes] if dist.get_rank() == 0 else []
        dist.gather(padded, received or None, 0)
        yield (
            start,
            [part[: max(0, size - start)] for part, size in zip(received, sizes, strict=bool(received))],
        )

"""Selection by several processes, each of which has evaluated the model on a shard of the data."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor

from subset_selection.divided import Divided, Group, guides_of
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

    The processes share the passes over the data, which take most of the time of a selection. Then:

    - a :class:`~subset_selection.divided.Divided` strategy's problems, such as classes, are divided: each process
      receives the rows of its problems and solves them, N·(C + D) / G numbers on each of G processes if they are even;
    - a :class:`~subset_selection.types.Scoring` strategy's numbers are gathered on the first process, which selects;
    - of other strategies logits and features are gathered there, N·(C + D) numbers.

    Only the first process's strategy holds state.

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
    if isinstance(strategy, Divided) and train[0].features is not None:
        return _divided(processes, strategy, train, validation, budget, generator)
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
    chooser = strategy.strategy
    # The losses may have been all that was needed.
    read = pool if chooser.needs_last_layer else Pool(pool.labels)
    guide = validation if chooser.needs_validation else (Pool(validation[0].labels), validation[1])
    rest = read.at(own.nonzero().flatten().to(read.device)), places
    subset = select(processes, chooser, rest, guide, budget, generator, trusted)
    return strategy.reported(subset, trusted, examples)


def _on_one_device(processes: Processes, pool: Pool) -> Pool:
    """The pool, in main memory if that of one process is there, because its GPU has no room for it."""
    if len({*processes.everyones(pool.device.type)}) == 1:
        return pool
    columns = {name: column.cpu() for name in COLUMNS if (column := getattr(pool, name)) is not None}
    return replace(pool, labels=pool.labels.cpu(), _checked=True, **columns)


Places = range | Tensor
"""The indices of some examples in the whole data: a range, or [B] int64 on the CPU."""


class _Holdings:
    """What the processes hold of some columns.

    Args:
        processes: the processes.
        shard: this process's examples.
        names: the columns, of ``COLUMNS``, that are exchanged if they are there.
    """

    def __init__(self, processes: Processes, shard: Shard, names: Sequence[str] = COLUMNS) -> None:
        self.processes, (self.pool, indices) = processes, shard
        self.columns = {name: column for name in names if (column := getattr(self.pool, name)) is not None}
        own = (
            self.pool.device.type,
            [column.dtype for column in self.columns.values()],
            _places(indices),
        )
        kinds, dtypes, places = zip(*processes.everyones(own), strict=True)
        self.places: Sequence[Places] = places
        # If one process's shard did not fit on its GPU, or not into float16's range, the whole does not either.
        self.device = torch.device("cpu") if "cpu" in kinds else self.pool.device
        self.dtypes = [
            max(of_column, key=lambda dtype: dtype.itemsize) for of_column in zip(*dtypes, strict=True)
        ]

    @property
    def count(self) -> int:
        """N, over all processes."""
        return sum(map(len, self.places))

    def rooms(self, rows: int) -> list[Tensor]:
        """Storage for this many rows of each column."""
        widths = [column.shape[1] for column in self.columns.values()]
        return self.processes.allocate(rows, list(zip(widths, self.dtypes, strict=True)), self.device)

    def as_pool(self, labels: Tensor, rooms: Sequence[Tensor], part_of: Tensor | None = None) -> Pool:
        """A pool of what was received."""
        named = dict(zip(self.columns, rooms, strict=True))
        pool = self.pool
        return Pool(labels, part_of=part_of, keep=pool.keep, loss=pool.loss, _checked=True, **named)

    def gathered(
        self, column: Tensor, dtype: torch.dtype, by_all: bool = False
    ) -> Iterator[tuple[Places, Tensor]]:
        """A column's rows, in parts, with their places: all of them on the first process, or on all.

        Collective operations require equal shapes, so shorter shards are padded for sending.
        """
        longest = max(map(len, self.places))
        step = max(1, SENT // (dtype.itemsize * (column.shape[1] if column.ndim > 1 else 1)))
        for start in range(0, longest, step):
            rows = column[start : start + step].to(self.device, dtype)
            padded = rows.new_zeros(min(step, longest - start), *column.shape[1:])
            padded[: len(rows)] = rows
            received = (
                [torch.empty_like(padded) for _ in self.places] if by_all or self.processes.first else []
            )
            if by_all:
                dist.all_gather(received, padded)
            else:
                dist.gather(padded, received or None, 0)
            for places, part in zip(self.places, received, strict=bool(received)):
                here = places[start : start + step]
                yield here, part[: len(here)]

    def labels(self) -> Tensor:
        """The labels of all examples, [N] int64, on every process and on the CPU."""
        labels_N = torch.empty(self.count, dtype=torch.int64)
        for places, part in self.gathered(self.pool.labels, torch.int32, by_all=True):
            _write(labels_N, places, part)
        return labels_N

    def exchanged(self, labels_N: Tensor, wanted: Sequence[Tensor]) -> Pool:
        """The rows that this process wants, as a pool.

        Args:
            labels_N: the labels of all examples.
            wanted: for each process the indices, ascending, of the examples that it wants.
        """
        mine = wanted[self.processes.rank]
        sent = [_common(self.places[self.processes.rank], indices)[0] for indices in wanted]
        at = [_common(places, mine)[1] for places in self.places]
        rooms: list[Tensor] = []
        # Every process has to raise if one's allocation fails.
        self.processes.from_all(lambda: rooms.extend(self.rooms(len(mine))))
        longest = max(self.processes.everyones(max(map(len, sent))))
        for column, dtype, room in zip(self.columns.values(), self.dtypes, rooms, strict=True):
            step = max(1, SENT // (dtype.itemsize * column.shape[1] * self.processes.size))
            for start in range(0, longest, step):
                going = [rows[start : start + step] for rows in sent]
                coming = [positions[start : start + step] for positions in at]
                rows = column[torch.cat(going).to(column.device)].to(self.device, dtype)
                received = rows.new_empty(sum(map(len, coming)), column.shape[1])
                dist.all_to_all_single(received, rows, [*map(len, coming)], [*map(len, going)])
                _write(room, torch.cat(coming), received)
        kept_on = rooms[0].device if rooms else self.pool.device
        return self.as_pool(labels_N[mine].to(kept_on), rooms)


def gather(processes: Processes, shard: Shard, part_of: Tensor | None = None) -> Pool | None:
    """Gather a pool's columns in data order on the first process; the others return None.

    The rows are sent in parts and written to their final positions, so that no second copy of the whole is made.

    Raises:
        Exception: what the allocation raises on the first process, on every process.
    """
    holdings, pool = _Holdings(processes, shard), shard[0]
    rooms: list[Tensor] = []
    # Every process has to raise if the allocation fails.
    processes.from_first(lambda: rooms.extend(holdings.rooms(holdings.count)))
    kept_on = rooms[0].device if rooms else pool.device
    labels = torch.empty(holdings.count if processes.first else 0, dtype=torch.int64, device=kept_on)
    columns = [pool.labels, *holdings.columns.values()]
    for column, dtype, room in zip(
        columns, [torch.int32, *holdings.dtypes], [labels, *(rooms or columns[1:])], strict=True
    ):
        for places, part in holdings.gathered(column, dtype):
            _write(room, places, part)
    return holdings.as_pool(labels, rooms, part_of) if processes.first else None


def _places(indices: Tensor) -> Places:
    indices = indices.cpu()
    first = int(indices[0]) if len(indices) else 0
    span = range(first, first + len(indices))
    return span if torch.equal(indices, torch.arange(span.start, span.stop)) else indices


def _write(room: Tensor, places: Places, rows: Tensor) -> None:
    at = slice(places.start, places.stop) if isinstance(places, range) else places.to(room.device)
    room[at] = rows.to(room.device, room.dtype)


def _common(places: Places, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """The examples that are at these places and wanted, in ascending order of index: their rows among the places, and
    their positions among the wanted."""
    if isinstance(places, range):
        positions = ((wanted >= places.start) & (wanted < places.stop)).nonzero().flatten()
        return wanted[positions] - places.start, positions
    ascending, order = places.sort()
    rows = torch.searchsorted(ascending, wanted)
    positions = (ascending[rows.clamp(max=len(places) - 1)] == wanted).nonzero().flatten()
    return order[rows[positions]], positions


# Strategies whose search is divided


def _divided(
    processes: Processes,
    strategy: Divided,
    train: Shard,
    validation: Shard,
    budget: int,
    generator: torch.Generator,
) -> Subset:
    """Give each group of problems to one process, with the rows that it reads."""
    holdings = _Holdings(processes, train, strategy.READS)
    labels_N = holdings.labels()
    width = sum(column.shape[1] for column in (train[0].logits, train[0].features) if column is not None)
    guides = _Holdings(processes, validation, strategy.READS if strategy.needs_validation else ())
    labels_M = guides.labels()
    drawn = strategy.guides(len(labels_M), generator)
    drawn = torch.arange(len(labels_M)) if drawn is None else drawn
    groups = strategy.problems(labels_N, train[0].classes, width, budget, generator)
    owners = _owners(groups, processes.size)
    by_owner = [
        [problem for group, owner in zip(groups, owners, strict=True) if owner == rank for problem in group]
        for rank in range(processes.size)
    ]
    wanted = [_union([problem.indices for problem in problems]) for problems in by_owner]
    pool = holdings.exchanged(labels_N, wanted)
    guide = Pool(labels_M[drawn])
    if strategy.needs_validation:
        labels = {rank: {problem.label for problem in problems} for rank, problems in enumerate(by_owner)}
        guide = guides.exchanged(
            labels_M,
            [_union([drawn[guides_of(labels_M[drawn], label)] for label in labels[rank]]) for rank in labels],
        )
    own = wanted[processes.rank]

    def solve() -> dict[int, list[Subset]]:
        # Here, so that outputs that are not finite are everybody's error.
        pools = replace(pool, _checked=False), replace(guide, _checked=False)
        found: dict[int, list[Subset]] = {}
        for number, (group, owner) in enumerate(zip(groups, owners, strict=True)):
            if owner != processes.rank:
                strategy.skip(group, generator)
                continue
            here = [
                replace(problem, indices=torch.searchsorted(own, problem.indices).to(pool.device))
                for problem in group
            ]
            found[number] = [
                Subset(own[subset.indices], subset.weights, subset.note)
                for subset in strategy.solve(*pools, here, generator)
            ]
        return found

    together: dict[int, list[Subset]] = {}
    for found in processes.from_all(solve):
        together |= found
    return strategy.joined(groups, [together[number] for number in range(len(groups))], generator)


def _owners(groups: Sequence[Group], processes: int) -> list[int]:
    """The process that solves each group: the largest first, to the one that has least to do.

    The work of a problem is taken to be the square of its number of examples.
    """
    work = [sum(len(problem.indices) ** 2 for problem in group) for group in groups]
    owners, loads = [0] * len(groups), [0] * processes
    for number in sorted(range(len(groups)), key=lambda number: -work[number]):
        owners[number] = loads.index(min(loads))
        loads[owners[number]] += work[number]
    return owners


def _union(parts: Sequence[Tensor]) -> Tensor:
    """The indices that are in any of the parts, ascending."""
    union: Tensor = torch.cat([torch.empty(0, dtype=torch.int64), *parts]).unique()
    return union

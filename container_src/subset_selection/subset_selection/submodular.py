"""Greedy maximisation of submodular functions of a set of points.

A function is a sum over all n points. The term of a point depends on its distances from, or similarities to, the picked
points. The functions are monotone and submodular, so that greedy search reaches at least 1 − 1/e of the optimum
(Nemhauser et al., "An analysis of approximations for maximizing submodular set functions", 1978).
"""

import math
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from subset_selection.progress import with_progress
from subset_selection.settings import Greedy

SAMPLING_ERROR = 0.05
"""ε of the stochastic search; see :mod:`~subset_selection.glister`."""
DENSE_LIMIT = 20_000
"""Number of points up to which the n × n matrix of rows is stored (1.6 GB in float32)."""
BLOCK_ELEMENTS = 1 << 26
"""Number of elements of rows that are in memory at a time if the matrix is not stored."""
LAZY_BATCH = 32

Rows = Callable[[Tensor], Tensor]
"""Positions [S] → the rows of these points, [S, n]: their distances from, or similarities to, all points."""


class Function(Protocol):
    """A submodular function of the set of points picked so far."""

    def start(self, rows_NN: Tensor) -> Tensor:
        """Start with all rows, and return the gains of the first pick, [N]."""
        ...

    def gains(self, rows_SN: Tensor) -> Tensor:
        """The gain of adding each of some points, [S]."""
        ...

    def add(self, row_N: Tensor) -> None:
        """Add the point of this row to the picks."""
        ...


def maximise(
    function: Function,
    rows: Rows,
    count: int,
    picks: int,
    search: Greedy,
    generator: torch.Generator,
    device: torch.device,
) -> Tensor:
    """Greedily pick the points that maximise a function. Returns their positions, [K], in the order of picking.

    Args:
        function: the function; its state is changed.
        rows: the rows of ``count`` points.
        count: n, the number of points.
        picks: K ≤ n, the number of picks.
        search: ``stochastic``; ``naive``: exact, whatever the memory; ``auto``: exact up to ``DENSE_LIMIT`` points,
            stochastic beyond.
        generator: the source of randomness of the stochastic search.
        device: the device of the rows.
    """
    if _is_stochastic(search, count):
        return stochastic_greedy(function, rows, count, picks, generator, device)
    exact = lazy_greedy if device.type == "cpu" else greedy
    return exact(function, _matrix(rows, count, device), picks)


def _matrix(rows: Rows, count: int, device: torch.device) -> Tensor:
    """All rows, [n, n], written into one matrix: concatenated parts would need its memory twice."""
    first, *others = blocks(count, device)
    block = rows(first)
    if not others:
        return block
    matrix_NN = block.new_empty(count, count)
    matrix_NN[first] = block
    for part in others:
        matrix_NN[part] = rows(part)
    return matrix_NN


def skip(count: int, picks: int, search: Greedy, generator: torch.Generator) -> None:
    """Advance the generator as :func:`maximise` does."""
    if _is_stochastic(search, count):
        torch.randperm(count, generator=generator)
        for _ in _samples(count, picks, generator):
            pass


def _is_stochastic(search: Greedy, count: int) -> bool:
    return search == "stochastic" or (search == "auto" and count > DENSE_LIMIT)


def blocks(count: int, device: torch.device) -> tuple[Tensor, ...]:
    """All positions, in parts whose rows fit within ``BLOCK_ELEMENTS``."""
    parts: tuple[Tensor, ...] = torch.arange(count, device=device).split(max(1, BLOCK_ELEMENTS // count))
    return parts


def lazy_greedy(function: Function, rows_NN: Tensor, picks: int) -> Tensor:
    """Exact greedy search on a matrix. Returns positions in the order of picking, [K].

    By submodularity gains never increase, so earlier gains are upper bounds. The largest bounds are evaluated again, a
    batch at a time, until no other bound exceeds the best gain (Minoux, 1978).
    """
    count = len(rows_NN)
    batch = min(LAZY_BATCH, count)
    bounds_N = function.start(rows_NN)
    fresh_N = torch.ones(count, dtype=torch.bool, device=rows_NN.device)
    picked_K = torch.empty(picks, dtype=torch.int64, device=rows_NN.device)
    for position in with_progress(range(picks), picks):
        while True:
            threshold = _threshold(bounds_N.masked_fill(~fresh_N, -torch.inf).amax())
            pending_N = ~fresh_N & (bounds_N > threshold) & (bounds_N > 0)
            if not bool(pending_N.any()):
                break
            stale = bounds_N.masked_fill(~pending_N, -torch.inf).topk(batch).indices
            stale = stale[pending_N[stale]]
            bounds_N[stale] = function.gains(
                rows_NN.index_select(0, stale)
            )  # thrice as fast as an index in brackets
            fresh_N[stale] = True
        if threshold <= 0 and position:
            # No gain is left: all remaining points are duplicates of picked ones.
            picked_K[position:] = (bounds_N > -torch.inf).nonzero().flatten()[: picks - position]
            break
        best = (fresh_N & (bounds_N >= threshold)).to(torch.uint8).argmax()
        picked_K[position] = best
        function.add(rows_NN[best])
        bounds_N[best] = -torch.inf
        fresh_N = torch.zeros_like(fresh_N)
    return picked_K


def greedy(function: Function, rows_NN: Tensor, picks: int) -> Tensor:
    """Makes the same picks as :func:`lazy_greedy`, but evaluates every gain for each pick.

    It takes n² operations per pick, and no operation waits for the device.
    """
    function.start(rows_NN)
    free_N = torch.zeros(len(rows_NN), dtype=rows_NN.dtype, device=rows_NN.device)
    picked_K = torch.empty(picks, dtype=torch.int64, device=rows_NN.device)
    for position in with_progress(range(picks), picks):
        gains_N = function.gains(rows_NN).add_(free_N)
        best = (gains_N >= _threshold(gains_N.amax())).to(torch.uint8).argmax().view(1)
        picked_K[position : position + 1] = best
        function.add(rows_NN.index_select(0, best)[0])
        free_N.index_fill_(0, best, -torch.inf)
    return picked_K


def _threshold(best_gain: Tensor) -> Tensor:
    """The smallest gain that is treated as equal to the best gain.

    Two points that are each other's nearest have exactly equal gains in real arithmetic. Without a tolerance, rounding
    would choose between them, differently on each device.
    """
    return best_gain * (1 - 64 * torch.finfo(best_gain.dtype).eps)


def stochastic_greedy(
    function: Function, rows: Rows, count: int, picks: int, generator: torch.Generator, device: torch.device
) -> Tensor:
    """Stochastic greedy search: each pick evaluates a random sample. Rows are computed for the samples of many picks at
    once.

    Time O(n²·ln(1/ε)) distances for any K, memory ``BLOCK_ELEMENTS`` elements.
    """
    taken_N = torch.zeros(count, dtype=torch.bool)
    picked: list[Tensor] = []
    order = torch.randperm(count, generator=generator)

    def samples() -> Iterator[tuple[Tensor, Tensor]]:
        for draws_PS in _samples(count, picks, generator):
            block_PSN = rows(draws_PS.flatten().to(device)).view(*draws_PS.shape, count)
            yield from zip(draws_PS, block_PSN, strict=True)

    for draws_S, block_SN in with_progress(samples(), picks):
        free_S = ~taken_N[draws_S]
        if not bool(free_S.any()):
            draws_S = order[~taken_N[order]][:1]
            block_SN = rows(draws_S.to(device))
            free_S = torch.ones(1, dtype=torch.bool)
        gains_S = function.gains(block_SN)
        best = int(gains_S.masked_fill_(~free_S.to(device), -torch.inf).argmax())
        function.add(block_SN[best])
        taken_N[draws_S[best]] = True
        picked.append(draws_S[best : best + 1])
    return torch.cat(picked).to(device)


def _samples(count: int, picks: int, generator: torch.Generator) -> Iterator[Tensor]:
    """The samples that the stochastic search evaluates, [P, S] for P picks at a time."""
    done = 0
    while done < picks:
        # Samples are drawn from all points, including picked ones, so they are larger to contain enough free points.
        free_share = max(0.25, 1 - done / count)
        sample = min(count, math.ceil(count / picks * math.log(1 / SAMPLING_ERROR) / free_share))
        together = min(picks - done, max(1, BLOCK_ELEMENTS // (sample * count)))
        yield torch.randint(count, (together, sample), generator=generator)
        done += together

"""Greedy maximisation of submodular functions of a set of points.

The functions are sums over all n points of what the picked points' rows of distances or similarities give each. They
are monotone and submodular, so that greedy reaches 1 − 1/e of the optimum (Nemhauser et al., "An analysis of
approximations for maximizing submodular set functions", 1978).
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
"""Points up to which the n × n matrix of rows is kept (1.6 GB in float32)."""
BLOCK_ELEMENTS = 1 << 26
"""Elements of rows that are held at a time where the matrix is not kept."""
LAZY_BATCH = 64

Rows = Callable[[Tensor], Tensor]
"""Positions [S] → the rows [S, n] of those points: distances or similarities to all points."""


class Function(Protocol):
    """A function of the points picked so far."""

    def start(self, rows_NN: Tensor) -> Tensor:
        """Begin with all rows at hand; the first pick's gains, [N]."""
        ...

    def gains(self, rows_SN: Tensor) -> Tensor:
        """How much the function grows by each of some points, [S]."""
        ...

    def add(self, row_N: Tensor) -> None:
        """Pick the point of this row."""
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
    """Positions of the picks, [K], in the order of picking.

    Args:
        function: of the picks; it is changed.
        rows: of ``count`` points.
        count: n.
        picks: K ≤ n.
        search: ``stochastic``, or ``auto``: exact while the matrix of rows fits in memory (``DENSE_LIMIT`` points),
            stochastic beyond; ``naive``: exact whatever it takes.
        generator: for the stochastic search.
        device: of the rows.
    """
    if search == "stochastic" or (search == "auto" and count > DENSE_LIMIT):
        return stochastic_greedy(function, rows, count, picks, generator, device)
    matrix_NN = torch.cat([rows(part) for part in blocks(count, device)])
    exact = lazy_greedy if device.type == "cpu" else greedy
    return exact(function, matrix_NN, picks)


def blocks(count: int, device: torch.device) -> tuple[Tensor, ...]:
    """All positions, in parts whose rows may be held at a time."""
    return torch.arange(count, device=device).split(max(1, BLOCK_ELEMENTS // count))


def lazy_greedy(function: Function, rows_NN: Tensor, picks: int) -> Tensor:
    """Exact greedy on a matrix; positions in the order of picking, [K].

    A gain only ever shrinks (submodularity), so that old gains are upper bounds: the most promising are evaluated anew,
    a batch at a time, until none of the others can reach the best of them (Minoux, 1978).
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
            bounds_N[stale] = function.gains(rows_NN[stale])
            fresh_N[stale] = True
        if threshold <= 0 and position:
            # Nothing is left to gain: the rest are duplicates of what is picked.
            picked_K[position:] = (bounds_N > -torch.inf).nonzero().flatten()[: picks - position]
            break
        best = (fresh_N & (bounds_N >= threshold)).to(torch.uint8).argmax()
        picked_K[position] = best
        function.add(rows_NN[best])
        bounds_N[best] = -torch.inf
        fresh_N = torch.zeros_like(fresh_N)
    return picked_K


def greedy(function: Function, rows_NN: Tensor, picks: int) -> Tensor:
    """What :func:`lazy_greedy` picks, by evaluating every gain each time: n² operations a pick, and none that waits for
    the device."""
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
    """What counts as equal to the best gain. Two points that are each other's nearest tie exactly, in real
    numbers: without a tolerance, rounding would choose between them, differently on each device."""
    return best_gain * (1 - 64 * torch.finfo(best_gain.dtype).eps)


def stochastic_greedy(
    function: Function, rows: Rows, count: int, picks: int, generator: torch.Generator, device: torch.device
) -> Tensor:
    """Each pick evaluates a random sample; rows are made for the samples of many picks at once, n at a time.

    Time O(n²·ln(1/ε)) distances whatever K is, memory ``BLOCK_ELEMENTS``.
    """
    taken_N = torch.zeros(count, dtype=torch.bool)
    picked: list[Tensor] = []
    order = torch.randperm(count, generator=generator)

    def samples() -> Iterator[tuple[Tensor, Tensor]]:
        while len(picked) < picks:
            # Drawn among all points, the taken ones too: so many more that enough are free.
            free_share = max(0.25, 1 - len(picked) / count)
            sample = min(count, math.ceil(count / picks * math.log(1 / SAMPLING_ERROR) / free_share))
            together = min(picks - len(picked), max(1, BLOCK_ELEMENTS // (sample * count)))
            draws_PS = torch.randint(count, (together, sample), generator=generator)
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

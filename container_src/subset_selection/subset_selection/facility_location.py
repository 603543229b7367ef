"""Facility location: the examples that are nearest to all the others, as CRAIG and core-set selection use it.

Greedy maximisation of F(S) = Σ_i (d₀ − min_{j∈S} d_ij), with d the Euclidean distance and d₀ at least the largest
distance: F is monotone and submodular, so that greedy reaches 1 − 1/e of the optimum (Nemhauser et al., 1978).
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from subset_selection.progress import with_progress
from subset_selection.settings import Greedy

SAMPLING_ERROR = 0.05
"""ε of the stochastic search; see :mod:`~subset_selection.glister`."""
DENSE_LIMIT = 20_000
"""Points up to which the n × n matrix of distances is kept (1.6 GB in float32)."""
BLOCK_ELEMENTS = 1 << 26
"""Distances that are held at a time where the matrix is not kept."""
LAZY_BATCH = 64

Distances = Callable[[Tensor], Tensor]
"""Positions [S] → distances [S, n] of those points to all, exactly 0 to themselves."""


def maximise(
    distances: Distances,
    count: int,
    picks: int,
    search: Greedy,
    generator: torch.Generator,
    device: torch.device,
) -> Tensor:
    """Positions of the picks, [K], in the order of picking.

    Args:
        distances: among ``count`` points.
        count: n.
        picks: K ≤ n.
        search: ``stochastic``, or ``auto``: exact while the matrix of distances fits in memory (``DENSE_LIMIT``
        points),
            stochastic beyond; ``naive``: exact whatever it takes.
        generator: for the stochastic search.
        device: of the distances.
    """
    if search == "stochastic" or (search == "auto" and count > DENSE_LIMIT):
        return stochastic_greedy(distances, count, picks, generator, device)
    matrix_NN = torch.cat([distances(part) for part in _blocks(count, device)])
    return lazy_greedy(matrix_NN, picks) if device.type == "cpu" else greedy(matrix_NN, picks)


def cluster_sizes(distances: Distances, picks_K: Tensor) -> Tensor:
    """How many points each pick is nearest to, [K]; a pick counts itself, equal distances go to the earlier pick."""
    nearest_N: Tensor | None = None
    owner_N: Tensor | None = None
    count = 0
    for part in picks_K.split(1024):
        block_SN = distances(part)
        block_SN.scatter_(1, part[:, None], -1.0)  # rounding must not give a pick to its duplicate
        distance_N, position_N = block_SN.min(dim=0)
        if nearest_N is None or owner_N is None:
            nearest_N, owner_N = distance_N, position_N
        else:
            closer_N = distance_N < nearest_N
            nearest_N = torch.where(closer_N, distance_N, nearest_N)
            owner_N = torch.where(closer_N, position_N + count, owner_N)
        count += len(part)
    assert owner_N is not None
    return torch.bincount(owner_N, minlength=len(picks_K)).to(torch.float32)


def _blocks(count: int, device: torch.device) -> tuple[Tensor, ...]:
    return torch.arange(count, device=device).split(max(1, BLOCK_ELEMENTS // count))


def lazy_greedy(distances_NN: Tensor, picks: int) -> Tensor:
    """Exact greedy on a matrix of distances; positions in the order of picking, [K].

    A gain only ever shrinks (submodularity), so that old gains are upper bounds: the most promising are evaluated anew,
    a batch at a time, until none of the others can reach the best of them (Minoux, 1978).
    """
    count = len(distances_NN)
    batch = min(LAZY_BATCH, count)
    nearest_N = distances_NN.amax().expand(count).clone()
    bounds_N = count * nearest_N[0] - distances_NN.sum(dim=1)
    fresh_N = torch.ones(count, dtype=torch.bool, device=distances_NN.device)
    picked_K = torch.empty(picks, dtype=torch.int64, device=distances_NN.device)
    for position in with_progress(range(picks), picks):
        while True:
            threshold = _threshold(bounds_N.masked_fill(~fresh_N, -torch.inf).amax())
            pending_N = ~fresh_N & (bounds_N > threshold) & (bounds_N > 0)
            if not bool(pending_N.any()):
                break
            stale = bounds_N.masked_fill(~pending_N, -torch.inf).topk(batch).indices
            stale = stale[pending_N[stale]]
            bounds_N[stale] = (nearest_N - distances_NN[stale]).clamp_(min=0).sum(dim=1)
            fresh_N[stale] = True
        if threshold <= 0 and position:
            # Nothing is left to gain: the rest are duplicates of what is picked.
            picked_K[position:] = (bounds_N > -torch.inf).nonzero().flatten()[: picks - position]
            break
        best = (fresh_N & (bounds_N >= threshold)).to(torch.uint8).argmax()
        picked_K[position] = best
        nearest_N = torch.minimum(nearest_N, distances_NN[best])
        bounds_N[best] = -torch.inf
        fresh_N = torch.zeros_like(fresh_N)
    return picked_K


def greedy(distances_NN: Tensor, picks: int) -> Tensor:
    """What :func:`lazy_greedy` picks, by evaluating every gain each time: n² operations a pick, and none that waits for
    the device."""
    nearest_N = distances_NN.amax().expand(len(distances_NN)).clone()
    free_N = torch.zeros(len(distances_NN), dtype=distances_NN.dtype, device=distances_NN.device)
    picked_K = torch.empty(picks, dtype=torch.int64, device=distances_NN.device)
    for position in with_progress(range(picks), picks):
        gains_N = (nearest_N - distances_NN).clamp_(min=0).sum(dim=1).add_(free_N)
        best = (gains_N >= _threshold(gains_N.amax())).to(torch.uint8).argmax().view(1)
        picked_K[position : position + 1] = best
        nearest_N = torch.minimum(nearest_N, distances_NN.index_select(0, best)[0])
        free_N.index_fill_(0, best, -torch.inf)
    return picked_K


def _threshold(best_gain: Tensor) -> Tensor:
    """What counts as equal to the best gain. Two points that are each other's nearest tie exactly, in real
    numbers: without a tolerance, rounding would choose between them, differently on each device."""
    return best_gain * (1 - 64 * torch.finfo(best_gain.dtype).eps)


def stochastic_greedy(
    distances: Distances, count: int, picks: int, generator: torch.Generator, device: torch.device
) -> Tensor:
    """Each pick looks at a random sample; distances are made for the samples of many picks at once, n at a time.

    Time O(n²·ln(1/ε)) distances whatever K is, memory ``BLOCK_ELEMENTS``.
    """
    taken_N = torch.zeros(count, dtype=torch.bool)
    nearest_N: Tensor | None = None
    picked: list[Tensor] = []
    order = torch.randperm(count, generator=generator)

    def samples() -> Iterator[tuple[Tensor, Tensor]]:
        while len(picked) < picks:
            # Drawn among all points, the taken ones too: so many more that enough are free.
            free_share = max(0.25, 1 - len(picked) / count)
            sample = min(count, math.ceil(count / picks * math.log(1 / SAMPLING_ERROR) / free_share))
            together = min(picks - len(picked), max(1, BLOCK_ELEMENTS // (sample * count)))
            draws_PS = torch.randint(count, (together, sample), generator=generator)
            block_PSN = distances(draws_PS.flatten().to(device)).view(*draws_PS.shape, count)
            yield from zip(draws_PS, block_PSN, strict=True)

    for draws_S, block_SN in with_progress(samples(), picks):
        free_S = ~taken_N[draws_S]
        if not bool(free_S.any()):
            draws_S = order[~taken_N[order]][:1]
            block_SN = distances(draws_S.to(device))
            free_S = torch.ones(1, dtype=torch.bool)
        # The first pick has the least sum of distances, whatever d₀ is.
        lowered_SN = -block_SN if nearest_N is None else (nearest_N - block_SN).clamp_(min=0)
        gains_S = lowered_SN.sum(dim=1)
        best = int(gains_S.masked_fill_(~free_S.to(device), -torch.inf).argmax())
        nearest_N = block_SN[best].clone() if nearest_N is None else nearest_N.minimum(block_SN[best])
        taken_N[draws_S[best]] = True
        picked.append(draws_S[best : best + 1])
    return torch.cat(picked).to(device)

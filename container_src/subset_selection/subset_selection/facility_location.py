"""Facility location, the objective of CRAIG and of core-set selection: every example has a pick near it.

F(S) = Σ_i (d₀ − min_{j∈S} d_ij), with d the Euclidean distance and d₀ at least the largest distance.
"""

import torch
from torch import Tensor

from subset_selection.submodular import Rows


class FacilityLocation:
    """F as a :class:`~subset_selection.submodular.Function` of rows of distances. The distance of a point from itself
    must be exactly 0."""

    def __init__(self) -> None:
        self._nearest_N: Tensor | None = None

    def start(self, distances_NN: Tensor) -> Tensor:
        """See :class:`~subset_selection.submodular.Function`."""
        count = len(distances_NN)
        self._nearest_N = distances_NN.amax().expand(count).clone()
        return count * self._nearest_N[0] - distances_NN.sum(dim=1)

    def gains(self, distances_SN: Tensor) -> Tensor:
        """See :class:`~subset_selection.submodular.Function`."""
        # The first pick has the smallest sum of distances, whatever d₀ is.
        if self._nearest_N is None:
            return -distances_SN.sum(dim=1)
        return (self._nearest_N - distances_SN).clamp_(min=0).sum(dim=1)

    def add(self, distances_N: Tensor) -> None:
        """See :class:`~subset_selection.submodular.Function`."""
        nearest_N = self._nearest_N
        self._nearest_N = distances_N.clone() if nearest_N is None else nearest_N.minimum(distances_N)


def cluster_sizes(distances: Rows, picks_K: Tensor) -> Tensor:
    """The number of points whose nearest pick is this one, for each pick, [K].

    A pick counts itself. Ties go to the earlier pick.
    """
    nearest_N: Tensor | None = None
    owner_N: Tensor | None = None
    count = 0
    for part in picks_K.split(1024):
        block_SN = distances(part)
        block_SN.scatter_(1, part[:, None], -1.0)  # rounding must not assign a pick to its duplicate
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
